"""Lists every recipe by name. A new one is a file here and a line below."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.lab.errors import TrainingError
from app.lab.training import checkpoint
from app.lab.training.recipe import Draft, Trainable


def recipes() -> dict[str, type[Trainable[Any]]]:
    """Returns recipes by name; imports them only when they are asked for."""
    from app.lab.training.recipes.ears import EarsRecipe
    from app.lab.training.recipes.genre import GenreRecipe
    from app.lab.training.recipes.lrid_net import LridNetRecipe
    from app.lab.training.recipes.multimodal import MultimodalRecipe
    from app.lab.training.recipes.multitask import MultitaskRecipe
    from app.lab.training.recipes.reader import ReaderRecipe
    from app.lab.training.recipes.tagging import TaggingRecipe
    from app.lab.training.recipes.voice import VoiceRecipe

    kinds: tuple[type[Trainable[Any]], ...] = (  # of a family the first
        LridNetRecipe, VoiceRecipe, ReaderRecipe, EarsRecipe, MultimodalRecipe, MultitaskRecipe, TaggingRecipe,
        GenreRecipe,
    )  # fmt: skip
    return {kind.name: kind for kind in kinds}


def recipe_of(name: str, settings: dict[str, Any]) -> Trainable[Any]:
    """Finds a recipe by its name, or family, and gives it its settings. Raises TrainingError naming a wrong setting."""
    recipe = recipes().get(name) or of_family(name)
    if recipe is None:
        raise TrainingError(f"no recipe {name!r}; known: {', '.join(recipes())}")
    try:
        return recipe(recipe.config_type.model_validate(settings))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or name
        fields = recipe.config_type.model_fields
        known = f"; settings of {name}: {', '.join(fields)}" if first["loc"][:1] and first["loc"][0] not in fields else ""
        raise TrainingError(f"setting {place}: {first['msg']}{known}") from error


def of_family(family: str) -> type[Trainable[Any]] | None:
    """Finds the first recipe that makes releases of a family; None where releases of it are made elsewhere."""
    return next((recipe for recipe in recipes().values() if recipe.family == family), None)


def draft_of(path: Path) -> tuple[Draft, dict[str, Any]]:
    """Makes a draft of a checkpoint; returns its settings too. Raises CheckpointError, TrainingError."""
    stored = checkpoint.load(path)
    settings = json.loads(stored["config"])
    draft = recipe_of(stored["recipe"], settings).export(stored)
    return draft, settings | ({"epochs_trained": stored["best_epoch"] + 1} if "best_epoch" in stored else {})
