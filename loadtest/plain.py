"""The yardstick: the handler one would write first. FastAPI, soundfile, torch; one request, one pass, eager fp32.

    uvicorn --factory loadtest.plain:create_app --port 8001

It reads the same release (LRID_MODEL_STORE, LRID_MODEL), decodes with soundfile, resamples with torchaudio, uses the
same front end and the same network in PyTorch's default memory format. One lock keeps passes from running into each
other: without it 32 requests at once would be slower, and hold 32 sets of activations in memory.
"""

from __future__ import annotations

import io
import threading
from typing import Annotated

import soundfile
import torch
from fastapi import FastAPI, UploadFile
from langdetect import DetectorFactory, detect_langs
from langdetect.lang_detect_exception import LangDetectException
from pydantic import BaseModel
from torchaudio.functional import resample

from app.families.lrid_net.listen import LogMel
from app.families.lrid_net.model import LridNetModel
from app.families.store import load_model, release_folder
from app.settings import Settings


class Text(BaseModel):
    artist: str = ""
    album: str = ""
    title: str = ""


def create_app() -> FastAPI:
    settings = Settings()
    model = load_model(release_folder(settings.model_store, settings.model))
    assert isinstance(model, LridNetModel)
    manifest, network = model.manifest, model.network.float().eval()
    log_mel, lock = LogMel(manifest.listen), threading.Lock()
    DetectorFactory.seed = manifest.read.seed

    @torch.inference_mode()
    def answer(x_audio: torch.Tensor, x_lang: torch.Tensor, temperature: float) -> dict[str, float]:
        with lock:
            logits = network(x_audio, x_lang)[0]  # (11,)
        probabilities = torch.softmax(logits / temperature, 0).tolist()
        return dict(zip([label.code for label in manifest.labels], probabilities, strict=True))

    app = FastAPI()

    @app.post("/audio")
    def audio(audio: Annotated[UploadFile, ...]) -> dict[str, float]:
        samples, rate_hz = soundfile.read(io.BytesIO(audio.file.read()), dtype="float32", always_2d=True)
        mono = torch.from_numpy(samples.mean(axis=1))[None]  # (1, n)
        mono = resample(mono, rate_hz, manifest.listen.sample_rate_hz)[:, : manifest.listen.window_samples]
        mono = torch.nn.functional.pad(mono, (0, manifest.listen.window_samples - mono.shape[1]))
        x_lang = torch.zeros(1, manifest.read.n_features)
        with torch.inference_mode():
            x_audio = log_mel(mono)  # (1, 128, 2580)
        return answer(x_audio, x_lang, manifest.temperature.audio_only)

    @app.post("/text")
    def text(text: Text) -> dict[str, float]:
        """Missing audio as a zero spectrogram, pushed through the trunk."""
        x_audio = torch.zeros(1, manifest.listen.mel_bands, manifest.listen.window_frames)
        return answer(x_audio, _x_lang(text, manifest.read.languages), manifest.temperature.text_only)

    return app


def _x_lang(text: Text, languages: list[str]) -> torch.Tensor:
    """(1, 56)"""
    vector = torch.zeros(1, len(languages) + 1)
    try:
        for found in detect_langs(" ".join(part for part in (text.artist, text.album, text.title) if part)):
            vector[0, languages.index(found.lang)] = found.prob
    except LangDetectException:
        vector[0, -1] = 1.0
    return vector
