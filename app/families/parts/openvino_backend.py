"""Any torch module as OpenVINO runs it on a CPU. Same weights, same answers within the precision.

OpenVINO's own converter reads the module by `torch.export`, in a process of its own: torch 2.11 crashes when a second thread
of a process exports, and what an export loads and leaves behind is over 100 MB. It takes seconds, once per precision and
user: the result is kept in the user's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from app.errors import ReleaseError

if TYPE_CHECKING:
    from app.families.contract import Precision

_ROOT = Path(__file__).resolve().parents[3]  # where `app` is importable from
_KEPT = 4  # conversions in the cache, some 80 MB each
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def _item_by_item(compiled: Any) -> Callable[[Tensor], Tensor]:
    """(n, …) float32 → (n, …) float32: an answer does not depend on its neighbours. Each thread has a request of its own."""
    own = threading.local()

    def run(x: Tensor) -> Tensor:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        items = [own.request.infer({0: item.contiguous().numpy()})[0].copy() for item in torch.split(x, 1)]
        return torch.from_numpy(np.concatenate(items))

    return run


class Convertible:
    """A module written down for OpenVINO, in fp32 or with rounded layers, and compiled for as many targets as are wanted."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        """`shape` is that of one item, (1, …). Raises ReleaseError if it cannot be converted."""
        self._openvino = import_openvino()
        kept = kept_conversion(module, shape, self._openvino.__version__)
        if kept.with_suffix(".bin").exists():
            self._model = self._openvino.Core().read_model(kept)
            return
        with tempfile.TemporaryDirectory(prefix="lrid-convert-") as folder:
            target = _converted(module.eval(), shape, Path(folder))
            self._model = self._openvino.Core().read_model(target)
            _keep(target, kept)

    def compile(self, precision: Precision, threads: int) -> Callable[[Tensor], Tensor]:
        """For items on so many threads, side by side as torch's threads suffice. int8: the rest in bf16 if that is fast."""
        core = self._openvino.Core()
        around_int8 = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        streams = max(1, torch.get_num_threads() // threads)
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS.get(precision, around_int8),
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads,
            "ENABLE_CPU_PINNING": False,  # decoders want to run on the same cores
        }
        return _item_by_item(core.compile_model(self._model, "CPU", settings))


def _converted(module: nn.Module, shape: tuple[int, ...], folder: Path) -> Path:
    """The module in OpenVINO's own format, in `folder`, by a process of its own."""
    source, target = folder / "module.pt", folder / "module.xml"
    torch.save(module, source)
    program, sizes = "app.families.parts.openvino_convert", ",".join(map(str, shape))
    command = [sys.executable, "-m", program, str(source), str(target), sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT)
    if done.returncode:
        raise ReleaseError(f"OpenVINO could not convert the network: {done.stderr.strip()[-300:]}; use LRID_ENGINE=torch")
    return target


def kept_conversion(module: nn.Module, shape: tuple[int, ...], version: str) -> Path:
    """Where the conversion is kept between starts: in the user's cache, by weights, code and versions."""
    found = hashlib.sha256(f"{module} {shape} {version} {torch.__version__}".encode())
    for source in sorted({inspect.getfile(type(part)) for part in module.modules()}):
        found.update(Path(source).read_bytes())
    for part in module.modules():  # numbers that are no tensors, such as the ranges of rounded layers
        plain = sorted((name, value) for name, value in vars(part).items() if isinstance(value, int | float | str | tuple))
        found.update(str(plain).encode())
    for name, tensor in module.state_dict().items():
        found.update(f"{name} {tensor.dtype}".encode() + tensor.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lrid-serve" / f"{found.hexdigest()[:32]}.xml"


def _keep(target: Path, kept: Path) -> None:
    """The XML first: one without its weights counts as missing. Where nothing can be written, the next start converts."""
    if kept.is_relative_to(tempfile.gettempdir()):
        return  # a container's home: gone at the next start, and memory until then
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".xml", ".bin"):
            part = kept.with_name(f".{kept.stem}-{os.getpid()}{suffix}")
            shutil.copyfile(target.with_suffix(suffix), part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(kept.with_suffix(suffix))
        others = sorted(kept.parent.glob("*.bin"), key=lambda path: path.stat().st_mtime)
        for old in others[:-_KEPT]:
            old.unlink(missing_ok=True)
            old.with_suffix(".xml").unlink(missing_ok=True)


def import_openvino() -> Any:
    """OpenVINO, without the package by which it reports its use to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")
