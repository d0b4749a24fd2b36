"""The numbers of a `multimodal` release, as they stand in its manifest."""

from typing import Annotated

from pydantic import Field

from app.audio.spec import WindowSpec
from app.families.contract import Manifest, Name, Probability, Strict
from app.families.parts.configs import WhisperConfig

Size = Annotated[int, Field(gt=0)]


class SegmentConfig(Strict):
    """How segments of voice are found in a window."""

    separation: Name | None = None  # an installed separator of vocals; None: the mix is taken for the vocals
    silence_dbfs: float = Field(-45.0, le=0)  # a frame of the vocals under this level is silent
    frame_seconds: float = Field(0.05, gt=0)
    gap_seconds: float = Field(0.3, ge=0)  # a shorter silence does not end a segment
    least_seconds: float = Field(0.5, ge=0)  # shorter segments are left out
    most_segments: int = Field(2, ge=1)  # of a window; the longest


class TimbralConfig(Strict):
    """Sizes of the audio codebook. Frames overlap by half."""

    n_mels: Size = 40
    frame_samples: Size = 1024  # 64 ms at 16 kHz
    n_components: Size  # P: principal components of the spectrum, which keep 95 % of its variance
    n_codewords: Size  # components of the Gaussian mixture


class ResNetConfig(Strict):
    """Three residual blocks of three convolutions. Kernels are those of Wang et al. 2017 (the paper's [28]); its channels
    (64, 128, 128) give four times the work, and the paper does not print its own."""

    step: Size = 256  # numbers of the feature vector that make one position of the sequence
    channels: tuple[Size, Size, Size] = (32, 64, 64)
    kernels: tuple[Size, Size, Size] = (8, 5, 3)


class MultimodalManifest(Manifest):
    """`manifest.json` of the family `multimodal`."""

    listen: WhisperConfig
    segments: SegmentConfig
    most_windows: int = Field(ge=1)  # of a song, unless a client asks for more
    timbral: TimbralConfig | None  # None: no codebook was learnt
    consumption: int = Field(ge=0)  # length of the vector; 0: the release takes none
    network: ResNetConfig
    thresholds: dict[str, dict[str, Probability]]  # by mode ("audio+consumption") and class; under it the answer is `und`

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of each modality, in the order of the feature vector."""
        timbral = 0 if self.timbral is None else 2 * self.timbral.n_codewords  # maximum and mean
        return {"vocals": self.listen.n_state, "timbral": timbral, "consumption": self.consumption}

    @property
    def window(self) -> WindowSpec:
        return self.listen.window
