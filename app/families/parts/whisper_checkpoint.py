"""OpenAI's Whisper as Hugging Face stores it (`model.safetensors`) → ears. Names are those of the official checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from app.errors import ReleaseError
from app.families.parts.whisper import Ears, Whisper
from app.families.parts.whisper_config import WhisperConfig

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


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a release takes from Whisper."""

    ears: Ears  # fp32, in evaluation mode
    language_rows: Tensor  # (99, d) float32; hidden @ language_rows.T are the logits, in the order of LANGUAGES


def ears_from_checkpoint(path: Path, n_positions: int = 500) -> Checkpoint:
    """Read a multilingual Whisper; sizes come from its tensors. `n_positions` of 20 ms are a window.

    Raises ReleaseError for a file that cannot be read, and for a missing or wrong tensor, by its name.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = _Tensors(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ReleaseError(f"checkpoint {path}: not a safetensors file that can be read: {error}") from error
    d, n_mels, _ = tensors.shape("model.encoder.conv1.weight", 3)
    config = WhisperConfig(
        n_mels=n_mels, n_positions=n_positions, n_state=d, n_head=max(1, d // HEAD_STATE), n_layer=tensors.n_layer()
    )
    tokens = tensors.special_tokens(d)  # from row 50257 on
    with torch.device("meta"):  # no random numbers for weights that are replaced at once
        whisper = Whisper(config)
    whisper = whisper.to_empty(device="cpu")
    with torch.no_grad():
        _fill_encoder(whisper.encoder, tensors, config)
        _fill_decoder(whisper.decoder, tensors, tokens[START_OF_TRANSCRIPT - _FIRST_ROW])
    first = FIRST_LANGUAGE - _FIRST_ROW
    ears = Ears(config, whisper, tokens[NO_SPEECH - _FIRST_ROW].clone())
    return Checkpoint(ears.eval(), tokens[first : first + len(LANGUAGES)].clone())


class _Tensors:
    """A checkpoint's tensors in fp32; a missing, misshapen or broken one is refused by name."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors

    def get(self, name: str, *shape: int) -> Tensor:
        self.shape(name, len(shape))
        return self._checked(name, shape)

    def first_rows(self, name: str, rows: int, columns: int) -> Tensor:
        """The first rows of a table that may have more."""
        found, _ = self.shape(name, 2)
        return self._checked(name, (max(found, rows), columns))[:rows]

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        if name not in self._tensors:
            raise ReleaseError(f"checkpoint: tensor '{name}' is missing; expected a multilingual Whisper of Hugging Face")
        shape = tuple(self._tensors[name].shape)
        if len(shape) != dimensions:
            raise ReleaseError(f"checkpoint: tensor '{name}' should have {dimensions} dimensions and is {shape}")
        return shape

    def n_layer(self) -> int:
        """Layers of the encoder."""
        prefix = "model.encoder.layers."
        numbers = {name.removeprefix(prefix).split(".")[0] for name in self._tensors if name.startswith(prefix)}
        return max(1, len(numbers))

    def special_tokens(self, d: int) -> Tensor:
        """(108, d): the rows from 50257 on, from the whole table or the part of it."""
        if _CUT_TOKENS in self._tensors:
            return self.get(_CUT_TOKENS, _LAST_ROW - _FIRST_ROW + 1, d)
        return self.get(_TOKENS, VOCABULARY, d)[_FIRST_ROW : _LAST_ROW + 1]

    def _checked(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._tensors[name]
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise ReleaseError(f"checkpoint: tensor '{name}' should be {shape} and is {tuple(tensor.shape)} {tensor.dtype}")
        if not torch.isfinite(tensor).all():
            raise ReleaseError(f"checkpoint: tensor '{name}' holds NaN or infinite values")
        return tensor.float()


def _fill(module: nn.Module, tensors: _Tensors, name: str) -> None:
    """Weight, and bias where the module has one, of the same shapes."""
    for own, parameter in module.named_parameters(recurse=False):
        parameter.copy_(tensors.get(f"{name}.{own}", *parameter.shape))


def _fill_mlp(layer: nn.Module, tensors: _Tensors, name: str) -> None:
    _fill(layer.get_submodule("mlp.fc1"), tensors, f"{name}.fc1")
    _fill(layer.get_submodule("mlp.fc2"), tensors, f"{name}.fc2")
    _fill(layer.get_submodule("mlp_ln"), tensors, f"{name}.final_layer_norm")


def _fill_encoder(encoder: nn.Module, tensors: _Tensors, c: WhisperConfig) -> None:
    for name in ("conv1", "conv2"):
        _fill(encoder.get_submodule(name), tensors, f"model.encoder.{name}")
    _fill(encoder.get_submodule("ln"), tensors, "model.encoder.layer_norm")
    positions = tensors.first_rows("model.encoder.embed_positions.weight", c.n_positions, c.n_state)
    encoder.get_parameter("positions").copy_(positions)
    for i, layer in enumerate(encoder.get_submodule("layers").children()):
        name = f"model.encoder.layers.{i}"
        _fill(layer.get_submodule("attn_ln"), tensors, f"{name}.self_attn_layer_norm")
        _fill(layer.get_submodule("attn.out"), tensors, f"{name}.self_attn.out_proj")
        weights = [tensors.get(f"{name}.self_attn.{p}_proj.weight", c.n_state, c.n_state) for p in "qkv"]
        biases = [tensors.get(f"{name}.self_attn.{p}_proj.bias", c.n_state) for p in "qv"]
        layer.get_parameter("attn.qkv.weight").copy_(torch.cat(weights))
        layer.get_parameter("attn.qkv.bias").copy_(torch.cat([biases[0], torch.zeros(c.n_state), biases[1]]))
        _fill_mlp(layer, tensors, name)


def _fill_decoder(decoder: nn.Module, tensors: _Tensors, token: Tensor) -> None:
    d = len(token)
    start = token + tensors.first_rows("model.decoder.embed_positions.weight", 1, d)[0]  # (d,)
    _fill(decoder.get_submodule("ln"), tensors, "model.decoder.layer_norm")
    for i, layer in enumerate(decoder.get_submodule("layers").children()):
        name = f"model.decoder.layers.{i}"
        attn_ln, attn = _attention_to_itself(tensors, name, d)
        if i == 0:
            start = start + attn(attn_ln(start))
        else:
            layer.get_submodule("attn_ln").load_state_dict(attn_ln.state_dict())
            layer.get_submodule("attn").load_state_dict(attn.state_dict())
        _fill(layer.get_submodule("cross_attn_ln"), tensors, f"{name}.encoder_attn_layer_norm")
        for own, stored in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "out_proj")):
            _fill(layer.get_submodule(f"cross_attn.{own}"), tensors, f"{name}.encoder_attn.{stored}")
        _fill_mlp(layer, tensors, name)
    decoder.get_parameter("start").copy_(start)


def _attention_to_itself(tensors: _Tensors, name: str, d: int) -> tuple[nn.LayerNorm, nn.Linear]:
    """One token's: out(value(x)) as one linear layer, multiplied in float64."""
    attn_ln, attn = nn.LayerNorm(d), nn.Linear(d, d)
    _fill(attn_ln, tensors, f"{name}.self_attn_layer_norm")
    value, out = (tensors.get(f"{name}.self_attn.{p}_proj.weight", d, d).double() for p in ("v", "out"))
    value_bias, out_bias = (tensors.get(f"{name}.self_attn.{p}_proj.bias", d).double() for p in ("v", "out"))
    attn.weight.copy_(out @ value)
    attn.bias.copy_(out @ value_bias + out_bias)
    return attn_ln, attn
