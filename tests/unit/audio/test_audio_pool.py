"""The pool of decoders: right answers in parallel, and whatever a decoder does costs one request."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from app.audio.decode import load_recording
from app.audio.pool import DecodePool
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import Metadata, Recording
from app.errors import (
    AudioCorrupt,
    AudioUnknownFormat,
    DecoderCrashed,
    DecoderMemory,
    DecoderTimeout,
    InternalError,
    NotReady,
)
from tests import audio_samples as samples_of

REQUEST = WindowRequest(WindowSpec(22_050, 22_050 * 5), 3)
LIMITS = DecodeLimits(max_audio_seconds=1800.0, silence_dbfs=-60.0)
LOADER = "tests.unit.audio.faulty_loaders:load"


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(coroutine, 60)

    return asyncio.run(bounded())


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[DecodePool]:
    pool = DecodePool(workers=2, timeout_seconds=10.0, memory_mb=512, loader=LOADER)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def plain_pool() -> Iterator[DecodePool]:
    """As the service has it."""
    pool = DecodePool(workers=1, timeout_seconds=10.0, memory_mb=1024)
    yield pool
    pool.close()


def decoders() -> list[psutil.Process]:
    """The living decoding processes of this one."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "app.audio.worker" in child.cmdline()]


def ask(pool: DecodePool, data: bytes) -> Recording:
    recording: Recording = run(pool.load(data, REQUEST, LIMITS))
    return recording


def assert_works(pool: DecodePool) -> None:
    data = samples_of.wav(samples_of.song(7))
    got, expected = ask(pool, data), load_recording(data, REQUEST, LIMITS)
    assert (got.seconds, got.format, len(got.windows)) == (expected.seconds, expected.format, 2)
    for a, b in zip(got.windows, expected.windows, strict=True):
        assert (a.start_seconds, a.seconds) == (b.start_seconds, b.seconds)
        assert np.array_equal(a.samples, b.samples)


@pytest.mark.parametrize("name", samples_of.WHOLE)
def test_same_answer_as_in_process(plain_pool: DecodePool, name: str) -> None:
    data = samples_of.WHOLE[name]()
    got, expected = ask(plain_pool, data), load_recording(data, REQUEST, LIMITS)
    assert np.array_equal(got.windows[0].samples, expected.windows[0].samples)


def test_warnings_and_tags_come_back(plain_pool: DecodePool) -> None:
    data = b"ID3\x03\0\0\0\0\0\x0f" + b"TIT2\0\0\0\x05\0\0\0abcd" + samples_of.cut(samples_of.mp3(samples_of.song(20)))
    request = WindowRequest(WindowSpec(22_050, 22_050 * 2, positions=(0.5, 0.3, 0.7)), 3, skip=1, take=1, read_tags=True)
    got, expected = run(plain_pool.load(data, request, LIMITS)), load_recording(data, request, LIMITS)
    assert [warning.code for warning in got.warnings] == ["truncated"]
    assert got.tags == Metadata(title="abcd")
    assert (got.next_index, got.planned) == (2, 3)
    assert replace(got, windows=()) == replace(expected, windows=())


@pytest.mark.parametrize("word", [b"segfault", b"exit", b"kill", b"bug", b"many", b"nan", b"flood"])
def test_a_crash_costs_one_request(shared_pool: DecodePool, word: bytes) -> None:
    with pytest.raises(DecoderCrashed) as caught:
        ask(shared_pool, word)
    assert "secret" not in caught.value.detail
    assert_works(shared_pool)
    assert shared_pool.healthy


def test_an_audio_error_keeps_its_class_and_detail(shared_pool: DecodePool) -> None:
    with pytest.raises(AudioCorrupt, match=r"Expected this; that came\."):
        ask(shared_pool, b"corrupt")
    with pytest.raises(AudioUnknownFormat):
        ask(shared_pool, b"no audio")


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
    pool = DecodePool(workers=1, timeout_seconds=10.0, memory_mb=16, loader=LOADER)
    try:
        with pytest.raises(DecoderMemory):
            ask(pool, bytes(30_000_000))
        with pytest.raises(AudioUnknownFormat):
            ask(pool, bytes(1000))
    finally:
        pool.close()


@pytest.mark.parametrize("word", [b"hang", b"spin"])
def test_a_hang_is_killed_in_time(word: bytes) -> None:
    pool = DecodePool(workers=1, timeout_seconds=0.5, memory_mb=512, loader=LOADER)
    try:
        ask(pool, b"pid")
        began = time.monotonic()
        with pytest.raises(DecoderTimeout):
            ask(pool, word)
        assert 0.4 < time.monotonic() - began < 5.0
        assert ask(pool, b"pid").seconds == 1.0
    finally:
        pool.close()


def test_decoders_run_in_parallel(shared_pool: DecodePool) -> None:
    async def both() -> list[Recording]:
        return await asyncio.gather(*(shared_pool.load(b"sleep 0.5", REQUEST, LIMITS) for _ in range(2)))

    first, second = run(both())
    assert first.format != second.format  # process ids


def test_further_windows_of_a_file_come_before_new_files() -> None:
    ended: list[int] = []

    async def one(pool: DecodePool, number: int, skip: int) -> None:
        await pool.load(b"sleep 0.05", replace(REQUEST, skip=skip), LIMITS)
        ended.append(number)

    async def scenario(pool: DecodePool) -> None:
        tasks = [asyncio.create_task(one(pool, number, skip)) for number, skip in enumerate([0, 0, 0, 2, 1])]
        await asyncio.gather(*tasks)

    pool = DecodePool(workers=1, timeout_seconds=10.0, memory_mb=512, loader=LOADER)
    try:
        run(scenario(pool))
    finally:
        pool.close()
    assert ended == [3, 4, 0, 1, 2]  # all are there before the process is


def test_many_at_once_are_not_mixed_up(shared_pool: DecodePool) -> None:
    async def storm() -> list[Any]:
        jobs = [shared_pool.load(samples_of.wav(samples_of.tone(hz=100.0 + 10 * i)), REQUEST, LIMITS) for i in range(20)]
        jobs += [shared_pool.load(b"kill", REQUEST, LIMITS) for _ in range(4)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    *whole, a, b, c, d = run(storm())
    assert all(isinstance(error, DecoderCrashed) for error in (a, b, c, d))
    for i, recording in enumerate(whole):
        spectrum = np.abs(np.fft.rfft(recording.windows[0].samples[:22_050]))
        assert spectrum.argmax() == pytest.approx(100 + 10 * i, abs=1)


def test_cancelling_frees_the_decoder() -> None:
    pool = DecodePool(workers=1, timeout_seconds=60.0, memory_mb=512, loader=LOADER)

    async def scenario() -> Recording:
        await pool.load(b"pid", REQUEST, LIMITS)  # started
        running = asyncio.create_task(pool.load(b"hang", REQUEST, LIMITS))
        waiting = asyncio.create_task(pool.load(b"hang", REQUEST, LIMITS))
        await asyncio.sleep(0.5)
        assert pool.waiting == 1
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert running.cancelled()
        return await asyncio.wait_for(pool.load(b"pid", REQUEST, LIMITS), 10)

    try:
        assert run(scenario()).seconds == 1.0
    finally:
        pool.close()


def test_a_quick_job_survives_its_callers_leaving() -> None:
    """A client that leaves must not cost a restart when the work is all but done."""
    pool = DecodePool(workers=1, timeout_seconds=60.0, memory_mb=512, loader=LOADER)

    async def scenario() -> tuple[str, str]:
        before = (await pool.load(b"pid", REQUEST, LIMITS)).format
        leaving = asyncio.create_task(pool.load(b"sleep 0.15", REQUEST, LIMITS))
        await asyncio.sleep(0.1)  # the decoder is at work, and all but done
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        return before, (await pool.load(b"pid", REQUEST, LIMITS)).format

    try:  # the grace is 0.2 s, which a busy machine may miss once, but not always
        assert any(before == after for before, after in (run(scenario()) for _ in range(5)))
    finally:
        pool.close()


def test_a_decoder_killed_while_idle_is_replaced(shared_pool: DecodePool) -> None:
    for _ in range(3):
        psutil.Process(int(ask(shared_pool, b"pid").format)).kill()
        assert ask(shared_pool, b"pid").seconds == 1.0
    assert shared_pool.healthy


def test_a_decoder_stopped_while_idle_is_replaced_and_the_file_not_blamed() -> None:
    """It would keep the file until the time limit, and the file would be called slow."""
    pool = DecodePool(workers=1, timeout_seconds=50.0, memory_mb=512, loader=LOADER)
    try:
        before = ask(pool, b"pid").format
        psutil.Process(int(before)).suspend()
        began = time.monotonic()
        assert ask(pool, b"pid").format != before
        assert time.monotonic() - began < 30.0
    finally:
        pool.close()


def test_a_defect_of_ours_does_not_end_the_thread_that_looks_after_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DecodePool(workers=1, timeout_seconds=50.0, memory_mb=512, loader=LOADER)
    living, calls = pool._living, []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise RuntimeError("can't start new thread")
        return living(*args)

    monkeypatch.setattr(pool, "_living", failing)
    monkeypatch.setattr("app.audio.pool._MAX_RESTART_DELAY_SECONDS", 0.1)
    try:
        assert ask(pool, b"pid").seconds == 1.0
        assert len(calls) > 1
    finally:
        pool.close()


def test_decoders_hold_neither_the_model_nor_the_server(shared_pool: DecodePool) -> None:
    modules = set(ask(shared_pool, b"modules").format.split())
    assert {"numpy", "mutagen", "soxr", "av"} <= modules  # loaded before the first file
    assert not {"torch", "torchaudio", "fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client"} & modules


def test_decoders_see_no_keys_and_write_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LRID_API_KEYS", "secret")
    pool = DecodePool(workers=1, timeout_seconds=10.0, memory_mb=512, loader=LOADER)
    try:
        assert not [name for name in ask(pool, b"environment").format.split() if name.startswith("LRID")]
        with pytest.raises(DecoderCrashed):
            ask(pool, f"write {tmp_path / 'file'}".encode())
        assert (tmp_path / "file").read_bytes() == b""
    finally:
        pool.close()


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
    pool = DecodePool(workers=1, timeout_seconds=10.0, memory_mb=512, loader="tests.unit.audio.nowhere:load")
    try:
        with pytest.raises(InternalError):
            ask(pool, b"pid")
        assert not pool.healthy
        assert "cannot be started" in caplog.text
    finally:
        pool.close()


def test_closing_ends_everything_and_keeps_nobody_waiting() -> None:
    pool = DecodePool(workers=1, timeout_seconds=60.0, memory_mb=512, loader=LOADER)

    async def scenario() -> list[Any]:
        jobs = [asyncio.create_task(pool.load(b"hang", REQUEST, LIMITS)) for _ in range(3)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(pool.close)
        return await asyncio.gather(*jobs, return_exceptions=True)

    before = {p.pid for p in psutil.Process().children()}
    outcomes = run(scenario())
    assert [type(outcome) for outcome in outcomes] == [NotReady] * 3
    assert {p.pid for p in psutil.Process().children()} <= before
    assert not pool.healthy
    with pytest.raises(NotReady):
        ask(pool, b"pid")
    pool.close()  # again is fine


def test_nothing_starts_before_it_is_needed() -> None:
    pool = DecodePool(workers=2, timeout_seconds=10.0, memory_mb=512)
    assert not pool.healthy
    pool.close()
