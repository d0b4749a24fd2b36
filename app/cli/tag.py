"""`lrid tag` writes languages into the tags of files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.catalogue.errors import TagRefused
from app.catalogue.files import FileAnswer, find_files, printable
from app.cli.common import Device, Model, make_settings, say_no_audio
from app.errors import LridError

if TYPE_CHECKING:
    from app.families.tasks import Json
    from app.settings import Settings

COLUMNS = ("file", "language", "probability", "tag", "action")


def tag(
    files: Annotated[list[Path] | None, typer.Argument(help="Audio files, and folders of them.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write; without, only say what would be written.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also where the tag names another language.")] = False,
    least: Annotated[float, typer.Option(min=0, max=1, help="Probability from which an answer is sure.")] = 0.9,
    from_table: Annotated[
        Path | None, typer.Option("--from", help="Take the answers from this table of `lrid score`; nothing is listened to.")
    ] = None,
    undo_file: Annotated[Path, typer.Option(help="Where --write notes what it replaces.")] = Path("lrid-tag-undo.jsonl"),
    undo: Annotated[Path | None, typer.Option(help="Take back what an undo file notes, to the byte.")] = None,
    model: Model = None,
    device: Device = None,
) -> None:
    """Write the language of songs into their tags, where it is sure: TLAN in ID3, LANGUAGE in FLAC, Ogg, APE and MP4.

    Prints what would be written, tab-separated; --write does it. Codes are ISO 639-3; zxx where nothing is sung, mul
    for several languages. Audio stays as it is, to the bit, and so do all other tags.

        lrid tag music

        lrid tag music --write

        lrid tag --from languages.csv --write

        lrid tag --undo lrid-tag-undo.jsonl
    """
    logging.basicConfig(level=logging.ERROR)
    if undo is not None:
        failed = _take_back(undo)
    elif bool(files) == (from_table is not None):
        raise typer.BadParameter("give either FILES or folders, or --from, or --undo")
    else:
        print("\t".join(COLUMNS))
        settings = make_settings(model=model, device=device)
        answers = _heard(settings, files or []) if from_table is None else _told(settings, from_table)
        tagged = partial(_tagged, least=least, overwrite=overwrite, undo=undo_file if write else None)
        failed = asyncio.run(_tag(answers, tagged))
    if failed:
        raise SystemExit(1)


def _take_back(undo: Path) -> int:
    from app.catalogue.rewriting import undo_all

    failed = 0
    for path, error in undo_all(undo):
        failed += error is not None
        print(printable(path), "as before" if error is None else f"{error.code}: {error.detail}", sep="\t", flush=True)
    return failed


async def _heard(settings: Settings, files: list[Path]) -> AsyncIterator[FileAnswer]:
    """Yields what the release hears in files, and folders of them; loads nothing where there are none."""
    from app.domain import Metadata, Track
    from app.http.options import IdentifyRequest, Options
    from app.local import identify_files

    found = [one for path in files for one in find_files(path)]
    if not found:
        say_no_audio(files)
        return
    async for answer in identify_files(settings, found, IdentifyRequest(Track(None, Metadata()), Options())):
        yield answer


async def _told(settings: Settings, table: Path) -> AsyncIterator[FileAnswer]:
    """Yields the answers in a table of `lrid score`."""
    from app.catalogue.sources import scored_files
    from app.families.store import read_manifest, release_folder

    manifest = read_manifest(release_folder(settings.model_store, settings.model))
    for answer in scored_files(table, manifest.languages):
        yield answer


async def _tag(answers: AsyncIterator[FileAnswer], tagged: Callable[[Path, Json], Sequence[str]]) -> int:
    """Prints a row for each file; returns the number of files that could not be answered or written."""
    failed = 0
    async for found in answers:
        assert found.path is not None
        cells: Sequence[str]
        try:
            if found.error is not None:
                raise found.error
            assert found.answer is not None
            cells = await asyncio.to_thread(tagged, found.path, found.answer)
        except LridError as error:
            failed += 1
            cells = ("", "", "", f"{error.code}: {error.detail}")
        print(printable(found.path), *cells, sep="\t", flush=True)
    return failed


def _tagged(path: Path, answer: Json, *, least: float, overwrite: bool, undo: Path | None) -> tuple[str, str, str, str]:
    """Returns language, probability, what the tag said, and what was done, or would be without `undo`. Raises TagRefused."""
    from app.catalogue.rewriting import check_writable, rewrite
    from app.catalogue.tags import code_of, open_tag

    if "language" not in answer:
        raise TagRefused("this release tells no languages; name one that does with --model")
    tag = open_tag(path)
    code, before = code_of(answer), tag.language
    language, probability = answer["language"], answer["probability"]
    if code is None or probability < least:
        action = "not sure"
    elif before == code:
        action = "there already"
    elif before and not overwrite:
        action = "kept"
    elif undo is None:
        check_writable(path)
        action = f"would write {code}"
    else:
        rewrite(path, partial(tag.write, code), undo)
        action = f"wrote {code}"
    return code or language, f"{probability:.2f}", before, action
