"""The folded trunk on a CPU, by oneDNN's fused convolutions.

A convolution that is followed by ReLU, or by the addition of the shortcut and ReLU, does both while its output is still in
the cache. Done apart, each reads and writes the whole activation again: in bf16 that is two fifths of a window's time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.families.lrid_net.listen import Bottleneck, ResNet

Shape = tuple[int, int, int, int]  # (n, channels, height, width)


def can_fuse(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch and this machine have the fused convolutions in this precision."""
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


class FusedConv(nn.Module):
    """A convolution whose weights lie in oneDNN's own order for one shape of inputs and the present number of threads.

    With another number of threads it is right as well, but reorders the weights in every call.
    """

    def __init__(self, conv: nn.Conv2d, shape: Shape, *, relu: bool) -> None:
        super().__init__()
        n, _, height, width = shape
        stride, padding, size = conv.stride[0], int(conv.padding[0]), conv.kernel_size[0]
        self._geometry = ([padding] * 2, [stride] * 2, [1, 1], 1)  # the last two: dilation, groups
        packed = conv.weight.detach().contiguous().to_mkldnn()
        self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(packed, *self._geometry, list(shape))  # type: ignore[call-arg]
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._then = "relu" if relu else "none"
        rows, columns = ((length + 2 * padding - size) // stride + 1 for length in (height, width))
        self.output_shape: Shape = (n, conv.out_channels, rows, columns)

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, bias, and ReLU if asked for."""
        return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]
            x, self._weight, self._bias, *self._geometry, self._then, [], ""
        )

    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """relu(convolution of x + shortcut), written over `shortcut`."""
        return torch.ops.mkldnn._convolution_pointwise_.binary(  # type: ignore[no-any-return]
            shortcut, x, self._weight, self._bias, *self._geometry, "add", 1.0, "relu", [], ""
        )


class FusedBottleneck(nn.Module):
    """What a folded `Bottleneck` does, in three convolutions or four."""

    def __init__(self, block: Bottleneck, shape: Shape) -> None:
        super().__init__()
        self.conv1 = FusedConv(block.conv1, shape, relu=True)
        self.conv2 = FusedConv(block.conv2, self.conv1.output_shape, relu=True)
        self.conv3 = FusedConv(block.conv3, self.conv2.output_shape, relu=True)
        self.downsample: FusedConv | None = None
        if isinstance(block.downsample, nn.Sequential):
            conv = block.downsample[0]
            assert isinstance(conv, nn.Conv2d)
            self.downsample = FusedConv(conv, shape, relu=False)
        self.output_shape = self.conv3.output_shape

    def forward(self, x: Tensor) -> Tensor:
        """Writes over `x`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.conv3.add_to(shortcut, self.conv2(self.conv1(x)))


class FusedResNet(nn.Module):
    """What a folded `ResNet` does, for inputs of one shape on as many threads as are set when it is made."""

    def __init__(self, trunk: ResNet, shape: Shape) -> None:
        """`trunk` is folded, in evaluation mode, on the CPU, and `can_fuse` its dtype; it is not changed."""
        super().__init__()
        self.dtype = trunk.dtype
        self.conv1 = FusedConv(trunk.conv1, shape, relu=True)
        self.maxpool = trunk.maxpool
        n, channels, height, width = self.conv1.output_shape
        shape = (n, channels, (height + 1) // 2, (width + 1) // 2)
        self.blocks = nn.ModuleList()
        for stage in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
            for block in stage:
                assert isinstance(block, Bottleneck)
                fused = FusedBottleneck(block, shape)
                shape = fused.output_shape
                self.blocks.append(fused)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, 128, t) channels last → s_audio (n, 2048)."""
        x = self.maxpool(self.conv1(x))
        for block in self.blocks:
            x = block(x)
        return x.float().mean(dim=(-2, -1))
