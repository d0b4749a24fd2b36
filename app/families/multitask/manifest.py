"""`manifest.json` of the family: how segments are cut and heard, the network's sizes, artists beside languages."""

from typing import Literal, Self

from pydantic import Field, model_validator

from app.audio.spec import WindowSpec, middle_positions
from app.families.contract import Label, Manifest, Strict
from app.families.parts.configs import MelConfig

TaskName = Literal["language", "artist"]


class SegmentConfig(MelConfig):
    """Front end of Singh & Biswas §2: 187 frames of 96 mel bands for 3 s.

    The paper names neither rate nor hop. 16 kHz with a hop of 256 gives 187.5 hops in 3 s: 187 frames, centred as
    librosa has them, the last one dropped. These are the input of MusiCNN (Pons & Serra 2019), whose 512 samples of
    window and logarithm are taken as well.
    """

    sample_rate_hz: int = Field(16_000, ge=8_000)
    segment_seconds: float = Field(3.0, gt=0)
    fft_size: int = Field(512, ge=64)  # samples; 32 ms
    hop_size: int = Field(256, ge=16)  # samples; 16 ms
    mel_bands: int = Field(96, ge=94)  # fewer do not survive five blocks
    gain: float = Field(10_000.0, gt=0)  # log10(1 + gain * power)
    pieces: int = Field(2, ge=1)  # of a song that is trained on, with their middles at equal distances
    piece_seconds: float = Field(60.0, gt=0)
    served_segments: int = Field(16, ge=1)  # of a track, spread over its middle

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.segment_frames < 94:  # the fifth convolution would have nothing left
            raise ValueError(f"segment_seconds: {self.segment_frames} frames, the network needs 94")
        return self

    @property
    def segment_samples(self) -> int:
        return round(self.segment_seconds * self.sample_rate_hz)

    @property
    def segment_frames(self) -> int:
        return self.segment_samples // self.hop_size  # 187

    @property
    def piece(self) -> WindowSpec:
        """Pieces of a song; two of them have their middles at a third and two thirds of it."""
        shares = tuple((i + 1) / (self.pieces + 1) for i in range(self.pieces))
        samples = self.segment_samples * max(1, round(self.piece_seconds / self.segment_seconds))  # whole segments
        return WindowSpec(self.sample_rate_hz, samples, padding="silence", positions=shares)

    @property
    def window(self) -> WindowSpec:
        """Segments of a track that is served."""
        positions = middle_positions(self.served_segments)
        return WindowSpec(self.sample_rate_hz, self.segment_samples, padding="silence", positions=positions)


class BlockConfig(Strict):
    """The shared blocks (§2)."""

    channels: tuple[int, ...] = Field((32, 64, 128, 64, 32), min_length=5, max_length=5)


class MultitaskManifest(Manifest):
    """`labels` are the languages, or the artists of a release that knows nothing else."""

    asks: TaskName  # what `labels` are
    artists: list[Label] = Field(default_factory=list)  # the second question's classes; none: one task
    listen: SegmentConfig
    blocks: BlockConfig

    @property
    def classes(self) -> dict[TaskName, list[Label]]:
        """The classes of each output layer, in the order of the features."""
        return {self.asks: self.labels} | ({"artist": self.artists} if self.artists else {})

    @property
    def sizes(self) -> dict[str, int]:
        return {task: len(labels) for task, labels in self.classes.items()}
