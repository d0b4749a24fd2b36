from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from app.families.lrid_net.config import NetworkConfig
from app.families.lrid_net.network import LridNet
from app.lab.training import checkpoint
from app.lab.training.config import TrainConfig
from app.lab.training.errors import TrainingError
from app.lab.training.grow import grow_checkpoint, widen
from app.lab.training.train import train


def difference(a: LridNet, b: LridNet, x_audio: torch.Tensor, x_lang: torch.Tensor) -> float:
    with torch.no_grad():
        return (a.eval()(x_audio, x_lang) - b.eval()(x_audio, x_lang)).abs().max().item()


def test_a_grown_network_has_the_same_logits() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(base_channels=4, stage_blocks=[1, 2, 1, 1], text_units=8, identify_units=8)
    small = LridNet(config, n_text=56, n_classes=11)
    x_audio, x_lang = torch.randn(4, 128, 65) * 10 - 30, torch.rand(4, 56)
    small.train()(x_audio, x_lang)  # moves the BatchNorm statistics away from 0 and 1
    large = LridNet(config.model_copy(update={"base_channels": 12}), n_text=56, n_classes=11)
    large.load_state_dict(widen(small.state_dict(), config, 3))
    assert difference(small, large, x_audio, x_lang) < 1e-4
    with torch.no_grad():
        large.f.layer1[0].bn3.weight += 1.0
    assert difference(small, large, x_audio, x_lang) > 1e-3  # the comparison can tell


def test_a_grown_checkpoint_trains_on_and_its_copies_part(config: TrainConfig) -> None:
    first = train(replace(config, epochs=1))
    grown = grow_checkpoint(first, config.output / "grown.pt", base_channels=8, noise=0.1)
    wide = config.network.model_copy(update={"base_channels": 8})
    second = replace(config, epochs=1, network=wide, init_from=grown, output=config.output / "second")
    state = checkpoint.load(train(second))
    weight = state["network"]["f.layer1.0.conv2.weight"]  # copies stand side by side
    assert (weight[0::2] - weight[1::2]).abs().max() > 1e-3
    assert json.loads(state["history"][0])["network"]["base_channels"] == 4
    assert state["history"][1:] == ["grown 2 times as wide, noise 0.1, seed 0"]


def test_only_multiples_can_be_grown(config: TrainConfig) -> None:
    first = train(replace(config, epochs=1))
    with pytest.raises(TrainingError, match="6 base channels are not a multiple of the checkpoint's 4"):
        grow_checkpoint(first, config.output / "grown.pt", base_channels=6)
