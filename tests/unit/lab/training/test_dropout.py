"""Modality dropout as the paper has it (§3.4): whole items, independent draws, no scaling, none in evaluation."""

import pytest
import torch

from app.families.lrid_net.network import LridNet
from app.families.parts.modality_dropout import ModalityDropout
from app.lab.training.recipes.lrid_net import VARIANTS, LridNetConfig, LridNetRecipe


def test_items_are_dropped_whole_and_kept_unscaled() -> None:
    torch.manual_seed(0)
    x = torch.rand(500, 3, 7) + 1
    y = ModalityDropout(0.2).train()(x)
    kept = (y == x).flatten(1).all(dim=1)
    dropped = (y == 0).flatten(1).all(dim=1)
    assert (kept ^ dropped).all()  # nothing in between, hence no 1 / (1 - r) either
    assert 0 < dropped.sum() < 500


def test_the_rate_is_the_share_of_items() -> None:
    torch.manual_seed(1)
    dropped = (ModalityDropout(0.2).train()(torch.ones(20_000, 1)) == 0).float().mean()
    assert abs(dropped.item() - 0.2) < 0.012  # four standard deviations


def test_nothing_is_dropped_in_evaluation() -> None:
    x = torch.rand(50, 4)
    assert torch.equal(ModalityDropout(0.9).eval()(x), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_out_of_range_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="dropout rate"):
        ModalityDropout(rate)


def test_audio_and_text_are_drawn_independently(config: LridNetConfig) -> None:
    torch.manual_seed(2)
    network = LridNetRecipe(config).build().train()
    ones = torch.ones(20_000, 1)
    no_audio, no_text = network.drop_audio(ones) == 0, network.drop_text(ones) == 0
    both = (no_audio & no_text).float().mean().item()
    assert abs(both - 0.04) < 0.006  # 4 % lose both, as independent draws do


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_variants_drop_what_their_names_say(config: LridNetConfig, variant: str) -> None:
    network: LridNet = LridNetRecipe(config.model_copy(update={"variant": variant})).build()
    assert (network.drop_audio.rate, network.drop_text.rate) == {
        "main": (0.0, 0.0),
        "adr": (0.2, 0.0),
        "tdr": (0.0, 0.2),
        "atdr": (0.2, 0.2),
        "to": (0.0, 0.0),
        "ao": (0.0, 0.0),
    }[variant]
