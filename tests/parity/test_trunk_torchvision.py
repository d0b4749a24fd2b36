"""f is torchvision's ResNet-50 with one input channel and without the classifier: same weights, same outputs."""

import pytest
import torch
import torchvision
from torch import nn

from app.families.lrid_net.config import ListenConfig, NetworkConfig
from app.families.lrid_net.network import ResNet


@pytest.fixture(scope="module")
def twins() -> tuple[ResNet, nn.Module]:
    """Our trunk and torchvision's, with the same random weights and BatchNorm statistics."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(weights=None)
    theirs.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    theirs.fc = nn.Identity()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    ours = ResNet(NetworkConfig())
    ours.load_state_dict(theirs.state_dict())  # names and shapes are the same
    return ours, theirs


def test_features_are_torchvisions(twins: tuple[ResNet, nn.Module]) -> None:
    ours, theirs = twins
    x = torch.randn(2, 1, 128, 200)
    with torch.inference_mode():
        expected = theirs.eval()(x)
        given = ours.eval()(x)
    assert given.shape == (2, 2048)
    assert torch.allclose(given, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_gradients_are_torchvisions(twins: tuple[ResNet, nn.Module]) -> None:
    """In training mode too, where BatchNorm uses the batch."""
    ours, theirs = twins
    x = torch.randn(3, 1, 64, 64)
    ours.train()(x).square().mean().backward()
    theirs.train()(x).square().mean().backward()
    for (name, mine), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        scale = other.grad.abs().max().item()
        assert torch.allclose(mine.grad, other.grad, rtol=1e-3, atol=1e-3 * scale), name


def test_shapes_are_the_papers(twins: tuple[ResNet, nn.Module]) -> None:
    config = ListenConfig()
    assert config.window_samples == 661_500
    assert config.window_frames == 2580
    ours, _ = twins
    with torch.inference_mode():
        assert ours.eval().feature_map(torch.zeros(1, 1, 128, 2580)).shape == (1, 2048, 4, 81)
