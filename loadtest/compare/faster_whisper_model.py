"""Whisper's checkpoint → the model directory that faster-whisper reads, for detecting languages.

    pip install faster-whisper safetensors              # in an environment of its own
    python -m loadtest.compare.faster_whisper_model CHECKPOINT OUT

CHECKPOINT is a multilingual `model.safetensors` with the official names, or a cut of it that holds what detecting a
language needs. The vocabulary's ordinary tokens are placeholders, so OUT detects languages and transcribes nothing. Weights
are stored in float16, as in the models that faster-whisper downloads; `compute_type` says what they become when loaded.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import whisper_spec
from safetensors.numpy import load_file
from tokenizers import AddedToken, Tokenizer, models

from app.domain import FloatArray

LANGUAGES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la "
    "mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be "
    "tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su"
)
FIRST_SPECIAL, FIRST_LANGUAGE, VOCABULARY = 50257, 50259, 51865
DECODER_POSITIONS, HEAD_STATE = 448, 64
_TOKENS = "model.decoder.embed_tokens.weight"
_CUT_TOKENS = f"{_TOKENS}.rows_{FIRST_SPECIAL}_to_50364"


class Checkpoint:
    """Tensors in fp32, copied into the layers of CTranslate2."""

    def __init__(self, path: Path) -> None:
        self._tensors: dict[str, FloatArray] = {name: array.astype(np.float32) for name, array in load_file(path).items()}

    def __getitem__(self, name: str) -> FloatArray:
        return self._tensors[name]

    def n_layers(self, side: str) -> int:
        """Of `encoder` or `decoder`."""
        prefix = f"model.{side}.layers."
        return len({name.removeprefix(prefix).split(".")[0] for name in self._tensors if name.startswith(prefix)})

    def token_rows(self) -> FloatArray:
        """(VOCABULARY, d), zeros where the cut holds none."""
        if _TOKENS in self._tensors:
            return self[_TOKENS]
        return _padded(self[_CUT_TOKENS], VOCABULARY, FIRST_SPECIAL)

    def fill(self, layer: Any, *names: str) -> None:
        """Weights and biases, those of several names one above the other; a bias that is missing is zero."""
        weights = [self[f"{name}.weight"] for name in names]
        zeros = [np.zeros(len(weight), np.float32) for weight in weights]
        layer.weight = np.concatenate(weights)
        layer.bias = np.concatenate(
            [self._tensors.get(f"{name}.bias", zero) for name, zero in zip(names, zeros, strict=True)]
        )

    def fill_norm(self, layer: Any, name: str) -> None:
        layer.gamma, layer.beta = self[f"{name}.weight"], self[f"{name}.bias"]


def convert(path: Path, out: Path) -> None:
    """Write the model directory."""
    checkpoint = Checkpoint(path)
    spec, tokens = specification(checkpoint), vocabulary()
    spec.register_vocabulary(tokens)
    spec.config.lang_ids = list(range(FIRST_LANGUAGE, FIRST_LANGUAGE + len(LANGUAGES.split())))
    spec.config.suppress_ids, spec.config.suppress_ids_begin, spec.config.alignment_heads = [], [], [[0, 0]]
    spec.validate()
    spec.optimize(quantization="float16")
    out.mkdir(parents=True, exist_ok=True)
    spec.save(str(out))
    (out / "vocabulary.json").write_text(json.dumps(tokens))
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens[FIRST_SPECIAL:]])
    tokenizer.save(str(out / "tokenizer.json"))


def specification(checkpoint: Checkpoint) -> Any:
    """The network as CTranslate2 describes it."""
    d = len(checkpoint["model.encoder.conv1.weight"])
    heads = d // HEAD_STATE
    spec = whisper_spec.WhisperSpec(checkpoint.n_layers("encoder"), heads, checkpoint.n_layers("decoder"), heads)
    for name in ("conv1", "conv2"):
        checkpoint.fill(getattr(spec.encoder, name), f"model.encoder.{name}")
    spec.encoder.position_encodings.encodings = checkpoint["model.encoder.embed_positions.weight"]
    positions = checkpoint["model.decoder.embed_positions.weight"]  # the cut holds the first ones only
    spec.decoder.position_encodings.encodings = _padded(positions, DECODER_POSITIONS)
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = checkpoint.token_rows()
    for side in ("encoder", "decoder"):
        checkpoint.fill_norm(getattr(spec, side).layer_norm, f"model.{side}.layer_norm")
        for number, layer in enumerate(getattr(spec, side).layer):
            _fill_layer(checkpoint, layer, f"model.{side}.layers.{number}")
    return spec


def _fill_layer(checkpoint: Checkpoint, layer: Any, name: str) -> None:
    own, ffn = layer.self_attention, layer.ffn
    checkpoint.fill_norm(own.layer_norm, f"{name}.self_attn_layer_norm")
    checkpoint.fill(own.linear[0], *_projections(name, "self_attn", "qkv"))
    checkpoint.fill(own.linear[1], f"{name}.self_attn.out_proj")
    checkpoint.fill_norm(ffn.layer_norm, f"{name}.final_layer_norm")
    checkpoint.fill(ffn.linear_0, f"{name}.fc1")
    checkpoint.fill(ffn.linear_1, f"{name}.fc2")
    if cross := getattr(layer, "attention", None):  # of the decoder to the encoder
        checkpoint.fill_norm(cross.layer_norm, f"{name}.encoder_attn_layer_norm")
        checkpoint.fill(cross.linear[0], f"{name}.encoder_attn.q_proj")
        checkpoint.fill(cross.linear[1], *_projections(name, "encoder_attn", "kv"))
        checkpoint.fill(cross.linear[2], f"{name}.encoder_attn.out_proj")


def vocabulary() -> list[str]:
    """All tokens in order. CTranslate2 takes a model for multilingual if "" is one of them, as it is in Whisper's."""
    languages = [f"<|{code}|>" for code in LANGUAGES.split()]
    tasks = [f"<|{name}|>" for name in ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")]
    tokens = [f"t{number}" for number in range(FIRST_SPECIAL - 1)] + [""]
    tokens += ["<|endoftext|>", "<|startoftranscript|>", *languages, *tasks]
    return tokens + [f"<|{0.02 * number:.2f}|>" for number in range(VOCABULARY - len(tokens))]


def _projections(name: str, attention: str, letters: Iterable[str]) -> list[str]:
    return [f"{name}.{attention}.{letter}_proj" for letter in letters]


def _padded(rows: FloatArray, n_rows: int, first: int = 0) -> FloatArray:
    """(n, d) → (n_rows, d) with the rows at `first`, zeros around them."""
    return np.pad(rows, ((first, n_rows - first - len(rows)), (0, 0)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    convert(options.checkpoint, options.out)
