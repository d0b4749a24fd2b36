"""What the service adds to the bare model: milliseconds for one request at a time, and requests a second without audio.

    python -m loadtest.latency                     # about 1 min
    python -m loadtest.latency --json result.json

One at a time: the same clip and the same texts go to the service over HTTP and, in this process, to decoder, engine, reader
and head, turn by turn. Without audio: requests a second of one server process beside an empty FastAPI handler with the same
schemas and beside one that calls langdetect, turn by turn; also per second of the server's own CPU time, which other work
on the machine disturbs less. Needs psutil.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import Metadata
from app.serving.loading import load_release
from app.settings import Settings
from loadtest.client import audio_request, json_request, run_round
from loadtest.servers import OURS, server, tree
from loadtest.sounds import TRACKS, encoded

EMPTY = ("-m", "uvicorn", "--factory", "loadtest.empty:create_app", "--log-level", "warning", "--no-access-log")
ADDED_TEXT_MS, ADDED_CLIP_MS = 5.0, 15.0  # what is asked; of a clip beyond its decoding
SHARE_OF_EMPTY, TIMES_LANGDETECT = 0.5, 8.0
CONNECTIONS = 8
Running = tuple[int, psutil.Process]  # a server's port and process


@dataclass(slots=True)
class Rates:
    """Requests a second of one endpoint, by the clock and by the server's CPU time; one figure a round."""

    name: str
    per_second: list[float] = field(default_factory=list)
    per_cpu_second: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds, the median of one request at a time."""

    text_http: float
    text_bare: float  # reader and head
    clip_http: float
    clip_bare: float  # engine and head
    clip_decode: float


def closed_loop(port: int, requests: Sequence[bytes], seconds: float) -> int:
    """Answers that came within `seconds` over CONNECTIONS connections; raw sockets, so that the client costs little.

    Raises RuntimeError at any status but 200.
    """
    selector, numbers, answered = selectors.DefaultSelector(), iter(range(1 << 62)), 0
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        connection.sendall(requests[next(numbers) % len(requests)])
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        for key, _ in selector.select(timeout=1):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            _read_answer(connection)
            answered += 1
            connection.sendall(requests[next(numbers) % len(requests)])
    for key in list(selector.get_map().values()):
        assert isinstance(key.fileobj, socket.socket)
        key.fileobj.close()
    return answered


def _read_answer(connection: socket.socket) -> None:
    data = connection.recv(65_536)
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += connection.recv(65_536)
    head = data[:end].lower()
    if not data.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"expected 200, got {data[:200]!r}")
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    missing = end + 4 + length - len(data)
    while missing > 0:
        missing -= len(connection.recv(missing))


def text_rates(
    ours: tuple[int, psutil.Process], empty: tuple[int, psutil.Process], rounds: int, seconds: float
) -> list[Rates]:
    """This service, the empty handler, and the one with langdetect."""
    ends = [("this service", ours, "/identify"), ("empty FastAPI", empty, "/identify"), ("langdetect", empty, "/langdetect")]
    rates = [Rates(name) for name, _, _ in ends]
    for number in range(rounds + 1):
        for rate, (_, (port, process), path) in zip(rates, ends, strict=True):
            requests = [json_request(path, {"artist": artist, "title": title}) for artist, title in TRACKS]
            before, started = _cpu_seconds(process), time.perf_counter()
            answered = closed_loop(port, requests, seconds if number else 1.0)
            if number:  # the first round warms up
                rate.per_second.append(answered / (time.perf_counter() - started))
                rate.per_cpu_second.append(answered / (_cpu_seconds(process) - before))
    return rates


def _cpu_seconds(process: psutil.Process) -> float:
    return sum(times.user + times.system for times in (member.cpu_times() for member in tree(process)))


def delays(port: int, settings: Settings, repeats: int) -> Delays:
    """One request at a time, over HTTP and bare, turn by turn."""
    loaded = load_release(settings, settings.model)
    model, engine = loaded.model, loaded.engine
    clip = encoded(30.0, 0, "MP3")
    request = WindowRequest(WindowSpec(model.sample_rate_hz, model.window_samples), settings.max_windows)
    limits = DecodeLimits(max_audio_seconds=settings.max_audio_seconds, silence_dbfs=settings.silence_dbfs)
    windows = [window.samples for window in load_recording(clip, request, limits).windows]
    tracks = [Metadata(artist=artist, title=title) for artist, title in TRACKS]
    texts = [json_request("/identify", {"artist": artist, "title": title}) for artist, title in TRACKS]
    turns: dict[str, tuple[Callable[[int], object], list[float]]] = {
        "text_http": (lambda number: _http_seconds(port, texts[number % len(texts)]), []),
        "text_bare": (lambda number: model.identify(None, model.read(tracks[number % len(tracks)])), []),
        "clip_http": (lambda _: _http_seconds(port, audio_request("/identify", clip)), []),
        "clip_bare": (lambda _: model.identify(engine.listen(windows), None), []),
        "clip_decode": (lambda _: load_recording(clip, request, limits), []),
    }
    for number in range(repeats + 3):
        for call, seconds in turns.values():
            started = time.perf_counter()
            inside = call(number)
            took = inside if isinstance(inside, float) else time.perf_counter() - started
            if number >= 3:
                seconds.append(took)
    return Delays(**{name: 1e3 * statistics.median(seconds) for name, (_, seconds) in turns.items()})


def _http_seconds(port: int, request: bytes) -> float:
    return run_round(port, [request], 1, 60).answers[0].seconds


def table(added: Delays, rates: list[Rates]) -> str:
    """Markdown."""
    ours, empty, langdetect = (statistics.median(rate.per_second) for rate in rates)
    cpu = [statistics.median(rate.per_cpu_second) for rate in rates]
    text, clip = added.text_http - added.text_bare, added.clip_http - added.clip_bare
    return "\n".join(
        [
            "| one request at a time, ms | over HTTP | bare model | added | asked |",
            "|---|---|---|---|---|",
            f"| metadata only | {added.text_http:.2f} | {added.text_bare:.2f} | {text:.2f} | <= {ADDED_TEXT_MS:g} |",
            f"| 30 s MP3 (decoding alone {added.clip_decode:.1f}) | {added.clip_http:.1f} | {added.clip_bare:.1f} "
            f"| {clip:.1f} | <= {added.clip_decode + ADDED_CLIP_MS:.1f} |",
            "",
            "| metadata only | requests/s | per second of its CPU time |",
            "|---|---|---|",
            *(f"| {r.name} | {statistics.median(r.per_second):,.0f} | {c:,.0f} |" for r, c in zip(rates, cpu, strict=True)),
            "",
            f"{ours / empty:.0%} of the empty handler (by CPU time {cpu[0] / cpu[1]:.0%}; asked {SHARE_OF_EMPTY:.0%}), "
            f"{ours / langdetect:.1f} x langdetect (by CPU time {cpu[0] / cpu[2]:.1f} x; asked {TIMES_LANGDETECT:g} x)",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each figure without audio (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=30, help="one at a time, of each kind (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with server(OURS, "/health/ready", LRID_DEVICE="cpu") as ours:
        added = delays(ours[0], Settings(device="cpu"), options.repeats)
        with server(EMPTY, "/openapi.json") as empty:
            rates = text_rates(ours, empty, options.rounds, options.seconds)
    print(table(added, rates))
    if options.json:
        options.json.write_text(
            json.dumps({"delays_ms": asdict(added), "rates": [asdict(r) for r in rates]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
