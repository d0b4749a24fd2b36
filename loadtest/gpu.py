"""How much of a GPU the service uses: the trunk against the card's own matrix rate, and clips a second over HTTP.

    python -m loadtest.gpu
    python -m loadtest.gpu --seconds 20 --clients 256 --json result.json

Without a CUDA device it says so and measures nothing. It prints windows a second of the bare trunk by batch size, plain and
with fused convolutions, and their share of the card's matrix rate measured in the same precision; where the time of a batch
goes; windows a second of the engine as it serves, from arrays in memory to features; how far answers are from fp32; and
clips a second from end to end, with the CPU cores that decoders and server used: what limits when the trunk does not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from app.domain import FloatArray
from app.families.contract import Model
from app.families.store import load_model, release_folder
from app.serving.engine import DTYPES, Engine, EngineChoice, choose
from app.settings import Settings
from loadtest.client import audio_request
from loadtest.compare.measure import peak_per_second
from loadtest.servers import OURS, server, tree
from loadtest.sounds import encoded, song

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
MATRIX_SIZE = 8192
TRUNK_PER_SECOND, CLIPS_PER_SECOND = 2500, 700  # asked of one H200 with 16 cores
MAX_DIFFERENCE, MIN_SAME_TOP_1 = 2e-2, 0.995


@dataclass(frozen=True, slots=True)
class TrunkRate:
    trunk: str  # plain or fused
    batch_size: int
    windows_per_second: float
    matrix_share: float  # of the card's own rate, in the same precision


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of the engine with the fp32 network on the CPU."""

    largest_difference: float  # of a probability
    same_top_1: float


@dataclass(frozen=True, slots=True)
class EndToEnd:
    clips_per_second: float
    decoder_cores: float  # CPU cores that the decoding processes used
    server_cores: float  # and the server process


def seconds_of(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Of one call, the median of several, each waited for."""
    times = []
    for number in range(repeats + 2):
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        if number >= 2:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def matrix_flops(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Floating-point operations a second of one large product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: a @ b, device, 10)


@torch.inference_mode()
def flops_per_window(trunk: nn.Module, x: Tensor) -> float:
    """Counted, not assumed: 52.9e9 for the default network."""
    with FlopCounterMode(display=False) as counter:
        trunk(x[:1])
    return float(counter.get_total_flops())


@torch.inference_mode()
def trunk_rates(name: str, trunk: nn.Module, x: Tensor, flops: float, matrix: float) -> list[TrunkRate]:
    """`x`: the largest batch, (n, 1, 128, t), on its device."""
    rates = []
    for size in (size for size in BATCH_SIZES if size <= len(x)):
        rate = size / seconds_of(lambda part=x[:size]: trunk(part), x.device, 10)  # type: ignore[misc]
        rates.append(TrunkRate(name, size, rate, rate * flops / matrix))
    return rates


@torch.inference_mode()
def batch_stages(listener: nn.Module, windows: list[FloatArray], device: torch.device) -> dict[str, float]:
    """Milliseconds of each step of one batch."""
    stacked = torch.from_numpy(np.stack(windows))
    pinned = stacked.pin_memory() if device.type == "cuda" else stacked
    samples = pinned.to(device)
    dtype = listener.trunk.dtype
    x = listener.log_mel(samples).unsqueeze(1).to(dtype, memory_format=torch.channels_last)
    features = listener.trunk(x)
    steps: dict[str, Callable[[], object]] = {
        "stack on the CPU": lambda: np.stack(windows),
        "copy to the device": lambda: pinned.to(device, non_blocking=True),
        "log-mel": lambda: listener.log_mel(samples),
        "trunk": lambda: listener.trunk(x),
        "copy back": lambda: features.float().cpu(),
    }
    return {name: 1e3 * seconds_of(call, device, 10) for name, call in steps.items()}


def agreement(model: Model, engine: Engine, windows: list[FloatArray]) -> Agreement:
    """The engine's answers beside those of the unfolded network in fp32 on the CPU."""
    given = model.identify(engine.listen(windows), None).windows
    with torch.inference_mode():
        rows = [model.listener(torch.from_numpy(window)[None]).numpy() for window in windows]
    exact = model.identify(np.concatenate(rows), None).windows
    return Agreement(float(np.abs(given - exact).max()), float((given.argmax(1) == exact.argmax(1)).mean()))


def end_to_end(clips: Sequence[bytes], clients: int, seconds: float) -> EndToEnd:
    """A closed loop over HTTP."""
    requests = [audio_request("/identify", clip) for clip in clips]
    workers = str(max(1, (os.cpu_count() or 1) - 1))
    limits = {"LRID_DECODE_QUEUE_MAX": str(2 * clients), "LRID_QUEUE_MAX_ITEMS": str(4 * clients)}
    with server(OURS, "/health/ready", LRID_DEVICE="cuda", LRID_DECODE_WORKERS=workers, **limits) as (port, process):
        peak_per_second(port, requests, clients, 3)  # warm up
        before, started = _cpu_seconds(process), time.perf_counter()
        rate = peak_per_second(port, requests, clients, seconds)
        used = [after - then for after, then in zip(_cpu_seconds(process), before, strict=True)]
        took = time.perf_counter() - started
    return EndToEnd(rate, decoder_cores=used[1] / took, server_cores=used[0] / took)


def _cpu_seconds(process: psutil.Process) -> tuple[float, float]:
    """Of the server, and of all its children together."""
    own, *children = (member.cpu_times() for member in tree(process))
    return own.user + own.system, sum(times.user + times.system for times in children)


def some_windows(model: Model, n: int) -> list[FloatArray]:
    """Different songs, cut from one long one: making them must not take longer than listening to them."""
    rate = model.sample_rate_hz
    sound = song(n + model.window_samples / rate + 1, 7).mean(axis=1)
    return [np.ascontiguousarray(sound[i * rate :][: model.window_samples]) for i in range(n)]


def main() -> int:
    options = _options()
    if not torch.cuda.is_available():
        print("no GPU: PyTorch sees no CUDA device here; nothing was measured")
        return 0
    device, settings = torch.device("cuda"), Settings(device="cuda")
    choice = choose(device="cuda", precision=settings.precision, threads=0)
    model = load_model(release_folder(settings.model_store, settings.model))
    result = measure_on(model, choice, device, options.windows)
    clips = [encoded(30.0, seed, "MP3") for seed in range(8)]
    result["end_to_end"] = asdict(end_to_end(clips, options.clients, options.seconds))
    print(table(torch.cuda.get_device_name(device), choice.precision, result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def measure_on(model: Model, choice: EngineChoice, device: torch.device, n_windows: int) -> dict[str, object]:
    """Everything but HTTP."""
    engine = Engine(model.listener, choice)
    engine.settle(model.window_samples)
    dtype, listener = DTYPES[choice.precision], engine._listener
    fused = listener.fused()
    windows = some_windows(model, n_windows)
    batch = windows[: max(BATCH_SIZES)]
    matrix = matrix_flops(device, dtype, MATRIX_SIZE if device.type == "cuda" else 512)
    with torch.inference_mode():
        samples = torch.from_numpy(np.stack(batch)).to(device)
        x = listener.log_mel(samples).unsqueeze(1).to(dtype, memory_format=torch.channels_last)
    flops = flops_per_window(model.listener.trunk, x[:1].float().cpu())
    return {
        "matrix_tflops": matrix / 1e12,
        "gflop_per_window": flops / 1e9,
        "trunk": [
            asdict(rate)
            for name, trunk in {"plain": listener.trunk, "fused": fused.trunk}.items()
            for rate in trunk_rates(name, trunk, x, flops, matrix)
        ],
        "captured": engine.captured,
        "engine_windows_per_second": len(batch) / seconds_of(lambda: engine.listen(batch), device, 10),
        "batch_size_of_stages": len(batch),
        "stages_ms": batch_stages(listener, batch, device),
        "agreement": asdict(agreement(model, engine, windows)),
    }


def table(device: str, precision: str, result: dict) -> str:  # type: ignore[type-arg]
    """Markdown."""
    same, end = result["agreement"], result["end_to_end"]
    best = max(rate["windows_per_second"] for rate in result["trunk"])
    lines = [
        f"{device}, {precision}: {result['matrix_tflops']:.0f} TFLOP/s in one large product, "
        f"{result['gflop_per_window']:.1f} GFLOP a window",
        "",
        "| trunk | windows in a batch | windows/s | of the matrix rate |",
        "|---|---|---|---|",
        *(
            f"| {r['trunk']} | {r['batch_size']} | {r['windows_per_second']:,.0f} | {r['matrix_share']:.0%} |"
            for r in result["trunk"]
        ),
        "",
        f"bare trunk at best {best:,.0f} windows/s (asked {TRUNK_PER_SECOND:,})",
        f"the engine, {'' if result['captured'] else 'not '}captured, {result['engine_windows_per_second']:,.0f} windows/s",
        f"a batch of {result['batch_size_of_stages']}: "
        + ", ".join(f"{name} {ms:.1f} ms" for name, ms in result["stages_ms"].items()),
        f"largest difference from fp32 {same['largest_difference']:.4f} (asked {MAX_DIFFERENCE:g}), "
        f"same top-1 {same['same_top_1']:.1%} (asked {MIN_SAME_TOP_1:.1%})",
        f"end to end {end['clips_per_second']:.0f} clips/s (asked {CLIPS_PER_SECOND}): decoders used "
        f"{end['decoder_cores']:.1f} of {os.cpu_count()} cores, the server process {end['server_cores']:.1f}",
    ]
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=256, help="compared with fp32 (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=128, help="at once, end to end (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="end to end (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
