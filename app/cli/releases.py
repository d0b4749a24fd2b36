"""`lrid releases` lists and verifies what is in the model store, and makes a new release."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.cli.common import AsJson, Store, fail, make_settings
from app.errors import LridError
from app.lab.progress import Progress

releases = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="List, verify and make the releases in the model store."
)


@releases.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List what is in the model store. With --json one manifest a line."""
    from app.families.store import read_manifest, release_folder

    settings = make_settings()
    table = Table("release", "created", "classes", "sha256", "served by default")
    for name in _names(settings.model_store):
        try:
            manifest = read_manifest(release_folder(settings.model_store, name))
        except LridError as error:
            told = {"release": name, "refused": error.detail}
            table.add_row(name, "[red]refused[/]", "", "", escape(error.detail))
        else:
            told = manifest.model_dump(mode="json")
            default = "yes" if name == settings.model else ""
            table.add_row(name, manifest.created.isoformat(), str(len(manifest.labels)), manifest.sha256[:12], default)
        if as_json:
            typer.echo(json.dumps(told, ensure_ascii=False))
    if not as_json:
        Console().print(table)


@releases.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="`family/release`; all of them when none is named.")] = None,
) -> None:
    """Check manifest, hash and weights, and replay golden.json. Exit code 1 if a release is refused."""
    settings = make_settings()
    refused, names = 0, names or _names(settings.model_store)

    from app.serving.loading import load_release

    for name in names:
        try:
            load_release(settings.model_copy(update={"precision": "fp32", "device": "cpu"}), name)
        except LridError as error:
            refused += 1
            typer.echo(f"{name}: refused: {error.detail}")
        else:
            typer.echo(f"{name}: good")
    if refused:
        raise SystemExit(1)


def _names(store: Path) -> list[str]:
    """Lists the releases of a store; ends the command if there are none."""
    from app.families.store import list_releases

    return list_releases(store) or fail("release_refused", f"no release in {store}", "Set LRID_MODEL_STORE to its folder.")


@releases.command()
def make(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt of a training.")],
    release: Annotated[str, typer.Argument(help="Name of the new release, such as 2; releases never change.")],
    data: Annotated[str, typer.Option(help="What it was trained on, in words, for the card.")],
    calibration: Annotated[
        Path | None,
        typer.Option(help="Catalogue whose split=valid sets temperatures and thresholds; a head brings its own."),
    ] = None,
    limits: Annotated[str, typer.Option(help="What it does not know, in words, for the card.")] = "",
    store: Store = None,
) -> None:
    """Make a release: weights, manifest, golden answers and card, calibrated and measured on split=valid."""
    from app.lab.evaluation.answers import EvaluationSet
    from app.lab.training.recipes import draft_of
    from app.lab.training.release import ReleaseConfig, make_release

    draft, settings = draft_of(checkpoint)
    if calibration is None and not draft.calibrated:
        raise typer.BadParameter("needed: this network has no thresholds yet", param_hint="--calibration")
    chosen = EvaluationSet(calibration, splits=("valid",)) if calibration else None
    store = store or make_settings().model_store
    config = ReleaseConfig(store=store, release=release, calibration=chosen, data=data, limits=limits, settings=settings)
    typer.echo(f"{make_release(draft, config, Progress())}: made and verified")
