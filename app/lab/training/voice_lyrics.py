"""Sets how much lyrics count in an `lrid_voice`, and measures them on verses written for this project.

`python -m app.lab.training.voice_lyrics RELEASE [--heard FOLDER]` prints what a release makes of them. There are no lyrics
of real songs here: the figures say how languages are told apart, not how well lyrics of a real catalogue do.
"""

import json
from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from app.domain import AUDIO, LYRICS, TEXT, FloatArray, Metadata, Track
from app.families.lrid_voice.manifest import ExpertConfig, IdentifyConfig
from app.families.lrid_voice.model import NamesBranch, VoiceModel
from app.families.parts.configs import LyricsConfig
from app.families.parts.ngrams.config import NgramConfig
from app.families.store import load_model, release_folder
from app.lab import markdown as md
from app.lab.corpus.catalogue import Row
from app.lab.evaluation.answers import REST, UNDECIDED, Answers, Inputs, answer_case, read_inputs
from app.lab.labels import WORLD_ALIASES
from app.lab.progress import QUIET
from app.lab.training.voice_head.data import planned, read_heard
from app.settings import Settings

VERSES = Path(__file__).with_name("verses.json")
# Fitted by `fit_names` on songs with verses of their own language (and, as a fifth, of others): 1.12 and .019.
# Rounded towards caution: lyrics and names together, both wrong, add 4.5 nats; ears that are sure by .99 have 4.6.
EXPONENT, DOUBT = 0.65, 0.02
LEAST_ALONE = 0.57  # for `und`, as for names alone


def verses(codes: Sequence[str], kind: Literal["train", "test", "mismatched"]) -> list[Row]:
    """Reads verses in classes of the release. Those of `train` chose the settings; `mismatched` have foreign names."""
    stored = json.loads(VERSES.read_text(encoding="utf-8"))
    plain = [
        {"label": label, LYRICS: text, "split": ("train", "test")[place % 2]}
        for label, texts in stored["verses"].items()
        for place, text in enumerate(texts)
    ]
    found = stored[kind] if kind == "mismatched" else [one for one in plain if one["split"] == kind]
    return [
        Row("", None, Metadata(one.get("artist"), None, one.get("title")), codes.index(one["label"]), "test", "", one)
        for one in found
        if one["label"] in codes
    ]


def lyrics_config(reader: NgramConfig) -> LyricsConfig:
    """Makes the setting of a release with this reader's classes; profiles of other languages count for the rest."""
    codes = list(reader.class_mix)
    named = {language: WORLD_ALIASES.get(language, language.partition("-")[0]) for language in reader.languages}
    classes = {language: label if label in codes else REST for language, label in named.items()}
    return LyricsConfig(classes={name: label for name, label in classes.items() if label != name and label in codes})


def with_lyrics(config: IdentifyConfig, codes: Sequence[str]) -> IdentifyConfig:
    """Makes the head take lyrics too; answers without them do not change. A mode has the threshold it has without lyrics."""
    mix = dict.fromkeys(codes, 1 / len(codes))
    expert = ExpertConfig(exponent=EXPONENT, doubt=DOUBT, class_mix=mix)
    modes = {frozenset(mode.split("+")): least for mode, least in config.thresholds.items()}
    modes |= {mode | {LYRICS}: least for mode, least in modes.items() if LYRICS not in mode}
    modes[frozenset({LYRICS})] = LEAST_ALONE
    thresholds = {"+".join(sorted(mode)): least for mode, least in modes.items()}
    return config.model_copy(update={"experts": config.experts | {LYRICS: expert}, "thresholds": thresholds})


def report(model: VoiceModel, heard: Path | None = None) -> str:
    """Writes figures of lyrics alone, beside names in another language, and, with cached features of songs, beside ears."""

    def line(what: str, rows: Sequence[Row], *case: str) -> Sequence[object]:
        return _row(what, answer_case(model, read_inputs(model, rows, None, QUIET), frozenset(case)))

    other, foreign = verses(model.head.codes, "test"), verses(model.head.codes, "mismatched")
    rows = [
        line("verses the settings were fitted on, lyrics alone", verses(model.head.codes, "train"), LYRICS),
        line("other verses, lyrics alone", other, LYRICS),
        line("verses of songs named in another language, lyrics alone", foreign, LYRICS),
        line("verses of songs named in another language, with the names", foreign, LYRICS, TEXT),
        *(_beside_ears(model, other, heard) if heard else []),
    ]
    return md.table(["what", "n", "accuracy", "answered", "right when answered"], rows) + "\n"


def _row(what: str, given: Answers) -> Sequence[object]:
    right, answered = given.probabilities.argmax(axis=1) == given.labels, given.decisions != UNDECIDED
    precision = float((given.decisions == given.labels)[answered].mean())
    return what, len(right), float(right.mean()), float(answered.mean()), precision


def _beside_ears(model: VoiceModel, verses: Sequence[Row], folder: Path) -> list[Sequence[object]]:
    """Answers cached songs, listened to until sure, each with a verse in its language, and in another one."""
    reader, positions = model.inputs[TEXT], model.manifest.windows.positions
    assert isinstance(reader, NamesBranch)
    songs = read_heard(folder, model.head.codes, reader.reader)
    known = np.flatnonzero(songs.known).tolist()
    ears = [{AUDIO: songs.windows(song)[planned(int(songs.counts[song]), positions)]} for song in known]
    names = [songs.readings(song) for song in known]
    labels = songs.labels[known].tolist()
    own, other = (_lyrics(model, labels, verses, own=own) for own in (True, False))

    def line(kind: str, *given: Sequence[Mapping[str, FloatArray]]) -> Sequence[object]:
        features = [dict(ChainMap(*map(dict, one))) for one in zip(ears, *given, strict=True)]
        inputs = [Inputs(label, one, frozenset(one)) for label, one in zip(labels, features, strict=True)]
        return _row(f"sung songs: {kind}", answer_case(model, inputs, frozenset({AUDIO, TEXT, LYRICS})))

    return [
        line("ears"),
        line("ears, lyrics", own),
        line("ears, lyrics of another language", other),
        line("ears, names", names),
        line("ears, names, lyrics", names, own),
        line("ears, names, lyrics of another language", names, other),
    ]


def _lyrics(model: VoiceModel, labels: Sequence[int], verses: Sequence[Row], *, own: bool) -> list[dict[str, FloatArray]]:
    """Reads a verse for each song, in its language or in another one, if there is any."""
    random = np.random.default_rng(0)
    found: list[dict[str, FloatArray]] = []
    for label in labels:
        fitting = [verse for verse in verses if (verse.label == label) == own]
        verse = fitting[int(random.integers(len(fitting)))] if fitting else None
        reading = verse and model.inputs[LYRICS].read(Track(None, Metadata(), verse.cells))
        found.append({LYRICS: reading.vector} if reading else {})
    return found


def main(
    release: Annotated[str, typer.Argument(help="family/release")] = "lrid_voice",
    heard: Annotated[Path | None, typer.Option(help="Cached features of songs: index.csv and windows.npz.")] = None,
    store: Annotated[Path | None, typer.Option(help="Model store.")] = None,
) -> None:
    """Print what a release makes of verses written for this project."""
    model = load_model(release_folder(store or Settings().model_store, release))
    assert isinstance(model, VoiceModel)
    print(report(model, heard), end="")


if __name__ == "__main__":
    typer.run(main)
