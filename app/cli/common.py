"""Holds what the commands share: settings from options, options of the same name, errors as messages."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

from app.catalogue.files import printable
from app.settings import Settings

Model = Annotated[str | None, typer.Option(help="Release to use, `family/release`. Default: LRID_MODEL.")]
Device = Annotated[str | None, typer.Option(help="`auto` (CUDA where there is one), `cpu` or `cuda`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Store = Annotated[Path | None, typer.Option(help="Model store. \\[default: LRID_MODEL_STORE]")]
LyricsFromTags = Annotated[bool, typer.Option("--lyrics-from-tags", help="Read the lyrics in the tags of files.")]
Catalogue = Annotated[
    Path, typer.Argument(help="CSV, TSV or Parquet with any of path, artist, album, title, language (or label), split.")
]


def fail(code: str, detail: str, remedy: str = "") -> NoReturn:
    """Says what happened and what to do; ends with exit code 1."""
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]{code}[/]: ", end="")
    console.print(detail, markup=False, soft_wrap=True)
    if remedy:
        console.print(f"  {remedy}", markup=False, soft_wrap=True)
    raise SystemExit(1)


def say_no_audio(places: Iterable[Path]) -> None:
    """Folders were walked, and held nothing to listen to."""
    typer.echo(
        f"no audio files in {', '.join(map(printable, places))}; they are found by their suffix, such as .mp3", err=True
    )


def make_settings(**given: Any) -> Settings:
    """Reads settings from the environment, and puts the options that were given on top."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise typer.BadParameter(_place(first["loc"], given) + first["msg"].removeprefix("Value error, ")) from None


def _place(loc: Sequence[int | str], given: Mapping[str, Any]) -> str:
    """The option that is wrong, or the environment variable."""
    if not loc:
        return ""
    name = str(loc[0])
    return f"--{name.replace('_', '-')}: " if given.get(name) is not None else f"LRID_{name.upper()}: "
