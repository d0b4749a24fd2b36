"""The processes of one training: one alone, or those that torchrun started, one a GPU (or several on a CPU, over gloo).

Every process holds the same network and hears its share of each batch. After each step gradients and BatchNorm statistics
are averaged, so that all go on from the same numbers, and what the first one writes is what all have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn

LONGEST_WAIT = timedelta(days=1)  # for the first process, which decodes a corpus alone


@dataclass(frozen=True, slots=True)
class Team:
    """Which of how many this process is."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def share(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Every `size`th, beginning with this process's own."""
        return indices[self.rank :: self.size]

    def average(self, modules: Sequence[nn.Module], loss: Tensor) -> Tensor:
        """Gradients and floating-point buffers become their mean over all processes; so does the loss, which is returned."""
        if self.size == 1:
            return loss
        learnt = [p for module in modules for p in module.parameters() if p.requires_grad]
        for parameter in learnt:
            if parameter.grad is None:  # one process may need what another does not
                parameter.grad = torch.zeros_like(parameter)
        kept = [b for module in modules for b in module.buffers() if b.is_floating_point()]
        tensors = [*(p.grad for p in learnt if p.grad is not None), *kept, loss.detach().reshape(1)]
        flat = torch.cat([tensor.float().flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.size
        means = torch.split_with_sizes(flat, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))
        return flat[-1]

    def together(self, own: Tensor, n: int) -> Tensor:
        """(n_own, k) of `share`d rows → (n, k) of all, in order."""
        if self.size == 1:
            return own
        padded = own.new_zeros(-(-n // self.size), own.shape[1])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(parts, padded)
        return torch.stack(parts, dim=1).flatten(0, 1)[:n]

    def agreed(self, number: float, device: torch.device) -> float:
        """The first process's: what decides must be the same to the last digit everywhere."""
        if self.size == 1:
            return number
        shared = torch.tensor([number], dtype=torch.float64, device=device)
        distributed.broadcast(shared, 0)
        return float(shared.item())

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process does what is in here before the others do: they find its caches."""
        if self.size > 1 and not self.leads:
            distributed.barrier()
        yield
        if self.size > 1 and self.leads:
            distributed.barrier()


@contextmanager
def gather(device: Literal["auto", "cpu", "cuda"]) -> Iterator[Team]:
    """The team torchrun's variables speak of; without them one alone. Its processes take one GPU each."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team()
        return
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=LONGEST_WAIT)
    try:
        yield Team(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
