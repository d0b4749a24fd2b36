"""FastAPI tuned by hand: nothing blocks the event loop, decoders in a pool of threads, one pass to a core."""

from __future__ import annotations

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import torch
import uvicorn
from fastapi import FastAPI, UploadFile

from loadtest.compare.rivals.work import CORES, load


def create_app() -> FastAPI:
    torch.set_flush_denormal(True)
    work, app = load(threads=1), FastAPI()
    decoders = ThreadPoolExecutor(CORES)
    models = ThreadPoolExecutor(CORES, initializer=torch.set_num_threads, initargs=(1,))

    @app.post("/identify")
    async def identify(audio: Annotated[UploadFile, ...]) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        window = await loop.run_in_executor(decoders, work.decode, await audio.read())
        return (await loop.run_in_executor(models, work.answer, [window]))[0]

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(create_app(), port=port, log_level="warning", access_log=False, loop="uvloop", http="httptools")
