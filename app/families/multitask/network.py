"""Five convolutional blocks that two output layers share (Singh & Biswas, figure 1)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from app.families.multitask.manifest import SegmentConfig
from app.families.parts.log_mel import MelPower

DROPOUT = 0.25


class LogMel(MelPower):
    """Mono samples → log10(1 + gain * mel power), as librosa's melspectrogram without its last frame."""

    def __init__(self, listen: SegmentConfig) -> None:
        super().__init__(listen, listen.sample_rate_hz)
        self._gain, self._frames = listen.gain, listen.segment_frames

    def forward(self, samples: Tensor) -> Tensor:
        """(n, 48000) float32 in [-1, 1] → (n, 1, 187, 96)."""
        power = self.power(samples, "constant")[:, :, : self._frames]  # (n, 96, 187)
        return torch.log10(1 + self._gain * power).transpose(1, 2).unsqueeze(1)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, ReLU, batch norm, max pooling, dropout. No padding: TensorFlow's default, and the paper names none."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3),
        nn.ReLU(),
        nn.BatchNorm2d(outputs),
        nn.MaxPool2d(2),
        nn.Dropout(DROPOUT),
    )


class MultitaskNetwork(nn.Module):
    """Log-mel spectrogram → logits of each task."""

    def __init__(self, listen: SegmentConfig, channels: Sequence[int], classes: Mapping[str, int]) -> None:
        """`classes`: how many each task has, by its name."""
        super().__init__()
        self.blocks = nn.Sequential(*(block(n, m) for n, m in pairwise([1, *channels])))
        self.flatten = nn.Flatten()
        depth = len(channels)
        n_features = channels[-1] * after_blocks(listen.segment_frames, depth) * after_blocks(listen.mel_bands, depth)  # 96
        self.outputs = nn.ModuleDict({name: nn.Linear(n_features, n) for name, n in classes.items()})

    def forward(self, log_mel: Tensor) -> Tensor:
        """(n, 1, 187, 96) → logits of all tasks side by side, (n, sum of classes)."""
        shared = self.flatten(self.blocks(log_mel))  # (n, 32, 3, 1) → (n, 96)
        return torch.cat([output(shared) for output in self.outputs.values()], dim=1)


def after_blocks(length: int, n_blocks: int) -> int:
    """What is left of an axis: 187 → 3, 96 → 1."""
    for _ in range(n_blocks):
        length = (length - 2) // 2
    return length
