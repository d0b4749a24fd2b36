"""Measures what the ears need to run in 8 bits: the range of each encoder layer's inputs on training windows.

An input's range is the mean, over the windows, of their least and largest values; what lies beyond is clipped. A layer whose
inputs have far outliers would round everything else to nothing: it is left out and runs in floats. In Whisper base these are
the last layers' second products.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

import torch
from torch import Tensor

from app.families.parts.quantised import LAYERS, Ranges
from app.families.parts.whisper import Ears

WIDEST = 60.0  # a range, in root mean squares of what it holds; Whisper base has up to 37, and from 123
FIRST = "encoder.conv1"  # sees the spectrogram: a hundredth of the work, and its rounding would be in all that follows


@torch.inference_mode()
def measure_ranges(ears: Ears, windows: Iterable[Tensor]) -> Ranges:
    """Finds the least and largest input by layer. `windows`: (window_samples,) float32 of training recordings."""
    seen: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)

    def look(name: str, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        seen[name].append((low.item(), high.item(), x.square().mean().item()))

    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0]))
        for name, layer in ears.whisper.named_modules()
        if name.startswith("encoder.") and name != FIRST and isinstance(layer, LAYERS)
    ]
    try:
        for window in windows:
            ears(window[None])
    finally:
        for hook in hooks:
            hook.remove()
    means = {name: tuple(map(fmean, zip(*inputs, strict=True))) for name, inputs in seen.items()}
    return {name: (low, high) for name, (low, high, square) in means.items() if high - low <= WIDEST * math.sqrt(square)}
