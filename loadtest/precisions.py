"""What a window costs in each precision and by each engine here: log-mel and trunk, without decoding, HTTP and JSON.

    python -m loadtest.precisions --model lrid_net/1

The engines take turns, so that all meet the same machine: one window alone, then as many side by side as there are threads.
CPU time is that of the whole process, the least of the turns; so is the time by the clock. int8 needs a release that was
quantised, OpenVINO the extra `openvino`; what cannot run here is left out and named.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from app.domain import FloatArray
from app.errors import ReleaseError
from app.families.store import load_model, release_folder
from app.serving.engine import Engine, EngineChoice, choose
from app.settings import Settings

WAYS = (("torch", "fp32"), ("torch", "bf16"), ("openvino", "bf16"), ("openvino", "int8"))


def measure(engine: Engine, windows: list[FloatArray]) -> tuple[float, float]:
    """Milliseconds of CPU and by the clock, for each window."""
    cpu, clock = time.process_time(), time.perf_counter()
    engine.listen(windows)
    return (
        1e3 * (time.process_time() - cpu) / len(windows),
        1e3 * (time.perf_counter() - clock) / len(windows),
    )


def main() -> None:
    options = _options()
    model = load_model(release_folder(options.model_store, options.model))
    engines: dict[str, Engine] = {}
    for backend, precision in WAYS:
        try:
            choice: EngineChoice = choose(device="cpu", precision=precision, threads=0, backend=backend)
            engines[f"{backend} {precision}"] = Engine(model.listener, choice)
        except (ValueError, ReleaseError) as error:
            print(f"{backend} {precision} is left out: {error}", file=sys.stderr)
    rng = np.random.default_rng(0)
    window = (0.1 * rng.standard_normal(model.window_samples)).astype(np.float32)
    counts = dict.fromkeys((1, torch.get_num_threads()))
    turns: dict[tuple[str, int], list[tuple[float, float]]] = {(name, n): [] for name in engines for n in counts}
    for number in range(options.turns + 1):
        for (name, n), found in turns.items():
            measured = measure(engines[name], [window] * n)
            if number:  # the first warms up
                found.append(measured)
    print("| engine | windows at once | CPU ms a window | ms by the clock a window |\n|---|---|---|---|")
    for (name, n), found in turns.items():
        cpu, clock = (min(column) for column in zip(*found, strict=True))
        print(f"| {name} | {n} | {cpu:.1f} | {clock:.1f} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    settings = Settings()
    parser.add_argument("--model-store", type=Path, default=settings.model_store)
    parser.add_argument("--model", default=settings.model)
    parser.add_argument("--turns", type=int, default=12)
    return parser.parse_args()


if __name__ == "__main__":
    main()
