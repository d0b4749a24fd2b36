"""The numbers of a `tagging` release, as they stand in its manifest. Defaults: Dalla Longa et al., tables 1 to 3."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.audio.spec import WindowSpec
from app.families.contract import Manifest, Probability, Strict
from app.families.parts.configs import MelConfig

Count = Annotated[int, Field(gt=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class AudioConfig(Strict):
    """What a network hears at once: a clip of MagnaTagATune from end to end."""

    sample_rate_hz: Count = 16_000
    window_samples: Count = 465_984  # 29.124 s
    most_windows: Count = 8  # of a longer song, spread over it; their probabilities are averaged

    @property
    def window(self) -> WindowSpec:
        """A shorter song is repeated."""
        return WindowSpec(self.sample_rate_hz, self.window_samples)


class MelCnnConfig(Strict):
    """Table 2."""

    kind: Literal["mel_cnn"] = "mel_cnn"
    mel: MelConfig = MelConfig(hop_size=1792)  # 261 frames
    channels: list[Count] = Field([32, 64, 64, 64], min_length=1)
    dropout: Dropout = 0.1


class SampleCnnConfig(Strict):
    """Table 1. The first of the channels are those of the strided convolution, which is not pooled."""

    kind: Literal["sample_cnn"] = "sample_cnn"
    channels: list[Count] = Field([128, 128, 256, 256, 256, 256, 256, 256, 512], min_length=2)
    dropout: Dropout = 0.5


class LstmConfig(Strict):
    """Table 3. The convolutions have a filter for each tag."""

    kind: Literal["lstm"] = "lstm"
    mel: MelConfig = MelConfig(hop_size=512)  # 911 frames, 227 in a segment
    segments: Count = 4  # of a song; their predictions are averaged (§4.4.2)
    units: Count = 100  # in each direction
    layers: Count = 2
    convolutions: Count = 3


NetworkConfig = Annotated[MelCnnConfig | SampleCnnConfig | LstmConfig, Field(discriminator="kind")]


class TaggingManifest(Manifest):
    """`manifest.json` of the family `tagging`; its labels are tags."""

    audio: AudioConfig
    network: NetworkConfig
    thresholds: list[Probability]  # a tag applies from here on, in the order of the labels: where TPR = TNR (§4.6)

    @model_validator(mode="after")
    def _every_tag_has_a_threshold(self) -> Self:
        if len(self.thresholds) != len(self.labels):
            raise ValueError(
                f"thresholds: {len(self.labels)} are needed, one for each label; there are {len(self.thresholds)}"
            )
        return self
