"""What the service adds to the bare model, in milliseconds, for one request at a time.

    python -m loadtest.latency                     # about 30 s
    python -m loadtest.latency --json result.json

The same clip and the same names go to the service over HTTP and, in this process, to decoder, engine and reader, in turn.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest
from app.domain import Metadata, Track
from app.lab.markdown import table
from app.serving.loading import Loaded, load_release
from app.settings import Settings
from loadtest.client import Connections, audio_post, json_post
from loadtest.servers import machine, save, server
from loadtest.sounds import TRACKS, encoded

ADDED_NAME_MS, ADDED_CLIP_MS = 5.0, 15.0  # required; of a clip beyond its decoding
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=Settings().model, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = Settings(model=options.model, device="cpu")
    with server(LRID_DEVICE="cpu", LRID_MODEL=options.model) as ours:
        found = measure(ours.port, settings, options.repeats)
    save(options.json, found)
    print(report(found))


def measure(port: int, settings: Settings, repeats: int) -> dict[str, float]:
    """Medians in milliseconds, by what was done."""
    clip = encoded(30.0, 0, "MP3")
    names = [json_post({"artist": artist, "title": title}) for artist, title in TRACKS]
    work = bare(load_release(settings, settings.model), settings, clip)

    async def run() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        async with Connections(port) as connections:
            for number in range(repeats + WARM_UP):
                timed = {"name over HTTP": (await connections.timed(names[number % len(names)]))[1]}
                timed["clip over HTTP"] = (await connections.timed(audio_post(clip)))[1]
                for what, call in work.items():
                    started = time.perf_counter()
                    call(number)
                    timed[what] = time.perf_counter() - started
                if number >= WARM_UP:
                    for what, seconds in timed.items():
                        found.setdefault(what, []).append(seconds)
        return found

    return {what: 1e3 * statistics.median(seconds) for what, seconds in asyncio.run(run()).items()}


def bare(loaded: Loaded, settings: Settings, clip: bytes) -> dict[str, Callable[[int], object]]:
    """Does the same work without a server; each call takes a number that picks the track."""
    model, engine = loaded.model, loaded.engine
    tracks = [Track(None, Metadata(artist=artist, title=title)) for artist, title in TRACKS]
    work: dict[str, Callable[[int], object]] = {}
    if "text" in model.inputs:
        work["name, bare model"] = lambda number: model.inputs["text"].read(tracks[number % len(tracks)])
    if model.audio is not None and engine is not None:
        most = model.audio.first_windows or model.audio.most_windows or settings.max_windows
        request = WindowRequest(model.audio.window, most)
        limits = DecodeLimits(max_audio_seconds=settings.max_audio_seconds, silence_dbfs=settings.silence_dbfs)
        windows = [window.samples for window in load_recording(clip, request, limits).windows]
        work["clip, bare model"] = lambda _: engine.listen(windows)
        work["clip, decoding"] = lambda _: load_recording(clip, request, limits)
    return work


def report(found: dict[str, float]) -> str:
    """Markdown."""
    rows = []
    decoding = found.get("clip, decoding", 0.0)
    for what, most in (("name", ADDED_NAME_MS), ("clip", decoding + ADDED_CLIP_MS)):
        over, alone = found[f"{what} over HTTP"], found.get(f"{what}, bare model", 0.0)
        rows.append([what, f"{over:.2f}", f"{alone:.2f}", f"{over - alone:.2f}", f"≤ {most:.1f}"])
    found_table = table(["one request at a time, ms", "over HTTP", "bare model", "added", "required"], rows)
    return f"{found_table}\n\nDecoding a clip alone takes {decoding:.1f} ms. {machine()}"


if __name__ == "__main__":
    main()
