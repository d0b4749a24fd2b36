"""Ears in a release: the encoder's products in 8 bits by row, everything else in halves. 61 MB for Whisper base.

The encoder's rows are rounded as int8 rounds them for computing, and rounding twice is rounding once: int8 loses nothing by
it. The decoder stays in halves: its one token is read out in floats.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from app.errors import ReleaseError
from app.families.parts.configs import WhisperConfig
from app.families.parts.quantised import row_scale
from app.families.parts.weights import load_weights
from app.families.parts.whisper import Ears, Whisper

PREFIX = "ears."
SCALE = ".scale"
RANGES = "ranges."
_LEAST_ROW = 256  # weights of a row; shorter ones (the first convolution's) stay in halves


def stored_ears(ears: Ears) -> dict[str, Tensor]:
    """The tensors of `weights.safetensors` that are the ears, by names that begin with `ears.`."""
    stored: dict[str, Tensor] = {}
    for name, tensor in ears.state_dict().items():
        if name.startswith("whisper.encoder.") and name.endswith(".weight") and tensor[0].numel() >= _LEAST_ROW:
            scale = row_scale(tensor)  # (out,)
            stored[PREFIX + name] = (tensor.flatten(1) / scale[:, None]).round().to(torch.int8).view(tensor.shape)
            stored[PREFIX + name + SCALE] = scale
        else:
            stored[PREFIX + name] = tensor.half()
    for name, ends in (ears.ranges or {}).items():
        stored[PREFIX + RANGES + name] = torch.tensor(ends)  # (2,) least and largest input
    return stored


def ears_from_stored(config: WhisperConfig, weights: Mapping[str, Tensor]) -> Ears:
    """The ears in fp32, of the tensors that begin with `ears.`. Raises ReleaseError naming the one that is wrong."""
    own = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items() if name.startswith(PREFIX)}
    state = {name: _floats(name, tensor, own.get(name + SCALE)) for name, tensor in own.items() if not name.endswith(SCALE)}
    ranges = {name.removeprefix(RANGES): _ends(name, state.pop(name)) for name in list(state) if name.startswith(RANGES)}
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        whisper = Whisper(config)
        no_speech = torch.empty(config.n_state)
    ears = Ears(config, whisper, no_speech, ranges or None)
    load_weights(ears, state, PREFIX)
    return ears.requires_grad_(False).eval()


def _floats(name: str, tensor: Tensor, scale: Tensor | None) -> Tensor:
    """As stored → fp32."""
    whole = tensor.float()
    if scale is not None:
        if scale.shape != tensor.shape[:1]:
            raise ReleaseError(f"weights.safetensors: tensor '{PREFIX}{name}{SCALE}' should have a number for each row")
        whole = whole * scale.float().view(-1, *[1] * (tensor.dim() - 1))
    elif tensor.dtype == torch.int8:
        raise ReleaseError(f"weights.safetensors: tensor '{PREFIX}{name}{SCALE}' is missing")
    return whole


def _ends(name: str, tensor: Tensor) -> tuple[float, float]:
    if tensor.shape != (2,) or not tensor[0] < tensor[1]:
        raise ReleaseError(f"weights.safetensors: tensor '{PREFIX}{name}' should be the least and the largest input")
    return float(tensor[0]), float(tensor[1])
