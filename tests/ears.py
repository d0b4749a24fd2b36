"""Small ears with random weights, for tests."""

import torch

from app.families.parts.configs import WhisperConfig
from app.families.parts.quantised import Ranges
from app.families.parts.whisper import Ears, Whisper

SMALL = WhisperConfig(n_mels=40, n_positions=50, n_state=256, n_head=4, n_layer=2)
RANGES: Ranges = {
    f"encoder.layers.{i}.{layer}": (-5.0, 5.0) for i in range(2) for layer in ("attn.qkv", "attn.out", "mlp.fc1", "mlp.fc2")
}


def small_ears(ranges: Ranges | None = None, seed: int = 0) -> Ears:
    """Windows of a second, 258 features."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        whisper = Whisper(SMALL)
        torch.nn.init.normal_(whisper.encoder.positions, std=0.3)
        torch.nn.init.normal_(whisper.decoder.start, std=1.0)
        return Ears(SMALL, whisper.requires_grad_(False), torch.randn(SMALL.n_state), ranges).eval()


def noise(n: int, seed: int = 0) -> torch.Tensor:
    """(n, 16000) float32, each quieter than the one before."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, SMALL.window_samples, generator=generator) * 0.3 * 0.5 ** torch.arange(n)[:, None]
