"""Tiny releases with random weights, made on the spot: everything real but the size. A window costs milliseconds."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from app.domain import FloatArray
from app.families.contract import Target
from app.families.golden import Golden, GoldenCase, Tone, answer
from app.families.lrid_net.config import LridNetManifest
from app.families.lrid_net.model import LridNetModel, build_network
from app.families.lrid_net.network import LogMel, LridNet
from app.families.parts.profiles import langdetect_languages
from app.families.store import CARD, GOLDEN, MANIFEST, WEIGHTS

LABELS = (
    ("en", "eng", "English"),
    ("pt", "por", "Portuguese"),
    ("es", "spa", "Spanish"),
    ("ko", "kor", "Korean"),
    ("others", "mis", "Other languages"),
    ("fr", "fra", "French"),
    ("ja", "jpn", "Japanese"),
    ("de", "deu", "German"),
    ("pl", "pol", "Polish"),
    ("it", "ita", "Italian"),
    ("sv", "swe", "Swedish"),
)
CODES = tuple(code for code, _, _ in LABELS)
TINY: dict[str, Any] = {
    "base_channels": 4,
    "stage_blocks": [1, 1, 1, 1],
    "text_units": 16,
    "text_layers": 2,
    "identify_units": 16,
}
GOLDEN_CASES = (
    GoldenCase(audio=Tone(pitch_hz=220), artist="Someone", title="La vie en rose", probabilities=[]),
    GoldenCase(audio=Tone(pitch_hz=330), probabilities=[]),
    GoldenCase(title="사랑해", probabilities=[]),
)


def spread(*best: tuple[str, float]) -> FloatArray:
    """(n_classes,): the named probabilities; the rest is shared by all others."""
    n = len(CODES)
    probabilities = np.full(n, (1 - sum(p for _, p in best)) / (n - len(best)), np.float32)
    for code, probability in best:
        probabilities[CODES.index(code)] = probability
    return probabilities


def manifest_fields(sha256: str = "0" * 64, release: str = "1", **changes: Any) -> dict[str, Any]:
    """manifest.json of a tiny release, before it is checked."""
    return {
        "family": "lrid_net",
        "release": release,
        "created": "2024-01-01",
        "labels": [{"code": code, "iso639_3": iso, "name": name} for code, iso, name in LABELS],
        "sha256": sha256,
        "training": {"data": "none: random weights"},
        "metrics": {},
        "temperature": {},
        "thresholds": {},
        "listen": {},
        "read": {"languages": list(langdetect_languages())},
        "network": dict(TINY),
    } | changes


def tiny_manifest(**changes: Any) -> LridNetManifest:
    return LridNetManifest.model_validate(manifest_fields(**changes))


def random_weights(manifest: LridNetManifest, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights whose answers differ clearly between inputs, and whose BatchNorm is not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(manifest)
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                nn.init.normal_(module.weight, 1.0, 0.1)
                nn.init.normal_(module.bias, 0.0, 0.1)
                module.momentum = None  # statistics are the mean over what it sees
        last: Any = network.h[-1]
        nn.init.normal_(last.weight, 0.0, 3.0 / manifest.network.identify_units**0.5)
        _see_some_inputs(network, manifest)
    return {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}


def _see_some_inputs(network: LridNet, manifest: LridNetManifest) -> None:
    """Set BatchNorm's statistics from tones, noise and silence with random text."""
    rate, n = manifest.listen.sample_rate_hz, 5 * manifest.listen.sample_rate_hz
    tones = [torch.from_numpy(Tone(pitch_hz=hz).samples(n, rate)) for hz in (110, 220, 330, 470, 660, 990)]
    x_audio = LogMel(manifest.listen)(torch.stack([*tones, 0.1 * torch.randn(n), 0.01 * torch.randn(n)]))
    x_audio = torch.cat([x_audio, torch.zeros_like(x_audio[:4])])  # (12, 128, t)
    x_lang = torch.zeros(len(x_audio), manifest.read.n_features)
    x_lang[torch.arange(len(x_audio)), torch.randint(manifest.read.n_features, (len(x_audio),))] = 1.0
    network.train()
    with torch.no_grad():
        network(x_audio, x_lang)
    network.eval()


def tiny_model(seed: int = 0, **changes: Any) -> LridNetModel:
    """A loaded model without a folder."""
    manifest = tiny_manifest(**changes)
    return LridNetModel(manifest, random_weights(manifest, seed))


def listen_with(model: LridNetModel) -> Callable[[list[FloatArray]], FloatArray]:
    """The fp32 network as a `listen`."""
    assert model.audio is not None
    prepared = model.audio.listener.prepare(Target("cpu", "fp32"))

    def listen(windows: list[FloatArray]) -> FloatArray:
        with torch.inference_mode():
            return prepared(torch.from_numpy(np.stack(windows))).numpy()

    return listen


def golden_for(model: LridNetModel) -> Golden:
    listen = listen_with(model)
    return Golden(
        cases=[case.model_copy(update={"probabilities": answer(model, case, listen).tolist()}) for case in GOLDEN_CASES]
    )


def write_release(store: Path, *, release: str = "1", seed: int = 0, **changes: Any) -> Path:
    """A servable release in `store`; returns its folder. `changes` replace members of the manifest."""
    folder = store / "lrid_net" / release
    folder.mkdir(parents=True)
    weights = random_weights(tiny_manifest(release=release, **changes), seed)
    data = save(weights)
    manifest = tiny_manifest(sha256=hashlib.sha256(data).hexdigest(), release=release, **changes)
    (folder / WEIGHTS).write_bytes(data)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    (folder / GOLDEN).write_text(golden_for(LridNetModel(manifest, weights)).model_dump_json(indent=1))
    (folder / CARD).write_text("Random weights, for tests.\n")
    return folder


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change manifest.json by hand, as somebody who breaks it would."""
    fields = json.loads((folder / MANIFEST).read_text())
    change(fields)
    (folder / MANIFEST).write_text(json.dumps(fields))


def replace_weights(folder: Path, data: bytes) -> None:
    """Other weights, the manifest's hash made to fit."""
    (folder / WEIGHTS).write_bytes(data)
    edit_manifest(folder, lambda fields: fields.update(sha256=hashlib.sha256(data).hexdigest()))
