"""The head of `lrid_voice` fitted to a catalogue; ears and reader stay as a release has them. Minutes, from kept features.

It is fitted to the rows of split `train` that have audio, rows labelled `zxx` among them; artists are groups. The classes
are those of the release that it starts from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from app.audio.spec import WindowRequest
from app.domain import NOTHING_SUNG, TEXT, FloatArray, Track
from app.families.contract import Target
from app.families.lrid_voice.identify import ROWS
from app.families.lrid_voice.identify_config import IdentifyConfig
from app.families.lrid_voice.manifest import VoiceManifest
from app.families.lrid_voice.model import VoiceModel
from app.families.parts.whisper_weights import PREFIX
from app.families.store import read_manifest, read_weights, release_folder
from app.lab.corpus.catalogue import Row, artist_key, read_catalogue
from app.lab.corpus.check import refuse_leaks
from app.lab.errors import CorpusError, TrainingError
from app.lab.features import FeatureExtractor, cache_folder
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.recipe import Draft, RunConfig, Trainable
from app.lab.training.voice_head.data import NOTHING, Songs
from app.lab.training.voice_head.fit import Listener, ReaderFacts, fit_head
from app.lab.training.voice_head.settings import HeadSettings
from app.settings import Settings


class VoiceConfig(RunConfig):
    """What to start from, and how strongly the fit is held to it."""

    store: Path = Field(default_factory=lambda: Settings().model_store)
    start: str = "lrid_voice"  # release whose ears and reader are kept
    most_windows: int = Field(60, ge=1)  # of a song, one after the other
    head: HeadSettings = Field(default_factory=HeadSettings)


class VoiceRecipe(Trainable[VoiceConfig]):
    """Features of all windows → language biases, singing, names, stopping rule, thresholds."""

    name: ClassVar[str] = "voice"
    family: ClassVar[str] = "lrid_voice"
    config_type: ClassVar[type[RunConfig]] = VoiceConfig

    def train(self, progress: Progress) -> Path:
        config = self.config
        if config.threads:
            torch.set_num_threads(config.threads)
        manifest, weights = self._start()
        model = VoiceModel(manifest, weights)
        songs = self.songs(model, _fingerprint(weights), progress)
        progress.say(f"fitting the head to {len(songs.labels)} songs, {len(songs.hidden)} windows")
        tokens, classes = [token.code for token in manifest.identify.tokens], [label.code for label in manifest.labels]
        listener = Listener(weights[ROWS].float().numpy(), tokens, classes)
        fitted = fit_head(songs, listener, {TEXT: _reader_facts(manifest)}, config.head)
        path = config.output / "best.pt"
        counts = np.bincount(songs.labels - NOTHING, minlength=len(classes) + 1)
        head = {name: torch.from_numpy(np.ascontiguousarray(tensor)) for name, tensor in fitted.tensors.items()}
        checkpoint.save(
            path,
            {
                "recipe": self.name,
                "config": config.model_dump_json(),
                "facts": {"songs": {code: int(n) for code, n in zip([NOTHING_SUNG, *classes], counts, strict=True) if n}},
                "identify": fitted.config.model_dump_json(),
                "network": head,
            },
        )
        return path

    def _start(self) -> tuple[VoiceManifest, dict[str, Tensor]]:
        folder = release_folder(self.config.store, self.config.start)
        manifest = read_manifest(folder)
        if not isinstance(manifest, VoiceManifest):
            raise TrainingError(f"start: {self.config.start} is of family {manifest.family}, expected {self.family}")
        return manifest, read_weights(folder, manifest)

    def songs(self, model: VoiceModel, ears: str, progress: Progress) -> Songs:
        """Rows of split `train` with audio, listened to from end to end; silent ones are left out. Raises CorpusError."""
        codes = [label.code for label in model.manifest.labels]
        rows = read_catalogue(self.config.catalogue, [*codes, NOTHING_SUNG], rest="others" if "others" in codes else None)
        for finding in refuse_leaks(rows, [*codes, NOTHING_SUNG]):
            if finding.kind != "class_never_trained":
                progress.say(f"{self.config.catalogue.name}, {finding}")
        rows = [row for row in rows if row.split == "train" and row.path is not None]
        request = WindowRequest(model.audio.window, self.config.most_windows, whole=True)
        target = Target(
            "cuda" if self.config.torch_device.type == "cuda" else "cpu", "fp32", threads=torch.get_num_threads()
        )
        cache = cache_folder(self.config.cache_folder, request, ears)
        features = FeatureExtractor(model.audio, target, request, cache).rows(rows, progress)
        heard = [(row, windows) for row, windows in zip(rows, features, strict=True) if len(windows)]
        if not heard:
            raise CorpusError(f"{self.config.catalogue}: no row of split train has audio that can be heard")
        return _songs(model, [row for row, _ in heard], [windows for _, windows in heard])

    def export(self, stored: dict[str, Any]) -> Draft:
        before, tensors = self._start()
        tensors |= {name: tensor.to(tensors[name].dtype) for name, tensor in stored["network"].items()}
        identify = IdentifyConfig.model_validate_json(stored["identify"])
        training = {"start": f"{before.family}/{before.release}", **stored["facts"]}
        manifest = before.model_copy(update={"identify": identify, "training": training, "metrics": {}})
        about = f"The ears and the reader of {before.family}/{before.release} with a head of its own"
        return Draft(manifest, tensors, about, calibrated=True)


def _songs(model: VoiceModel, rows: Sequence[Row], windows: Sequence[FloatArray]) -> Songs:
    n_classes, n_hidden = len(model.manifest.labels), model.manifest.listen.n_state
    readings = np.full((len(rows), n_classes), np.nan, np.float32)
    for i, row in enumerate(rows):
        reading = model.inputs[TEXT].read(Track(None, row.metadata))
        if reading is not None and reading.informative:
            readings[i] = reading.vector
    labels = np.array([NOTHING if row.label == n_classes else row.label for row in rows], np.int64)
    groups = np.unique([artist_key(row.metadata.artist) or f"row {row.line}" for row in rows], return_inverse=True)[1]
    counts = np.array([len(part) for part in windows], np.int64)
    return Songs(np.concatenate(windows)[:, :n_hidden], counts, labels, groups.astype(np.int64), {TEXT: readings})


def _reader_facts(manifest: VoiceManifest) -> ReaderFacts:
    """As the release has them: its reader stays."""
    expert = manifest.identify.experts[TEXT]
    threshold: Mapping[str, float] = manifest.identify.thresholds
    return ReaderFacts(expert.class_mix, expert.alone_exponent, threshold.get(TEXT, 0.5))


def _fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Of the ears: releases that share them share features."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        if name.startswith(PREFIX):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
