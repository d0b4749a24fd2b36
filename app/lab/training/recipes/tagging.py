"""Learns tags from audio as Dalla Longa et al. do: three networks, binary cross-entropy, SGD with two decays (§4.5).

The paper states the first learning rate and the momentum. It does not state batch size, either decay, patience or number of
early stops: those are choices here.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from app.audio.spec import WindowRequest
from app.domain import AUDIO, FloatArray
from app.families.contract import Label, Model
from app.families.tagging.manifest import AudioConfig, MelCnnConfig, NetworkConfig, TaggingManifest
from app.families.tagging.networks import build_network
from app.lab.corpus.catalogue import Row
from app.lab.corpus.tags import most_frequent, refuse_undecided, truth_of
from app.lab.errors import CheckpointError, CorpusError
from app.lab.evaluation.answers import EvaluationSet, read_inputs, score
from app.lab.evaluation.tags import PAPER_TABLE_4, averages, by_tag, figures, table_4, thresholds
from app.lab.progress import Progress
from app.lab.training.config import TrainConfig
from app.lab.training.recipe import Draft, Figures, IntArray
from app.lab.training.recipes.songs import Clips, MeasuringRecipe, SongRecipe, songs_to_learn, stored_tensors


class TaggingConfig(TrainConfig):
    """Defaults are the paper's where it states them."""

    labels: tuple[Label, ...] = ()  # tags; (): the most frequent of the rows to train on
    n_tags: int = Field(50, ge=2)  # of those, at most
    audio: AudioConfig = AudioConfig()
    network: NetworkConfig = MelCnnConfig()  # network.kind: mel_cnn, sample_cnn, lstm
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 is twice as fast where the processor has it

    learning_rate: float = Field(0.01, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    batch_size: int = Field(16, ge=2)
    local_decay: float = Field(1e-6, ge=0)  # of each step in an epoch (equation 1)
    global_decay: float = Field(0.5, gt=0, le=1)  # of each early stop (equation 2)
    patience_epochs: int = Field(3, ge=1)
    restarts: int = Field(3, ge=0)


class TaggingRecipe(MeasuringRecipe[TaggingConfig], SongRecipe[TaggingConfig]):
    """An example is a song, of which a batch hears one window."""

    name: ClassVar[str] = "tagging"
    family: ClassVar[str] = "tagging"
    config_type: ClassVar[type[TrainConfig]] = TaggingConfig
    _thresholds: tuple[float, ...] = ()  # of the last validation

    def prepare(self, progress: Progress) -> None:
        config, window = self.config, self.config.audio.window
        train, valid = songs_to_learn(config.catalogue)  # MagnaTagATune's own split shares artists
        self.tags = config.labels or tuple(most_frequent((row.cells for row in train), config.n_tags))
        self.n_examples = len(train)
        self._truth, self._valid_truth = self._of_tags(train), self._of_tags(valid)
        cut = (WindowRequest(window, config.audio.most_windows), window, config.cache_folder, progress)  # as served
        self.songs, self.valid = Clips.decoded(train, *cut), Clips.decoded(valid, *cut)

    def _of_tags(self, rows: Sequence[Row]) -> FloatArray:
        """Returns (n, n_tags). Raises CorpusError naming a tag that all rows, or none, have."""
        codes = [tag.code for tag in self.tags]
        truth = truth_of([row.cells for row in rows], codes)
        refuse_undecided(truth, codes, rows[0].split)
        return truth

    def build(self) -> nn.Module:
        return build_network(self.config.network, self.config.audio, len(self.tags))

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(network.parameters(), lr=self.config.learning_rate, momentum=self.config.momentum)

    def share_in_epoch(self, step: int) -> float:
        """Follows equation 1: divided by (1 + local_decay * i) after each batch i, and full again with the next epoch."""
        return float(1 / np.prod(1 + self.config.local_decay * np.arange(1, step + 1)))

    def share_after_stop(self, early_stops: int) -> float:
        """Returns the share after an early stop (equation 2)."""
        return self.config.global_decay ** (early_stops + 1)

    def loss(self, network: nn.Module, batch: IntArray, rng: np.random.Generator) -> Tensor:
        """Returns the binary cross-entropy of one window of each song; every segment has the song's tags (§4.4.2)."""
        logits = self._logits(network, self.songs.drawn(batch, rng))  # (n, segments, n_tags)
        truth = self.tensor(self._truth[batch])[:, None].expand_as(logits)
        return binary_cross_entropy_with_logits(logits, truth)

    def _logits(self, network: nn.Module, samples: FloatArray) -> Tensor:
        with torch.autocast(self.config.torch_device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits = network(self.tensor(samples))
        return logits.float()  # type: ignore[no-any-return]

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures loss and mean AUC of answers as served: averages over segments and windows. Sets the thresholds."""
        found = np.stack([self._answer(network, number) for number in range(len(self.valid.rows))])
        loss = binary_cross_entropy(torch.from_numpy(found), torch.from_numpy(self._valid_truth)).item()
        self._thresholds = tuple(thresholds(self._valid_truth, found))
        measured = figures(self._valid_truth, found, [tag.code for tag in self.tags], self._thresholds)
        return {"loss": loss, "auc": float(averages(measured)["auc"])}

    def _answer(self, network: nn.Module, number: int) -> FloatArray:
        """Returns (n_tags,) of a validation song."""
        windows = [self.valid.window(number, start)[None] for start in self.valid.starts(number)]
        found = [torch.sigmoid(self._logits(network, samples)).mean(dim=(0, 1)) for samples in windows]
        return torch.stack(found).mean(dim=0).cpu().numpy()

    def facts(self) -> dict[str, Any]:
        positives = {tag.code: int(n) for tag, n in zip(self.tags, self._truth.sum(axis=0), strict=True)}
        tags = [tag.model_dump() for tag in self.tags]
        rows = {"audio": len(self.songs.rows)}
        return {"tags": tags, "thresholds": list(self._thresholds), "rows": rows, "positives": positives}

    def export(self, stored: dict[str, Any]) -> Draft:
        """Stores weights as they were trained, with the thresholds of the validation of this epoch."""
        facts, config = stored["facts"], self.config
        if not facts["thresholds"]:
            raise CheckpointError("the checkpoint was written before the first validation; name best.pt")
        tags = [Label.model_validate(tag) for tag in facts["tags"]]
        told = self.unnamed(tags, {name: facts[name] for name in ("rows", "positives")})
        manifest = TaggingManifest(**told, audio=config.audio, network=config.network, thresholds=facts["thresholds"])
        about = f"{PAPER_TABLE_4[config.network.kind][0]} (Dalla Longa et al.), several labels a song"
        return Draft(manifest, stored_tensors(stored), about, calibrated=True, measure=self.figures)

    @classmethod
    def figures(cls, models: Sequence[Model], chosen: EvaluationSet, progress: Progress) -> Figures:
        """Measures AUC, TPR and FPR at the release's thresholds, by tag and averaged, for the paper's table 4."""
        model = models[-1]
        manifest = model.manifest
        assert isinstance(manifest, TaggingManifest)
        codes = [label.code for label in manifest.labels]
        rows = chosen.rows_with_audio()
        inputs = read_inputs(model, rows, chosen.extractor(model), progress)
        if silent := [row for row, given in zip(rows, inputs, strict=True) if AUDIO not in given.features]:
            raise CorpusError(f"{silent[0].where}: {silent[0].path} is silent; drop the row")
        probabilities = np.stack([score(model, given, frozenset({AUDIO})).probabilities for given in inputs])
        found = figures(truth_of([row.cells for row in rows], codes), probabilities, codes, manifest.thresholds)
        means = averages(found)
        page = f"{table_4(manifest.network.kind, means)}\n\n{by_tag(found)}"
        return Figures({"audio_only": means}, page, {"averages": means, "tags": [asdict(tag) for tag in found]}, rows)
