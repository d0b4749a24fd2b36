"""The listener on its device: BatchNorm folded, channels last, in the precision that is fastest here and still right.

On a CPU the windows of a batch go through the trunk one by one: a window has 52.9 GFLOP, batching them gains nothing
there, and so an answer is bit for bit the same whatever it was batched with. On a GPU a batch is one pass.
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from app.domain import FloatArray

log = logging.getLogger("lrid.engine")

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What `Engine` decided."""

    device: Literal["cpu", "cuda"]
    precision: Precision
    batch_size: int  # windows in a pass beyond which nothing is gained


class Engine:
    """Blocking; one thread at a time."""

    def __init__(self, listener: nn.Module, choice: EngineChoice) -> None:
        """`listener` maps (n, samples) to (n, features), takes its own precision from its trunk, and is not changed."""
        self.choice = choice
        self._device = torch.device(choice.device)
        self._listener = _prepare(listener, self._device, DTYPES[choice.precision])

    @torch.inference_mode()
    def listen(self, windows: list[FloatArray]) -> FloatArray:
        """n windows, each (samples,) float32 → (n, features) float32."""
        if self._device.type == "cpu":
            rows = [self._listener(torch.from_numpy(window)[None]) for window in windows]  # n x (1, features)
            return torch.cat(rows).numpy()
        batch = torch.from_numpy(np.stack(windows)).pin_memory().to(self._device, non_blocking=True)
        features: Tensor = self._listener(batch)  # (n, features)
        return features.cpu().numpy()


def _prepare(listener: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A folded copy; the front end stays fp32, the trunk gets `dtype`."""
    folded = fold_batch_norm(copy.deepcopy(listener)).to(device)
    folded.trunk = folded.trunk.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded.eval()


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every BatchNorm2d into the convolution before it, in place. Pairs: conv*/bn* attributes, and Sequential."""
    for child in module.modules():
        if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
            child[0] = _fuse(child[0], child[1])
            child[1] = nn.Identity()
            continue
        for name, norm in list(child.named_children()):
            if isinstance(norm, nn.BatchNorm2d) and name.startswith("bn"):
                conv = name.replace("bn", "conv")
                setattr(child, conv, _fuse(getattr(child, conv), norm))
                setattr(child, name, nn.Identity())
    return module


def _fuse(conv: nn.Module, norm: nn.Module) -> nn.Module:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


def choose(
    listener: nn.Module, n_samples: int, *, device: str, precision: str, threads: int
) -> EngineChoice:
    """Settle `auto`: CUDA where there is one; on a CPU the faster of fp32 and bf16, by a short measurement.

    Raises ValueError when CUDA is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda was asked for, and no CUDA device is available; use device=auto or cpu")
    if threads:
        torch.set_num_threads(threads)
    if device != "cpu" and torch.cuda.is_available():
        native = torch.cuda.get_device_capability() >= (8, 0)  # Ampere and later multiply bf16
        chosen: Precision = ("bf16" if native else "fp16") if precision == "auto" else precision  # type: ignore[assignment]
        return EngineChoice("cuda", chosen, batch_size=32)
    if precision != "auto":
        return EngineChoice("cpu", precision, batch_size=1)  # type: ignore[arg-type]
    return EngineChoice("cpu", _faster_on_cpu(listener, n_samples), batch_size=1)


def _faster_on_cpu(listener: nn.Module, n_samples: int) -> Precision:
    """Time a sixth of a window in both precisions, second runs only."""
    probe: FloatArray = np.zeros(n_samples // 6, np.float32)
    seconds: dict[Precision, float] = {}
    candidates: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in candidates:
        engine = Engine(listener, EngineChoice("cpu", precision, 1))
        engine.listen([probe])
        started = time.perf_counter()
        engine.listen([probe, probe])
        seconds[precision] = time.perf_counter() - started
    log.info("trunk on the CPU: fp32 %.0f ms, bf16 %.0f ms", seconds["fp32"] * 500, seconds["bf16"] * 500)
    return min(candidates, key=lambda precision: seconds[precision])
