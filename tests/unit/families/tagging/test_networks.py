"""Tables 1 to 3 of Dalla Longa et al., layer by layer: output sizes and numbers of parameters as printed."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from app.families.parts.configs import MelConfig
from app.families.parts.log_mel import LogMel
from app.families.parts.weights import COUNTER
from app.families.tagging.manifest import AudioConfig, LstmConfig, MelCnnConfig, NetworkConfig, SampleCnnConfig
from app.families.tagging.networks import BidirectionalLstm, build_network

N_TAGS = 50
CLIP = AudioConfig()
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
POOLINGS = (nn.MaxPool1d, nn.MaxPool2d)
TABLES: dict[str, tuple[NetworkConfig, list[tuple[tuple[int, ...], int]], int]] = {  # output and parameters by layer
    "table 1": (
        SampleCnnConfig(),
        [
            ((128, 155_328), 1024),
            ((128, 155_328), 49_792), ((128, 51_776), 0),
            ((256, 51_776), 99_584), ((256, 17_258), 0),
            ((256, 17_258), 197_888), ((256, 5752), 0),
            ((256, 5752), 197_888), ((256, 1917), 0),
            ((256, 1917), 197_888), ((256, 639), 0),
            ((256, 639), 197_888), ((256, 213), 0),
            ((256, 213), 197_888), ((256, 71), 0),
            ((512, 71), 395_776), ((512, 23), 0),
            ((50,), 588_850),
        ],
        2_124_466,  # printed as 2.1×10^6
    ),
    "table 2": (
        MelCnnConfig(),
        [
            ((32, 126, 259), 448), ((32, 63, 129), 0),  # printed: 126x256, which contradicts the 129 after it
            ((64, 61, 127), 18_752), ((64, 30, 63), 0),
            ((64, 28, 61), 37_184), ((64, 14, 30), 0),
            ((64, 12, 28), 37_184), ((64, 6, 14), 0),  # printed: 12x28x6, which contradicts its parameters
            ((50,), 268_850),
        ],
        362_418,
    ),
    "table 3": (
        LstmConfig(),
        [
            ((227, 200), 183_200),
            ((227, 200), 240_800),
            ((50, 225), 30_050),
            ((50, 223), 7550),
            ((50, 221), 7550),
            ((50,), 552_550),
        ],
        1_021_700,  # printed as 1.02×10^6
    ),
}  # fmt: skip


def n_numbers(network: nn.Module) -> int:
    """Parameters as the tables count them, four for each channel of a batch norm."""
    return sum(tensor.numel() for name, tensor in network.state_dict().items() if COUNTER not in name)


def layers(network: nn.Module) -> list[tuple[tuple[int, ...], int]]:
    """Output without the batch, and parameters, of what a table lists; a batch norm counts with its convolution."""
    found: list[tuple[tuple[int, ...], int]] = []

    def listed(layer: nn.Module, _: Any, output: Tensor) -> None:
        found.append((tuple(output.shape[1:]), n_numbers(layer)))

    def with_the_convolution(layer: nn.Module, _: Any, output: Tensor) -> None:
        found[-1] = (found[-1][0], found[-1][1] + n_numbers(layer))

    for module in network.modules():
        if isinstance(module, (*CONVOLUTIONS, *POOLINGS, nn.Linear, BidirectionalLstm)):
            module.register_forward_hook(listed)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_hook(with_the_convolution)
    network.eval()(torch.zeros(1, CLIP.window_samples, device="meta"))
    return found


@pytest.mark.parametrize(("config", "table", "total"), TABLES.values(), ids=TABLES)
def test_layers_and_parameters_are_those_printed(
    config: NetworkConfig, table: list[tuple[tuple[int, ...], int]], total: int
) -> None:
    network = build_network(config, CLIP, N_TAGS).to("meta")  # shapes and counts alone
    assert layers(network) == table
    assert n_numbers(network) == sum(numbers for _, numbers in table) == total


def test_inputs_are_those_printed() -> None:
    assert CLIP.window_samples / CLIP.sample_rate_hz == 29.124
    assert (MelCnnConfig().mel.mel_bands, MelCnnConfig().mel.frames(CLIP.window_samples)) == (128, 261)
    assert (LstmConfig().mel.frames(CLIP.window_samples) // LstmConfig().segments, LstmConfig().mel.mel_bands) == (227, 128)


SMALL_CLIP = AudioConfig(sample_rate_hz=4000, window_samples=4000)
SMALL: list[NetworkConfig] = [
    MelCnnConfig(mel=MelConfig(fft_size=256, hop_size=128, mel_bands=24), channels=[4, 6]),
    SampleCnnConfig(channels=[4, 4, 6, 8]),
    LstmConfig(mel=MelConfig(fft_size=256, hop_size=64, mel_bands=16), segments=2, units=5, convolutions=2),
]
KINDS = [config.kind for config in SMALL]


def small(config: NetworkConfig, n_tags: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return build_network(config, SMALL_CLIP, n_tags)


def tones(n: int) -> Tensor:
    """(n, 4000): each of another pitch, with a little noise."""
    t = torch.arange(4000) / 4000
    waves = torch.stack([torch.sin(2 * np.pi * pitch * t) for pitch in np.geomspace(150, 1500, n)])
    return 0.3 * waves + 0.01 * torch.randn(waves.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", SMALL, ids=KINDS)
def test_every_parameter_gets_a_gradient(config: NetworkConfig) -> None:
    network = small(config)
    loss = network(tones(4)).square().mean()
    loss.backward()
    assert [name for name, one in network.named_parameters() if one.grad is None or not one.grad.abs().any()] == []


@pytest.mark.parametrize("config", SMALL, ids=KINDS)
def test_it_learns_a_handful_by_heart(config: NetworkConfig) -> None:
    """Six songs, three tags in every combination but two."""
    network = small(config.model_copy(update={"dropout": 0.0}) if hasattr(config, "dropout") else config)
    wanted = torch.tensor([[row >> bit & 1 for bit in range(3)] for row in range(6)], dtype=torch.float32)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(300):
        logits = network(tones(6))
        loss: Any = binary_cross_entropy_with_logits(logits, wanted[:, None].expand_as(logits))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if loss.item() < 0.1:
            return
    pytest.fail(f"the loss is still {loss.item():.3f}")


def test_the_printed_sample_cnn_learns_two_clips() -> None:
    """All widths and layers of table 1 over 3^9 samples; at 465,984 a step of two clips takes seven seconds of CPU."""
    torch.manual_seed(0)
    network = build_network(SampleCnnConfig(), AudioConfig(window_samples=3**9), N_TAGS)
    clips = 0.1 * torch.randn(2, 3**9, generator=torch.Generator().manual_seed(0))
    wanted = torch.zeros(2, 1, N_TAGS)
    wanted[0, 0, ::2] = wanted[1, 0, 1::2] = 1
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)  # the paper's
    losses = []
    for _ in range(8):
        loss: Any = binary_cross_entropy_with_logits(network(clips), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2, losses


def test_segments_of_a_song_are_listened_to_one_by_one() -> None:
    """A change in the last quarter of a song leaves the predictions of the first untouched."""
    config = LstmConfig(mel=MelConfig(fft_size=256, hop_size=64, mel_bands=16), segments=4, units=5, convolutions=2)
    network = small(config).eval()
    song = tones(1)
    changed = song.clone()
    changed[:, 3300:] = 0
    with torch.no_grad():
        before, after = network(song), network(changed)
    assert before.shape == (1, 4, 3)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


@pytest.mark.parametrize("config", SMALL, ids=KINDS)
def test_a_window_that_is_too_short_is_refused(config: NetworkConfig) -> None:
    with pytest.raises(ValueError, match="the window is too short for the layers of the network"):
        build_network(config, AudioConfig(sample_rate_hz=4000, window_samples=50), 3)


def test_the_spectrogram_has_a_tone_where_it_belongs() -> None:
    """1 kHz is in the middle of the band that Slaney's scale gives it, 40 dB to the unit."""
    mel = LogMel(MelConfig(hop_size=512), 16_000)
    t = torch.arange(16_000) / 16_000
    loud, soft = (mel(level * torch.sin(2 * np.pi * 1000 * t)[None])[0, :, 15] for level in (0.5, 0.05))
    assert loud.shape == (128,)
    assert int(loud.argmax()) == int(mel.mel[:, 128].argmax())  # bin 128 of 1,025 is 1 kHz
    assert float(loud.max() - soft.max()) == pytest.approx(0.5, abs=1e-3)  # 20 dB
    assert float(mel(torch.zeros(1, 16_000)).max()) == pytest.approx(-1.5)  # -100 dB
