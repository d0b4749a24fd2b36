"""A poisoned window fails alone; a part that dies or hangs is replaced, and says so meanwhile."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import audio_samples
from tests.service.faulty import Device, Mark, clip
from tests.service.hard import ask_all, children, start, without_times
from tests.service.live import LiveServer, wait_until
from tests.service.openloop import Reply, audio_post

IN_FLIGHT = 32
POISONED = 17  # which of them
DEVICE_TIMEOUT_SECONDS = 6.0  # long enough for a few small windows on a busy machine
Faulty = tuple[LiveServer, Device]


@pytest.fixture(scope="module")
def faulty(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    live, device = start(tiny_store, tmp_path_factory.mktemp("faulty"), max_batch_size=IN_FLIGHT)
    with live:
        yield live.wait_until_ready(), device


def peaks(poison: float | None = None) -> list[float]:
    ordinary = [0.2 + 0.01 * i for i in range(IN_FLIGHT)]
    if poison is not None:
        ordinary[POISONED] = poison
    return ordinary


def ask_in_one_batch(faulty: Faulty, of_peaks: list[float]) -> list[Reply]:
    """All of them wait while the device is held, so that they form one batch."""
    live, device = faulty
    device.hold()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask_all, live.port, [audio_post(clip(0.1))])
        wait_until(lambda: device.passes and device.passes[-1] == [0.1])
        rest = pool.submit(ask_all, live.port, [audio_post(clip(peak)) for peak in of_peaks])
        wait_until(lambda: live.metric("lrid_queue_items") == len(of_peaks))
        passes_before = len(device.passes)
        device.release()
        replies = rest.result()
        assert first.result()[0].status == 200
    assert sorted(device.passes[passes_before]) == sorted(round(peak, 4) for peak in of_peaks)
    return replies


@pytest.fixture(scope="module")
def undisturbed(faulty: Faulty) -> list[dict[str, Any]]:
    """Answers to the ordinary clips, each asked alone."""
    live, _ = faulty
    return [without_times(ask_all(live.port, [audio_post(clip(peak))])[0]) for peak in peaks()]


@pytest.mark.parametrize("poison", [Mark.RAISE.value, Mark.NAN.value, Mark.TOO_FEW_ROWS.value, Mark.NAN_EVERYWHERE.value])
def test_a_poisoned_window_fails_alone(faulty: Faulty, undisturbed: list[dict[str, Any]], poison: float) -> None:
    replies = ask_in_one_batch(faulty, peaks(poison))
    failed = replies.pop(POISONED)
    assert (failed.status, failed.json()["code"]) == (500, "model_failed")
    expected = undisturbed[:POISONED] + undisturbed[POISONED + 1 :]
    assert [reply.status for reply in replies] == [200] * (IN_FLIGHT - 1)
    assert [without_times(reply) for reply in replies] == expected


def test_out_of_memory_halves_the_batch_and_goes_on(
    tiny_store: Path, tmp_path: Path, undisturbed: list[dict[str, Any]]
) -> None:
    live, device = start(tiny_store, tmp_path, max_batch_size=8)
    with live:
        live.wait_until_ready()
        windows = peaks()[:8]
        windows[3] = Mark.OUT_OF_MEMORY.value  # fits alone only
        replies = ask_in_one_batch((live, device), windows)
        assert [reply.status for reply in replies] == [200] * 8
        assert [without_times(reply) for i, reply in enumerate(replies) if i != 3] == undisturbed[:3] + undisturbed[4:8]
        passes_before = len(device.passes)
        replies = ask_all(live.port, [audio_post(clip(peak)) for peak in peaks()])
        assert [without_times(reply) for reply in replies] == undisturbed
        assert max(len(each) for each in device.passes[passes_before:]) <= 4  # and stays so


def test_a_dead_device_is_replaced(faulty: Faulty, undisturbed: list[dict[str, Any]]) -> None:
    check_lost_device(faulty, undisturbed, Mark.DIE, 0.0)


def test_a_hanging_device_is_replaced(tiny_store: Path, tmp_path: Path, undisturbed: list[dict[str, Any]]) -> None:
    live, device = start(tiny_store, tmp_path, device_timeout_seconds=DEVICE_TIMEOUT_SECONDS)
    with live:
        check_lost_device((live.wait_until_ready(), device), undisturbed, Mark.HANG, DEVICE_TIMEOUT_SECONDS)


def test_a_batching_loop_that_fails_is_restarted(faulty: Faulty, undisturbed: list[dict[str, Any]]) -> None:
    live, device = faulty
    device.hold()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask_all, live.port, [audio_post(clip(0.1))])
        wait_until(lambda: device.passes and device.passes[-1] == [0.1])
        rest = pool.submit(ask_all, live.port, [audio_post(clip(peak)) for peak in peaks()[:7]])
        wait_until(lambda: live.metric("lrid_queue_items") == 7)
        device.break_loop()
        device.release()
        failed_at = time.monotonic()
        wait_until(lambda: live.ready().status_code == 503)
        assert time.monotonic() - failed_at < 3.0  # 1 s on a machine that has nothing else to do
        assert [(reply.status, reply.json()["code"]) for reply in rest.result()] == [(503, "not_ready")] * 7
        assert time.monotonic() - failed_at < 4.0
        assert first.result()[0].status == 200
    live.wait_until_ready()
    again = ask_all(live.port, [audio_post(clip(peak)) for peak in peaks()])
    assert [without_times(reply) for reply in again] == undisturbed


def check_lost_device(faulty: Faulty, undisturbed: list[dict[str, Any]], mark: Mark, notice_seconds: float) -> None:
    live, device = faulty
    restarts = live.metric("lrid_device_restarts_total")
    device.hold()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask_all, live.port, [audio_post(clip(mark.value))])
        wait_until(lambda: device.passes and device.passes[-1] == [mark.value])
        lost_at = time.monotonic() + notice_seconds
        rest = pool.submit(ask_all, live.port, [audio_post(clip(peak)) for peak in peaks()[:7]])
        wait_until(lambda: live.metric("lrid_queue_items") == 7)
        device.release()
        lost_at = max(lost_at, time.monotonic())
        wait_until(lambda: live.ready().status_code == 503)
        assert time.monotonic() - lost_at < 3.0  # 1 s on a machine that has nothing else to do
        replies = first.result() + rest.result()
        assert time.monotonic() - lost_at < 4.0
    for reply in replies:
        assert (reply.status, reply.json()["code"]) == (503, "not_ready")
        assert reply.retry_after_seconds
    live.wait_until_ready()
    assert live.metric("lrid_device_restarts_total") == restarts + 1
    again = ask_all(live.port, [audio_post(clip(peak)) for peak in peaks()])
    assert [without_times(reply) for reply in again] == undisturbed


def decoders(live: LiveServer) -> list[psutil.Process]:
    return children(live, "app.audio.worker")


def test_a_killed_decoder_costs_nobody_an_answer(faulty: Faulty, undisturbed: list[dict[str, Any]]) -> None:
    """Killed from outside: the file is tried once more."""
    live, _ = faulty
    long = audio_post(audio_samples.flac(audio_samples.song(240.0, channels=2)))
    (before,) = ask_all(live.port, [long])
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_all, live.port, [long])
        wait_until(lambda: live.metric("lrid_decoding_requests") == 1)
        victim = max(decoders(live), key=lambda process: process.memory_info().rss)  # the one that holds the file
        victim.kill()
        (reply,) = asked.result()
    assert reply.status == 200
    assert without_times(reply) == without_times(before)
    again = ask_all(live.port, [audio_post(clip(peak)) for peak in peaks()[:8]])
    assert [without_times(reply) for reply in again] == undisturbed[:8]
    wait_until(lambda: len(decoders(live)) == 2)


def test_all_idle_decoders_killed(faulty: Faulty, undisturbed: list[dict[str, Any]]) -> None:
    live, _ = faulty
    for process in decoders(live):
        process.kill()
    replies = ask_all(live.port, [audio_post(clip(peak)) for peak in peaks()])
    assert [without_times(reply) for reply in replies] == undisturbed
