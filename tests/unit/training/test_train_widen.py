from __future__ import annotations

import torch

from app.families.lrid_net.config import NetworkConfig
from app.families.lrid_net.network import LridNet
from app.training.widen import largest_difference, widen


def test_a_widened_network_has_the_same_logits() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(base_channels=4, stage_blocks=[1, 2, 1, 1], text_units=8, identify_units=8)
    narrow = LridNet(config, n_text=56, n_classes=11)
    x_audio, x_lang = torch.randn(4, 128, 65) * 10 - 30, torch.rand(4, 56)
    narrow.train()(x_audio, x_lang)  # moves the BatchNorm statistics away from 0 and 1
    state, wider = widen(narrow.state_dict(), config, 3)
    wide = LridNet(wider, n_text=56, n_classes=11)
    wide.load_state_dict(state)
    assert wider.n_audio_features == 3 * config.n_audio_features
    assert wide.f.layer4[0].conv2.weight.shape[0] == 3 * narrow.f.layer4[0].conv2.weight.shape[0]
    assert largest_difference(narrow, wide, x_audio, x_lang) < 1e-4
    state["h.0.0.weight"][:, :12] += 1.0
    wide.load_state_dict(state)
    assert largest_difference(narrow, wide, x_audio, x_lang) > 1e-2  # the comparison can tell
