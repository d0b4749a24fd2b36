"""`lrid tag`: languages into the tags of files."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.catalogue.errors import TagRefused
from app.catalogue.files import FileAnswer, find_files, printable
from app.cli.common import Device, Model, make_settings
from app.errors import LridError

if TYPE_CHECKING:
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
        tagging = _Tagging(settings=settings, undo=undo_file, least=least, write=write, overwrite=overwrite)
        failed = tagging.tag_from(from_table) if from_table is not None else asyncio.run(tagging.tag(files or []))
    if failed:
        raise SystemExit(1)


def _take_back(undo: Path) -> int:
    from app.catalogue.rewriting import undo_all

    failed = 0
    for path, error in undo_all(undo):
        failed += error is not None
        print(printable(path), "as before" if error is None else f"{error.code}: {error.detail}", sep="\t", flush=True)
    return failed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tagging:
    """Tags files as the options say."""

    settings: Settings
    undo: Path
    least: float
    write: bool
    overwrite: bool

    async def tag(self, files: list[Path]) -> int:
        """Returns the number of files that could not be answered or written."""
        from app.domain import Metadata, Track
        from app.http.options import IdentifyRequest, Options
        from app.local import identify_files

        failed = 0
        request = IdentifyRequest(Track(None, Metadata()), Options())
        async for answer in identify_files(self.settings, [one for path in files for one in find_files(path)], request):
            failed += await asyncio.to_thread(self._one, answer)
        return failed

    def tag_from(self, table: Path) -> int:
        """The same by the answers in a table."""
        from app.catalogue.sources import scored_files
        from app.families.store import read_manifest, release_folder

        manifest = read_manifest(release_folder(self.settings.model_store, self.settings.model))
        return sum(map(self._one, scored_files(table, manifest.languages)))

    def _one(self, found: FileAnswer) -> bool:
        """Tag one file; returns whether that failed."""
        assert found.path is not None
        name = printable(found.path)
        try:
            if found.error is not None:
                raise found.error
            print(name, *self._tagged(found), sep="\t", flush=True)
        except LridError as error:
            print(name, "", "", "", f"{error.code}: {error.detail}", sep="\t", flush=True)
            return True
        return False

    def _tagged(self, found: FileAnswer) -> tuple[str, str, str, str]:
        """Language, probability, what the tag said, and what was done. Raises TagRefused."""
        from app.catalogue.rewriting import check_writable, rewrite
        from app.catalogue.tags import code_of, open_tag

        assert found.path is not None
        assert found.answer is not None
        if "language" not in found.answer:
            raise TagRefused("this release tells no languages; name one that does with --model")
        tag = open_tag(found.path)
        code, before = code_of(found.answer), tag.language
        language, probability = found.answer["language"], found.answer["probability"]
        if code is None or probability < self.least:
            action = "not sure"
        elif before == code:
            action = "there already"
        elif before and not self.overwrite:
            action = "kept"
        elif not self.write:
            check_writable(found.path)
            action = f"would write {code}"
        else:
            rewrite(found.path, partial(tag.write, code), self.undo)
            action = f"wrote {code}"
        return code or language, f"{probability:.2f}", before, action
