"""The same release behind other servers: `python -m loadtest.compare.rivals plain --port 9000`.

COMPARE_ENGINE says what runs the network: `stock`, PyTorch in eager fp32, or `ours`, this service's engine. Decoding is what
soundfile and torchaudio give without further thought. Release and store come from LRID_MODEL and LRID_MODEL_STORE.
"""

import argparse
import asyncio
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import numpy as np
import soundfile
import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from torchaudio.transforms import Resample

from app.domain import FloatArray
from app.families.contract import AudioBranch, Model, Target
from app.families.store import load_model, release_folder
from app.serving.loading import load_release
from app.settings import Settings

CORES = os.cpu_count() or 1
Answer = dict[str, float]  # probability by language
ListenToWindows = Callable[[list[FloatArray]], FloatArray]


class Work:
    """Bytes of a clip → windows → probabilities."""

    def __init__(self, threads: int) -> None:
        """`threads` share one window."""
        torch.set_num_threads(threads)
        settings = Settings()
        ours = os.environ["COMPARE_ENGINE"] == "ours"
        self._model, self._listen = _with_our_engine(settings) if ours else _with_stock_engine(settings, threads)
        audio = _audio(self._model)
        self._spec, self._n_windows = audio.window, audio.first_windows or audio.most_windows or 1
        self._resamplers: dict[int, Resample] = {}

    @torch.inference_mode()
    def decode(self, audio: bytes) -> list[FloatArray]:
        """Windows from the middle of the clip, the last one padded with zeros."""
        samples, rate_hz = soundfile.read(io.BytesIO(audio), dtype="float32", always_2d=True)
        resample = self._resamplers.setdefault(rate_hz, Resample(rate_hz, self._spec.sample_rate_hz))
        mono, n = resample(torch.from_numpy(samples.mean(axis=1))), self._spec.window_samples
        first = max(0, (len(mono) - self._n_windows * n) // 2)
        parts = mono[first : first + self._n_windows * n].split(n)
        return [torch.nn.functional.pad(part, (0, n - len(part))).numpy() for part in parts]

    def identify(self, windows: list[FloatArray]) -> Answer:
        scores = self._model.combine({"audio": self._listen(windows)}, frozenset({"audio"}))
        codes = [label.code for label in self._model.manifest.labels]
        return dict(zip(codes, scores.probabilities.tolist(), strict=True))


def _with_our_engine(settings: Settings) -> tuple[Model, ListenToWindows]:
    loaded = load_release(settings, settings.model)
    if loaded.engine is None:
        raise SystemExit(f"{settings.model} does not listen")
    return loaded.model, loaded.engine.listen


def _with_stock_engine(settings: Settings, threads: int) -> tuple[Model, ListenToWindows]:
    model = load_model(release_folder(settings.model_store, settings.model))
    stock = _audio(model).listener.prepare(Target("cpu", "fp32", "torch", threads))

    @torch.inference_mode()
    def listen(windows: list[FloatArray]) -> FloatArray:
        return stock(torch.from_numpy(np.stack(windows))).numpy()

    return model, listen


def _audio(model: Model) -> AudioBranch:
    if model.audio is None:
        raise SystemExit(f"{model.manifest.family} does not listen")
    return model.audio


def plain() -> FastAPI:
    """A FastAPI handler as one writes it first. One lock, because passes on all cores would run into each other."""
    work, lock, app = Work(threads=CORES), threading.Lock(), FastAPI()

    @app.post("/identify")
    def identify(audio: Annotated[UploadFile, ...]) -> Answer:
        windows = work.decode(audio.file.read())
        with lock:
            return work.identify(windows)

    return app


def tuned() -> FastAPI:
    """FastAPI tuned by hand: nothing blocks the event loop, decoders in a pool of threads, one pass per core."""
    torch.set_flush_denormal(True)
    work, app = Work(threads=1), FastAPI()
    decoders = ThreadPoolExecutor(CORES)
    models = ThreadPoolExecutor(CORES, initializer=torch.set_num_threads, initargs=(1,))

    @app.post("/identify")
    async def identify(audio: Annotated[UploadFile, ...]) -> Answer:
        loop = asyncio.get_running_loop()
        windows = await loop.run_in_executor(decoders, work.decode, await audio.read())
        return await loop.run_in_executor(models, work.identify, windows)

    return app


RIVALS: dict[str, Callable[[], FastAPI]] = {"plain": plain, "tuned": tuned}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rival", choices=RIVALS)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(RIVALS[options.rival](), port=options.port, log_level="warning", access_log=False)
