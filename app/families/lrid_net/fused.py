"""The folded trunk by fused convolutions: oneDNN's on a CPU, cuDNN's on a GPU.

A convolution that is followed by ReLU, or by the addition of the shortcut and ReLU, does both while its output is still at
hand. Done apart, each reads and writes the whole activation again: in bf16 on a CPU two fifths of a window's time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.families.lrid_net.listen import Bottleneck, ResNet

Shape = tuple[int, int, int, int]  # (n, channels, height, width)


def fused(trunk: ResNet, shape: Shape) -> FusedResNet | None:
    """For inputs of `shape`, with what the trunk's own device has; None where it has nothing."""
    if trunk.conv1.weight.device.type == "cuda":
        return FusedResNet(trunk, shape, CudnnConv) if hasattr(torch.ops.aten, "cudnn_convolution_add_relu") else None
    return FusedResNet(trunk, shape, OneDnnConv) if has_onednn(trunk.dtype) else None


def has_onednn(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch and this machine have the fused convolutions in this precision."""
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


class FusedConv(nn.Module):
    """What the two kinds have in common."""

    def __init__(self, conv: nn.Conv2d, shape: Shape, *, relu: bool) -> None:
        super().__init__()
        n, _, height, width = shape
        stride, padding, size = conv.stride[0], int(conv.padding[0]), conv.kernel_size[0]
        self.geometry = ([padding] * 2, [stride] * 2, [1, 1], 1)  # the last two: dilation, groups
        self.relu = relu
        rows, columns = ((length + 2 * padding - size) // stride + 1 for length in (height, width))
        self.output_shape: Shape = (n, conv.out_channels, rows, columns)

    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """relu(convolution of x + shortcut); may be written over `shortcut`."""
        raise NotImplementedError


class OneDnnConv(FusedConv):
    """A convolution whose weights lie in oneDNN's own order for one shape of inputs and the present number of threads.

    With another number of threads it is right as well, but reorders the weights in every call.
    """

    def __init__(self, conv: nn.Conv2d, shape: Shape, *, relu: bool) -> None:
        super().__init__(conv, shape, relu=relu)
        packed = conv.weight.detach().contiguous().to_mkldnn()
        self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(packed, *self.geometry, list(shape))  # type: ignore[call-arg]
        self._bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, bias, and ReLU if asked for."""
        return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]
            x, self._weight, self._bias, *self.geometry, "relu" if self.relu else "none", [], ""
        )

    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """Written over `shortcut`."""
        return torch.ops.mkldnn._convolution_pointwise_.binary(  # type: ignore[no-any-return]
            shortcut, x, self._weight, self._bias, *self.geometry, "add", 1.0, "relu", [], ""
        )


class CudnnConv(FusedConv):
    """A convolution of any number of inputs. The weights stay the given module's own."""

    def __init__(self, conv: nn.Conv2d, shape: Shape, *, relu: bool) -> None:
        super().__init__(conv, shape, relu=relu)
        self._conv = conv
        padding, stride, dilation, groups = self.geometry
        self._arguments = (stride, padding, dilation, groups)  # in the order of these operators
        # cuDNN 8 had the fused 7 x 7 convolution 17 times slower (pytorch/pytorch issue 68506); it is the first layer alone
        self._fuses = relu and conv.kernel_size[0] <= 3

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, bias, and ReLU if asked for."""
        if not self._fuses:
            y: Tensor = self._conv(x)
            return y.relu_() if self.relu else y
        conv = self._conv
        return torch.ops.aten.cudnn_convolution_relu(x, conv.weight, conv.bias, *self._arguments)  # type: ignore[no-any-return]

    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """A new tensor."""
        conv = self._conv
        return torch.ops.aten.cudnn_convolution_add_relu(  # type: ignore[no-any-return]
            x, conv.weight, shortcut, 1.0, conv.bias, *self._arguments
        )


class FusedBottleneck(nn.Module):
    """What a folded `Bottleneck` does, in three convolutions or four."""

    def __init__(self, block: Bottleneck, shape: Shape, convolution: type[FusedConv]) -> None:
        super().__init__()
        self.conv1 = convolution(block.conv1, shape, relu=True)
        self.conv2 = convolution(block.conv2, self.conv1.output_shape, relu=True)
        self.conv3 = convolution(block.conv3, self.conv2.output_shape, relu=True)
        self.downsample: FusedConv | None = None
        if isinstance(block.downsample, nn.Sequential):
            conv = block.downsample[0]
            assert isinstance(conv, nn.Conv2d)
            self.downsample = convolution(conv, shape, relu=False)
        self.output_shape = self.conv3.output_shape

    def forward(self, x: Tensor) -> Tensor:
        """May write over `x`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.conv3.add_to(shortcut, self.conv2(self.conv1(x)))


class FusedResNet(nn.Module):
    """What a folded `ResNet` does, for inputs of one shape; on a CPU, on as many threads as are set when it is made."""

    def __init__(self, trunk: ResNet, shape: Shape, convolution: type[FusedConv]) -> None:
        """`trunk` is folded and in evaluation mode; it is not changed."""
        super().__init__()
        self.dtype = trunk.dtype
        self.conv1 = convolution(trunk.conv1, shape, relu=True)
        self.maxpool = trunk.maxpool
        n, channels, height, width = self.conv1.output_shape
        shape = (n, channels, (height + 1) // 2, (width + 1) // 2)
        self.blocks = nn.ModuleList()
        for stage in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
            for block in stage:
                assert isinstance(block, Bottleneck)
                next_block = FusedBottleneck(block, shape, convolution)
                shape = next_block.output_shape
                self.blocks.append(next_block)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, 128, t) channels last → s_audio (n, 2048)."""
        x = self.maxpool(self.conv1(x))
        for block in self.blocks:
            x = block(x)
        return x.float().mean(dim=(-2, -1))
