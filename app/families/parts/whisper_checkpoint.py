"""OpenAI's Whisper as Hugging Face stores it (`model.safetensors`) → ears. Names are those of the official checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from app.errors import ReleaseError
from app.families.parts.configs import WhisperConfig
from app.families.parts.whisper import Ears, Whisper

# The language tokens in order; token FIRST_LANGUAGE + i is LANGUAGES[i] (openai/whisper, `tokenizer.py`).
LANGUAGES = tuple(
    """
    en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi
    ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd
    gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su
    """.split()  # noqa: SIM905 - a list of 99 lines says no more
)
START_OF_TRANSCRIPT, FIRST_LANGUAGE, NO_SPEECH = 50258, 50259, 50362
VOCABULARY = 51865  # tokens of the multilingual models before large-v3
HEAD_STATE = 64  # width of a head in every Whisper

_TOKENS = "model.decoder.embed_tokens.weight"
_FIRST_ROW, _LAST_ROW = 50257, 50364
_CUT_TOKENS = f"{_TOKENS}.rows_{_FIRST_ROW}_to_{_LAST_ROW}"

# This network's names → the checkpoint's, after `model.`
_OFFICIAL = {
    ".attn_ln.": ".self_attn_layer_norm.",
    ".attn.out.": ".self_attn.out_proj.",
    ".cross_attn_ln.": ".encoder_attn_layer_norm.",
    ".cross_attn.query.": ".encoder_attn.q_proj.",
    ".cross_attn.key.": ".encoder_attn.k_proj.",
    ".cross_attn.value.": ".encoder_attn.v_proj.",
    ".cross_attn.out.": ".encoder_attn.out_proj.",
    ".mlp_ln.": ".final_layer_norm.",
    ".mlp.": ".",
    ".ln.": ".layer_norm.",
}


@dataclass(frozen=True, slots=True)
class FirstEars:
    """Ears in fp32 and evaluation mode, and the languages that they tell apart."""

    ears: Ears
    rows: Tensor  # (n_languages, d) float32; hidden @ rows.T are their logits
    languages: Sequence[str] = LANGUAGES  # Whisper's own codes


def ears_from_checkpoint(path: Path, n_positions: int = 500) -> FirstEars:
    """Reads a multilingual Whisper, for windows of `n_positions` of 20 ms. Raises ReleaseError naming the wrong tensor."""
    try:
        tensors = _Tensors(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ReleaseError(f"checkpoint {path}: not a safetensors file that can be read: {error}") from error
    d, n_mels, _ = tensors.get("model.encoder.conv1.weight", None, None, 3).shape
    prefix = "model.encoder.layers."
    n_layer = len({name.removeprefix(prefix).split(".")[0] for name in tensors.by_name if name.startswith(prefix)})
    config = WhisperConfig(
        n_mels=n_mels, n_positions=n_positions, n_state=d, n_head=max(1, d // HEAD_STATE), n_layer=max(1, n_layer)
    )
    if _CUT_TOKENS in tensors.by_name:  # (108, d): the rows from 50257 on
        tokens = tensors.get(_CUT_TOKENS, _LAST_ROW - _FIRST_ROW + 1, d)
    else:
        tokens = tensors.get(_TOKENS, VOCABULARY, d)[_FIRST_ROW : _LAST_ROW + 1]
    with torch.device("meta"):  # no random numbers for weights that are replaced at once
        whisper = Whisper(config)
    state = {
        name: tensors.get(_official(name), *own.shape) for name, own in whisper.state_dict().items() if _as_stored(name)
    }
    state |= _encoder_inputs(tensors, config) | _decoder_inputs(tensors, config, tokens[START_OF_TRANSCRIPT - _FIRST_ROW])
    whisper.load_state_dict(state, assign=True)
    first = FIRST_LANGUAGE - _FIRST_ROW
    ears = Ears(config, whisper, tokens[NO_SPEECH - _FIRST_ROW].clone())
    return FirstEars(ears.eval(), tokens[first : first + len(LANGUAGES)].clone())


class _Tensors:
    """A checkpoint's tensors in fp32; a missing, misshapen or broken one is refused by name."""

    def __init__(self, by_name: dict[str, Tensor]) -> None:
        self.by_name = by_name

    def get(self, name: str, *shape: int | None) -> Tensor:
        """Sizes of None are any."""
        tensor = self.by_name.get(name)
        if tensor is None:
            raise ReleaseError(f"checkpoint: tensor '{name}' is missing; expected a multilingual Whisper of Hugging Face")
        found = tuple(tensor.shape)
        fits = len(found) == len(shape) and all(size in (None, has) for size, has in zip(shape, found, strict=True))
        if not fits or not tensor.is_floating_point():
            raise ReleaseError(f"checkpoint: tensor '{name}' should be {shape} and is {found} {tensor.dtype}")
        if not torch.isfinite(tensor).all():
            raise ReleaseError(f"checkpoint: tensor '{name}' holds NaN or infinite values")
        return tensor.float()

    def first_rows(self, name: str, rows: int, columns: int) -> Tensor:
        """The first rows of a table that may have more."""
        found = self.get(name, None, columns)
        return found[:rows] if len(found) >= rows else self.get(name, rows, columns)


def _official(name: str) -> str:
    for own, theirs in _OFFICIAL.items():
        name = name.replace(own, theirs)
    return f"model.{name}"


def _as_stored(name: str) -> bool:
    """Whether a checkpoint has the tensor as this network does; the others are made below."""
    joined = ".qkv." in name or (name.startswith("decoder.") and ".attn." in name)
    return not joined and name not in ("encoder.positions", "decoder.start")


def _encoder_inputs(tensors: _Tensors, c: WhisperConfig) -> dict[str, Tensor]:
    """The first positions, and each layer's query, key and value as one product; keys have no bias."""
    made = {"encoder.positions": tensors.first_rows("model.encoder.embed_positions.weight", c.n_positions, c.n_state)}
    for i in range(c.n_layer):
        name = f"model.encoder.layers.{i}.self_attn"
        weights = [tensors.get(f"{name}.{p}_proj.weight", c.n_state, c.n_state) for p in "qkv"]
        query, value = (tensors.get(f"{name}.{p}_proj.bias", c.n_state) for p in "qv")
        made[f"encoder.layers.{i}.attn.qkv.weight"] = torch.cat(weights)
        made[f"encoder.layers.{i}.attn.qkv.bias"] = torch.cat([query, torch.zeros(c.n_state), value])
    return made


def _decoder_inputs(tensors: _Tensors, c: WhisperConfig, token: Tensor) -> dict[str, Tensor]:
    """One token's attention to itself, out(value(x)), as one layer, multiplied in float64; the first is in `start`."""
    d = c.n_state
    made: dict[str, Tensor] = {}
    start = token + tensors.first_rows("model.decoder.embed_positions.weight", 1, d)[0]  # (d,)
    for i in range(c.n_layer):
        name = f"model.decoder.layers.{i}.self_attn"
        value, out = (tensors.get(f"{name}.{p}_proj.weight", d, d).double() for p in ("v", "out"))
        value_bias, out_bias = (tensors.get(f"{name}.{p}_proj.bias", d).double() for p in ("v", "out"))
        weight, bias = (out @ value).float(), (out @ value_bias + out_bias).float()
        if i == 0:
            norm, norm_bias = (tensors.get(f"{name}_layer_norm.{p}", d) for p in ("weight", "bias"))
            start = start + linear(layer_norm(start, (d,), norm, norm_bias), weight, bias)
        else:
            made |= {f"decoder.layers.{i}.attn.weight": weight, f"decoder.layers.{i}.attn.bias": bias}
    return made | {"decoder.start": start}
