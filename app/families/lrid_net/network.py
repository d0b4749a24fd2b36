"""LRID-Net as the paper's figure 1 has it: f listens, g reads, h identifies; modality dropout before f and g.

f: waveform → log-mel spectrogram → ResNet-50 → 2,048 numbers (paper §3.1, §3.3). The same modules serve training and
serving. Parameter names of the ResNet follow torchvision's `resnet50`, so that weights can be exchanged and the two
compared (tests/parity).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from app.families.lrid_net.config import ListenConfig, NetworkConfig
from app.families.parts.log_mel import mel_bands
from app.families.parts.modality_dropout import ModalityDropout

_CACHED_FRAMES = 516  # a block whose spectrum stays in a CPU's cache; a fifth of a window
EXPANSION = 4  # a bottleneck's output has four times its inner width (He et al. 2016)


class LogMel(nn.Module):
    """Mono samples → x_audio: |STFT|, mel bands, decibels, clipped to a range under the window's own maximum."""

    hann: Tensor
    mel: Tensor

    def __init__(self, config: ListenConfig) -> None:
        super().__init__()
        self.config = c = config
        mel = mel_bands(c.mel_bands, c.fft_size, c.sample_rate_hz, c.low_hz, c.high_hz)  # (128, 513)
        self.register_buffer("hann", torch.hann_window(config.fft_size), persistent=False)  # (1024,) periodic
        self.register_buffer("mel", mel, persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(n, s) float32 in [-1, 1] → (n, 128, t) dB, t = (s - 1024) // 256 + 1; 2,580 for 30 s."""
        c = self.config
        frames = samples.unfold(-1, c.fft_size, c.hop_size)  # (n, t, 1024), a view
        blocks = torch.split(frames, _CACHED_FRAMES if samples.device.type == "cpu" else frames.shape[1], dim=1)
        mel = torch.cat([self.mel @ self._magnitude(block).transpose(-1, -2) for block in blocks], dim=-1)  # (n, 128, t)
        decibels = mel.clamp_min_(c.amplitude_floor).log10_().mul_(10.0)
        ceiling = decibels.amax(dim=(-2, -1), keepdim=True)  # (n, 1, 1) the window's own maximum
        return torch.maximum(decibels, ceiling - c.dynamic_range_db)

    def _magnitude(self, frames: Tensor) -> Tensor:
        """(n, t, 1024) → (n, t, 513), not power. Squares fit: samples are at most 2^31, and what underflows is under the
        floor. `hypot` and `abs` of complex numbers guard against both, and cost as much as the transform.
        """
        spectrum = torch.fft.rfft(frames * self.hann)
        power: Tensor = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        return power.sqrt_()


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3, 1x1 expand, with a shortcut (He et al. 2016; the stride on the 3x3, as torchvision has it)."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, h, w) → (n, 4 * width, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """The trunk: a bottleneck ResNet of one input channel, without the classifier. 52.9 GFLOP for a 30 s window."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        base = config.base_channels
        self.conv1 = nn.Conv2d(1, base, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = base
        stages = []
        for i, blocks in enumerate(config.stage_blocks):
            width = base * 2**i
            strides = [1 if i == 0 else 2] + [1] * (blocks - 1)
            layers = []
            for stride in strides:
                layers.append(Bottleneck(channels, width, stride))
                channels = width * EXPANSION
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        if not self.conv1.weight.is_meta:  # there the weights are replaced, and drawing costs seconds of imports
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def feature_map(self, x: Tensor) -> Tensor:
        """(n, 1, 128, 2580) → (n, 2048, 4, 81)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (n, 64, 32, 645)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, 128, t) → s_audio (n, 2048), by global average pooling."""
        return self.feature_map(x).float().mean(dim=(-2, -1))


def fold_batch_norm(trunk: ResNet) -> ResNet:
    """Fold every BatchNorm into the convolution before it, in place."""
    for block in trunk.modules():
        pairs = [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")] if isinstance(block, Bottleneck) else []
        for conv, norm in [("conv1", "bn1")] if block is trunk else pairs:
            setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
            setattr(block, norm, nn.Identity())
        if isinstance(block, Bottleneck) and block.downsample is not None:
            block.downsample = fuse_conv_bn_eval(block.downsample[0], block.downsample[1])  # type: ignore[index]
    return trunk


def _layer(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU())


class LridNet(nn.Module):
    """x_audio, x_lang → logits. Softmax is left to the loss and to the serving head."""

    def __init__(
        self, config: NetworkConfig, *, n_text: int, n_classes: int, audio_dropout: float = 0.0, text_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.drop_audio = ModalityDropout(audio_dropout)
        self.drop_text = ModalityDropout(text_dropout)
        self.f = ResNet(config)
        widths = [n_text] + [config.text_units] * config.text_layers
        self.g = nn.Sequential(*[_layer(a, b) for a, b in pairwise(widths)])
        self.h = nn.Sequential(
            _layer(config.n_audio_features + config.text_units, config.identify_units),
            nn.Linear(config.identify_units, n_classes),
        )

    def forward(self, x_audio: Tensor, x_lang: Tensor) -> Tensor:
        """x_audio (n, 128, t) dB and x_lang (n, 56) → logits (n, 11). Zeros stand for a missing modality."""
        s_audio = self.f(self.drop_audio(x_audio).unsqueeze(1))  # (n, 2048)
        s_text = self.g(self.drop_text(x_lang))  # (n, 128)
        return self.h(torch.cat([s_audio, s_text], dim=1))  # type: ignore[no-any-return]
