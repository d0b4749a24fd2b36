"""A FastAPI handler as one writes it first. One lock, because passes on all cores would run into each other."""

from __future__ import annotations

import argparse
import threading
from typing import Annotated

import uvicorn
from fastapi import FastAPI, UploadFile

from loadtest.compare.rivals.work import CORES, load


def create_app() -> FastAPI:
    work, lock, app = load(threads=CORES, channels_last=False), threading.Lock(), FastAPI()

    @app.post("/identify")
    def identify(audio: Annotated[UploadFile, ...]) -> dict[str, float]:
        window = work.decode(audio.file.read())
        with lock:
            return work.answer([window])[0]

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(create_app(), port=parser.parse_args().port, log_level="warning", access_log=False)
