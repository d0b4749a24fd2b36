"""The beets plugin in a real library, with `beet` itself; by a server and in one process."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import mutagen
import pytest
import yaml

from tests import audio_samples
from tests.service.live import ROOT, SETTINGS, LiveServer

pytest.importorskip("beets", reason="needs beets (extra `beets`)")
TITLES = ("Non je ne regrette rien", "Tausend Lichter")


class Library:
    """A library of two songs and a file that is no audio any more."""

    def __init__(self, folder: Path, store: Path, **settings: object) -> None:
        self.folder = folder
        self.songs = folder / "songs"
        self.songs.mkdir(parents=True)
        for i, title in enumerate(TITLES):
            self._song(i, title)
        config = {
            "directory": str(folder / "music"),
            "library": str(folder / "library.db"),
            "plugins": ["lrid"],
            "pluginpath": [str(ROOT / "app/integrations/beetsplug")],
            "import": {"copy": False},
            "lrid": settings,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        self.environment = os.environ | SETTINGS | {"BEETSDIR": str(folder), "PYTHONPATH": str(ROOT)}
        self.environment |= {"LRID_MODEL_STORE": str(store), "HOME": str(folder)}

    def _song(self, number: int, title: str) -> None:
        path = self.songs / f"{number}.flac"
        path.write_bytes(audio_samples.flac(audio_samples.song(6.0, channels=1, seed=number)))
        tags: Any = mutagen.File(path)
        tags.update({"title": title, "artist": "Chanteuse de Paris"})
        tags.save()

    def beet(self, *arguments: str) -> str:
        """What it says on both outputs."""
        done = subprocess.run(
            [sys.executable, "-m", "beets", *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def fields(self) -> list[tuple[str, str, str | None]]:
        """Title, language, probability of every song in beets' database, by title."""
        query = "SELECT title, language, value FROM items LEFT JOIN item_attributes ON entity_id = items.id"
        with closing(sqlite3.connect(self.folder / "library.db")) as database:
            return database.execute(f"{query} AND key = 'lrid_probability' ORDER BY title").fetchall()

    def found(self, query: str) -> list[str]:
        """Titles of the songs that a query of beets finds."""
        return self.beet("ls", "-f", "$title", query, "title+").splitlines()

    def language_tag(self, number: int) -> str | None:
        tags: Any = mutagen.File(self.songs / f"{number}.flac")
        return tags.get("language", [None])[0]


@pytest.fixture
def library(server: LiveServer, tiny_store: Path, tmp_path: Path) -> Library:
    found = Library(tmp_path / "beets", tiny_store, server=str(server.client.base_url))
    found.beet("import", "-qA", str(found.songs))
    return found


def test_fields_are_set_once_and_written_to_the_files(library: Library) -> None:
    said = library.beet("lrid", "--pretend")
    assert all(title in said for title in TITLES)
    assert library.fields() == [(title, "", None) for title in TITLES]
    library.beet("lrid")
    found = library.fields()
    assert all(0 < float(p or 0) <= 1 for _, _, p in found)
    assert [library.language_tag(i) or "" for i in range(2)] == [language for _, language, _ in found]
    assert library.found("lrid_probability:0.0..1.0") == [title for title, _, _ in found]
    assert library.found("lrid_probability:1.5..2.0") == []
    assert library.beet("lrid", "--pretend") == ""  # all are answered
    assert TITLES[0] in library.beet("lrid", "--pretend", "--force", "title:regrette")


def test_a_language_that_is_there_stays_unless_forced(library: Library) -> None:
    library.beet("modify", "-yW", "title:regrette", "language=kor")
    library.beet("lrid")
    assert library.fields()[0] == (TITLES[0], "kor", None)
    library.beet("lrid", "--force", "title:regrette")
    assert float(library.fields()[0][2] or 0) > 0


def test_a_song_that_cannot_be_read_is_named_and_the_others_go_on(library: Library) -> None:
    (library.songs / "0.flac").write_bytes(b"gone bad")
    said = library.beet("lrid")
    assert "audio_unknown_format" in said
    assert [p is None for _, _, p in library.fields()] == [True, False]


def test_on_import_and_in_one_process(tiny_store: Path, tmp_path: Path) -> None:
    """Without a server: the release is loaded by beets itself."""
    library = Library(tmp_path / "beets", tiny_store, auto=True, codes="iso639_1")
    assert "error occurred" not in library.beet("import", "-qA", str(library.songs))
    found = library.fields()
    assert all(0 < float(p or 0) <= 1 for _, _, p in found)
    assert all(len(language) in (0, 2) for _, language, _ in found)


def test_a_server_that_is_away_is_said(tiny_store: Path, tmp_path: Path) -> None:
    library = Library(tmp_path / "beets", tiny_store, server="http://127.0.0.1:9", timeout=0.5)
    library.beet("import", "-qA", str(library.songs))
    assert library.beet("lrid").count("does not answer") == 2
