"""`manifest.json` of the family: how audio is cut and seen, which words are read, and the sizes of the network."""

from typing import Literal, Self

from pydantic import Field, model_validator

from app.audio.spec import WindowSpec, middle_positions
from app.domain import AUDIO, LYRICS
from app.families.contract import Manifest, Strict
from app.families.parts.configs import HOP_SIZE, SAMPLE_RATE_HZ


class SeeConfig(Strict):
    """Audio → mel spectrogram → a convolutional network. The proposal names no sizes; these train in minutes on a CPU."""

    window_seconds: float = Field(3.0, gt=0)
    mel_bands: int = Field(64, ge=16)
    channels: tuple[int, ...] = Field((16, 32, 64, 64), min_length=1)  # of blocks, each of which halves both axes
    n_features: int = Field(64, gt=0)
    served_windows: int = Field(4, ge=1)  # of a track, spread over its middle

    @model_validator(mode="after")
    def _survives_its_poolings(self) -> Self:
        least = 1 << len(self.channels)
        if min(self.frames, self.mel_bands) < least:
            raise ValueError(f"channels: {len(self.channels)} blocks need {least} frames and {least} mel bands")
        return self

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * SAMPLE_RATE_HZ)

    @property
    def frames(self) -> int:
        return self.window_samples // HOP_SIZE  # 300

    @property
    def window(self) -> WindowSpec:
        positions = middle_positions(self.served_windows)
        return WindowSpec(SAMPLE_RATE_HZ, self.window_samples, padding="silence", positions=positions)


class ReadConfig(Strict):
    """Lyrics → principal words → embeddings → LSTM layers. Bounded, because it runs between the requests of others."""

    max_characters: int = Field(16_000, gt=0)  # that a request may give
    read_characters: int = Field(600, gt=0)  # of which so many are looked at: whole lines, spread over the song
    most_words: int = Field(64, gt=0)  # of these, principal ones: those of the vocabulary
    embedding_size: int = Field(32, gt=0)
    hidden_units: int = Field(32, gt=0)
    layers: int = Field(2, ge=1)


class Sizes(Strict):
    """What a release and its training have in common."""

    modalities: Literal["both", "audio", "lyrics"] = "both"  # either alone is what fusion is compared with
    see: SeeConfig = SeeConfig()
    read: ReadConfig = ReadConfig()
    fused_units: int = Field(64, gt=0)  # of the dense layer that joins the two

    @property
    def used(self) -> frozenset[str]:
        return frozenset({AUDIO, LYRICS} if self.modalities == "both" else {self.modalities})


class GenreManifest(Manifest, Sizes):
    """`manifest.json` of the family `genre`."""

    vocabulary: list[str]  # in the order of the embeddings, the first of which stands for no word
