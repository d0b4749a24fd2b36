"""Sets how much lyrics count in an `lrid_voice`, and measures them on verses written for this project.

`python -m app.lab.training.voice_lyrics RELEASE [--heard FOLDER]` prints what a release makes of them. There are no lyrics
of real songs here: the figures say how languages are told apart, not how well lyrics of a real catalogue do.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from app.domain import AUDIO, LYRICS, TEXT, FloatArray, Metadata, Track
from app.families.lrid_voice.manifest import ExpertConfig, IdentifyConfig
from app.families.lrid_voice.model import NamesBranch, VoiceModel
from app.families.parts.configs import LyricsConfig
from app.families.parts.ngrams.config import NgramConfig
from app.families.store import load_model, release_folder
from app.families.tasks import View
from app.lab import markdown as md
from app.lab.evaluation.answers import REST
from app.lab.labels import WORLD_ALIASES
from app.lab.training.voice_head.data import Songs, read_heard
from app.lab.training.voice_head.heard import names_of, readings
from app.lab.training.voice_head.joint import listen_to_all
from app.lab.training.voice_head.settings import HeadSettings
from app.settings import Settings

VERSES = Path(__file__).with_name("verses.json")
# Fitted by `joint.fit_expert` on songs with verses of their own language (and, as a fifth, of others): 1.12 and .019.
# Rounded towards caution: lyrics and names together, both wrong, add 4.5 nats; ears that are sure by .99 have 4.6.
EXPONENT, DOUBT = 0.65, 0.02
LEAST_ALONE = 0.57  # for `und`, as for names alone


@dataclass(frozen=True, slots=True)
class Verse:
    """Holds some lines in the language `label`."""

    label: str
    text: str
    fits: bool  # the settings were chosen on it
    names: Metadata  # of the song, in another language; or nothing


def verses(codes: Sequence[str]) -> list[Verse]:
    """Reads verses in classes of the release, the mismatched last."""
    stored = json.loads(VERSES.read_text(encoding="utf-8"))
    plain = [
        Verse(label, text, place % 2 == 0, Metadata())
        for label, texts in stored["verses"].items()
        for place, text in enumerate(texts)
    ]
    foreign = [
        Verse(one["label"], one["lyrics"], False, Metadata(artist=one["artist"], title=one["title"]))
        for one in stored["mismatched"]
    ]
    return [verse for verse in plain + foreign if verse.label in codes]


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
    found = verses(model.head.codes)
    fitted, other = ([v for v in found if v.fits == fits and not v.names.fields] for fits in (True, False))
    foreign = [verse for verse in found if verse.names.fields]
    rows = [
        _row("verses the settings were fitted on, lyrics alone", [_answer(model, verse) for verse in fitted]),
        _row("other verses, lyrics alone", [_answer(model, verse) for verse in other]),
        _row("verses of songs named in another language, lyrics alone", [_answer(model, verse) for verse in foreign]),
        _row("verses of songs named in another language, with the names", [_answer(model, v, names=True) for v in foreign]),
        *(_beside_ears(model, other, heard) if heard else []),
    ]
    return md.table(["what", "n", "accuracy", "answered", "right when answered"], rows) + "\n"


def _answer(model: VoiceModel, verse: Verse, *, names: bool = False) -> tuple[str, str, str]:
    """Returns the label, the best class, and the answer."""
    track = Track(None, verse.names if names else Metadata(), {LYRICS: verse.text})
    read = {name: branch.read(track) for name, branch in model.inputs.items()}
    used = {name: reading.vector for name, reading in read.items() if reading is not None and reading.informative}
    scores = model.combine(used, frozenset(used))
    best = model.head.codes[int(scores.probabilities.argmax())]
    return verse.label, best, str(model.task.answer(scores, frozenset(used), View())["language"])


def _row(kind: str, answers: Sequence[tuple[str, str, str]]) -> Sequence[object]:
    right = [label == best for label, best, _ in answers]
    given = [label == answer for label, _, answer in answers if answer != "und"]
    return kind, len(answers), float(np.mean(right)), len(given) / len(answers), float(np.mean(given))


def _beside_ears(model: VoiceModel, verses: Sequence[Verse], folder: Path) -> list[Sequence[object]]:
    """Answers cached songs, listened to until sure, each with a verse in its language, and in another one."""
    songs = read_heard(folder, model.head.codes)
    reader = model.inputs[TEXT]
    assert isinstance(reader, NamesBranch)
    names = readings(names_of(folder), reader.reader, len(model.head.codes))
    own, other = (_posteriors(model, songs, verses, own=own) for own in (True, False))
    cases: dict[str, Mapping[str, FloatArray]] = {
        "ears": {},
        "ears, lyrics": {LYRICS: own},
        "ears, lyrics of another language": {LYRICS: other},
        "ears, names": names,
        "ears, names, lyrics": names | {LYRICS: own},
        "ears, names, lyrics of another language": names | {LYRICS: other},
    }
    return [_row(f"sung songs: {kind}", _heard_answers(model, songs, given)) for kind, given in cases.items()]


def _posteriors(model: VoiceModel, songs: Songs, verses: Sequence[Verse], *, own: bool) -> FloatArray:
    """Returns (n_songs, n_classes) of a verse that nothing was fitted to; NaN where there is none."""
    random = np.random.default_rng(0)
    rows = np.full((len(songs.labels), len(model.head.codes)), np.nan, np.float32)
    for song, label in enumerate(songs.labels):
        code = model.head.codes[label] if label >= 0 else ""
        fitting = [verse for verse in verses if code and (verse.label == code) == own]
        if fitting:
            text = fitting[int(random.integers(len(fitting)))].text
            reading = model.inputs[LYRICS].read(Track(None, Metadata(), {LYRICS: text}))
            assert reading is not None
            rows[song] = reading.vector
    return rows


def _heard_answers(model: VoiceModel, songs: Songs, given: Mapping[str, FloatArray]) -> list[tuple[str, str, str]]:
    songs, codes = replace(songs, readings=given), model.head.codes
    heard = listen_to_all(model.head, songs, model.head.windows(songs.hidden), HeadSettings(), text=True)
    found = []
    for song in np.flatnonzero(songs.known):
        mode = frozenset({AUDIO, *(name for name, rows in given.items() if np.isfinite(rows[song]).all())})
        answer = model.task.answer(heard[song].answer, mode, View())
        found.append((codes[songs.labels[song]], answer["languages"][0]["code"], str(answer["language"])))
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
