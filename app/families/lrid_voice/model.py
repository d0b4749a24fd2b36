"""A release of `lrid_voice`, loaded: Whisper's ears, readers of names and lyrics, and the head that joins them."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from torch import Tensor

from app.domain import AUDIO, LYRICS, TEXT, FloatArray, Mode, Reading, Scores, Track
from app.families.contract import AudioBranch, InputBranch
from app.families.lrid_voice.identify import VoiceHead, language_task
from app.families.lrid_voice.manifest import VoiceManifest
from app.families.parts.lyrics import LyricsBranch
from app.families.parts.names import clean
from app.families.parts.ngrams.reader import NgramReader
from app.families.parts.whisper_weights import PREFIX as EARS
from app.families.parts.whisper_weights import ears_from_stored

READER, HEAD = "reader.", "identify."  # prefixes of tensors


class NamesBranch:
    """Artist, album and title, cleaned of what catalogues add; implements `contract.ManyBranch`."""

    field = None  # it reads the metadata

    def __init__(self, reader: NgramReader) -> None:
        self.reader = reader

    def read(self, track: Track) -> Reading | None:
        return self.reader(clean(track.metadata)) if track.metadata.fields else None

    def read_many(self, tracks: Sequence[Track]) -> list[Reading | None]:
        readings = iter(self.reader.read_many([clean(track.metadata) for track in tracks if track.metadata.fields]))
        return [next(readings) if track.metadata.fields else None for track in tracks]


class VoiceModel:
    """Implements `contract.Model`."""

    def __init__(self, manifest: VoiceManifest, weights: Mapping[str, Tensor]) -> None:
        """Raises ReleaseError if weights and manifest do not fit each other; of the ears, when they are asked for."""
        self.manifest = manifest
        self._stored_ears = {name: tensor for name, tensor in weights.items() if name.startswith(EARS)}
        own = {name.removeprefix(READER): tensor for name, tensor in weights.items() if name.startswith(READER)}
        reader = NgramReader(manifest.read, own)
        inputs: dict[str, InputBranch] = {TEXT: NamesBranch(reader)}
        if manifest.lyrics is not None:
            inputs[LYRICS] = LyricsBranch(manifest.lyrics, reader)
        self.inputs: Mapping[str, InputBranch] = inputs
        codes = [label.code for label in manifest.labels]
        head = {name: tensor.float().numpy() for name, tensor in weights.items() if name.startswith(HEAD)}
        self.head = VoiceHead(manifest.identify, codes, head)
        self.task = language_task(manifest.languages, manifest.identify)

    @cached_property
    def audio(self) -> AudioBranch:
        """Built when first asked for: names alone need no ears, which take a second. Raises ReleaseError."""
        ears, plan = ears_from_stored(self.manifest.listen, self._stored_ears), self.manifest.windows
        self._stored_ears = {}  # their memory
        return AudioBranch(self.manifest.window, ears, plan.first_windows, plan.most_windows)

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        """What ears and readers say together; what is missing or says nothing contributes nothing."""
        readings = {name: vector for name, vector in features.items() if name != AUDIO and (name in mode or not mode)}
        return self.head.combine(features.get(AUDIO), readings)
