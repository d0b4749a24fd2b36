"""Tags from audio as Dalla Longa et al. train them: three networks, binary cross-entropy, SGD with two decays (§4.5).

The paper states the first learning rate and the momentum. It does not state batch size, either decay, patience or number of
early stops: those are choices here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from app.audio.spec import WindowRequest
from app.audio.windows import fit_window
from app.domain import FloatArray
from app.families.contract import Label
from app.families.parts.weights import COUNTER
from app.families.tagging.manifest import AudioConfig, MelCnnConfig, NetworkConfig, TaggingManifest
from app.families.tagging.networks import build_network
from app.lab.caches import Decoder, Waveforms
from app.lab.corpus.catalogue import Row, read_catalogue
from app.lab.corpus.check import check_rows
from app.lab.corpus.tags import most_frequent, refuse_undecided, truth_of
from app.lab.errors import CheckpointError, CorpusError
from app.lab.evaluation.answers import EvaluationSet
from app.lab.evaluation.evaluate import Options
from app.lab.evaluation.tags import PAPER_TABLE_4, averages, figures, thresholds
from app.lab.features import cache_folder
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, Recipe
from app.lab.training.recipes.tagging_measures import evaluate_tags, measure_release

Numbers = npt.NDArray[np.int64]


class TaggingConfig(TrainConfig):
    """Defaults are the paper's where it states them."""

    labels: tuple[Label, ...] = ()  # tags; (): the most frequent of the rows to train on
    n_tags: int = Field(50, ge=2)  # of those, at most
    audio: AudioConfig = AudioConfig()
    network: NetworkConfig = MelCnnConfig()  # network.kind: mel_cnn, sample_cnn, lstm

    learning_rate: float = Field(0.01, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    batch_size: int = Field(16, ge=2)
    local_decay: float = Field(1e-6, ge=0)  # of each step in an epoch (equation 1)
    global_decay: float = Field(0.5, gt=0, le=1)  # of each early stop (equation 2)
    patience_epochs: int = Field(3, ge=1)
    restarts: int = Field(3, ge=0)


class TaggingRecipe(Recipe[TaggingConfig, Numbers]):
    """A batch is numbers of rows."""

    name: ClassVar[str] = "tagging"
    family: ClassVar[str] = "tagging"
    config_type: ClassVar[type[TrainConfig]] = TaggingConfig
    _thresholds: tuple[float, ...] = ()  # of the last validation

    def prepare(self, progress: Progress) -> None:
        config = self.config
        rows = [row for row in read_catalogue(config.catalogue, None) if row.path is not None]
        if leaks := [finding for finding in check_rows(rows, ()) if finding.kind == "track_in_two_splits"]:
            raise CorpusError(f"{config.catalogue.name}, {leaks[0]}")  # MagnaTagATune's own split shares artists
        self.rows, self.valid = ([row for row in rows if row.split == split] for split in ("train", "valid"))
        if not self.rows or not self.valid:
            raise CorpusError(f"{config.catalogue}: tagging needs rows with audio in the splits train and valid")
        self.tags = config.labels or tuple(most_frequent((row.cells for row in self.rows), config.n_tags))
        codes = [tag.code for tag in self.tags]
        self._truth, self._valid_truth = (truth_of([row.cells for row in rows], codes) for rows in (self.rows, self.valid))
        refuse_undecided(self._truth, codes, "train")
        refuse_undecided(self._valid_truth, codes, "valid")
        request = WindowRequest(config.audio.window, config.audio.most_windows)  # as served
        self._waveforms = Waveforms(cache_folder(config.cache_folder, request, "waveforms"))
        heard = [*self.rows, *self.valid]
        with progress.counting("decoding", len(heard)) as advance:
            self._waveforms.add(heard, Decoder(request.spec, request.max_windows), advance)

    def build(self) -> nn.Module:
        return build_network(self.config.network, self.config.audio, len(self.tags))

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(network.parameters(), lr=self.config.learning_rate, momentum=self.config.momentum)

    def share_in_epoch(self, step: int) -> float:
        """Equation 1: divided by (1 + local_decay * i) after each batch i, and full again with the next epoch."""
        return float(1 / np.prod(1 + self.config.local_decay * np.arange(1, step + 1)))

    def share_after_stop(self, early_stops: int) -> float:
        """Equation 2."""
        return self.config.global_decay ** (early_stops + 1)

    @property
    def steps_per_epoch(self) -> int:
        return self.config.steps_per_epoch or max(1, len(self.rows) // self.config.batch_size)

    def batches(self, epoch: int) -> Iterator[Numbers]:
        """Every row once, in another order each epoch; a rest smaller than a batch is left out."""
        rng = np.random.default_rng([self.config.seed, epoch])
        size = min(self.config.batch_size, len(self.rows))
        order = np.concatenate(
            [rng.permutation(len(self.rows)) for _ in range(-(-self.steps_per_epoch * size // len(self.rows)))]
        )
        for step in range(self.steps_per_epoch):
            yield order[step * size : (step + 1) * size]

    def loss(self, network: nn.Module, batch: Numbers, rng: np.random.Generator) -> Tensor:
        """Binary cross-entropy of one window of each song; every segment has the song's tags (§4.4.2)."""
        rows = [self.rows[number] for number in batch.tolist()]
        samples = np.stack([self._window(row, int(rng.integers(self._n_windows(row)))) for row in rows])
        logits = network(self._tensor(samples))  # (n, segments, n_tags)
        truth = self._tensor(self._truth[batch])[:, None].expand_as(logits)
        return binary_cross_entropy_with_logits(logits, truth)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Loss and mean AUC of probabilities averaged over segments and windows, as served. Sets the thresholds."""
        found = np.stack([self._answer(network, row) for row in self.valid])
        loss = binary_cross_entropy(torch.from_numpy(found), torch.from_numpy(self._valid_truth)).item()
        self._thresholds = tuple(thresholds(self._valid_truth, found))
        measured = figures(self._valid_truth, found, [tag.code for tag in self.tags], self._thresholds)
        return {"loss": loss, "auc": float(averages(measured)["auc"])}

    def _answer(self, network: nn.Module, row: Row) -> FloatArray:
        """(n_tags,)."""
        windows = [self._window(row, place)[None] for place in range(self._n_windows(row))]
        found = [torch.sigmoid(network(self._tensor(samples))).mean(dim=(0, 1)) for samples in windows]
        return torch.stack(found).mean(dim=0).cpu().numpy()

    def _window(self, row: Row, place: int) -> FloatArray:
        size = self.config.audio.window_samples
        return fit_window(self._waveforms.read(row, place * size, size), size)

    def _n_windows(self, row: Row) -> int:
        return -(-self._waveforms.length(row) // self.config.audio.window_samples)

    def _tensor(self, array: FloatArray) -> Tensor:
        return torch.from_numpy(array).to(self.config.torch_device)

    def fingerprint(self) -> str:
        return self._waveforms.fingerprint([*self.rows, *self.valid])

    def facts(self) -> dict[str, Any]:
        positives = {tag.code: int(n) for tag, n in zip(self.tags, self._truth.sum(axis=0), strict=True)}
        tags = [tag.model_dump() for tag in self.tags]
        rows = {"audio": len(self.rows)}
        return {"tags": tags, "thresholds": list(self._thresholds), "rows": rows, "positives": positives}

    def export(self, stored: dict[str, Any]) -> Draft:
        """Weights as they were trained; thresholds of the validation of this epoch."""
        facts = stored["facts"]
        if not facts["thresholds"]:
            raise CheckpointError("the checkpoint was written before the first validation; name best.pt")
        manifest = TaggingManifest(
            family="tagging",
            release="draft",
            created=date.today(),
            labels=[Label.model_validate(tag) for tag in facts["tags"]],
            sha256="0" * 64,
            training={name: facts[name] for name in ("rows", "positives")},
            metrics={},
            audio=self.config.audio,
            network=self.config.network,
            thresholds=facts["thresholds"],
        )
        tensors = {name: tensor.float().contiguous() for name, tensor in stored["network"].items() if COUNTER not in name}
        about = f"{PAPER_TABLE_4[self.config.network.kind].name} (Dalla Longa et al.), several labels a song"
        return Draft(manifest, tensors, about, calibrated=True, measure=measure_release)

    @classmethod
    def evaluate(cls, folder: Path, chosen: EvaluationSet, output: Path, options: Options, progress: Progress) -> str:
        """AUC by tag and averaged, TPR and FPR at the release's thresholds, and the paper's table 4. Raises CorpusError."""
        return evaluate_tags(folder, chosen, output, options, progress)
