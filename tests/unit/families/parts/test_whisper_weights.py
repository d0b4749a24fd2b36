"""Ears in a release: small, near what they were, the same again after a second time; refused by the tensor's name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from app.errors import ReleaseError
from app.families.parts.quantised import quantised
from app.families.parts.whisper_weights import ears_from_stored, stored_ears
from tests.ears import RANGES, SMALL, noise, small_ears

CONV1 = "ears.whisper.encoder.conv1.weight"
START = "ears.whisper.decoder.start"


def test_the_encoder_is_stored_in_8_bits_and_the_decoder_in_halves() -> None:
    stored = stored_ears(small_ears())
    whole = {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
    assert CONV1 not in whole, "its rows are short"
    assert "ears.whisper.encoder.layers.1.mlp.fc2.weight" in whole
    assert "ears.whisper.encoder.conv2.weight" in whole
    assert {tensor.dtype for name, tensor in stored.items() if ".decoder." in name} == {torch.float16}


def test_they_are_near_what_they_were_and_do_not_change_again() -> None:
    ears, samples = small_ears(RANGES), noise(2)
    once = ears_from_stored(SMALL, stored_ears(ears) | {"language.rows": torch.zeros(1)})
    twice = ears_from_stored(SMALL, stored_ears(once))
    assert once.ranges == RANGES
    with torch.inference_mode():
        exact, again = ears(samples), once(samples)
        assert 0 < (again - exact)[:, :256].abs().max() < 0.1
        assert torch.equal(twice(samples), again)


def test_rows_that_were_stored_in_8_bits_are_not_rounded_again() -> None:
    ears = ears_from_stored(SMALL, stored_ears(small_ears()))
    fc2 = "encoder.layers.0.mlp.fc2"
    layer: Any = quantised(ears.whisper, {fc2: (0.0, 1.0)}).get_submodule(fc2)
    grid = torch.eye(1024)[:4]
    torch.testing.assert_close(layer(grid), torch.nn.functional.linear(grid, layer.layer.weight, layer.layer.bias))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop(START), START),
        (lambda w: w.update({START: torch.zeros(64)}), START),
        (lambda w: w.update({START: torch.full((256,), float("nan"))}), START),
        (lambda w: w.update({"ears.whisper.more": torch.zeros(1)}), "ears.whisper.more"),
        (lambda w: w.pop("ears.no_speech"), "ears.no_speech"),
        (lambda w: w.pop("ears.whisper.encoder.conv2.weight.scale"), "ears.whisper.encoder.conv2.weight.scale"),
        (
            lambda w: w.update({"ears.whisper.encoder.conv2.weight.scale": torch.ones(3)}),
            "ears.whisper.encoder.conv2.weight.scale",
        ),
        (lambda w: w.update({"ears.ranges.encoder.conv2": torch.ones(2)}), "ears.ranges.encoder.conv2"),
    ],
)
def test_a_wrong_tensor_is_refused_by_name(change: Callable[[dict[str, Tensor]], object], named: str) -> None:
    weights = stored_ears(small_ears())
    change(weights)
    with pytest.raises(ReleaseError, match=f"'{named}'"):
        ears_from_stored(SMALL, weights)
