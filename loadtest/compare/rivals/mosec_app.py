"""mosec: a stage that decodes and a stage that identifies in dynamic batches, a process for each core in both."""

from __future__ import annotations

from typing import Any

import mosec

from loadtest.compare.rivals.work import CORES, MAX_BATCH, WAIT_MS, load


class Decode(mosec.Worker):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.work = load(threads=1)

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> Any:
        return self.work.decode(bytes(data))  # comes as a bytearray


class Identify(mosec.Worker):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.work = load(threads=1)

    def forward(self, data: list[Any]) -> list[dict[str, float]]:
        return self.work.answer(data)


if __name__ == "__main__":
    server = mosec.Server()
    server.append_worker(Decode, num=CORES)
    server.append_worker(Identify, num=CORES, max_batch_size=MAX_BATCH, max_wait_time=WAIT_MS)
    server.run()
