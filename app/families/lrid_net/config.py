"""The numbers of an LRID-Net as they stand in its manifest. Defaults are the paper's (Choi & Wang 2021, §3)."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from app.audio.spec import WindowSpec
from app.domain import AUDIO, TEXT, Mode
from app.families.contract import Manifest, Name, Probability, Strict
from app.families.tasks import Bounds


class ListenConfig(Strict):
    """Audio → log-mel spectrogram → f. Paper §3.1; Kapre's documented defaults where the paper is silent."""

    sample_rate_hz: int = Field(22_050, gt=0)
    window_seconds: float = Field(30.0, gt=0)
    fft_size: int = Field(1024, gt=0)  # samples, periodic Hann
    hop_size: int = Field(256, gt=0)  # samples; no centre padding
    mel_bands: int = Field(128, gt=0)  # Slaney scale and norm
    low_hz: float = Field(0.0, ge=0)
    high_hz: float = Field(11_025.0, gt=0)
    amplitude_floor: float = Field(1e-5, gt=0)  # of the magnitude, before the logarithm
    dynamic_range_db: float = Field(80.0, gt=0)  # kept under the window's own maximum

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sample_rate_hz)  # 661,500 for 30 s

    @property
    def window(self) -> WindowSpec:
        """Short clips are repeated; windows are spread over the whole track, in order of time."""
        return WindowSpec(self.sample_rate_hz, self.window_samples)

    @property
    def window_frames(self) -> int:
        return (self.window_samples - self.fft_size) // self.hop_size + 1  # 2,580 for 30 s


class ReadConfig(Strict):
    """Metadata → x_lang: langdetect's probabilities by language code, and one dimension for failure. Paper §3.2."""

    method: Literal["langdetect"] = "langdetect"
    languages: list[str] = Field(min_length=1)  # 55, sorted
    seed: int = 0  # langdetect draws n-grams at random; a fixed seed a call makes it a function

    @property
    def n_features(self) -> int:
        return len(self.languages) + 1  # 56


class NetworkConfig(Strict):
    """Sizes of f, g and h. Paper §3.3."""

    base_channels: int = Field(64, gt=0)
    stage_blocks: list[int] = Field([3, 4, 6, 3], min_length=4, max_length=4)  # ResNet-50
    text_units: int = Field(128, gt=0)
    text_layers: int = Field(3, gt=0)
    identify_units: int = Field(256, gt=0)

    @property
    def n_audio_features(self) -> int:
        return self.base_channels * 8 * 4  # four stages double the width thrice; bottlenecks expand by 4: 2,048


MODES: Mapping[str, Mode] = {
    "both": frozenset({AUDIO, TEXT}),
    "audio_only": frozenset({AUDIO}),
    "text_only": frozenset({TEXT}),
}


class Temperatures(Strict):
    """Logits are divided by these before softmax, by mode."""

    both: float = Field(1.0, gt=0)
    audio_only: float = Field(1.0, gt=0)
    text_only: float = Field(1.0, gt=0)


class Thresholds(Strict):
    """The best probability must reach these, or the answer is `und`."""

    both: Probability = 0.0
    audio_only: Probability = 0.0
    text_only: Probability = 0.0
    by_language: dict[Name, Probability] = Field(default_factory=dict)  # where text was read, instead of its mode's

    @property
    def bounds(self) -> Bounds:
        least = {mode: getattr(self, name) for name, mode in MODES.items()}
        return Bounds(least, {mode: self.by_language for mode in least if TEXT in mode})


class LridNetManifest(Manifest):
    """`manifest.json` of the family `lrid_net`."""

    listen: ListenConfig
    read: ReadConfig
    network: NetworkConfig
    temperature: Temperatures
    thresholds: Thresholds
    int8: dict[str, Any] | None = None  # read so that earlier releases load; nothing uses it
