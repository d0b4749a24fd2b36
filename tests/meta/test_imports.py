"""Imports point one way, and the port does not wait for torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[2] / "app"

BASE = {"domain", "errors"}
MAY_IMPORT: dict[str, set[str] | None] = {
    "domain": set(),
    "errors": set(),
    "settings": set(),
    "logs": set(),
    "audio": BASE,
    "families": BASE | {"audio"},
    "serving": BASE | {"settings", "audio", "families"},
    "http": BASE | {"settings", "audio", "families", "serving"},
    "main": BASE | {"settings", "audio", "families", "serving", "http"},
    "local": BASE | {"settings", "serving", "http", "main"},
    "server": BASE | {"settings", "logs", "serving", "main", "http"},
    "lab": BASE | {"audio", "families", "settings"},  # training, evaluation, corpora: the rest never imports it
    "cli": None,  # everything
}


def room(path: Path) -> str:
    """The first name under app/: a folder or a file."""
    return path.relative_to(APP).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "app":
            names = [f"app.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
        found |= {name.split(".")[1] for name in names if name.startswith("app.")}
    return found


@pytest.mark.parametrize("path", sorted(APP.rglob("*.py")), ids=lambda path: str(path.relative_to(APP)))
def test_imports_point_one_way(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    assert here in MAY_IMPORT, f"{here} is a new room: say what it may import"
    allowed = MAY_IMPORT[here]
    if allowed is not None:
        assert imported_rooms(path) - {here} <= allowed


def test_the_server_starts_without_torch() -> None:
    """torch takes seconds to import; until then the port must answer already."""
    code = "import sys, app.main, app.server.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
