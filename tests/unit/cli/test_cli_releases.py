"""`lrid releases list` and `lrid releases verify`."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import main as cli
from tests.releases import edit_manifest

pytestmark = pytest.mark.usefixtures("tiny_environment")
runner = CliRunner()


@pytest.fixture(scope="module")
def broken_store(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1 is good, 2 has other weights than its hash says, 3 expects other answers, 4 has an unknown key."""
    store = tmp_path_factory.mktemp("broken")
    shutil.copytree(tiny_store / "lrid_net", store / "lrid_net")
    folders = {}
    for release in ("2", "3", "4"):
        folders[release] = Path(shutil.copytree(tiny_store / "lrid_net/1", store / "lrid_net" / release))
        edit_manifest(folders[release], partial(dict.update, release=release))
    (folders["2"] / "weights.safetensors").write_bytes(b"other weights")
    golden = json.loads((folders["3"] / "golden.json").read_text())
    golden["cases"][0]["probabilities"].reverse()
    (folders["3"] / "golden.json").write_text(json.dumps(golden))
    edit_manifest(folders["4"], lambda fields: fields.update(mood="blue"))
    return store


def test_releases_verify_names_what_is_wrong(broken_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(broken_store))
    result = runner.invoke(cli.app, ["releases", "verify"])
    lines = dict(line.split(": ", 1) for line in result.stdout.splitlines() if line.startswith("lrid_net/"))
    assert result.exit_code == 1
    assert lines["lrid_net/1"] == "good"
    assert "sha256" in lines["lrid_net/2"]
    assert "does not reproduce its own answers" in lines["lrid_net/3"]
    assert "mood" in result.stdout
    assert runner.invoke(cli.app, ["releases", "verify", "lrid_net/1"]).exit_code == 0


def test_releases_list_shows_the_good_and_the_broken(broken_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(broken_store))
    table = runner.invoke(cli.app, ["releases", "list"])
    assert table.exit_code == 0
    assert "refused" in next(line for line in table.stdout.splitlines() if "lrid_net/4" in line)
    found = [json.loads(line) for line in runner.invoke(cli.app, ["releases", "list", "--json"]).stdout.splitlines()]
    assert [entry["release"] for entry in found] == ["1", "2", "3", "lrid_net/4"]
    assert "mood" in found[3]["refused"]


def test_releases_are_listed_without_torch() -> None:
    code = "import sys; from app.cli.main import app; app(['releases', 'list'], standalone_mode=False); "
    code += "sys.exit(bool({'torch', 'numba', 'fastapi'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
