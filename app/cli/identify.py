"""`lrid identify` answers for files, folders or names without a server."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.catalogue.files import find_files
from app.cli.common import AsJson, Device, LyricsFromTags, Model, make_settings, say_no_audio

if TYPE_CHECKING:
    from app.http.options import IdentifyRequest
    from app.settings import Settings


def identify(
    files: Annotated[list[Path] | None, typer.Argument(help="Audio files, and folders of them.")] = None,
    artist: Annotated[str | None, typer.Option(help="Metadata for all files instead of their tags.")] = None,
    album: Annotated[str | None, typer.Option(help="As --artist.")] = None,
    title: Annotated[str | None, typer.Option(help="As --artist.")] = None,
    lyrics: Annotated[Path | None, typer.Option(help="A text file: the lyrics of all files.")] = None,
    tags: Annotated[bool, typer.Option(help="Read the tags of files when no metadata is given.")] = True,
    lyrics_from_tags: LyricsFromTags = False,
    top_k: Annotated[int | None, typer.Option(min=1, help="Languages listed per file. Default: 2; with --json all.")] = None,
    windows: Annotated[int | None, typer.Option(min=1, max=256, help="Listen to so many windows of each file.")] = None,
    languages: Annotated[str | None, typer.Option(help="Candidates, such as en,fr.")] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Also answer for each window.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also answer from each of audio, names and lyrics alone.")
    ] = False,
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Identify files, folders or names without a server.

    Prints a row per file as it is answered, tab-separated in a pipe; with --json one object a line: the answer of
    POST /identify. Exit code 1 if a file could not be answered; the others are answered anyway.

        lrid identify album/*.flac

        lrid identify music --json > answers.ndjson

        lrid identify --artist "Édith Piaf" --title "La vie en rose"

        lrid identify song.mp3 --lyrics song.txt
    """
    from app.domain import LYRICS, Metadata, Track
    from app.http.options import IdentifyRequest, build_options

    logging.basicConfig(level=logging.ERROR)
    given: dict[str, object] = {"tags": tags, "lyrics_from_tags": lyrics_from_tags, "timeline": timeline, "explain": explain}
    options = build_options(given | {"windows": windows, "languages": languages, "top_k": top_k})
    names = Metadata(artist=artist, album=album, title=title)
    track = Track(None, names, {} if lyrics is None else {LYRICS: _text_of(lyrics)})
    if not files and not names.fields and lyrics is None:
        raise typer.BadParameter("give FILES, folders, or names alone by --artist, --album, --title, --lyrics")
    settings = make_settings(model=model, device=device, max_windows=windows)
    if asyncio.run(_answer(settings, files or [], IdentifyRequest(track, options), as_json=as_json)):
        raise SystemExit(1)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--lyrics: {path} cannot be read as UTF-8 text: {error}") from None


async def _answer(settings: Settings, files: list[Path], request: IdentifyRequest, *, as_json: bool) -> int:
    """Prints every answer; returns the number of files without one."""
    from app.cli.answers import AnswerLines, show_json
    from app.local import identify_files, identify_names

    show = show_json if as_json else AnswerLines(request.options.top_k or 2).show
    if not files:
        show(answer := await identify_names(settings, request))
        return int(answer.error is not None)
    found = [one for path in files for one in find_files(path)]
    if not found:
        say_no_audio(files)
        return 0
    failed = 0
    async for answer in identify_files(settings, found, request):
        show(answer)
        failed += answer.error is not None
    return failed
