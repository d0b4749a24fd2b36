"""What every rival does with a clip: bytes → window → probabilities. As one would write it first, with our engine, and with
our decoding as well.

COMPARE_ENGINE says which. The release comes from LRID_MODEL_STORE and LRID_MODEL, as for the service itself.
"""

from __future__ import annotations

import io
import os
from typing import Protocol

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from app.audio.decode import load_recording
from app.audio.spec import DecodeLimits, WindowRequest, WindowSpec
from app.domain import FloatArray
from app.families.lrid_net.listen import LogMel
from app.families.lrid_net.model import LridNetModel
from app.families.lrid_net_plus.model import LridNetPlusModel
from app.families.store import load_model, release_folder
from app.serving.engine import Engine, choose
from app.settings import Settings

CORES = os.cpu_count() or 1
MAX_BATCH, WAIT_MS, TIMEOUT_SECONDS = 4, 10, 60
Answer = dict[str, float]  # probability by language
Network = LridNetModel | LridNetPlusModel


class Work(Protocol):
    def decode(self, audio: bytes) -> FloatArray:
        """An encoded clip of one window → (window_samples,) mono."""

    def answer(self, windows: list[FloatArray]) -> list[Answer]:
        """A batch through the network."""


def load(*, threads: int, channels_last: bool = True) -> Work:
    """`threads` for one pass through the trunk."""
    settings = Settings()
    torch.set_num_threads(threads)
    model = load_model(release_folder(settings.model_store, settings.model))
    assert isinstance(model, Network)
    engine = os.environ["COMPARE_ENGINE"]
    if engine == "stock":
        return Stock(model, channels_last)
    return OursAndDecoding(model, settings) if engine == "ours+decoding" else Ours(model, settings)


class Decoding:
    """soundfile and torchaudio: what PyTorch gives without further thought."""

    def __init__(self, model: Network) -> None:
        self._model = model
        self._resamplers: dict[int, Resample] = {}

    @torch.inference_mode()
    def decode(self, audio: bytes) -> FloatArray:
        samples, rate_hz = soundfile.read(io.BytesIO(audio), dtype="float32", always_2d=True)
        wanted_hz, n = self._model.sample_rate_hz, self._model.window_samples
        resampler = self._resamplers.setdefault(rate_hz, Resample(rate_hz, wanted_hz))
        mono = resampler(torch.from_numpy(samples.mean(axis=1)))[:n]
        return torch.nn.functional.pad(mono, (0, n - mono.shape[0])).numpy()


class Stock(Decoding):
    """The network in eager fp32."""

    def __init__(self, model: Network, channels_last: bool) -> None:
        super().__init__(model)
        self._log_mel = LogMel(model.manifest.listen)
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._network = model.network.float().eval().to(memory_format=self._format)  # type: ignore[call-overload]

    @torch.inference_mode()
    def answer(self, windows: list[FloatArray]) -> list[Answer]:
        x_audio = self._log_mel(torch.from_numpy(np.stack(windows))).unsqueeze(1)  # (n, 1, 128, 2580)
        manifest, network = self._model.manifest, self._network
        s_audio = network.f(x_audio.to(memory_format=self._format))  # (n, 2048)
        s_text = network.g(torch.zeros(len(windows), manifest.read.n_features))
        logits = network.h(torch.cat([s_audio, s_text], dim=1))  # (n, 11)
        rows = torch.softmax(logits / manifest.temperature.audio_only, dim=1).tolist()
        return [dict(zip([label.code for label in manifest.labels], row, strict=True)) for row in rows]


class Ours(Decoding):
    """Our engine and our head; the rest is the rival's author's."""

    def __init__(self, model: Network, settings: Settings) -> None:
        super().__init__(model)
        self._codes = [label.code for label in model.manifest.labels]
        self._engine = Engine(model.listener, choose(device="cpu", precision=settings.precision, threads=0))

    def answer(self, windows: list[FloatArray]) -> list[Answer]:
        features = self._engine.listen(windows)  # (n, 2048)
        rows = self._model.identify(features, None).windows.tolist()
        return [dict(zip(self._codes, row, strict=True)) for row in rows]


class OursAndDecoding(Ours):
    """Our decoding as well: all but our server."""

    def __init__(self, model: Network, settings: Settings) -> None:
        super().__init__(model, settings)
        self._request = WindowRequest(WindowSpec(model.sample_rate_hz, model.window_samples), max_windows=1)
        self._limits = DecodeLimits(max_audio_seconds=settings.max_audio_seconds, silence_dbfs=settings.silence_dbfs)

    def decode(self, audio: bytes) -> FloatArray:
        return load_recording(audio, self._request, self._limits).windows[0].samples
