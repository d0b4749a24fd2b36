"""Ray Serve: @serve.batch, a replica with one CPU for each core, blocking work in threads."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from loadtest.compare.rivals.work import CORES, MAX_BATCH, WAIT_MS, load


@serve.deployment(num_replicas=CORES, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=4 * MAX_BATCH)
class Identify:
    def __init__(self) -> None:
        self.work = load(threads=1)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_MS / 1000)
    async def answer(self, windows: list[Any]) -> list[dict[str, float]]:
        return await asyncio.to_thread(self.work.answer, windows)

    async def __call__(self, request: Request) -> dict[str, float]:
        window = await asyncio.to_thread(self.work.decode, await request.body())
        answer: dict[str, float] = await self.answer(window)
        return answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    ray.init(num_cpus=CORES, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": parser.parse_args().port})
    serve.run(Identify.bind(), route_prefix="/identify")
    while True:
        time.sleep(1)
