"""LitServe: dynamic batching, a worker process for each core with one thread each."""

# No postponed annotations: LitServe reads the one of decode_request.
import argparse
from typing import Any

import litserve
from fastapi import Request

from loadtest.compare.rivals.work import CORES, MAX_BATCH, TIMEOUT_SECONDS, WAIT_MS, load


class Identify(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self.work = load(threads=1)

    def decode_request(self, request: Request) -> Any:
        return self.work.decode(request["audio"].file.read())  # type: ignore[index]  # LitServe hands over the form

    def batch(self, inputs: list[Any]) -> list[Any]:
        return list(inputs)

    def predict(self, x: list[Any]) -> list[dict[str, float]]:
        return self.work.answer(x)

    def unbatch(self, output: list[dict[str, float]]) -> list[dict[str, float]]:
        return output

    def encode_response(self, output: dict[str, float]) -> dict[str, float]:
        return output


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    api = Identify(max_batch_size=MAX_BATCH, batch_timeout=WAIT_MS / 1000, api_path="/identify")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=CORES, timeout=TIMEOUT_SECONDS)
    server.run(host="127.0.0.1", port=parser.parse_args().port, log_level="warning", generate_client_file=False)
