"""Batch norm's statistics as the network meets them when it is used: without dropout.

While it trains, dropout makes the inputs of later layers vary more than they do afterwards (Li et al. 2019, "Understanding
the Disharmony between Dropout and Batch Normalization by Variance Shift"), and running averages lag behind the weights.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def refit_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replaces running means and variances by their averages over these batches; leaves the network in evaluation mode."""
    norms = [module for module in network.eval().modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average
        norm.train()
    for batch in batches:
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
