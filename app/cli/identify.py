"""`lrid identify`: files without a server."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from app.cli.common import AsJson, Device, Model, make_settings
from app.cli.progress import Bars
from app.domain import Metadata


def identify(
    files: Annotated[list[Path], typer.Argument(help="Audio files; their tags are read unless metadata is given.")],
    artist: Annotated[str | None, typer.Option(help="Metadata for all files instead of their tags.")] = None,
    album: Annotated[str | None, typer.Option(help="As --artist.")] = None,
    title: Annotated[str | None, typer.Option(help="As --artist.")] = None,
    windows: Annotated[int | None, typer.Option(min=1, help="Most windows of a file.")] = None,
    languages: Annotated[str | None, typer.Option(help="Candidates, such as en,fr.")] = None,
    timeline: Annotated[bool, typer.Option(help="With --json: also answer for each window.")] = False,
    explain: Annotated[bool, typer.Option(help="With --json: also from audio alone and text alone.")] = False,
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Identify files without a server.

    Prints a table, or with --json one object a line: the answer of POST /identify.
    Exit code 1 if a file could not be answered; the others are answered anyway.

        lrid identify album/*.flac

        lrid identify song.mp3 --artist Someone --title Something --explain --json
    """
    from app.http.schemas import build_options
    from app.local import FileRequest, identify_files

    logging.basicConfig(level=logging.ERROR)
    given = {"windows": windows, "languages": languages, "timeline": timeline, "explain": explain}
    options = build_options({name: value for name, value in given.items() if value is not None})
    settings = make_settings(model=model, device=device, max_windows=windows)
    request = FileRequest(Metadata(artist=artist, album=album, title=title), options)
    with Bars().counting("listening", len(files)) as advance:
        answers = asyncio.run(identify_files(settings, files, request, lambda answer: advance(1)))
    _print_answers(answers, as_json)
    if any(answer.error for answer in answers):
        raise SystemExit(1)


def _print_answers(answers: list[Any], as_json: bool) -> None:
    if as_json:
        for answer in answers:
            body = (
                answer.response.model_dump(mode="json")
                if answer.response
                else {"code": answer.error.code, "detail": answer.error.detail, "remedy": answer.error.remedy}
            )
            typer.echo(json.dumps({"file": str(answer.path), **body}, ensure_ascii=False))
        return
    table = Table(Column("file", overflow="fold"), "language", "probability", "next", "used")
    for answer in answers:
        if answer.error:
            table.add_row(answer.path.name, "[red]error[/]", "", answer.error.code, escape(answer.error.detail))
            continue
        response = answer.response
        following = ", ".join(f"{entry.code} {entry.probability:.2f}" for entry in response.languages[1:3])
        used = [*(["audio"] if response.modalities.audio.used else []), *response.modalities.text.fields]
        table.add_row(answer.path.name, response.language, f"{response.probability:.2f}", following, ", ".join(used))
    Console().print(table)
