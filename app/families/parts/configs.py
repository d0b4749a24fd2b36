"""Numbers of parts, as they stand in manifests. No torch: a release is listed without it."""

from typing import Self

from pydantic import Field, model_validator

from app.audio.spec import WindowSpec
from app.families.contract import Name, Strict

SAMPLE_RATE_HZ = 16_000
HOP_SIZE = 160  # samples, 10 ms between frames
STRIDE = 2  # frames in a position, by the second convolution


class WhisperConfig(Strict):
    """Sizes of Whisper's ears. Defaults are Whisper base's, with a third of its positions."""

    n_mels: int = Field(80, gt=0)
    n_positions: int = Field(500, gt=0)  # 20 ms each: 10 s
    n_state: int = Field(512, gt=0)
    n_head: int = Field(8, gt=0)
    n_layer: int = Field(6, gt=0)

    @model_validator(mode="after")
    def _heads_share_the_state(self) -> Self:
        if self.n_state % self.n_head:
            raise ValueError(f"n_state {self.n_state} must be a multiple of n_head {self.n_head}")
        return self

    @property
    def sample_rate_hz(self) -> int:
        return SAMPLE_RATE_HZ

    @property
    def window_samples(self) -> int:
        return self.n_positions * STRIDE * HOP_SIZE  # 160,000 for 10 s

    @property
    def window(self) -> WindowSpec:
        return WindowSpec(self.sample_rate_hz, self.window_samples, padding="silence")

    @property
    def n_features(self) -> int:
        return self.n_state + 2  # hidden, no-speech logit, level


class MelConfig(Strict):
    """Audio → log-mel spectrogram. Frames are centred on multiples of the hop."""

    fft_size: int = Field(2048, gt=0)  # samples, periodic Hann
    hop_size: int = Field(gt=0)  # samples
    mel_bands: int = Field(128, gt=0)  # from 0 Hz to half the sample rate; Slaney scale and norm

    def frames(self, samples: int) -> int:
        return samples // self.hop_size + 1


class LyricsConfig(Strict):
    """How lyrics are read."""

    max_characters: int = Field(16_000, gt=0)  # that a request may give
    read_characters: int = Field(800, gt=0)  # of which the profiles see so many: whole lines, spread over the song
    profile_exponent: float = Field(0.5, gt=0)  # of the evidence of k n-grams over sqrt(k); by lab/training/verses.json
    classes: dict[str, Name]  # by langdetect's code, where the class has another: {"zh-cn": "zh", "hr": "sh", ...}
