"""beets plugin `lrid`: the language each song of a library is sung in.

Sets `language` (where the answer is sure) and `lrid_probability`. Asks a running server, or identifies in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from optparse import Values
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from beets import ui
from beets.dbcore import types
from beets.exceptions import UserError
from beets.importer import ImportSession, ImportTask
from beets.library import Item, Library
from beets.plugins import BeetsPlugin

if TYPE_CHECKING:
    from app.client import LridClient
    from app.http.schemas import IdentifyResponse

SETTINGS = {
    "server": "",  # URL; empty: in this process
    "key": "",
    "threads": 3,  # files on their way to the server together
    "timeout": 120.0,  # seconds for one song, waits for a full server included
    "auto": False,  # on import
    "force": False,  # also where there is a language, or was an answer
    "codes": "iso639_3",  # as MusicBrainz has them; or iso639_1
}
NO_LANGUAGE = frozenset({"und", "others"})  # answers that are no value for `language`
Outcome = tuple[Item, "IdentifyResponse | None", str]  # answer, or why there is none


class LridPlugin(BeetsPlugin):
    """`beet lrid [QUERY]`, and the same on import where `auto` is set."""

    item_types: ClassVar[dict[str, types.Type]] = {"lrid_probability": types.FLOAT}  # so that ranges can be queried

    def __init__(self) -> None:
        super().__init__()
        self.config.add(SETTINGS)
        self.config["key"].redact = True
        if self.config["auto"].get(bool):
            self.import_stages = [self.imported]

    def commands(self) -> list[ui.Subcommand]:
        command = ui.Subcommand("lrid", help="identify the language songs are sung in")
        command.parser.add_option("-f", "--force", action="store_true", help="also where a language or an answer is known")
        command.parser.add_option("-p", "--pretend", action="store_true", help="show what would be set, and set nothing")
        command.func = self.run
        return [command]

    def run(self, library: Library, options: Values, args: list[str]) -> None:
        """`beet lrid`."""
        force = bool(options.force) or self.config["force"].get(bool)
        self.identify(library.items(args), force=force, pretend=bool(options.pretend), write=ui.should_write())

    def imported(self, session: ImportSession, task: ImportTask) -> None:
        """Import stage. beets writes the tags itself afterwards, except with `import -A`."""
        self.identify(task.imported_items(), force=self.config["force"].get(bool), pretend=False, write=False)

    def identify(self, items: Iterable[Item], *, force: bool, pretend: bool, write: bool) -> None:
        """Set the fields of those items that have none yet; of all with `force`."""
        wanted = [item for item in items if force or not (item.get("language") or "lrid_probability" in item)]
        url = self.config["server"].as_str()
        outcomes = self._by_server(url, wanted) if url else self._in_process(wanted)
        for item, answer, error in outcomes if wanted else ():
            if answer is None:
                self._log.warning("{}: {}", item, error)
            elif pretend:
                ui.print_(f"{item}: {self._code(answer) or answer.language} {answer.probability:.2f}")
            else:
                self._keep(item, answer, write)

    def _keep(self, item: Item, answer: IdentifyResponse, write: bool) -> None:
        item["lrid_probability"] = answer.probability
        if code := self._code(answer):
            item["language"] = code
        self._log.info("{}: {} {:.2f}", item, code or answer.language, answer.probability)
        if write and code:
            item.try_write()
        item.store()

    def _code(self, answer: IdentifyResponse) -> str:
        """The value of `language`; empty where the answer is none. `zxx` and `mul` are the same in both standards."""
        if answer.language in NO_LANGUAGE:
            return ""
        best = next((entry for entry in answer.languages if entry.code == answer.language), None)
        if best is None or self.config["codes"].as_choice(["iso639_3", "iso639_1"]) == "iso639_1":
            return answer.language
        return best.iso639_3 or answer.language

    def _by_server(self, url: str, items: list[Item]) -> Iterator[Outcome]:
        from app.client import LridClient

        timeout_seconds = self.config["timeout"].as_number()
        with (
            LridClient(url, key=self.config["key"].as_str() or None, timeout_seconds=timeout_seconds) as client,
            ThreadPoolExecutor(self.config["threads"].get(int)) as threads,
        ):
            yield from threads.map(partial(_ask, client), items)

    def _in_process(self, items: list[Item]) -> Iterator[Outcome]:
        """The release is loaded for each call: for imports, a server is better."""
        from app.catalogue.files import Found
        from app.domain import Metadata, Track
        from app.errors import LridError
        from app.http.options import IdentifyRequest, Options
        from app.http.schemas import IdentifyResponse
        from app.local import identify_files
        from app.settings import Settings

        files, settings = [Found(Path(item.filepath)) for item in items], Settings()
        request = IdentifyRequest(Track(None, Metadata()), Options())  # names: the files' own tags
        answers = identify_files(settings, files, request)
        with asyncio.Runner() as runner:
            try:
                for item in items:
                    found = runner.run(anext(answers))
                    if found.answer and "language" not in found.answer:
                        yield item, None, f"{settings.model} tells no languages: name a release that does in LRID_MODEL"
                        continue
                    answer = IdentifyResponse.model_validate(found.answer) if found.answer else None
                    yield item, answer, str(found.error)
            except LridError as error:
                raise UserError(f"lrid: {error}. {error.remedy}") from None
            finally:
                runner.run(answers.aclose())


def _ask(client: LridClient, item: Item) -> Outcome:
    from app.client import ClientError

    try:
        path = Path(item.filepath)
        answer = client.identify(path, title=item.title or None, artist=item.artist or None, album=item.album or None)
    except (ClientError, OSError) as error:
        return item, None, str(error)
    return item, answer, ""
