"""model_store/<family>/<release>/ → a loaded model. Families are an explicit dict; nothing is unpickled."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from app.errors import ReleaseError, ReleaseNotFound
from app.families.contract import Manifest, Model
from app.families.lrid_net.config import LridNetManifest

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST, WEIGHTS, GOLDEN, CARD = "manifest.json", "weights.safetensors", "golden.json", "CARD.md"
REFERENCE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}(/[a-z0-9][a-z0-9_.-]{0,63})?")


Load = Callable[[Manifest, "dict[str, Tensor]"], Model]


@dataclass(frozen=True, slots=True)
class Family:
    """How a family reads its manifest and becomes a model."""

    manifest: type[Manifest]
    load: Load


def _load(family: str, model: str, manifest: Manifest, weights: dict[str, Tensor]) -> Model:
    """Build a class of the family's `model.py`, which is imported, and torch with it, when a release is loaded."""
    build: Load = getattr(importlib.import_module(f"app.families.{family}.model"), model)
    return build(manifest, weights)


Families = Mapping[str, Family]


def families() -> dict[str, Family]:
    """Every family this server knows."""
    from app.families.genre.manifest import GenreManifest
    from app.families.lrid_voice.manifest import VoiceManifest
    from app.families.multimodal.manifest import MultimodalManifest
    from app.families.multitask.manifest import MultitaskManifest
    from app.families.tagging.manifest import TaggingManifest

    return {
        "lrid_net": Family(LridNetManifest, partial(_load, "lrid_net", "LridNetModel")),
        "lrid_voice": Family(VoiceManifest, partial(_load, "lrid_voice", "VoiceModel")),
        "genre": Family(GenreManifest, partial(_load, "genre", "GenreModel")),
        "multimodal": Family(MultimodalManifest, partial(_load, "multimodal", "MultimodalModel")),
        "multitask": Family(MultitaskManifest, partial(_load, "multitask", "MultitaskModel")),
        "tagging": Family(TaggingManifest, partial(_load, "tagging", "TaggingModel")),
    }


def release_folder(store: Path, reference: str) -> Path:
    """`family/release`, or `family` for its newest release → its folder. Raises ReleaseError on anything else."""
    if not REFERENCE.fullmatch(reference) or ".." in reference:
        raise ReleaseNotFound(f"a release is named family/release, such as lrid_net/1; got {reference!r}")
    if "/" not in reference:
        reference = max((n for n in list_releases(store) if n.startswith(f"{reference}/")), key=_age, default=reference)
    folder = store / reference
    if not (folder / MANIFEST).is_file():
        known = ", ".join(list_releases(store))
        remedy = f"found: {known}; set LRID_MODEL to one" if known else "nor any other; set LRID_MODEL_STORE to its folder"
        raise ReleaseNotFound(f"no release {reference!r} in the model store; {remedy}")
    return folder


def _age(reference: str) -> tuple[int, str]:
    """Sorts release names as people count: 9 before 10."""
    name = reference.partition("/")[2]
    return (int(name) if name.isdecimal() else -1, name)


def list_releases(store: Path) -> list[str]:
    """References of all releases in a store, sorted."""
    return sorted("/".join(path.parent.parts[-2:]) for path in store.glob(f"*/*/{MANIFEST}"))


def read_manifest(folder: Path, known: Families | None = None) -> Manifest:
    """`known`: instead of `families()`. Raises ReleaseError naming the key that is wrong."""
    known = families() if known is None else known
    try:
        raw = json.loads((folder / MANIFEST).read_bytes())
        name = raw["family"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{MANIFEST} cannot be read: {error}") from error
    family = known.get(name) if isinstance(name, str) else None
    if family is None:
        raise ReleaseError(f"{MANIFEST}: unknown family {name!r}; known: {', '.join(known)}")
    try:
        manifest = family.manifest.model_validate(raw)
    except ValidationError as error:
        raise ReleaseError(f"{MANIFEST} is refused: {error}") from error
    if (manifest.family, manifest.release) != folder.resolve().parts[-2:]:
        raise ReleaseError(f"{MANIFEST} says {manifest.family}/{manifest.release}, its folder says otherwise")
    return manifest


def read_weights(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Tensors by name, after the hash was checked. Raises ReleaseError."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise ReleaseError(f"{WEIGHTS} cannot be read: {error}") from error
    if (found := hashlib.sha256(data).hexdigest()) != manifest.sha256:
        raise ReleaseError(f"{WEIGHTS}: sha256 is {found[:12]}…, the manifest says {manifest.sha256[:12]}…")
    try:
        return load(data)
    except SafetensorError as error:
        raise ReleaseError(f"{WEIGHTS} is not a safetensors file: {error}") from error


def load_model(folder: Path, known: Families | None = None) -> Model:
    """Read, check and build a release. Raises ReleaseError."""
    known = families() if known is None else known
    manifest = read_manifest(folder, known)
    return known[manifest.family].load(manifest, read_weights(folder, manifest))
