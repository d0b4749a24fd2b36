"""How the store makes a model of a release of this family; torch is imported only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.families.contract import Manifest, Model
from app.families.lrid_net_plus.config import LridNetPlusManifest

if TYPE_CHECKING:
    from torch import Tensor


def load(manifest: Manifest, weights: dict[str, Tensor]) -> Model:
    """Raises ReleaseError if weights and manifest do not fit each other."""
    from app.families.lrid_net_plus.model import LridNetPlusModel

    assert isinstance(manifest, LridNetPlusManifest)
    return LridNetPlusModel(manifest, weights)
