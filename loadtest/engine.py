"""Windows per second of the bare engine, all cores busy: no decoding, no HTTP, no JSON.

python -m loadtest.engine
python -m loadtest.engine --model lrid_net/1 --seconds 10 --json
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from app.serving.loading import load_release
from app.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-store", type=Path, default=Settings().model_store, help="default: %(default)s")
    parser.add_argument("--model", default=Settings().model, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(Settings(model_store=options.model_store, model=options.model), options.seconds)
    print(json.dumps(found) if options.json else found)


def measure(settings: Settings, seconds: float) -> dict[str, object]:
    """Rate of full batches of noise, as the batcher would send them."""
    loaded = load_release(settings, settings.model)
    engine, audio = loaded.engine, loaded.model.audio
    if engine is None or audio is None:
        raise SystemExit(f"{settings.model} does not listen")
    noise = np.random.default_rng(0).standard_normal(audio.window.window_samples, np.float32) * np.float32(0.1)
    batch = [noise] * engine.batch_size
    engine.listen(batch)
    passes, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        engine.listen(batch)
        passes += 1
    rate = passes * len(batch) / (time.perf_counter() - started)
    target = engine.target
    return {"windows_per_second": rate, "device": target.device, "precision": target.precision, "backend": target.backend}


if __name__ == "__main__":
    main()
