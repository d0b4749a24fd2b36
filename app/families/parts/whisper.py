"""Whisper's encoder, and the one question this service asks its decoder: which language is this?

The network is that of Radford et al. 2022 (openai/whisper, `model.py`), for windows of 10 s. The decoder sees one token,
`<|startoftranscript|>`, so much of it needs no computing:

- Attention of one token to itself is a linear layer, out(value(x)). The checkpoint's loader multiplies the two matrices,
  and adds the first layer's, whose input is a constant, to that constant (`LanguageQuery.start`).
- Attention to what was heard needs no keys and values of all positions: (q · K) = (q · Wk) · heard, and Wv comes after the
  weighted sum. Whisper's keys have no bias; the weights sum to 1, so that the values' bias is added once.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from app.families.contract import Listen, Target
from app.families.parts.configs import STRIDE, WhisperConfig
from app.families.parts.listener import NetworkListener
from app.families.parts.log_mel import LogMel16kHz
from app.families.parts.quantised import Ranges

SILENCE_POWER = 1e-12  # mean square at -120 dBFS, the least level told apart


class SelfAttention(nn.Module):
    """Every position attends to all. Queries, keys and values come from one product; the keys' bias is zero."""

    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.qkv = nn.Linear(n_state, 3 * n_state)
        self.out = nn.Linear(n_state, n_state)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.n_head, d // self.n_head).permute(2, 0, 3, 1, 4)  # each (n, h, t, d / h)
        heads = scaled_dot_product_attention(q, k, v)  # (n, h, t, d / h)
        return self.out(heads.transpose(1, 2).reshape(n, t, d))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Four times as wide inside, with the exact GELU."""

    def __init__(self, n_state: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(n_state, 4 * n_state)
        self.fc2 = nn.Linear(4 * n_state, n_state)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) → (…, d)."""
        return self.fc2(gelu(self.fc1(x)))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Attention and MLP, each normalised before and added to its input."""

    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.attn_ln = nn.LayerNorm(n_state)
        self.attn = SelfAttention(n_state, n_head)
        self.mlp_ln = nn.LayerNorm(n_state)
        self.mlp = MLP(n_state)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        x = x + self.attn(self.attn_ln(x))
        return x + self.mlp(self.mlp_ln(x))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Log-mel spectrogram → what was heard, at each position of 20 ms."""

    def __init__(self, c: WhisperConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(c.n_mels, c.n_state, 3, padding=1)
        self.conv2 = nn.Conv1d(c.n_state, c.n_state, 3, stride=STRIDE, padding=1)
        self.positions = nn.Parameter(torch.zeros(c.n_positions, c.n_state))
        self.layers = nn.ModuleList(EncoderLayer(c.n_state, c.n_head) for _ in range(c.n_layer))
        self.ln = nn.LayerNorm(c.n_state)

    def forward(self, mel: Tensor) -> Tensor:
        """(n, n_mels, 2t) → (n, t, d)."""
        x = gelu(self.conv1(mel))  # (n, d, 2t)
        x = gelu(self.conv2(x)).transpose(1, 2)  # (n, t, d)
        x = x + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.ln(x)  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """One token attends to what was heard, without keys and values of all positions."""

    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.query = nn.Linear(n_state, n_state)
        self.key = nn.Linear(n_state, n_state, bias=False)
        self.value = nn.Linear(n_state, n_state)
        self.out = nn.Linear(n_state, n_state)

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        """(n, d) and (n, t, d) → (n, d)."""
        n, d = x.shape
        by_head = (self.n_head, d // self.n_head, d)
        q = self.query(x).view(n, self.n_head, 1, d // self.n_head)  # (n, h, 1, d / h)
        asked = (q @ self.key.weight.view(by_head)).squeeze(2)  # (n, h, d): q · Wk
        weights = (asked @ heard.transpose(1, 2) * (d // self.n_head) ** -0.5).softmax(dim=-1)  # (n, h, t)
        found = (weights @ heard).unsqueeze(2)  # (n, h, 1, d)
        values = (found @ self.value.weight.view(by_head).transpose(1, 2)).reshape(n, d) + self.value.bias  # (n, d)
        return self.out(values)  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """A layer of the decoder for one token. The first has no attention to itself: it is a constant, and in `start`."""

    def __init__(self, n_state: int, n_head: int, *, first: bool) -> None:
        super().__init__()
        self.attn_ln = None if first else nn.LayerNorm(n_state)
        self.attn = None if first else nn.Linear(n_state, n_state)
        self.cross_attn_ln = nn.LayerNorm(n_state)
        self.cross_attn = CrossAttention(n_state, n_head)
        self.mlp_ln = nn.LayerNorm(n_state)
        self.mlp = MLP(n_state)

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        """(n, d) and (n, t, d) → (n, d)."""
        if self.attn is not None and self.attn_ln is not None:
            x = x + self.attn(self.attn_ln(x))
        x = x + self.cross_attn(self.cross_attn_ln(x), heard)
        return x + self.mlp(self.mlp_ln(x))  # type: ignore[no-any-return]


class LanguageQuery(nn.Module):
    """The decoder on `<|startoftranscript|>`: its output, whose dot products with token rows are logits."""

    def __init__(self, c: WhisperConfig) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(c.n_state))  # token, position, and the first layer's attention to itself
        self.layers = nn.ModuleList(DecoderLayer(c.n_state, c.n_head, first=i == 0) for i in range(c.n_layer))
        self.ln = nn.LayerNorm(c.n_state)

    def forward(self, heard: Tensor) -> Tensor:
        """(n, t, d) → (n, d)."""
        x = self.start.expand(heard.shape[0], -1)  # (n, d)
        for layer in self.layers:
            x = layer(x, heard)
        return self.ln(x)  # type: ignore[no-any-return]


class Whisper(nn.Module):
    """Log-mel spectrogram → hidden: the part that runs in a reduced precision, and that other backends compile."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = LanguageQuery(config)

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.conv1.weight.dtype

    def forward(self, mel: Tensor) -> Tensor:
        """(n, n_mels, 2t) → (n, d), float32; in between the type of the weights."""
        return self.decoder(self.encoder(mel.to(self.dtype))).float()  # type: ignore[no-any-return]


class Ears(nn.Module):
    """Samples of a window → hidden, no-speech logit, level in dBFS; implements `contract.Listener`."""

    no_speech: Tensor

    def __init__(self, config: WhisperConfig, whisper: Whisper, no_speech: Tensor, ranges: Ranges | None = None) -> None:
        """`no_speech` (d,) is the row of the token `<|nospeech|>`; `ranges` are what int8 needs."""
        super().__init__()
        self.config = config
        self.n_features = config.n_features
        self.log_mel = LogMel16kHz(config.n_mels)
        self.whisper = whisper
        self.register_buffer("no_speech", no_speech)
        self.ranges = ranges
        mel = (1, config.n_mels, 2 * config.n_positions)
        self._listener = NetworkListener(self.log_mel, whisper, config.n_state, mel, halves=True, ranges=ranges)
        self.precisions, self.forget = self._listener.precisions, self._listener.forget

    def prepare(self, target: Target) -> Listen:
        """Raises ReleaseError for int8 without ranges or with those of another network, and for int8 in torch."""
        return partial(self.listen, self._listener.prepare(target), self.no_speech.to(target.device))

    def forward(self, samples: Tensor) -> Tensor:
        """(n, 160000) float32 → (n, 514) float32."""
        return self.listen(lambda samples: self.whisper(self.log_mel(samples)), self.no_speech, samples)

    @staticmethod
    def listen(hidden_of: Listen, no_speech: Tensor, samples: Tensor) -> Tensor:
        """By this network, or by what was prepared of it."""
        hidden = hidden_of(samples)  # (n, 512)
        level = 10.0 * samples.square().mean(dim=-1).clamp_min(SILENCE_POWER).log10()  # (n,) dBFS
        return torch.cat([hidden, (hidden @ no_speech)[:, None], level[:, None]], dim=1)
