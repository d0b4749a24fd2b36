"""A network behind a front end, as an audio branch has them."""

import copy

import torch
from torch import Tensor, nn

from app.errors import ReleaseError
from app.families.contract import Backend, Listen, Precision, Target
from app.families.parts.openvino_backend import Convertible
from app.families.parts.quantised import Ranges, quantised

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class NetworkListener:
    """Window → front end, of which nothing is learnt → network → features. Implements `contract.Listener`."""

    def __init__(
        self,
        front_end: nn.Module,
        network: nn.Module,
        n_features: int,
        shape: tuple[int, ...] | None = None,
        *,
        halves: bool = False,
        ranges: Ranges | None = None,
    ) -> None:
        """`shape`: of the network's input of one window, for OpenVINO; None: torch only. `halves`: bf16 and fp16 as well.

        `ranges`: what int8 needs, which OpenVINO alone runs.
        """
        self.n_features = n_features
        self._front_end = front_end
        self._network = network.eval()
        self._shape = shape
        self._halves = halves
        self._ranges = ranges
        self._conversions: dict[bool, Convertible] = {}  # by whether they have rounded layers

    def precisions(self, backend: Backend) -> tuple[Precision, ...]:
        whole: tuple[Precision, ...] = ("bf16", "fp32") if self._halves else ("fp32",)
        return ("int8", *whole) if backend == "openvino" and self._ranges else whole

    def prepare(self, target: Target) -> Listen:
        """Raises ReleaseError for a precision that the network is not made for, and for ranges of another network."""
        runs_in = [*self.precisions(target.backend), *(["fp16"] if self._halves else [])]
        if target.precision not in runs_in:
            raise ReleaseError(f"this release listens in {', '.join(runs_in)}, not in {target.precision}")
        if target.backend == "openvino" and self._shape is not None:
            compiled = self._converted(target.precision == "int8", self._shape).compile(target.precision, target.threads)
            return lambda samples: compiled(self._front_end(samples))
        front_end = copy.deepcopy(self._front_end).to(target.device)
        dtype = DTYPES[target.precision]
        network = copy.deepcopy(self._network).to(target.device, dtype)

        def listen(samples: Tensor) -> Tensor:
            return network(front_end(samples).to(dtype)).float()  # type: ignore[no-any-return]

        return listen

    def _converted(self, rounded: bool, shape: tuple[int, ...]) -> Convertible:
        """Converted once: takes seconds, and serves every number of threads."""
        if rounded not in self._conversions:
            network = quantised(self._network, self._ranges) if rounded and self._ranges else self._network
            self._conversions[rounded] = Convertible(network, shape)
        return self._conversions[rounded]

    def forget(self) -> None:
        self._network.to("meta")
        self._conversions.clear()
