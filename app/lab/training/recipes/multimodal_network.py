"""The paper's 1-D ResNet in torch, and the same with BatchNorm folded in, as a release stores it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from app.families.multimodal.manifest import ResNetConfig, TimbralConfig
from app.families.multimodal.timbral import TimbralHistogram


class SameConv(nn.Module):
    """Convolution over a sequence that keeps its length, and batch normalisation."""

    def __init__(self, n_in: int, n_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, bias=False)
        self.norm = nn.BatchNorm1d(n_out)
        self._ends = ((kernel - 1) // 2, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, length) → (n, out, length)."""
        return self.norm(self.conv(pad(x, self._ends)))  # type: ignore[no-any-return]

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the convolution that does both."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = self.norm.weight / (variance + self.norm.eps).sqrt()
        return self.conv.weight * scale[:, None, None], self.norm.bias - mean * scale


class ResidualBlock(nn.Module):
    """Three convolutions beside a shortcut, added and rectified."""

    def __init__(self, n_in: int, n_out: int, kernels: tuple[int, int, int]) -> None:
        super().__init__()
        widths = (n_in, n_out, n_out)
        self.layers = nn.ModuleList(SameConv(width, n_out, kernel) for width, kernel in zip(widths, kernels, strict=True))
        self.shortcut = SameConv(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, length) → (n, out, length)."""
        first, second, third = self.layers
        return relu(third(relu(second(relu(first(x))))) + self.shortcut(x))


class MultimodalNetwork(nn.Module):
    """Standardised feature vectors → logits; beside the ResNet it keeps what turns a song into such vectors."""

    mean: Tensor
    scale: Tensor
    fallback: Tensor

    def __init__(
        self, config: ResNetConfig, sizes: Mapping[str, int], n_classes: int, codebook: TimbralConfig | None = None
    ) -> None:
        super().__init__()
        self._sizes, self._step = list(sizes.values()), config.step
        widths = (config.step, *config.channels)
        self.blocks = nn.ModuleList(
            ResidualBlock(a, b, config.kernels) for a, b in zip(widths, config.channels, strict=False)
        )
        self.out = nn.Linear(config.channels[-1], n_classes)
        self.register_buffer("mean", torch.zeros(sum(self._sizes)))
        self.register_buffer("scale", torch.ones(sum(self._sizes)))
        self.register_buffer("fallback", torch.zeros(sizes["consumption"]))
        self.timbral = None if codebook is None else TimbralHistogram(codebook)

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) → (n, n_classes)."""
        parts = [pad(part, (0, -part.shape[1] % self._step)) for part in torch.split(x, self._sizes, dim=1)]
        y = torch.cat(parts, dim=1).view(len(x), -1, self._step).transpose(1, 2)  # (n, step, length)
        for block in self.blocks:
            y = block(y)
        return self.out(y.mean(dim=2))  # type: ignore[no-any-return]

    @torch.no_grad()
    def stored(self) -> dict[str, Tensor]:
        """The tensors of `families.multimodal.head.shapes`."""
        found = {"input.mean": self.mean, "input.scale": self.scale, "input.fallback": self.fallback}
        for number, block in enumerate(self.blocks):
            assert isinstance(block, ResidualBlock)
            for place, layer in enumerate([*block.layers, block.shortcut]):
                assert isinstance(layer, SameConv)
                name = f"blocks.{number}.{place}"
                found[f"{name}.weight"], found[f"{name}.bias"] = layer.folded()
        found |= {"out.weight": self.out.weight, "out.bias": self.out.bias}
        return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}
