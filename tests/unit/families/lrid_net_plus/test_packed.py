from __future__ import annotations

import pytest
import torch

from app.errors import ReleaseError
from app.families.lrid_net_plus.packed import SCALE, packed, unpacked


def test_eight_bits_keep_each_channel_to_half_a_step() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 3, 3, 3) * torch.logspace(-3, 2, 6).view(-1, 1, 1, 1)
    stored = packed("f.conv.weight", weight)
    assert stored["f.conv.weight"].dtype == torch.int8
    found = unpacked(stored)
    assert set(found) == {"f.conv.weight"}
    step = weight.flatten(1).abs().amax(dim=1) / 127
    assert ((found["f.conv.weight"] - weight).abs().flatten(1).amax(dim=1) <= 0.5001 * step).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    assert not unpacked(packed("w", torch.zeros(2, 4)))["w"].any()


def test_packing_again_changes_nothing() -> None:
    torch.manual_seed(0)
    once = unpacked(packed("w", torch.randn(4, 9)))
    torch.testing.assert_close(unpacked(packed("w", once["w"]))["w"], once["w"])


def test_floats_pass_unchanged() -> None:
    weights = {"a": torch.randn(3).half(), "b.scale": torch.ones(2)}
    assert unpacked(weights) == weights


@pytest.mark.parametrize("step", [None, torch.ones(3)])
def test_steps_must_be_there_and_fit(step: torch.Tensor | None) -> None:
    stored = packed("w", torch.randn(2, 4))
    if step is None:
        del stored["w" + SCALE]
    else:
        stored["w" + SCALE] = step
    with pytest.raises(ReleaseError, match=r"'w' needs 'w.scale' of \(2,\)"):
        unpacked(stored)
