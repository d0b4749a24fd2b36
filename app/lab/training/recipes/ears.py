"""Trains Whisper's encoder and its language rows further, on windows of songs. It needs a GPU.

The decoder stays. Windows are drawn evenly from songs, and songs by the root of their language's share. What it makes is
given to `lrid train --family lrid_voice --set ears=...`, which fits a head to it.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from app.audio.spec import WindowRequest
from app.domain import FloatArray
from app.families.contract import Label
from app.families.parts.configs import WhisperConfig
from app.families.parts.log_mel import LogMel16kHz
from app.families.parts.whisper import Ears, Whisper
from app.families.parts.whisper_checkpoint import FirstEars, ears_from_checkpoint
from app.lab.errors import CheckpointError, CorpusError
from app.lab.labels import WORLD_LABELS
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, IntArray
from app.lab.training.recipes.songs import Clips, SongRecipe, in_parts
from app.lab.training.voice_head.data import song_rows
from app.lab.training.voice_head.settings import class_label
from app.lab.training.voice_parts import parts_of_release
from app.settings import Settings

MIX_POWER = 0.5  # 1 leaves the mix of languages as it is, 0 makes it even
LEAST = 1e-12  # the share of each language in a class that none counts for: such a class has a finite loss


class EarsConfig(TrainConfig):
    """Begins with the ears of a release, or with a Whisper checkpoint."""

    labels: tuple[Label, ...] = WORLD_LABELS
    start: str = "lrid_voice"  # without a number, the newest
    store: Path = Field(default_factory=lambda: Settings().model_store)  # where `start` is
    checkpoint: Path | None = None  # a Whisper's model.safetensors, instead of `start`
    n_positions: int = Field(500, ge=1)  # of 20 ms, in a window; with `checkpoint`
    windows: int = Field(8, ge=1)  # of each song, spread over it

    epochs: int = Field(10, ge=1)
    patience_epochs: int = Field(3, ge=1)
    learning_rate: float = Field(1e-5, gt=0)
    warmup_steps: int = Field(100, ge=0)


class LanguageEars(nn.Module):
    """Turns a log-mel spectrogram into logits of the languages that Whisper tells apart."""

    no_speech: Tensor

    def __init__(self, first: FirstEars) -> None:
        super().__init__()
        self.whisper = deepcopy(first.ears.whisper).requires_grad_(True)
        self.rows = nn.Parameter(first.rows.clone())
        self.register_buffer("no_speech", first.ears.no_speech.clone())
        self.whisper.decoder.requires_grad_(False)

    def forward(self, mel: Tensor) -> Tensor:
        """(n, n_mels, 2t) → (n, n_languages)."""
        return self.whisper(mel) @ self.rows.T  # type: ignore[no-any-return]


class EarsRecipe(SongRecipe[EarsConfig]):
    """Trains the ears; a batch is numbers of rows."""

    name: ClassVar[str] = "ears"
    family: ClassVar[str] = "lrid_voice"
    config_type: ClassVar[type[TrainConfig]] = EarsConfig

    def prepare(self, progress: Progress) -> None:
        config = self.config
        if config.checkpoint is not None:
            self.first = ears_from_checkpoint(config.checkpoint, config.n_positions)
        else:
            parts = parts_of_release(config.store, config.start)
            self.first = FirstEars(parts.ears, torch.from_numpy(parts.given.rows), parts.given.languages)
        listen = self.first.ears.config
        self._log_mel = LogMel16kHz(listen.n_mels).to(config.torch_device)
        heard = song_rows(config.catalogue, config.codes, progress, ("train", "valid"))
        sung = [row for row in heard if row.label < len(config.codes)]
        train, valid = ([row for row in sung if row.split == split] for split in ("train", "valid"))
        if not train or not valid:
            raise CorpusError(f"{config.catalogue}: ears need sung songs with audio in the splits train and valid")
        cut = WindowRequest(listen.window, config.windows), listen.window, config.cache_folder, progress
        self.songs, self.valid = Clips.decoded(train, *cut), Clips.decoded(valid, *cut)
        labels = self.songs.labels
        weights = np.bincount(labels)[labels] ** (MIX_POWER - 1)
        self._probabilities = weights / weights.sum()
        of_class = [config.codes.index(class_label(language, config.codes)) for language in self.first.languages]
        member = torch.eye(len(config.codes))[of_class]  # (n_languages, n_classes)
        member[:, member.sum(dim=0) == 0] = LEAST
        self._log_member = member.log().to(config.torch_device)

    def build(self) -> LanguageEars:
        return LanguageEars(self.first)

    @property
    def steps_per_epoch(self) -> int:
        """Counts as many windows as all songs have, by default."""
        return self.config.steps_per_epoch or max(1, len(self.songs.rows) * self.config.windows // self.config.batch_size)

    def batches(self, epoch: int) -> Iterator[IntArray]:
        rng = np.random.default_rng([self.config.seed, epoch])
        for _ in range(self.steps_per_epoch):
            yield rng.choice(len(self.songs.rows), self.config.batch_size, p=self._probabilities)

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Returns the cross-entropy over the classes, of one window of each song."""
        found = self._log_probabilities(network, self.songs.drawn(batch, rng))
        return nll_loss(found, self.tensor(self.songs.labels[batch]))

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures loss and accuracy of the middle window of each song."""

        def answered(songs: IntArray) -> Tensor:
            middles = [starts[len(starts) // 2] for starts in map(self.valid.starts, songs.tolist())]
            return self._log_probabilities(network, self.valid.windows(np.stack([songs, middles], axis=1)))

        labels = self.tensor(self.valid.labels)
        answers = in_parts(len(labels), self.config.batch_size, answered)
        right = (answers.argmax(dim=1) == labels).float().mean()
        return {"loss": nll_loss(answers, labels).item(), "accuracy": right.item()}

    def _log_probabilities(self, network: nn.Module, windows: FloatArray) -> Tensor:
        """Returns (n, n_classes) of (n, window_samples); in bf16 on a GPU that has it, but for weights and gradients."""
        device = self.config.torch_device.type
        with torch.no_grad():
            mel = self._log_mel(self.tensor(windows))
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" and torch.cuda.is_bf16_supported()):
            logits = network(mel)
        of_language = logits.float().log_softmax(dim=1)
        return torch.logsumexp(of_language[:, :, None] + self._log_member, dim=1)

    def facts(self) -> dict[str, Any]:
        return {"listen": self.first.ears.config.model_dump(), "languages": list(self.first.languages)}

    def part(self, stored: dict[str, Any]) -> FirstEars:
        """Makes ears of a checkpoint. Needs no `prepare`."""
        config, weights = WhisperConfig.model_validate(stored["facts"]["listen"]), stored["network"]
        whisper = Whisper(config).requires_grad_(False)
        whisper.load_state_dict({name: weights[f"whisper.{name}"] for name in whisper.state_dict()})
        return FirstEars(Ears(config, whisper, weights["no_speech"]).eval(), weights["rows"], stored["facts"]["languages"])

    def export(self, stored: dict[str, Any]) -> Draft:
        raise CheckpointError("ears are a part of a release: give them to `lrid train --family lrid_voice --set ears=...`")
