"""Read: metadata → how probable each class is, by the n-grams of artist, album and title."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, pairwise

import numpy as np
import torch
from torch import Tensor

from app.domain import METADATA_FIELDS, FloatArray, Metadata, Reading
from app.errors import ReleaseError
from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.ngrams.fields import FieldReader, has_letters
from app.families.parts.ngrams.loops import Table, as_read, read_songs

TABLE, SCALE = "table", "table.scale"  # tensors of a reader, beside `layer0.weight`, `layer0.bias`, `layer1.weight`, ...
SONGS_AT_ONCE = 16  # their inputs and the weights in use fit into a core's cache


class NgramReader:
    """Deterministic, on the CPU; any number of threads may call."""

    def __init__(self, config: NgramConfig, tensors: Mapping[str, Tensor]) -> None:
        """`tensors`: see `shapes`; the table as floats, or as int8 with the step of each row. Raises ReleaseError."""
        self.fields = FieldReader(config)
        found = {name: _floats(name, tensors, shape) for name, shape in shapes(config).items()}
        self.config = config
        if tensors[TABLE].dtype == torch.int8:  # stays so: a row is fetched in a quarter of the time
            steps = _floats(SCALE, tensors, (config.n_buckets,))
            self._table: Table = (np.ascontiguousarray(tensors[TABLE].numpy()), steps)
        else:
            self._table = (found[TABLE], np.ones(config.n_buckets, np.float32))
        n_layers = len(config.hidden_units) + 1
        self._weights = tuple(as_read(found[f"layer{i}.weight"].astype(np.float16)) for i in range(n_layers))
        self._biases = tuple(found[f"layer{i}.bias"] for i in range(n_layers))
        self._mix = np.array(list(config.class_mix.values()), np.float32)

    @property
    def class_mix(self) -> FloatArray:
        """(n_classes,) the share of each class in what the answers take for granted; sums to 1."""
        return self._mix.copy()

    def __call__(self, metadata: Metadata) -> Reading:
        """The posterior over the classes under `class_mix`; where no field has a letter, that mix itself."""
        return self.read_many([metadata])[0]

    def read_many(self, songs: Sequence[Metadata]) -> list[Reading]:
        """The readings of many songs, in less time; each has the same bits as by itself."""
        plain = [[self.fields.normalised(getattr(song, name)) for name in METADATA_FIELDS] for song in songs]
        rows = [row for row, texts in enumerate(plain) if any(map(has_letters, texts))]
        readings = [Reading(self.class_mix, informative=False)] * len(songs)
        for first in range(0, len(rows), SONGS_AT_ONCE):
            some = rows[first : first + SONGS_AT_ONCE]
            for row, posterior in zip(some, self._posteriors([plain[row] for row in some]), strict=True):
                readings[row] = Reading(posterior, informative=True)
        return readings

    def _posteriors(self, plain: Sequence[Sequence[str]]) -> FloatArray:
        """(n_classes,) for each of n songs: artist, album and title, normalised."""
        given = [[place for place, text in enumerate(texts) if text] for texts in plain]
        spelled = self.fields.spelled([text for texts in plain for text in texts if text])
        starts, places = np.array([0, *accumulate(map(len, given))]), np.array(list(chain(*given)))
        return read_songs(spelled, starts, places, self.fields.tables, self._table, self._weights, self._biases)


def shapes(config: NgramConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of a reader's tensors, by name."""
    widths = [config.n_inputs, *config.hidden_units, len(config.class_mix)]
    found: dict[str, tuple[int, ...]] = {TABLE: (config.n_buckets, config.networks * config.embedding_size)}
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        found[f"layer{i}.weight"] = (config.networks, n_in, n_out)
        found[f"layer{i}.bias"] = (config.networks, n_out)
    return found


def packed(table: Tensor) -> dict[str, Tensor]:
    """(n_buckets, width) floats → int8 in steps of a 127th of each row's largest value, and the steps, fp16."""
    largest = table.float().abs().amax(dim=1).clamp(min=1e-6)
    step = (largest / 127).half()
    return {TABLE: torch.round(table.float() / step.float()[:, None]).clamp(-127, 127).to(torch.int8), SCALE: step}


def _floats(name: str, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> FloatArray:
    if name not in tensors:
        raise ReleaseError(f"the reader's tensor '{name}' is missing")
    tensor = tensors[name]
    if tuple(tensor.shape) != shape:
        raise ReleaseError(f"the reader's tensor '{name}' should be {shape} and is {tuple(tensor.shape)}")
    values: FloatArray = np.ascontiguousarray(tensor.float().numpy())
    if not np.isfinite(values).all():
        raise ReleaseError(f"the reader's tensor '{name}' holds NaN or infinite values")
    return values
