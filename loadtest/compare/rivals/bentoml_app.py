"""BentoML: adaptive batching, a worker process for each core with one thread each."""

# No postponed annotations: BentoML reads those of the API.
from pathlib import Path

import bentoml

from loadtest.compare.rivals.work import CORES, MAX_BATCH, TIMEOUT_SECONDS, load


@bentoml.service(workers=CORES, traffic={"timeout": TIMEOUT_SECONDS})
class Identify:
    def __init__(self) -> None:
        self.work = load(threads=1)

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=TIMEOUT_SECONDS * 1000)
    def identify(self, audio: list[Path]) -> list[dict[str, float]]:
        return self.work.answer([self.work.decode(path.read_bytes()) for path in audio])
