"""Read: metadata becomes the 56-vector of the network (Choi & Wang 2021, §3.2), with seeded langdetect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import langdetect
import numpy as np
import numpy.typing as npt
from langdetect.detector_factory import DetectorFactory
from langdetect.lang_detect_exception import LangDetectException

from app.domain import Metadata, Reading
from app.errors import ReleaseError

Float64Array = npt.NDArray[np.float64]

PROFILES = Path(langdetect.__file__).parent / "profiles"  # one JSON file for each language, named by its code


def langdetect_languages() -> tuple[str, ...]:
    """Codes of the installed langdetect's languages, sorted: the order of the first 55 dimensions."""
    return tuple(sorted(path.name for path in PROFILES.iterdir() if not path.name.startswith(".")))


class LangdetectReader:
    """Metadata in, vector out: what `langdetect.detect_langs` answers with a fixed seed, one dimension a language.

    Probabilities up to 0.1 are 0, as langdetect leaves them out; the last dimension is 1 when it finds no features.
    """

    def __init__(self, languages: Sequence[str], *, seed: int) -> None:
        """`languages`: langdetect's codes in sorted order, as the manifest lists them. Raises ReleaseError."""
        installed = langdetect_languages()
        if tuple(languages) != installed:
            raise ReleaseError(f"text languages should be langdetect's {list(installed)}, but are {list(languages)}")
        factory = DetectorFactory()
        factory.load_json_profile([(PROFILES / code).read_text(encoding="utf-8") for code in installed])
        factory.set_seed(seed)
        self._factory = factory
        self._dimension = {code: i for i, code in enumerate(factory.langlist)}

    @property
    def n_features(self) -> int:
        return len(self._dimension) + 1

    def __call__(self, metadata: Metadata) -> Reading:
        vector = self.vector_of(metadata.joined)
        return Reading(vector=vector.astype(np.float32), informative=not vector[-1])

    def vector_of(self, text: str) -> Float64Array:
        """(n_features,) of `text`; the last is 1, and all others 0, when langdetect finds no features in it."""
        vector = np.zeros(self.n_features)
        detector = self._factory.create()
        detector.append(text)
        try:
            for found in detector.get_probabilities():
                vector[self._dimension[found.lang]] = found.prob
        except LangDetectException:
            vector[-1] = 1.0
        return vector
