"""Let an `lrid_net_plus` listen: the audio's part of h for a finished f, learnt in minutes on features heard once.

What the text alone decides stays exactly as it was: h sees the audio as its distance from silence, f(x) - f(0), which is
zero where there is none. How far the audio may be believed is set, not learnt on clips that the real world is not like:
`trust` is the share of pairs in which the clip is of the row's language; all others get any clip. With 0 the audio is
not listened to at all, and both inputs answer as the text alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from app.domain import FloatArray
from app.families.lrid_net.model import LridNetModel, listen_to_zeros
from app.families.lrid_net_plus.model import LridNetPlusModel
from app.lab.evaluation.evaluate import Hearer
from app.lab.training.corpus import Row
from app.lab.training.errors import CorpusError, TrainingError
from app.lab.training.plus_data import NO_TEXT, Drawer, Shelf
from app.lab.training.train_plus import TextNet

Progress = Callable[[int], None]
Trunk = LridNetModel | LridNetPlusModel  # a release whose f listens
SAVE_EVERY = 200  # rows


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """How the audio's part of h is learnt."""

    trust: float = 0.0  # 0 to 1
    text_missing: float = 0.3  # share of the pairs
    steps: int = 1500
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class HeardCorpus:
    """Rows with audio, as one f hears them."""

    features: FloatArray  # (n_windows, n_audio_features)
    labels: npt.NDArray[np.int64]  # (n_windows,)
    silence: FloatArray  # (n_audio_features,) f(0)


def hear_corpus(model: Trunk, rows: Sequence[Row], cache: Path, progress: Progress = lambda n: None) -> HeardCorpus:
    """Listens to every row once with the f of a release, in bf16; what is in `cache` is not heard again.

    Silent rows are left out. Raises CorpusError for audio that cannot be read.
    """
    path = cache / f"features-{model.manifest.sha256[:12]}.npz"
    known = _stored(path)
    hearer = Hearer(model, bf16=True)
    fresh = 0
    for row in rows:
        key = str(row.path)
        if key not in known:
            heard = hearer.row(row)
            known[key] = np.zeros((0, model.network.f.n_features), np.float32) if heard is None else heard
            fresh += 1
            if fresh % SAVE_EVERY == 0:
                _store(path, known)
        progress(1)
    if fresh:
        _store(path, known)
    parts = [known[str(row.path)] for row in rows]
    if not sum(map(len, parts)):
        raise CorpusError("nothing to listen to: every row is silent, or there are none")
    labels = np.repeat([row.label for row in rows], [len(part) for part in parts])
    return HeardCorpus(np.concatenate(parts), labels, listen_to_zeros(model.network, model.manifest.listen))


def fit_audio(network: TextNet, heard: HeardCorpus, drawer: Drawer, shelf: Shelf, config: AudioConfig) -> Tensor:
    """(256, n_audio_features): what f(x) - f(0) adds to h's first layer. Raises TrainingError if the loss breaks down."""
    network.eval()
    n_units = len(network.h[0][0].bias)  # type: ignore[index]
    weight = torch.zeros(n_units, heard.features.shape[1], requires_grad=True)
    distance = torch.from_numpy(heard.features - heard.silence)  # (n_windows, n_audio_features)
    scale = float(distance.std())
    clips = Clips(heard.labels, config.trust)
    optimizer = torch.optim.AdamW([weight], lr=config.learning_rate, weight_decay=config.weight_decay)
    for step in range(config.steps if config.trust else 0):
        rng = np.random.default_rng([config.seed, step])
        rows = drawer.draw(config.batch_size, rng)
        gone = rng.random(len(rows)) < config.text_missing
        texts = [NO_TEXT if g else drawer.likeness(int(i), rng) for i, g in zip(rows, gone, strict=True)]
        with torch.no_grad():
            s_text = network.read(shelf.batch(texts))
        listened = distance[clips.draw(drawer.labels[rows], rng)] @ weight.T / scale  # (n, 256)
        loss = cross_entropy(network.identify(s_text, listened), torch.from_numpy(drawer.labels[rows]))
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss became {loss.item()} in step {step}: use a lower learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return weight.detach() / scale


class Clips:
    """Draws a window for a row: of its language as often as `trust` says, else any."""

    def __init__(self, labels: npt.NDArray[np.int64], trust: float) -> None:
        self._n, self._trust = len(labels), trust
        self._of_label = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}

    def draw(self, labels: npt.NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """(n,) windows for rows of these labels."""
        own = rng.random(len(labels)) < self._trust
        chosen = [
            rng.choice(self._of_label[label]) if mine and label in self._of_label else rng.integers(self._n)
            for label, mine in zip(labels.tolist(), own, strict=True)
        ]
        return torch.tensor(chosen)


def _stored(path: Path) -> dict[str, FloatArray]:
    if not path.is_file():
        return {}
    with np.load(path) as stored:
        paths, sizes, features = stored["paths"].tolist(), stored["sizes"], stored["features"]
    return dict(zip(paths, np.split(features, sizes.cumsum()[:-1]), strict=True))


def _store(path: Path, known: dict[str, FloatArray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.npz")
    parts = list(known.values())
    np.savez(temporary, paths=list(known), sizes=[len(part) for part in parts], features=np.concatenate(parts))
    temporary.replace(path)
