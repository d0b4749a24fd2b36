"""What can go wrong while singing is made. Each class is one remedy; no client of the service ever meets one."""

from __future__ import annotations

from app.errors import LridError


class SynthesisError(LridError):
    """A corpus cannot be synthesised; `detail` names what is missing or wrong, `remedy` what to do."""

    title = "The corpus cannot be synthesised"
    remedy = "Run the same command again: what was made is kept."

    def __str__(self) -> str:
        return f"{self.detail} {self.remedy}"


class EspeakMissing(SynthesisError):
    """The synthesiser of speech is not installed."""

    remedy = "Install it, e.g. `apt-get install espeak-ng`."


class EspeakFailed(SynthesisError):
    """espeak-ng is there but gives no speech."""

    remedy = "Install espeak-ng 1.50 or newer with all its voices, e.g. `apt-get install espeak-ng`."


class WorldMissing(SynthesisError):
    """The vocoder is not installed."""

    remedy = "Install the training extra: `pip install -e '.[train]'`."


class MetadataUnusable(SynthesisError):
    """There is nothing to pair the clips with."""

    remedy = (
        "Give a UTF-8 TSV with the columns split, label, language, artist, album and title, "
        "and rows of split train and valid for every label."
    )


class SpeechUnusable(SynthesisError):
    """There are no recordings of voices to sing with."""

    remedy = (
        "Give a UTF-8 CSV with the columns file, label, language, source and speaker, files relative to it, and keep at "
        "least one source of each class for validation with --hold-out."
    )


class OrderRefused(SynthesisError):
    """What was asked for is out of range."""

    remedy = "Ask for one clip a class or more, one job or more, a seed of 0 or more, and labels that have word lists."


class OutputUnusable(SynthesisError):
    """The corpus cannot be written: no space, no right, a file in the way."""

    remedy = "Free space or choose another folder, then run the same command again: what was made is kept."
