"""A small `multimodal` of made songs, for tests: three languages, ears of random weights, windows of a second."""

from pathlib import Path
from typing import Any

from app.lab.corpus.made.multimodal import make
from app.lab.labels import WORLD_LABELS
from app.lab.training.recipes import recipe_of
from app.lab.training.recipes.multimodal import MultimodalRecipe
from tests.voices import write_voice

CODES = ("en", "hi", "others")


def small_settings(folder: Path) -> dict[str, Any]:
    """Of a training on 36 songs of 3 artists' worth of each split; it takes seconds."""
    write_voice(folder / "store")
    return {
        "catalogue": make(folder / "songs", 0, CODES, 1),
        "output": folder / "run",
        "store": folder / "store",
        "labels": [label for label in WORLD_LABELS if label.code in CODES],
        "epochs": 6,
        "n_codewords": 8,
        "most_windows": 3,
        "network": {"channels": [8, 8, 8]},
        "device": "cpu",
        "threads": 1,
    }


def small_recipe(settings: dict[str, Any], **changes: Any) -> MultimodalRecipe:
    recipe = recipe_of("multimodal", settings | changes)
    assert isinstance(recipe, MultimodalRecipe)
    return recipe
