"""Batch norm that was trained behind dropout, fitted to the network as it is used."""

import pytest
import torch
from torch import Tensor, nn

from app.lab.training.recipes.multitask import refit_batch_norm


def spread(network: nn.Module, x: Tensor) -> float:
    """Of what batch norm gives in evaluation mode; 1 where its statistics are those of its input."""
    with torch.no_grad():
        return float(network.eval()(x).std())


def test_statistics_are_those_without_dropout() -> None:
    """Dropout of one half doubles the variance of what follows it: half of the spread is missing until the refit."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(8, momentum=0.1)
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 8), norm)
    x = torch.rand(512, 64) * 0.1 + 1  # little of its own to tell, so dropout's noise is most of the variance
    for _ in range(100):
        network.train()(x)
    assert spread(network, x) < 0.2
    refit_batch_norm(network, torch.split(x, 64))
    assert spread(network, x) == pytest.approx(1, abs=0.05)
    assert not any(module.training for module in network.modules())
    assert norm.momentum == 0.1
