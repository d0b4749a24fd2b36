"""Imports point one way and never in a circle, and the port does not wait for torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"
PICARD = APP / "integrations/picard"  # Picard loads this folder under another name

BASE = {"domain", "errors"}
MAY_IMPORT: dict[str, set[str] | None] = {
    "domain": set(),
    "errors": set(),
    "settings": set(),
    "logs": set(),
    "audio": BASE,
    "families": BASE | {"audio"},
    "serving": BASE | {"settings", "audio", "families"},
    "catalogue": BASE | {"settings", "audio", "families", "serving", "client"},
    "http": BASE | {"settings", "audio", "families", "serving"},
    "client": BASE | {"http"},  # schemas only: what an answer looks like
    "main": BASE | {"settings", "audio", "families", "serving", "http"},
    "local": BASE | {"settings", "families", "serving", "catalogue", "http", "main"},
    "catalogue.ray": BASE | {"settings", "logs", "families", "serving", "catalogue", "main", "local"},
    "integrations": BASE | {"settings", "catalogue", "http", "client", "local"},
    "server": BASE | {"settings", "logs", "serving", "main", "http"},
    "lab": BASE | {"audio", "families", "settings"},  # training, evaluation, corpora: the rest never imports it
    "cli": None,  # everything
}


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Modules that a file imports anywhere, dotted."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or path.parent == PICARD, f"{path}: relative import"
            yield from (_module(node.module or "", alias.name) for alias in node.names)


def _module(package: str, name: str) -> str:
    """`from package import name`: a module of that name, or else the package."""
    below = ROOT / package.replace(".", "/") / name
    return f"{package}.{name}" if below.is_dir() or below.with_suffix(".py").exists() else package


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def top_level_folder(module: str) -> str:
    """The first name under app: a folder or a file. What runs on Ray stands above all that it runs."""
    if module.startswith("app.catalogue.ray"):
        return "catalogue.ray"
    return module.split(".")[1] if "." in module else "__init__"


FILES = sorted(APP.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(APP)))
def test_imports_point_one_way(path: Path) -> None:
    here = top_level_folder(dotted(path))
    if here == "__init__":
        return
    assert here in MAY_IMPORT, f"{here} is new: say what it may import"
    allowed = MAY_IMPORT[here]
    if allowed is not None:
        assert {top_level_folder(name) for name in imports(path) if name.startswith("app.")} - {here} <= allowed


def test_no_import_circles() -> None:
    """Not even between modules of one folder, inside functions, or for type checkers alone."""
    graph = {dotted(path): {name for name in imports(path) if name.startswith("app.")} for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize(
    ("folder", "other"), [("loadtest", "tests"), ("tests", "loadtest"), ("app", "loadtest"), ("app", "tests")]
)
def test_top_level_folders_are_apart(folder: str, other: str) -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] == other
    }
    assert found == set()


def test_the_server_starts_without_torch() -> None:
    """torch takes seconds to import; until then the port must answer already."""
    code = "import sys, app.cli.main, app.main, app.server.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
