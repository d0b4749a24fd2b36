"""How fast the network itself is here: the trunk alone, on all cores, without decoding, HTTP and JSON.

    python -m loadtest.trunk                       # one window on n threads against n windows on one thread each
    python -m loadtest.trunk --precision fp32 --stages

The engine's own trunk (folded, channels last, fused) is measured beside the plain one (folded, channels last, each layer an
operation of its own), round after round, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from app.families.lrid_net.listen import Listener
from app.families.lrid_net.model import NetworkModel
from app.families.store import load_model, release_folder
from app.serving.engine import DTYPES, Engine, EngineChoice, choose, fold_batch_norm
from app.settings import Settings

GFLOP_PER_WINDOW = 52.9  # of the default network, 30 s

Model = NetworkModel[Any]


@dataclass(frozen=True, slots=True)
class Rate:
    """Windows a second of one way to use the cores; every round's figure."""

    trunk: str
    at_once: int
    threads_each: int
    per_second: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.per_second)


@torch.inference_mode()
def windows_per_second(listen: Callable[[Tensor], Tensor], x: Tensor, at_once: int, threads: int, seconds: float) -> float:
    """`at_once` callers, each of which calls again as soon as it has its result, on `threads` threads each."""
    done, begin = [0] * at_once, threading.Barrier(at_once + 1)
    stop = threading.Event()

    @torch.inference_mode()
    def caller(number: int) -> None:
        torch.set_num_threads(threads)
        listen(x)
        begin.wait()
        while not stop.is_set():
            listen(x)
            done[number] += 1

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(at_once)]
    for one in callers:
        one.start()
    begin.wait()
    started = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for one in callers:
        one.join()
    return sum(done) / (time.perf_counter() - started)  # the last passes are counted, and so is their time


def trunks(model: Model, precision: str) -> dict[str, dict[int, nn.Module]]:
    """The engine's own trunk and the plain one, for one thread and for all."""
    engine = Engine(model.listener, EngineChoice("cpu", precision, batch_size=1))  # type: ignore[arg-type]
    plain = fold_batch_norm(load_listener(model)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    alone, beside, layers = engine._listener.trunk, engine._lane_listener.trunk, plain.trunk.to(DTYPES[precision])
    assert isinstance(alone, nn.Module)
    assert isinstance(beside, nn.Module)
    threads = torch.get_num_threads()
    return {"engine": {threads: alone, 1: beside}, "plain": {threads: layers, 1: layers}}


def load_listener(model: Model) -> Listener:
    """A copy that may be changed."""
    import copy

    return copy.deepcopy(model.listener)


def stages(model: Model, trunk: nn.Module, dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Milliseconds of CPU time on one thread, the least of several: log-mel, then the trunk from its start to each layer."""
    torch.set_num_threads(1)
    samples = torch.randn(1, model.window_samples) * 0.1
    with torch.inference_mode():
        x = model.listener.log_mel(samples).unsqueeze(1).to(dtype, memory_format=torch.channels_last)
        work = {"log_mel": lambda: model.listener.log_mel(samples), "trunk": lambda: trunk(x)}
        return {name: 1e3 * min(_thread_seconds(call) for _ in range(repeats)) for name, call in work.items()}


def _thread_seconds(call: Callable[[], object]) -> float:
    started = time.thread_time()
    call()
    return time.thread_time() - started


def main() -> None:
    options = _options()
    model = load_model(release_folder(options.model_store, options.model))
    assert isinstance(model, NetworkModel)
    precision = choose(device="cpu", precision=options.precision, threads=0).precision
    cores = torch.get_num_threads()
    dtype = DTYPES[precision]
    frames = model.manifest.listen.window_frames
    x = torch.randn(1, 1, model.manifest.listen.mel_bands, frames) * 20 - 30  # decibels
    x = x.to(dtype, memory_format=torch.channels_last)
    named = trunks(model, precision)
    if options.rate_only:
        rate = windows_per_second(named["engine"][1], x, cores, 1, options.seconds)
        print(json.dumps({"precision": precision, "windows_per_second": rate}))
        return
    ways = [(name, at_once) for name in named for at_once in dict.fromkeys((1, cores))]
    rates = [Rate(name, at_once, cores // at_once, []) for name, at_once in ways]
    for _ in range(options.rounds):
        for rate in rates:
            seconds = options.seconds
            trunk = named[rate.trunk][rate.threads_each]
            rate.per_second.append(windows_per_second(trunk, x, rate.at_once, rate.threads_each, seconds))
    print(f"| {precision} trunk | windows at once | threads each | windows/s | GFLOP/s |\n|---|---|---|---|---|")
    for rate in rates:
        gflops = rate.median * GFLOP_PER_WINDOW
        print(f"| {rate.trunk} | {rate.at_once} | {rate.threads_each} | {rate.median:.2f} | {gflops:.0f} |")
    if options.stages:
        for name, trunk in named.items():
            parts = stages(model, trunk[1], dtype, 10)
            print(f"{name}, ms on one thread: " + ", ".join(f"{part} {ms:.1f}" for part, ms in parts.items()))
    if options.json:
        options.json.write_text(json.dumps([asdict(rate) for rate in rates], indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    settings = Settings()
    parser.add_argument("--model-store", type=Path, default=settings.model_store)
    parser.add_argument("--model", default=settings.model)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each figure (default: %(default)s)")
    parser.add_argument("--stages", action="store_true", help="also the front end and the trunk on one thread, in CPU time")
    parser.add_argument("--rate-only", action="store_true", help="only the engine's best rate, as JSON")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
