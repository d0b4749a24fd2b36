"""One ordinary server for all tests that leave it as it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import audio_samples
from tests.service.live import ColdServer, LiveServer


@pytest.fixture(scope="session")
def server(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Ready, with the default settings."""
    with ColdServer(tmp_path_factory.mktemp("server"), model_store=tiny_store) as live:
        yield live.wait_until_ready()
        check_log(live)


def check_log(live: LiveServer) -> None:
    """After all those requests: whole JSON lines, nothing unforeseen, and none of the titles that were sent."""
    for line in live.log_lines():
        assert line["level"] == "info" or line["message"] == "Invalid HTTP request received.", line
        assert "exception" not in line, line
    for word in ("La vie", "Piaf", "prend dans"):
        assert word not in live.text_of_log()


@pytest.fixture(scope="session")
def song() -> bytes:
    """70 s of MP3: several windows."""
    return audio_samples.mp3(audio_samples.song(70.0, channels=1))


@pytest.fixture(scope="session")
def clip() -> bytes:
    """5 s of WAV: one window."""
    return audio_samples.wav(audio_samples.song(5.0, 22_050, channels=1), rate_hz=22_050)
