"""Fits the head of `lrid_voice` to what finished ears hear, and a finished reader reads, of a catalogue.

No loop and no GPU: whole songs are listened to once (about a second for ten windows on one core) and what was heard is kept,
so that a training that was stopped goes on where it was; the fit and its cross-validation take minutes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from app.audio.decode import load_recording
from app.audio.spec import WindowRequest
from app.domain import NOTHING_SUNG
from app.families.contract import AudioBranch, Probability, Target
from app.families.lrid_voice.manifest import VoiceManifest, WindowPlan
from app.families.lrid_voice.model import READER
from app.families.parts.ngrams.reader import NgramReader
from app.families.parts.whisper import Ears
from app.families.parts.whisper_weights import stored_ears
from app.lab.caches import LIMITS
from app.lab.corpus.catalogue import Row
from app.lab.errors import CheckpointError, TrainingError
from app.lab.features import FeatureExtractor
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.config import RunConfig
from app.lab.training.recipe import Draft, Trainable
from app.lab.training.recipes.ears import EarsConfig, EarsRecipe
from app.lab.training.voice_head.data import (
    NOTHING,
    SPEECH,
    Songs,
    clips_of,
    read_heard,
    song_rows,
    songs_of,
    with_speech,
)
from app.lab.training.voice_head.fit import FittedHead, fit_head
from app.lab.training.voice_head.report import cross_validate, tables
from app.lab.training.voice_head.settings import HeadSettings
from app.lab.training.voice_lyrics import lyrics_config, with_lyrics
from app.lab.training.voice_parts import (
    VoiceParts,
    identity_of,
    measure_ranges,
    parts_of_release,
    parts_of_training,
    reader_of,
)
from app.settings import Settings

N_RANGE_CLIPS = 48


class VoiceConfig(RunConfig):
    """Begins with a release (`start`), or with `checkpoint` and `reader`; its classes are those of the reader."""

    start: str = "lrid_voice"  # a release whose ears and reader are taken; without a number, the newest
    store: Path = Field(default_factory=lambda: Settings().model_store)  # where `start` is
    checkpoint: Path | None = None  # a Whisper's model.safetensors, as Hugging Face has it
    reader: Path | None = None  # best.pt of a training of `--recipe reader`
    ears: Path | None = None  # best.pt of a training of `--recipe ears`, instead of those
    names_threshold: Probability = 0.57  # for `und` on names alone, with `reader`; by its cross-validation
    unseen_reader: Path | None = None  # another best.pt, trained without these artists: trust in names is fitted to it
    features: Path | None = None  # a folder with index.csv and windows.npz, instead of the catalogue's audio
    speech: Path | None = None  # a folder of clips in which somebody speaks: not to be called `zxx`, and for int8
    most_clips: int = Field(800, ge=1)  # of speech
    most_windows: int = Field(60, ge=1)  # of a song
    folds: int = Field(6, ge=2)  # of the cross-validation for the card
    head: HeadSettings = HeadSettings()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.checkpoint is None) != (self.reader is None):
            raise ValueError("checkpoint and reader go together; without both, `start` says whose ears and reader are taken")
        return self


class VoiceRecipe(Trainable[VoiceConfig]):
    """`train` listens, fits and cross-validates; the checkpoint is the release to be."""

    name: ClassVar[str] = "voice"
    family: ClassVar[str] = "lrid_voice"
    config_type: ClassVar[type[RunConfig]] = VoiceConfig

    @property
    def measured_on(self) -> Path | None:
        """Cached features have no audio to answer as a server would."""
        return None if self.config.features else self.config.catalogue

    def train(self, progress: Progress) -> Path:
        config, best = self.config, self.config.output / "best.pt"
        if best.exists() and not config.resume:
            raise TrainingError(f"{best} exists: fit it anew with --resume, or choose another --output; nothing was touched")
        if config.threads:
            torch.set_num_threads(config.threads)
        parts = self.parts()
        songs = self.songs(parts, progress)
        self._check_groups(songs)
        progress.say(f"{int(songs.known.sum())} songs of {len(np.unique(songs.groups[songs.known]))} artists or sources")
        head = fit_head(songs, parts.given, config.head)
        held = cross_validate(songs, parts.given, config.head, config.folds, progress)
        counts, mix = _counts(songs, parts.given.codes), dict(parts.given.class_mix)
        told = {"start": parts.origin, "songs": counts, "class_prior": mix}
        draft = draft_voice(parts, head, told, config.head.positions)
        manifest, figures = draft.manifest.model_dump_json(), tables(held, songs, parts.given.codes)
        facts = {"manifest": manifest, "about": draft.about, "figures": figures}
        stored = {"recipe": self.name, "network": draft.tensors, "config": config.model_dump_json(), "facts": facts}
        checkpoint.save(best, stored | {"best_epoch": -1})
        return best

    def parts(self) -> VoiceParts:
        """Loads ears and reader. Raises ReleaseError and CheckpointError naming the tensor that is wrong."""
        config = self.config
        if config.checkpoint is None or config.reader is None:
            parts = parts_of_release(config.store, config.start)
        else:
            parts = parts_of_training(config.checkpoint, config.reader, config.names_threshold)
        if config.ears is not None:
            stored = checkpoint.load(config.ears, EarsRecipe.name)
            first = EarsRecipe(EarsConfig.model_validate_json(stored["config"])).part(stored)
            given = replace(parts.given, rows=first.rows.numpy(), languages=first.languages)
            parts = replace(parts, ears=first.ears, given=given, origin=f"{parts.origin}, trained further")
        if config.speech is not None and parts.ears.ranges is None:
            request, clips = WindowRequest(parts.ears.config.window, 1), clips_of(config.speech, N_RANGE_CLIPS)
            recordings = (load_recording(clip.path, request, LIMITS) for clip in clips if clip.path is not None)
            windows = (torch.from_numpy(window.samples) for recording in recordings for window in recording.windows)
            own = parts.ears
            ranges = measure_ranges(own, windows)
            parts = replace(parts, ears=Ears(own.config, own.whisper, own.no_speech, ranges).eval())
        return parts

    def songs(self, parts: VoiceParts, progress: Progress) -> Songs:
        """Collects what is learnt from: songs, and clips of speech."""
        config, n_hidden = self.config, parts.given.rows.shape[1]
        read = self._judge(parts)
        if config.features is not None:
            heard = read_heard(config.features, parts.given.codes, read)
            if (found := heard.hidden.shape[1]) != n_hidden:
                raise TrainingError(f"{config.features}: {found} features a window; these ears have {n_hidden}")
        else:
            rows = song_rows(config.catalogue, parts.given.codes, progress)
            request = WindowRequest(parts.ears.config.window, config.most_windows, whole=True)
            heard = songs_of(rows, self._listen(parts, request, rows, progress), parts.given.codes, n_hidden, read)
        if config.speech is None:
            return heard
        clips = clips_of(config.speech, config.most_clips)
        features = self._listen(parts, WindowRequest(parts.ears.config.window, 1), clips, progress)
        return with_speech(heard, [clip.metadata.artist or "" for clip in clips], features)

    def _listen(self, parts: VoiceParts, request: WindowRequest, rows: list[Row], progress: Progress) -> list[Any]:
        target = Target("cuda", "bf16") if self.config.torch_device.type == "cuda" else None
        kept = self.config.cache_folder, identity_of(parts.ears)
        return FeatureExtractor(AudioBranch(request.spec, parts.ears), target, request, *kept).rows(rows, progress)

    def _judge(self, parts: VoiceParts) -> NgramReader:
        """Returns the reader to whose answers the trust in names is fitted."""
        unseen = self.config.unseen_reader
        reader = parts.reader if unseen is None else reader_of(unseen)[1]
        if list(reader[0].class_mix) != parts.given.codes:
            raise CheckpointError(f"{unseen}: its classes are not those of the reader")
        return NgramReader(*reader)

    def _check_groups(self, songs: Songs) -> None:
        """Raises TrainingError if there are too few to hold some out, twice over."""
        found, wanted = len(np.unique(songs.groups[songs.known])), 2 * self.config.head.inner_folds
        if found < wanted:
            raise TrainingError(
                f"songs of {found} artists or sources; a head needs {wanted}, to be judged by some it was not fitted to: "
                "add songs, fill the column artist, or set head.inner_folds lower"
            )

    def export(self, stored: dict[str, Any]) -> Draft:
        facts = stored["facts"]
        manifest = VoiceManifest.model_validate_json(facts["manifest"])
        note = "Every song was answered by a head fitted to other artists and sources, thresholds included.\n\n"
        notes = {"Cross-validation over artists": note + facts["figures"]}
        tensors: dict[str, Tensor] = stored["network"]
        return Draft(manifest, tensors, facts["about"], notes, calibrated=True)


def _counts(songs: Songs, codes: list[str]) -> dict[str, int]:
    """Counts songs by class, by `zxx`, and by `speech` for clips of it."""
    names = {NOTHING: NOTHING_SUNG, SPEECH: "speech"} | dict(enumerate(codes))
    labels, counts = np.unique(songs.labels, return_counts=True)
    return {names[label]: count for label, count in zip(labels.tolist(), counts.tolist(), strict=True)}


def draft_voice(parts: VoiceParts, head: FittedHead, facts: dict[str, Any], positions: Sequence[float]) -> Draft:
    """Joins the parts. `facts`: what the manifest says of the training; `positions`: where windows are listened to."""
    tensors, (read, reader) = stored_ears(parts.ears), parts.reader
    tensors |= {READER + name: tensor for name, tensor in reader.items()}
    tensors |= {name: torch.from_numpy(tensor).half() for name, tensor in head.tensors.items()}
    manifest = VoiceManifest(
        **VoiceRecipe.unnamed(parts.labels, facts),
        listen=parts.ears.config,
        windows=WindowPlan(positions=list(positions), first_windows=1, most_windows=len(positions)),
        read=read,
        lyrics=lyrics_config(read),
        identify=with_lyrics(head.config, parts.given.codes),
    )
    about = "Whisper's ears, readers of names and lyrics, and a head that joins them as a product of experts"
    return Draft(manifest, tensors, about, calibrated=True)
