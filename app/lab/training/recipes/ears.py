"""Trains Whisper's encoder and its language rows further, on windows of songs. For a GPU.

The decoder stays. Windows are drawn evenly from songs, and songs by the root of their language's share. What it makes is
given to `lrid train --family lrid_voice --set ears=...`, which fits a head to it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from app.audio.spec import WindowRequest, WindowSpec
from app.families.contract import Label
from app.families.parts.log_mel import LogMel16kHz
from app.families.parts.whisper import Ears, Whisper
from app.families.parts.whisper_checkpoint import FirstEars
from app.families.parts.whisper_config import WhisperConfig
from app.lab.caches import Decoder, Waveforms
from app.lab.corpus.catalogue import Row
from app.lab.errors import CheckpointError, CorpusError
from app.lab.features import cache_folder
from app.lab.labels import WORLD_LABELS
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, Recipe
from app.lab.training.voice_head.heard import song_rows
from app.lab.training.voice_head.settings import class_label
from app.lab.training.voice_parts import ears_to_begin_with
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

    def __init__(self, config: WhisperConfig, n_languages: int) -> None:
        super().__init__()
        self.whisper = Whisper(config)
        self.rows = nn.Parameter(torch.zeros(n_languages, config.n_state))
        self.register_buffer("no_speech", torch.zeros(config.n_state))
        self.whisper.decoder.requires_grad_(False)

    def forward(self, mel: Tensor) -> Tensor:
        """(n, n_mels, 2t) → (n, n_languages)."""
        return self.whisper(mel) @ self.rows.T  # type: ignore[no-any-return]


class EarsRecipe(Recipe[EarsConfig, npt.NDArray[np.int64]]):
    """A batch is numbers of rows."""

    name: ClassVar[str] = "ears"
    family: ClassVar[str] = "lrid_voice"
    config_type: ClassVar[type[TrainConfig]] = EarsConfig

    def prepare(self, progress: Progress) -> None:
        config = self.config
        self.first = ears_to_begin_with(config.store, config.start, config.checkpoint, config.n_positions)
        listen = self.first.ears.config
        self._window = listen.window_samples
        self._log_mel = LogMel16kHz(listen.n_mels).to(config.torch_device)
        heard = song_rows(config.catalogue, config.codes, progress, ("train", "valid"))
        sung = [row for row in heard if row.label < len(config.codes)]
        spec = WindowSpec(listen.sample_rate_hz, listen.window_samples, padding="silence")
        self._waveforms = Waveforms(cache_folder(config.cache_folder, WindowRequest(spec, config.windows), "waveforms"))
        with progress.counting("decoding", len(sung)) as advance:
            self._waveforms.add(sung, Decoder(spec, config.windows), advance)
        self.rows, self.valid = ([row for row in sung if row.split == split] for split in ("train", "valid"))
        if not self.rows or not self.valid:
            raise CorpusError(f"{config.catalogue}: ears need sung songs with audio in the splits train and valid")
        labels = np.array([row.label for row in self.rows])
        weights = np.bincount(labels)[labels] ** (MIX_POWER - 1)
        self._probabilities = weights / weights.sum()
        of_class = [config.codes.index(class_label(language, config.codes)) for language in self.first.languages]
        member = torch.eye(len(config.codes))[of_class]  # (n_languages, n_classes)
        member[:, member.sum(dim=0) == 0] = LEAST
        self._log_member = member.log().to(config.torch_device)

    def build(self) -> LanguageEars:
        first = self.first
        network = LanguageEars(first.ears.config, len(first.languages))
        network.whisper.load_state_dict(first.ears.whisper.state_dict())
        network.no_speech.copy_(first.ears.no_speech)
        network.rows.data.copy_(first.rows)
        return network

    @property
    def steps_per_epoch(self) -> int:
        """Counts as many windows as all songs have, by default."""
        return self.config.steps_per_epoch or max(1, len(self.rows) * self.config.windows // self.config.batch_size)

    def batches(self, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
        rng = np.random.default_rng([self.config.seed, epoch])
        for _ in range(self.steps_per_epoch):
            yield rng.choice(len(self.rows), self.config.batch_size, p=self._probabilities)

    def loss(self, network: nn.Module, batch: npt.NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Returns the cross-entropy over the classes, of one window of each song."""
        rows = [self.rows[number] for number in batch.tolist()]
        places = [int(rng.integers(self._n_windows(row))) for row in rows]
        return nll_loss(self._log_probabilities(network, rows, places), self._labels(rows))

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures loss and accuracy of the middle window of each song."""
        found: list[Tensor] = []
        for i in range(0, len(self.valid), self.config.batch_size):
            rows = self.valid[i : i + self.config.batch_size]
            found.append(self._log_probabilities(network, rows, [self._n_windows(row) // 2 for row in rows]))
        answers, labels = torch.cat(found), self._labels(self.valid)
        right = (answers.argmax(dim=1) == labels).float().mean()
        return {"loss": nll_loss(answers, labels).item(), "accuracy": right.item()}

    def _log_probabilities(self, network: nn.Module, rows: list[Row], places: list[int]) -> Tensor:
        """Returns (n, n_classes) of one window of each row."""
        samples = np.zeros((len(rows), self._window), np.float32)
        for one, row, place in zip(samples, rows, places, strict=True):
            window = self._waveforms.read(row, place * self._window, self._window)
            one[: len(window)] = window
        with torch.no_grad():
            mel = self._log_mel(torch.from_numpy(samples).to(self.config.torch_device))
        with self._autocast():
            logits = network(mel)
        of_language = logits.float().log_softmax(dim=1)
        return torch.logsumexp(of_language[:, :, None] + self._log_member, dim=1)

    def _n_windows(self, row: Row) -> int:
        return -(-self._waveforms.length(row) // self._window)

    def _labels(self, rows: list[Row]) -> Tensor:
        return torch.tensor([row.label for row in rows], device=self.config.torch_device)

    def _autocast(self) -> AbstractContextManager[object]:
        """Uses bf16 on a GPU that has it; weights and gradients stay in fp32."""
        mixed = self.config.torch_device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast("cuda", torch.bfloat16) if mixed else nullcontext()

    def fingerprint(self) -> str:
        return self._waveforms.fingerprint([*self.rows, *self.valid])

    def facts(self) -> dict[str, Any]:
        return {"listen": self.first.ears.config.model_dump(), "languages": list(self.first.languages)}

    def part(self, stored: dict[str, Any]) -> FirstEars:
        """Makes ears of a checkpoint. Needs no `prepare`."""
        config, languages = WhisperConfig.model_validate(stored["facts"]["listen"]), stored["facts"]["languages"]
        network = LanguageEars(config, len(languages))
        network.load_state_dict(stored["network"])
        ears = Ears(config, network.whisper.requires_grad_(False), network.no_speech).eval()
        return FirstEars(ears, network.rows.detach(), languages)

    def export(self, stored: dict[str, Any]) -> Draft:
        raise CheckpointError("ears are a part of a release: give them to `lrid train --family lrid_voice --set ears=...`")
