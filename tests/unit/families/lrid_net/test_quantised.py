"""The trunk in 8 bits, computed in floats; and what a manifest may say about it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from app.errors import ReleaseError
from app.families.contract import Int8
from app.families.lrid_net.quantised import QuantisedConv, measured_ranges, quantised
from app.serving.engine import fold_batch_norm
from tests.releases import tiny_manifest, tiny_model

BLOCK: dict[str, Any] = {
    "ranges": {"layer1.0.conv1": (0.0, 2.5)},
    "calibration": "64 windows",
    "compared_on": "200 windows",
    "agreement": {"audio_only": {"windows": 200, "top1": 0.995, "mean_abs_dp": 0.004}},
}


def pointwise(weights: list[float]) -> nn.Conv2d:
    conv = nn.Conv2d(1, len(weights), 1, bias=False)
    conv.weight.data = torch.tensor(weights).view(-1, 1, 1, 1)
    return conv


def test_inputs_are_rounded_to_256_steps_between_their_bounds() -> None:
    conv = QuantisedConv(pointwise([1.0]), 0.0, 255.0)
    x = torch.tensor([-3.0, 0.4, 0.6, 17.2, 254.9, 300.0]).view(1, 1, 1, -1)
    assert conv(x).flatten().tolist() == pytest.approx([0, 0, 1, 17, 255, 255])


def test_zero_stays_zero_when_inputs_can_be_negative() -> None:
    conv = QuantisedConv(pointwise([1.0]), -1.0, 1.7)
    assert conv(torch.zeros(1, 1, 1, 1)).item() == 0.0
    assert conv(torch.full((1, 1, 1, 1), -1.0)).item() == pytest.approx(-1.0, abs=2.7 / 255)


def test_weights_are_rounded_by_channel() -> None:
    small, large = 0.01, 100.0
    conv = QuantisedConv(pointwise([small, large]), 0.0, 255.0)
    assert conv(torch.ones(1, 1, 1, 1)).flatten().tolist() == pytest.approx([small, large])


def test_weights_as_integers_are_those_that_are_computed_with() -> None:
    conv = QuantisedConv(pointwise([1.0, 0.3, -2.0]), 0.0, 255.0)
    assert conv.weight_steps().flatten().tolist() == [127, 127, -127], "each its channel's largest"
    one_channel = nn.Conv2d(3, 1, 1, bias=False)
    one_channel.weight.data = torch.tensor([-1.27, 0.5, 0.004]).view(1, 3, 1, 1)
    assert QuantisedConv(one_channel, 0.0, 255.0).weight_steps().flatten().tolist() == [-127, 50, 0]
    assert QuantisedConv(one_channel, 0.0, 255.0).weight_steps().dtype == torch.int8


def test_a_trunk_in_8_bits_is_near_the_one_in_floats_and_not_the_same() -> None:
    trunk = fold_batch_norm(copy.deepcopy(tiny_model().network.f)).eval()
    x = torch.randn(2, 1, 128, 64, generator=torch.Generator().manual_seed(3)) * 20 - 30
    with torch.inference_mode():
        with measured_ranges(trunk) as ranges:
            exact = trunk(x)
        rounded = quantised(trunk, ranges)(x)
        first_only = quantised(trunk, {"conv1": ranges["conv1"]})(x)
        assert torch.equal(trunk(x), exact), "it is not changed, and no hook is left"
    assert len(ranges) == 25, "the first convolution, in four blocks three and one in the shortcut, and two summands each"
    assert ranges["conv1"] == (pytest.approx(x.min().item()), pytest.approx(x.max().item()))
    apart = (rounded - exact).norm() / exact.norm()
    assert 0 < apart < 0.05
    assert 0 < (first_only - exact).norm() / exact.norm() < apart


def test_ranges_are_over_all_passes() -> None:
    conv = pointwise([1.0])
    network = nn.Sequential(conv)
    with measured_ranges(network) as ranges:
        for value in (2.0, -5.0, 1.0):
            network(torch.full((1, 1, 1, 1), value))
    assert ranges == {"0": (-5.0, 2.0)}


def test_ranges_of_another_network_are_refused() -> None:
    with pytest.raises(ReleaseError, match=r"no layer 'layer9\.0\.conv1'"):
        quantised(tiny_model().network.f, {"layer9.0.conv1": (0.0, 1.0)})


def test_a_release_without_ranges_says_what_to_do() -> None:
    with pytest.raises(ReleaseError, match="lrid releases quantise"):
        tiny_model().listener.by_openvino("int8", 1)


def test_a_manifest_can_have_a_block() -> None:
    assert tiny_manifest().int8 is None
    manifest = tiny_manifest(int8=BLOCK)
    assert manifest.int8 is not None
    assert manifest.int8.ranges == {"layer1.0.conv1": (0.0, 2.5)}
    assert tiny_model(int8=BLOCK).listener.int8_ranges == manifest.int8.ranges


@pytest.mark.parametrize(
    "wrong",
    [
        {"agreement": {"audio_only": {"windows": 200, "top1": 0.9899, "mean_abs_dp": 0.001}}},
        {"agreement": {"audio_only": {"windows": 200, "top1": 1.0, "mean_abs_dp": 0.0101}}},
        {"agreement": {"audio_only": {"windows": 0, "top1": 1.0, "mean_abs_dp": 0.0}}},
        {"agreement": {}},
        {"agreement": {"text_only": {"windows": 200, "top1": 1.0, "mean_abs_dp": 0.0}}},
        {"ranges": {}},
        {"ranges": {"conv1": (1.0, 1.0)}},
        {"ranges": {"conv1": (0.0, float("inf"))}},
        {"more": 1},
    ],
)
def test_a_block_that_proves_nothing_is_refused(wrong: dict[str, Any]) -> None:
    Int8.model_validate(BLOCK)
    with pytest.raises(ValidationError):
        Int8.model_validate(BLOCK | wrong)


def test_shortcuts_are_rounded_too() -> None:
    network = {"stage_blocks": [2, 1, 1, 1], "base_channels": 4, "text_units": 16, "text_layers": 2, "identify_units": 16}
    trunk = fold_batch_norm(copy.deepcopy(tiny_model(network=network).network.f)).eval()
    step = 4.0 / 255
    rounded = quantised(trunk, {"layer1.0.downsample.1": (-2.0, 2.0), "layer1.1.conv1": (0.0, 4.0)})
    x = torch.rand(1, 16, 4, 4, generator=torch.Generator().manual_seed(1)) * 4
    with torch.inference_mode():
        through = rounded.get_submodule("layer1.1.downsample")(x)
        projected = rounded.get_submodule("layer1.0.downsample")(x[:, :4])
    assert torch.allclose(through / step, (through / step).round(), atol=1e-3)
    assert 0 < (through - x).abs().max() <= step
    assert projected.abs().max() <= 2.01
    assert len(projected.unique()) <= 256
    assert trunk.get_submodule("layer1")[1].downsample is None, "it is not changed"


def test_ranges_before_and_after_folding_are_the_same() -> None:
    """They are measured with BatchNorm and used without."""
    trunk = tiny_model().network.f.eval()
    folded = fold_batch_norm(copy.deepcopy(trunk))
    x = torch.randn(1, 1, 128, 64, generator=torch.Generator().manual_seed(4)) * 20 - 30
    with torch.inference_mode(), measured_ranges(trunk) as before, measured_ranges(folded) as after:
        trunk(x)
        folded(x)
    assert before.keys() == after.keys()
    for name, given in before.items():
        assert after[name] == pytest.approx(given, rel=1e-3, abs=1e-3)
