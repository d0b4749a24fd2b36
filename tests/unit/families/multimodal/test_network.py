"""The ResNet of the paper: its size, and that what is served is what was trained."""

import numpy as np
import pytest
import torch

from app.families.multimodal.manifest import ResNetConfig
from app.families.multimodal.network import MultimodalHead, MultimodalNetwork

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
    made.missing[50:].normal_()
    return made.eval()


def test_three_blocks_of_three_convolutions_as_wang_et_al_have_them() -> None:
    config = ResNetConfig(step=1, channels=(64, 128, 128))
    made = MultimodalNetwork(config, {"vocals": 512, "timbral": 0, "consumption": 0}, 10)
    kernels = [layer.kernel_size[0] for layer in made.blocks.modules() if isinstance(layer, torch.nn.Conv1d)]
    assert kernels == [8, 5, 3, 1] * 3
    weights = sum(p.numel() for name, p in made.blocks.named_parameters() if name.endswith("conv.weight"))
    first = 8 * 1 * 64 + 5 * 64 * 64 + 3 * 64 * 64 + 64
    second = 8 * 64 * 128 + 5 * 128 * 128 + 3 * 128 * 128 + 64 * 128
    assert weights == first + second + (8 + 5 + 3 + 1) * 128 * 128
    assert sum(p.numel() for p in made.out.parameters()) == 128 * 10 + 10  # global average pooling leaves a vector


def test_each_modality_begins_a_position_of_its_own() -> None:
    sequence = network().positions(torch.arange(1.0, 57)[None])[0].T  # (length, step)
    assert sequence.shape == (5 + 2 + 1, 8)
    assert sequence[:, 0].tolist() == [1, 9, 17, 25, 33, 41, 49, 51]
    assert sequence[6, 2:].tolist() == [0] * 6


def test_every_parameter_gets_a_gradient() -> None:
    made = MultimodalNetwork(CONFIG, SIZES, CLASSES)
    x = torch.randn(32, 56)
    x[::2, 50:] = torch.nan
    loss = torch.nn.functional.cross_entropy(made(x), torch.arange(32) % CLASSES)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() and bool((p.grad != 0).any()) for p in made.parameters())


@pytest.mark.parametrize("given", [("vocals", "timbral", "consumption"), ("vocals", "timbral"), ("consumption",)])
def test_served_probabilities_are_those_of_the_network(given: tuple[str, ...]) -> None:
    made, rng = network(), np.random.default_rng(0)
    n = 7 if "vocals" in given else 1
    parts = {name: rng.normal(size=(n, 40) if name == "vocals" else SIZES[name]).astype(np.float32) for name in given}
    rows = [np.broadcast_to(parts.get(name, np.array(np.nan)), (n, size)) for name, size in SIZES.items()]
    with torch.no_grad():
        expected = made(torch.from_numpy(np.concatenate(rows, axis=1, dtype=np.float32))).softmax(dim=1).numpy()
    np.testing.assert_allclose(MultimodalHead(made)(parts), expected, atol=1e-5)
    assert expected.std() > 0.01


def test_numbers_far_from_the_mean_leave_probabilities() -> None:
    """The largest of float32, which a request may send as consumption data."""
    made = network()
    made.scale.mul_(0.01)
    far = {"consumption": np.array([1, -1] * 3, np.float32) * np.finfo(np.float32).max}
    np.testing.assert_allclose(MultimodalHead(made)(far).sum(), 1, atol=1e-5)


def test_noise_is_on_what_is_missing_and_in_training_alone() -> None:
    made = network()
    made.noise = 1.0
    whole, lacking = torch.randn(2, 56), torch.randn(2, 56)
    lacking[:, 50:] = torch.nan
    seen: list[torch.Tensor] = []
    made.positions.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for x in (whole, lacking):
        made.eval()(x)
        made.train()(x)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2][:, :50], seen[3][:, :50])
    assert (seen[2][:, 50:] == made.missing[50:]).all()
    assert not torch.isclose(seen[2][:, 50:], seen[3][:, 50:]).any()
