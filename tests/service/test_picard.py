"""The Picard plugin: its manifest, its requests to a real server, and its entry under a small stand-in for Picard's API.

Picard itself is too heavy for the tests (PyQt6). README.md of app/integrations says how the plugin was tried with it.
"""

import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.service.live import ROOT, LiveServer
from tests.service.test_lrid_client import FULL, Scripted

PLUGIN = ROOT / "app/integrations/picard"


def test_the_manifest_has_what_picard_demands() -> None:
    manifest = tomllib.loads((PLUGIN / "MANIFEST.toml").read_text())
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", manifest["uuid"])
    assert 0 < len(manifest["name"]) <= 100
    assert 0 < len(manifest["description"]) <= 200
    assert 0 < len(manifest["long_description"]) <= 2000
    assert "<" not in manifest["long_description"]
    assert manifest["api"] == ["3.0"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (manifest["version"], manifest["license"]) == (project["version"], project["license"])


def run_task(func: Any, next_func: Any, *, traceback: bool) -> None:
    """As Picard's, in this thread."""
    try:
        result = func()
    except Exception as error:
        next_func(error=error)
    else:
        next_func(result=result)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Loaded as Picard loads it: a module `picard.plugins.NAME` from the folder's file."""
    parts: dict[str, dict[str, Any]] = {
        "picard": {},
        "picard.util": {"thread": SimpleNamespace(run_task=run_task)},
        "picard.plugin3": {},
        "picard.plugin3.api": dict.fromkeys(("BaseAction", "File", "OptionsPage", "PluginApi"), object),
        "PyQt6": {},
        "PyQt6.QtWidgets": {"QFormLayout": object, "QLineEdit": object},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("picard.plugins.lrid", PLUGIN / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "picard.plugins.lrid", module)
    monkeypatch.delitem(sys.modules, "picard.plugins.lrid.asking", raising=False)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("picard.plugins.lrid.asking", None)


@pytest.fixture
def asking(plugin: Any) -> Any:
    """The plugin's module of that name."""
    return plugin.asking


@pytest.fixture
def file(clip: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    path.write_bytes(clip)
    return path


def test_a_song_is_asked_for_with_its_names(asking: Any, server: LiveServer, file: Path) -> None:
    answer = asking.identify(asking.Server(str(server.client.base_url) + "/"), file, {"title": "Größe", "artist": ""})
    assert answer["modalities"]["audio"]["used"]
    assert answer["modalities"]["text"] | {"used": True, "reason": None} == {
        "used": True,
        "reason": None,
        "fields": ["title"],
        "source": "request",
        "values": None,
    }


def test_what_went_wrong_is_said(asking: Any, server: LiveServer, tmp_path: Path, file: Path) -> None:
    (tmp_path / "bad.mp3").write_bytes(b"nothing")
    with pytest.raises(asking.NotAnswered, match=r"audio_unknown_format: .*Send WAV"):
        asking.identify(asking.Server(str(server.client.base_url)), tmp_path / "bad.mp3", {})
    with pytest.raises(asking.NotAnswered, match="does not answer"):
        asking.identify(asking.Server("http://127.0.0.1:9", timeout_seconds=2), file, {})


def test_a_full_server_is_waited_for_but_not_too_long(asking: Any, file: Path) -> None:
    with Scripted([FULL, (200, None, b'{"language":"und"}')]) as full:
        assert asking.identify(asking.Server(full.url), file, {}) == {"language": "und"}
        assert full.asked[1][0] - full.asked[0][0] >= 0.95
    proxied = (503, "Wed, 21 Oct 2099 07:28:00 GMT", b"<html>")
    with Scripted([proxied, (200, None, b'{"language":"und"}')]) as proxy:
        assert asking.identify(asking.Server(proxy.url), file, {}) == {"language": "und"}
    with Scripted([FULL]) as full, pytest.raises(asking.NotAnswered, match="queue_full"):
        asking.identify(asking.Server(full.url, timeout_seconds=0.5), file, {})


def test_a_release_that_tells_no_languages_is_named(asking: Any, file: Path) -> None:
    genres = b'{"genre":"waltz","genres":[],"model":{"family":"genre","release":"1"}}'
    for body, said in {genres: "release genre/1 tells no languages", b"[1]": "the server tells no languages"}.items():
        with Scripted([(200, None, body)]) as other, pytest.raises(asking.NotAnswered, match=said):
            asking.identify(asking.Server(other.url), file, {})


@pytest.mark.parametrize(
    ("language", "tag"), [("en", "eng"), ("zxx", "zxx"), ("mul", "mul"), ("und", None), ("others", None)]
)
def test_codes_are_those_of_musicbrainz(asking: Any, language: str, tag: str | None) -> None:
    languages = [{"code": "en", "iso639_3": "eng"}, {"code": "others", "iso639_3": None}]
    assert asking.tag_of({"language": language, "languages": languages}) == tag


class Api:
    """What `enable` uses of Picard's PluginApi."""

    def __init__(self, **config: str) -> None:
        self.plugin_config = Config(config)
        self.registered: dict[str, Any] = {}
        self.errors: list[tuple[object, ...]] = []
        self.logger = SimpleNamespace(error=lambda *arguments: self.errors.append(arguments))

    def __getattr__(self, name: str) -> Any:
        assert name.startswith("register_")

        def register(kind: Any) -> None:
            kind.api = self
            self.registered[name.removeprefix("register_")] = kind

        return register


class Config(dict[str, str]):
    def register_option(self, name: str, default: str) -> None:
        self.setdefault(name, default)


class File:
    def __init__(self, path: Path) -> None:
        self.filename = str(path)
        self.metadata = {"title": "", "artist": "", "album": ""}
        self.updates = 0

    def iterfiles(self) -> Iterator["File"]:
        yield self

    def update(self) -> None:
        self.updates += 1


def test_enabled_and_asked_from_the_menu(plugin: Any, server: LiveServer, file: Path, tmp_path: Path) -> None:
    api = Api(server=str(server.client.base_url))
    plugin.enable(api)
    assert api.plugin_config["key"] == ""
    assert {"file_action", "track_action", "album_action", "cluster_action", "options_page"} == set(api.registered)
    (tmp_path / "bad.mp3").write_bytes(b"nothing")
    good, bad = File(file), File(tmp_path / "bad.mp3")
    api.registered["file_action"]().callback([good, bad, good])
    assert 0 < float(good.metadata["~lrid_probability"]) <= 1
    assert (good.updates, bad.updates, len(api.errors)) == (1, 0, 1)
