"""A decoder's bad day costs one request: whatever it does, the next file is decoded."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from app.audio.pool import DecodePool
from app.audio.process import Decoder
from app.errors import AudioUnknownFormat, DecoderCrashed, DecoderMemory, DecoderTimeout, InternalError
from tests.unit.audio.pools import LOADER, ask, assert_works


def decoders() -> list[psutil.Process]:
    """The living decoding processes of this one."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "app.audio.worker" in child.cmdline()]


@pytest.mark.parametrize("word", [b"segfault", b"exit", b"kill", b"bug", b"many", b"nan", b"flood"])
def test_a_crash_costs_one_request(shared_pool: DecodePool, word: bytes) -> None:
    with pytest.raises(DecoderCrashed) as caught:
        ask(shared_pool, word)
    assert "secret" not in caught.value.detail
    assert_works(shared_pool)
    assert shared_pool.healthy


def test_the_place_of_a_defect_is_logged_without_its_words(
    shared_pool: DecodePool, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DecoderCrashed):
        ask(shared_pool, b"bug")
    (record,) = [record for record in caplog.records if "defect" in record.message]
    assert record.__dict__["fields"]["cause"].startswith("KeyError at faulty_loaders.py:")


def test_a_memory_bomb_costs_one_request(shared_pool: DecodePool) -> None:
    with pytest.raises(DecoderMemory):
        ask(shared_pool, b"memory")
    assert_works(shared_pool)


def test_a_file_larger_than_the_memory_costs_one_request() -> None:
    with closing(DecodePool(workers=1, timeout_seconds=10.0, memory_mb=16, loader=LOADER)) as pool:
        with pytest.raises(DecoderMemory):
            ask(pool, bytes(30_000_000))
        with pytest.raises(AudioUnknownFormat):
            ask(pool, bytes(1000))


@pytest.mark.parametrize("word", [b"hang", b"spin"])
def test_a_hang_is_killed_in_time(word: bytes) -> None:
    with closing(DecodePool(workers=1, timeout_seconds=0.5, memory_mb=512, loader=LOADER)) as pool:
        ask(pool, b"pid")
        began = time.monotonic()
        with pytest.raises(DecoderTimeout):
            ask(pool, word)
        assert 0.4 < time.monotonic() - began < 5.0
        assert ask(pool, b"pid").seconds == 1.0


def test_a_decoder_killed_while_idle_is_replaced(shared_pool: DecodePool) -> None:
    for _ in range(3):
        psutil.Process(int(ask(shared_pool, b"pid").format)).kill()
        assert ask(shared_pool, b"pid").seconds == 1.0
    assert shared_pool.healthy


def test_a_decoder_stopped_while_idle_is_replaced_and_the_file_not_blamed() -> None:
    """It would keep the file until the time limit, and the file would be called slow."""
    with closing(DecodePool(workers=1, timeout_seconds=50.0, memory_mb=512, loader=LOADER)) as pool:
        before = ask(pool, b"pid").format
        psutil.Process(int(before)).suspend()
        began = time.monotonic()
        assert ask(pool, b"pid").format != before
        assert time.monotonic() - began < 30.0


def test_a_defect_of_ours_does_not_end_the_thread_that_looks_after_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    ready, calls = Decoder.ready, []

    def failing(decoder: Decoder) -> bool:
        calls.append(decoder)
        if len(calls) == 1:
            raise RuntimeError("can't start new thread")
        return ready(decoder)

    monkeypatch.setattr(Decoder, "ready", failing)
    monkeypatch.setattr("app.audio.pool._MAX_RESTART_DELAY_SECONDS", 0.1)
    with closing(DecodePool(workers=1, timeout_seconds=50.0, memory_mb=512, loader=LOADER)) as pool:
        assert ask(pool, b"pid").seconds == 1.0
        assert len(calls) > 1


def test_decoders_hold_neither_the_model_nor_the_server(shared_pool: DecodePool) -> None:
    modules = set(ask(shared_pool, b"modules").format.split())
    assert {"numpy", "mutagen", "soxr", "av"} <= modules  # loaded before the first file
    assert not {"torch", "torchaudio", "fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client"} & modules


def test_decoders_see_no_keys_and_write_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LRID_API_KEYS", "secret")
    with closing(DecodePool(workers=1, timeout_seconds=10.0, memory_mb=512, loader=LOADER)) as pool:
        assert not [name for name in ask(pool, b"environment").format.split() if name.startswith("LRID")]
        with pytest.raises(DecoderCrashed):
            ask(pool, f"write {tmp_path / 'file'}".encode())
        assert (tmp_path / "file").read_bytes() == b""


def test_decoders_ignore_the_signals_meant_for_the_service(shared_pool: DecodePool) -> None:
    ask(shared_pool, b"pid")
    before = set(decoders())
    for decoder in before:
        decoder.send_signal(signal.SIGINT)
        decoder.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert set(decoders()) >= before
    assert_works(shared_pool)


def test_decoders_die_with_a_service_that_is_killed() -> None:
    code = (
        "import asyncio, os, signal, sys\n"
        "from app.audio.pool import DecodePool\nfrom app.audio.spec import DecodeLimits, WindowRequest, WindowSpec\n"
        "if __name__ == '__main__':\n"
        f"    pool = DecodePool(workers=2, timeout_seconds=100.0, memory_mb=512, loader={LOADER!r})\n"
        "    async def main():\n"
        "        args = (WindowRequest(WindowSpec(22050, 100), 1), DecodeLimits(1800.0, -60.0))\n"
        "        print((await pool.load(b'pid', *args)).format, flush=True)\n"
        "        await pool.load(b'hang', *args)\n"
        "    asyncio.run(main())\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | {"PYTHONPATH": root}
    ) as service:
        assert service.stdout is not None
        worker = psutil.Process(int(service.stdout.readline()))
        time.sleep(0.3)
        service.kill()
    _, alive = psutil.wait_procs([worker], timeout=5)
    assert not alive


def test_a_pool_that_cannot_start_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with closing(DecodePool(workers=1, timeout_seconds=10.0, memory_mb=512, loader="tests.unit.audio.nowhere:load")) as pool:
        with pytest.raises(InternalError):
            ask(pool, b"pid")
        assert not pool.healthy
        assert "cannot be started" in caplog.text
