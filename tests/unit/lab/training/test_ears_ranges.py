"""Ranges of the ears' inputs: of every layer of the encoder but the first, and of none with far outliers."""

import pytest
import torch

from app.lab.training.voice_parts import measure_ranges
from tests.ears import RANGES, noise, small_ears


def test_every_layer_of_the_encoder_but_the_first_has_a_range() -> None:
    ears, windows = small_ears(), noise(3)
    ranges = measure_ranges(ears, windows)
    assert ranges.keys() == RANGES.keys() | {"encoder.conv2"}
    assert all(low < 0 < high for low, high in ranges.values())
    assert not any(layer._forward_pre_hooks for layer in ears.modules()), "no hook is left"


def test_a_range_is_the_mean_of_the_windows_ends() -> None:
    ears, windows = small_ears(), noise(2)
    name = "encoder.layers.1.mlp.fc2"
    one, other, both = (measure_ranges(ears, some)[name] for some in (windows[:1], windows[1:], windows))
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(one, other, strict=True)])


def test_a_layer_with_far_outliers_is_left_out() -> None:
    """One value at one position, as Whisper has them."""
    ears = small_ears()
    fc1 = ears.whisper.get_submodule("encoder.layers.0.mlp.fc1")
    assert isinstance(fc1, torch.nn.Linear)
    with torch.no_grad():
        ears.whisper.encoder.positions[7, 3] = 1e3  # normalised: the square root of 256
        fc1.weight[5] = 0.0
        fc1.weight[5, 3] = 1e3
        fc1.bias[5] = -8e3
    ranges = measure_ranges(ears, noise(1))
    assert "encoder.layers.0.mlp.fc2" not in ranges
    assert "encoder.layers.0.mlp.fc1" in ranges
