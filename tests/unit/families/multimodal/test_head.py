"""The ResNet of the paper: its size, and that what is served is what was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from app.errors import ReleaseError
from app.families.multimodal.head import FALLBACK, MEAN, MultimodalHead, shapes
from app.families.multimodal.manifest import ResNetConfig
from app.lab.training.recipes.multimodal_network import MultimodalNetwork, ResidualBlock

SIZES = {"vocals": 40, "timbral": 10, "consumption": 6}
CONFIG = ResNetConfig(step=8, channels=(5, 6, 6))
CLASSES = 4


def network(config: ResNetConfig = CONFIG) -> MultimodalNetwork:
    """Random weights, and statistics that are no identity."""
    torch.manual_seed(0)
    made = MultimodalNetwork(config, SIZES, CLASSES)
    made.train()
    for _ in range(5):
        made(torch.randn(16, 56) * 2 + 1)
    made.mean.normal_()
    made.scale.uniform_(0.5, 2)
    made.fallback.normal_()
    return made.eval()


def head(made: MultimodalNetwork) -> MultimodalHead:
    return MultimodalHead(CONFIG, SIZES, CLASSES, {name: tensor.numpy() for name, tensor in made.stored().items()})


def test_three_blocks_of_three_convolutions_as_wang_et_al_have_them() -> None:
    config = ResNetConfig(step=1, channels=(64, 128, 128))
    made = MultimodalNetwork(config, {"vocals": 512, "timbral": 0, "consumption": 0}, 10)
    kernels = [layer.conv.weight.shape[2] for block in made.blocks for layer in block.layers]  # type: ignore[union-attr]
    assert kernels == [8, 5, 3] * 3
    assert all(isinstance(block, ResidualBlock) for block in made.blocks)
    weights = sum(p.numel() for name, p in made.blocks.named_parameters() if name.endswith("conv.weight"))
    first = 8 * 1 * 64 + 5 * 64 * 64 + 3 * 64 * 64 + 64
    second = 8 * 64 * 128 + 5 * 128 * 128 + 3 * 128 * 128 + 64 * 128
    assert weights == first + second + (8 + 5 + 3 + 1) * 128 * 128
    assert sum(p.numel() for p in made.out.parameters()) == 128 * 10 + 10  # global average pooling leaves a vector


def test_each_modality_begins_a_position_of_its_own() -> None:
    assert CONFIG.length(SIZES) == 5 + 2 + 1
    seen: list[torch.Size] = []
    made = network()
    made.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    made(torch.zeros(3, 56))
    assert seen == [(3, 8, 8)]


def test_every_parameter_gets_a_gradient() -> None:
    made = MultimodalNetwork(CONFIG, SIZES, CLASSES)
    loss = torch.nn.functional.cross_entropy(made(torch.randn(32, 56)), torch.arange(32) % CLASSES)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in made.parameters())


def test_served_probabilities_are_those_of_the_network() -> None:
    made, rng = network(), np.random.default_rng(0)
    vocals, timbral, consumption = (rng.normal(size=n).astype(np.float32) for n in ((7, 40), 10, 6))
    raw = torch.from_numpy(np.concatenate([vocals, np.tile(timbral, (7, 1)), np.tile(consumption, (7, 1))], axis=1))
    with torch.no_grad():
        expected = made((raw - made.mean) / made.scale).softmax(dim=1).numpy()
    found = head(made)({"vocals": vocals, "timbral": timbral, "consumption": consumption})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.01


def test_what_is_missing_is_the_average_or_the_fallback() -> None:
    made, rng = network(), np.random.default_rng(1)
    vocals = rng.normal(size=(2, 40)).astype(np.float32)
    mean = made.mean.numpy()
    fallback = made.fallback.numpy() * made.scale.numpy()[50:] + mean[50:]
    spelled = head(made)({"vocals": vocals, "timbral": mean[40:50], "consumption": fallback})
    np.testing.assert_allclose(head(made)({"vocals": vocals}), spelled, atol=1e-5)
    assert head(made)({"consumption": fallback}).shape == (1, CLASSES)


def test_tensors_that_do_not_fit_are_named() -> None:
    stored = {name: tensor.numpy() for name, tensor in network().stored().items()}
    assert {name: array.shape for name, array in stored.items()} == shapes(CONFIG, SIZES, CLASSES)
    for name, broken in ((FALLBACK, np.zeros(5)), ("blocks.1.0.weight", np.zeros(3)), (MEAN, np.full(56, np.nan))):
        with pytest.raises(ReleaseError, match=f"'{name}' should be"):
            MultimodalHead(CONFIG, SIZES, CLASSES, stored | {name: broken.astype(np.float32)})
    with pytest.raises(ReleaseError, match=r"'out\.bias' should be"):
        MultimodalHead(CONFIG, SIZES, CLASSES, {name: array for name, array in stored.items() if name != "out.bias"})
