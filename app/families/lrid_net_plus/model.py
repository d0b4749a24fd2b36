"""A release of the family `lrid_net_plus`, loaded: its own reader; listener and head as `lrid_net` has them."""

from __future__ import annotations

import torch
from torch import Tensor

from app.domain import FloatArray
from app.errors import ReleaseError
from app.families.lrid_net.model import NetworkModel
from app.families.lrid_net_plus.config import LridNetPlusManifest
from app.families.lrid_net_plus.packed import unpacked
from app.families.lrid_net_plus.read import PlusReader

TABLE = "reader.table"  # its name among the weights


class LridNetPlusModel(NetworkModel[LridNetPlusManifest]):
    """A release of the family `lrid_net_plus`."""

    def __init__(self, manifest: LridNetPlusManifest, weights: dict[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other."""
        weights = unpacked(weights)
        reader = PlusReader(manifest.read, _table(weights))
        super().__init__(manifest, reader, {name: tensor for name, tensor in weights.items() if name != TABLE})


def _table(weights: dict[str, Tensor]) -> FloatArray:
    if TABLE not in weights:
        raise ReleaseError(f"weights.safetensors: tensor '{TABLE}' is missing")
    table = weights[TABLE].float()
    if not torch.isfinite(table).all():
        raise ReleaseError(f"weights.safetensors: tensor '{TABLE}' holds NaN or infinite values")
    return table.numpy()
