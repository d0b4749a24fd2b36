"""A network behind a front end, as an audio branch has them."""

from __future__ import annotations

import copy

import torch
from torch import nn

from app.errors import ReleaseError
from app.families.contract import Backend, Listen, Precision, Target
from app.families.parts.openvino_backend import Convertible


class NetworkListener:
    """Window → front end, of which nothing is learnt → network → features; in fp32. Implements `contract.Listener`."""

    def __init__(
        self, front_end: nn.Module, network: nn.Module, n_features: int, shape: tuple[int, ...] | None = None
    ) -> None:
        """`shape`: of what the network gets of one window, (1, …), for OpenVINO; None: torch runs it everywhere."""
        self.n_features = n_features
        self._front_end = front_end
        self._network = network.eval()
        self._shape = shape

    def precisions(self, backend: Backend) -> tuple[Precision, ...]:
        return ("fp32",)

    def prepare(self, target: Target) -> Listen:
        """Raises ReleaseError for another precision than fp32."""
        if target.precision != "fp32":
            raise ReleaseError(f"this release listens in fp32, not in {target.precision}")
        if target.backend == "openvino" and self._shape is not None:
            compiled = Convertible(self._network, self._shape).compile("fp32", target.threads)
            return lambda samples: compiled(self._front_end(samples))
        both = nn.Sequential(copy.deepcopy(self._front_end), copy.deepcopy(self._network))
        return both.to(torch.device(target.device)).eval()

    def forget(self) -> None:
        self._network.to("meta")
