"""The numbers of a mel spectrogram, as they stand in a manifest."""

from pydantic import Field

from app.families.contract import Strict


class MelConfig(Strict):
    """Audio → log-mel spectrogram. Frames are centred on multiples of the hop."""

    fft_size: int = Field(2048, gt=0)  # samples, periodic Hann
    hop_size: int = Field(gt=0)  # samples
    mel_bands: int = Field(128, gt=0)  # from 0 Hz to half the sample rate; Slaney scale and norm

    def frames(self, samples: int) -> int:
        return samples // self.hop_size + 1
