"""The three networks of Dalla Longa et al., "Deep Neural Networks Approaches for Music Tagging", layer by layer.

Each maps the samples of a song to logits of its segments, (n, window_samples) → (n, segments, n_tags); the two CNNs have one
segment. The tables count four numbers for each channel of a batch norm: two are learnt, two are its running mean and
variance.

Where a printed number contradicts its own layer, the layer is right:
- Table 1: 588,850 parameters stand on the line of the dropout, which has none: they are the last layer's (11,776 x 50 + 50).
- Table 2: the first convolution makes 261 - 2 = 259 frames, not 256 (129 after pooling, as printed, is half of 259), and the
  fourth makes 12 x 28 x 64, not x 6 (its 37,184 parameters and the 6 x 14 x 64 after it say so).
- Table 3: LSTM(100) with 183,200 parameters and 200 outputs has both directions. The last layer has 552,550 parameters:
  it is dense over all 221 steps, though §4.4.1 says that convolutions replaced the dense layer.
"""

import math

from torch import Tensor, nn
from torch.nn.functional import pad

from app.families.parts.log_mel import LogMel
from app.families.tagging.manifest import AudioConfig, LstmConfig, MelCnnConfig, NetworkConfig, SampleCnnConfig

KERNEL = 3  # of every convolution


class MelCnn(nn.Module):
    """Table 2: 3x3 convolutions without padding over the spectrogram, each halved by max pooling."""

    def __init__(self, config: MelCnnConfig, audio: AudioConfig, n_tags: int) -> None:
        super().__init__()
        self.log_mel = LogMel(config.mel, audio.sample_rate_hz)
        size = [config.mel.mel_bands, config.mel.frames(audio.window_samples)]  # (128, 261)
        blocks, before = [], 1
        for channels in config.channels:
            block = [nn.Conv2d(before, channels, KERNEL), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
            blocks.append(nn.Sequential(*block, nn.Dropout(config.dropout)))
            before, size = channels, [(n - KERNEL + 1) // 2 for n in size]
        self.blocks = nn.Sequential(*blocks)
        self.tags = _dense(before * math.prod(max(n, 0) for n in size), n_tags)  # 64 * 6 * 14 = 5,376 → 50

    def forward(self, samples: Tensor) -> Tensor:
        """(n, window_samples) → (n, 1, n_tags)."""
        x = self.blocks(self.log_mel(samples)[:, None])  # (n, 64, 6, 14)
        return self.tags(x.flatten(1))[:, None]  # type: ignore[no-any-return]


class SampleCnn(nn.Module):
    """Table 1: the waveform through convolutions of three samples, each divided by three (Lee et al. 2017)."""

    def __init__(self, config: SampleCnnConfig, audio: AudioConfig, n_tags: int) -> None:
        super().__init__()
        first, *others = config.channels
        self.strided = nn.Sequential(nn.Conv1d(1, first, KERNEL, stride=KERNEL), nn.BatchNorm1d(first), nn.ReLU())
        blocks, before, length = [], first, audio.window_samples // KERNEL  # 155,328
        for channels in others:
            convolution = nn.Conv1d(before, channels, KERNEL, padding=1)
            blocks.append(nn.Sequential(convolution, nn.BatchNorm1d(channels), nn.ReLU(), nn.MaxPool1d(KERNEL)))
            before, length = channels, length // KERNEL
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.tags = _dense(before * length, n_tags)  # 512 * 23 = 11,776 → 50

    def forward(self, samples: Tensor) -> Tensor:
        """(n, window_samples) → (n, 1, n_tags)."""
        x = self.blocks(self.strided(samples[:, None]))  # (n, 512, 23)
        return self.tags(self.dropout(x.flatten(1)))[:, None]  # type: ignore[no-any-return]


class BidirectionalLstm(nn.Module):
    """An LSTM in both directions with one bias a gate, as the table counts it: a last input that is always one."""

    def __init__(self, n_inputs: int, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_inputs + 1, units, bias=False, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, n_inputs) → (n, t, 2 * units)."""
        return self.lstm(pad(x, (0, 1), value=1.0))[0]  # type: ignore[no-any-return]


class Lstm(nn.Module):
    """Table 3: stacked LSTMs over each segment of the spectrogram, then convolutions in time with a filter for each tag."""

    def __init__(self, config: LstmConfig, audio: AudioConfig, n_tags: int) -> None:
        super().__init__()
        self.log_mel = LogMel(config.mel, audio.sample_rate_hz)
        self.segments = config.segments
        self.frames = config.mel.frames(audio.window_samples) // config.segments  # 227
        sizes = [config.mel.mel_bands, *[2 * config.units] * config.layers]  # 128, 200, 200
        self.lstms = nn.Sequential(*(BidirectionalLstm(n, config.units) for n in sizes[:-1]))
        channels = [sizes[-1], *[n_tags] * config.convolutions]
        self.convolutions = nn.Sequential(*(nn.Sequential(nn.Conv1d(n, n_tags, KERNEL), nn.ReLU()) for n in channels[:-1]))
        self.tags = _dense(n_tags * (self.frames - config.convolutions * (KERNEL - 1)), n_tags)  # 50 * 221 = 11,050 → 50

        self._begin_as_keras()

    def _begin_as_keras(self) -> None:
        """Keras's first weights, whose way of counting the tables have; torch's own learnt nothing in as many epochs."""
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for name, weight in self.lstms.named_parameters():
            for number, gate in enumerate(weight.data.chunk(4)):  # input, forget, cell, output
                if "_hh_" in name:
                    nn.init.orthogonal_(gate)
                else:
                    nn.init.xavier_uniform_(gate[:, :-1])
                    gate[:, -1] = float(number == 1)  # the bias: 1 so that nothing is forgotten at first

    def forward(self, samples: Tensor) -> Tensor:
        """(n, window_samples) → (n, 4, n_tags): of each segment."""
        mel = self.log_mel(samples)[:, :, : self.segments * self.frames]  # (n, 128, 908)
        x = mel.transpose(1, 2).reshape(-1, self.frames, mel.shape[1])  # (4 n, 227, 128)
        x = self.convolutions(self.lstms(x).transpose(1, 2))  # (4 n, 50, 221)
        return self.tags(x.flatten(1)).view(len(samples), self.segments, -1)  # type: ignore[no-any-return]


def build_network(config: NetworkConfig, audio: AudioConfig, n_tags: int) -> nn.Module:
    """The network of a manifest, with new weights. Raises ValueError if the window is too short for its layers."""
    match config:
        case MelCnnConfig():
            return MelCnn(config, audio, n_tags)
        case SampleCnnConfig():
            return SampleCnn(config, audio, n_tags)
        case LstmConfig():
            return Lstm(config, audio, n_tags)


def _dense(n_inputs: int, n_tags: int) -> nn.Linear:
    if n_inputs < 1:
        raise ValueError("the window is too short for the layers of the network")
    return nn.Linear(n_inputs, n_tags)
