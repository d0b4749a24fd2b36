"""A poisoned window among others; parts that die or hang."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from loadtest.chaos.rows import Bench, Row
from loadtest.openloop import Reply, audio_post
from tests import audio_samples
from tests.service.faulty import Device, Mark, clip
from tests.service.hard import ask_all, children, without_times
from tests.service.live import LiveServer, wait_until

IN_FLIGHT = 32
HANG_SECONDS = 5.0  # LRID_DEVICE_TIMEOUT_SECONDS in the scenario
PEAKS = [0.2 + 0.01 * i for i in range(IN_FLIGHT)]
WAYS = {
    "raises": Mark.RAISE.value,
    "gives NaN": Mark.NAN.value,
    "gives NaN for the whole batch": Mark.NAN_EVERYWHERE.value,
    "gives too few rows": Mark.TOO_FEW_ROWS.value,
}


def poison(bench: Bench) -> list[Row]:
    rows = []
    with bench.server(max_batch_size=IN_FLIGHT) as (live, device):
        alone = [without_times(ask_all(live.port, [audio_post(clip(peak))])[0]) for peak in PEAKS]
        for way, peak in WAYS.items():
            replies, batch = _one_batch(live, device, [peak, *PEAKS[1:]])
            equal = sum(without_times(reply) == before for reply, before in zip(replies[1:], alone[1:], strict=True))
            others = f"{equal} of {IN_FLIGHT - 1} others answered 200, equal to an undisturbed run"
            rows.append(
                Row(
                    f"a window on which the model {way} fails alone, in a batch of {batch}",
                    f"{replies[0].status} for it; {others}",
                    "all others",
                    equal == IN_FLIGHT - 1 and replies[0].status == 500,
                )
            )
    return rows


def _one_batch(live: LiveServer, device: Device, peaks: list[float]) -> tuple[list[Reply], int]:
    """Held back until all wait. Returns the answers and the size of the batch that they made."""
    device.hold()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask_all, live.port, [audio_post(clip(0.1))])
        wait_until(lambda: device.passes and device.passes[-1] == [0.1])
        before = len(device.passes)
        rest = pool.submit(ask_all, live.port, [audio_post(clip(peak)) for peak in peaks])
        wait_until(lambda: live.metric("lrid_queue_items") == len(peaks))
        device.release()
        first.result()
        return rest.result(), len(device.passes[before])


def parts(bench: Bench) -> list[Row]:
    with bench.server(max_batch_size=8, device_timeout_seconds=HANG_SECONDS) as (live, device):
        return [
            _lost(live, device, Mark.DIE, "the device's thread is killed"),
            _lost(live, device, Mark.HANG, f"the device hangs (bound {HANG_SECONDS:g} s)", HANG_SECONDS),
            _lost(live, device, None, "the loop that feeds the device raises"),
            _killed_decoder(live),
            _killed_decoders(live),
            _out_of_memory(live, device),
        ]


def _lost(live: LiveServer, device: Device, mark: Mark | None, what: str, known_after_seconds: float = 0.0) -> Row:
    """Without a `mark` it is the loop that fails."""
    device.hold()
    marked = PEAKS[15] if mark is None else mark.value
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_all, live.port, [audio_post(clip(peak)) for peak in [marked, *PEAKS[:15]]])
        wait_until(lambda: live.metric("lrid_queue_items") >= 8)
        if mark is None:
            device.break_loop()
        started_at = time.monotonic()
        device.release()
        wait_until(lambda: live.ready().status_code == 503)
        unready = time.monotonic() - started_at - known_after_seconds
        statuses = sorted({reply.status for reply in asked.result()})
        answered = time.monotonic() - started_at - known_after_seconds
    live.wait_until_ready()
    back = time.monotonic() - started_at - known_after_seconds
    good = ask_all(live.port, [audio_post(clip(0.3))])[0].status
    return Row(
        f"{what}: in-flight callers are answered, readiness is false, it is restarted",
        f"not ready after {unready:.2f} s, 16 callers answered ({statuses}) after {answered:.2f} s, ready again after "
        f"{back:.2f} s",
        "≤ 1 s, at once, ready again",
        unready <= 1 and answered <= 1.5 and good == 200 and set(statuses) <= {200, 503},
    )


def _killed_decoder(live: LiveServer) -> Row:
    long = audio_post(audio_samples.flac(audio_samples.song(240.0)))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_all, live.port, [long])
        wait_until(lambda: live.metric("lrid_decoding_requests") == 1)
        time.sleep(0.05)
        busy = max(children(live, "app.audio.worker"), key=lambda process: process.memory_info().rss)
        began = time.monotonic()
        os.kill(busy.pid, signal.SIGKILL)
        reply = asked.result()[0]
        answered = time.monotonic() - began
    wait_until(lambda: len(children(live, "app.audio.worker")) == 2)
    back = time.monotonic() - began
    return Row(
        "a decoder is killed at work: the file is tried once more",
        f"{reply.status} {reply.json().get('code', '')} after {answered:.2f} s, replaced after {back:.2f} s; always ready",
        "200, replaced",
        reply.status == 200 and live.ready().status_code == 200,
    )


def _killed_decoders(live: LiveServer) -> Row:
    for process in children(live, "app.audio.worker"):
        os.kill(process.pid, signal.SIGKILL)
    replies = ask_all(live.port, [audio_post(clip(peak)) for peak in PEAKS])
    good = sum(reply.status == 200 for reply in replies)
    measured = f"{good} of the next {len(PEAKS)} requests answered 200"
    return Row("all idle decoders are killed", measured, "all", good == len(PEAKS))


def _out_of_memory(live: LiveServer, device: Device) -> Row:
    replies, batch = _one_batch(live, device, [Mark.OUT_OF_MEMORY.value, *PEAKS[1:8]])
    good = sum(reply.status == 200 for reply in replies)
    more, later = _one_batch(live, device, PEAKS[:16])
    good += sum(reply.status == 200 for reply in more)
    return Row(
        "out of memory halves the batch and goes on",
        f"{good} of 24 answered 200; batches of {batch} before, of {later} after",
        "all",
        good == 24 and later <= batch // 2,
    )
