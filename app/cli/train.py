"""`lrid train` and `lrid variants` lead from a catalogue to a checkpoint, and to a release."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.common import Catalogue
from app.cli.releases import make
from app.lab.errors import TrainingError
from app.lab.progress import Progress

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the recipe: epochs=3, network.base_channels=16."),
]
ConfigFile = Annotated[Path | None, typer.Option(help="JSON of settings, such as the config.json of a training.")]
RECIPES = "lrid_net, voice, reader, ears, multimodal, multitask, tagging, genre"  # reading their names would import torch
Output = Annotated[Path, typer.Option(help="Folder for checkpoints and log.csv.")]


def train(
    catalogue: Catalogue,
    output: Output = Path("runs/train"),
    recipe: Annotated[
        str, typer.Option("--recipe", "--family", help=f"What to train: {RECIPES}; or the family of the release.")
    ] = "lrid_net",
    settings: Settings = None,
    config: ConfigFile = None,
    resume: Annotated[bool, typer.Option(help="Go on from last.pt in --output, to the same result.")] = False,
    release: Annotated[str | None, typer.Option(help="Make a release of this name afterwards, in the model store.")] = None,
) -> None:
    """Train on a catalogue, by default the paper's network with its settings, and make a release if one is named.

        lrid train songs.tsv --output runs/mine --set epochs=40 --set batch_size=64 --release mine

    Several GPUs: torchrun --standalone --nproc-per-node 4 -m app.cli train CATALOGUE ...; they share the batches.
    `lrid releases make` makes the release later, with words of your own for its card.
    """
    from app.lab.training.recipes import recipe_of

    given = settings_of(config, settings) | {"catalogue": catalogue, "output": output, "resume": resume}
    chosen = recipe_of(recipe, given)
    best = chosen.train(Progress())
    if int(os.environ.get("RANK", "0")):
        return  # one of several processes of torchrun, not the first
    typer.echo(f"best checkpoint: {best}")
    if release is not None:
        make(best, release, calibration=chosen.measured_on, data=f"Rows of {catalogue.name} with split=train.")


def variants(
    catalogue: Catalogue,
    output: Output = Path("runs/variants"),
    recipe: Annotated[str, typer.Option("--recipe", help="Whose paper: `lrid_net` or `multimodal`.")] = "lrid_net",
    settings: Settings = None,
    config: ConfigFile = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each variant, from setting `seed` on.")] = 1,
) -> None:
    """Train all variants of a recipe's paper on a catalogue, and print their tables; run again, it goes on."""
    from app.lab.training.recipes import recipe_of
    from app.lab.training.recipes.multimodal_tables import run_tables
    from app.lab.training.variants import run_variants

    chosen = recipe_of(recipe, settings_of(config, settings) | {"catalogue": catalogue, "output": output})
    runs: dict[str, Callable[..., str]] = {"lrid_net": run_variants, "multimodal": run_tables}
    run = runs.get(recipe)
    if run is None:
        raise typer.BadParameter(f"{recipe!r} has no variants; lrid_net and multimodal have", param_hint="--recipe")
    first = chosen.config.seed
    typer.echo(run(chosen.config, range(first, first + seeds), Progress()))


def settings_of(file: Path | None, given: list[str] | None) -> dict[str, Any]:
    """Reads the file's settings and puts `key=value` on top; dots lead into groups. Raises TrainingError."""
    found: dict[str, Any] = {}
    if file is not None:
        try:
            found = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise TrainingError(f"--config {file} cannot be read ({error}); expected a JSON object of settings") from error
        if not isinstance(found, dict):
            raise TrainingError(f'--config {file} holds no JSON object of settings, such as {{"epochs": 3}}')
    for pair in given or ():
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise TrainingError(f"--set {pair!r}: expected key=value, such as epochs=3")
        *groups, name = key.split(".")
        group = found
        for part in groups:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise TrainingError(f"--set {pair!r}: {part} has a value already, so it can be no group of settings")
        group[name] = _parsed(value)
    return found


def _parsed(value: str) -> Any:
    """Reads numbers, true, false, null and JSON as such; anything else is text."""
    try:
        return json.loads(value)
    except ValueError:
        return value
