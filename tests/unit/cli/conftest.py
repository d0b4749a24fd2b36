import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutagen
import pytest

from app.cli import main as cli
from tests.audio_samples import flac, mp3


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """`lrid score` leaves the handlers of SIGINT and SIGTERM as Python has them, not as pytest was started."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def tiny_environment(tiny_store: Path) -> Iterator[None]:
    """The commands use the tiny release, as every machine can run it."""
    settings = {"MODEL_STORE": str(tiny_store), "MODEL": "lrid_net/1", "DEVICE": "cpu", "PRECISION": "fp32"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (settings | {"ENGINE": "torch", "DECODE_WORKERS": "1"}).items():
            patch.setenv(f"LRID_{name}", value)
        patch.setenv("COLUMNS", "200")
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One that is not there, one MP3 without tags, one that is no audio, one FLAC with tags."""
    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / name for name in ("missing.wav", "plain.mp3", "text.wav", "tagged.flac")}
    paths["plain.mp3"].write_bytes(mp3())
    paths["tagged.flac"].write_bytes(flac())
    tags: Any = mutagen.File(paths["tagged.flac"])
    tags["artist"], tags["title"] = "Édith Piaf", "La vie en rose"
    tags.save()
    paths["text.wav"].write_text("this is no audio")
    return paths


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    """The entry point with these arguments: exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["lrid", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return run
