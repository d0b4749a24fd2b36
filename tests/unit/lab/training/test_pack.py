"""An archive for a machine without network: what is in it starts with a Python that has nothing else."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.lab.training.errors import TrainingError
from app.lab.training.pack import PackConfig, pack
from app.lab.training.pack_launcher import EXPECTED


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[PackConfig, Path]:
    """What was packed, and the folder it was unpacked to."""
    folder = tmp_path_factory.mktemp("pack")
    names = folder / "names.tsv"
    names.write_text("split\tlabel\tartist\ttitle\ntrain\tfr\tClaire\tLa mer\n", encoding="utf-8")
    config = PackConfig(output=folder / "made/small.tar.gz", metadata=names, synthesis=False)
    size_bytes = pack(config, lambda _: None)
    assert size_bytes == config.output.stat().st_size < 60e6
    subprocess.run(["tar", "xf", config.output], cwd=folder, check=True)  # as README says; no filters before 3.11.4
    return config, folder / "lrid-pack"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which nothing is installed."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin/python"


def start(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), str(folder / "lrid"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"COLUMNS": "200"}, timeout=120)


def test_what_was_unpacked_needs_only_torch_torchaudio_and_numpy(packed: tuple[PackConfig, Path], bare_python: Path) -> None:
    config, folder = packed
    refused = start(bare_python, folder, "--help")
    assert (refused.returncode, refused.stderr.count("has no numpy, torch, torchaudio: install")) == (1, 1)
    site = bare_python.parent.parent / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    for name in EXPECTED:
        (site / name).symlink_to(Path(str(find_spec(name).origin)).parent)
    helped = start(bare_python, folder, "--help")
    assert helped.returncode == 0, helped.stderr
    assert "synthesize" in helped.stdout
    assert (folder / "data/metadata.tsv").read_bytes() == config.metadata.read_bytes()
    assert (folder / "lrid").stat().st_mode & 0o111


def test_an_archive_for_another_python_says_so(packed: tuple[PackConfig, Path], tmp_path: Path) -> None:
    launcher = tmp_path / "lrid"
    launcher.write_bytes((packed[1] / "lrid").read_bytes())
    (tmp_path / "made-for").write_text("cpython-27 Plan9 vax\n")
    refused = start(Path(sys.executable), tmp_path, "--help")
    assert refused.returncode == 1
    assert "this archive is for cpython-27 Plan9 vax, this is cpython-" in refused.stderr


def small(tmp_path: Path, **given: object) -> PackConfig:
    (tmp_path / "names.tsv").write_text("split\tlabel\tartist\ttitle\n")
    settings = {"output": tmp_path / "a.tar.gz", "metadata": tmp_path / "names.tsv", "synthesis": False}
    return PackConfig(**settings | given)


def test_too_large_an_archive_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"takes [\d.]+ MB, 0.5 are allowed \(before compression: site [\d.]+ MB, code"):
        pack(small(tmp_path, limit_mb=0.5), lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["names.tsv"]


def test_nothing_is_written_over_and_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"none\.tsv is missing; name the rows with --metadata"):
        pack(small(tmp_path, metadata=tmp_path / "none.tsv"), lambda _: None)
    monkeypatch.setattr("app.lab.training.pack.shutil.which", lambda _: None)
    with pytest.raises(TrainingError, match="apt-get install espeak-ng, or --no-synthesis"):
        pack(small(tmp_path, synthesis=True), lambda _: None)
    (tmp_path / "a.tar.gz").write_bytes(b"of somebody")
    with pytest.raises(TrainingError, match="exists; choose another name"):
        pack(small(tmp_path), lambda _: None)
    assert (tmp_path / "a.tar.gz").read_bytes() == b"of somebody"
