"""The reader against plain seeded langdetect, on the real metadata: same answers, and how many times as fast.

    python -m loadtest.reader                 # 2,000 rows drawn at random, about 10 s
    python -m loadtest.reader --rows 500
    python -m loadtest.reader --numpy         # as where numba is missing
    python -m loadtest.reader --all           # every row of metadata.tsv, about 7 min of one core

Slices of 50 rows go through one and then the other, so that both meet the same machine; times are CPU time of the one
thread that does the work. Exits with 1 if any answer differs by more than 1e-9.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from langdetect.detector_factory import DetectorFactory
from langdetect.lang_detect_exception import LangDetectException

from app.domain import METADATA_FIELDS, Metadata
from app.families.compiled import has_compiler
from app.families.lrid_net.profiles import PROFILES, Float64Array
from app.families.lrid_net.read import LangdetectReader, langdetect_languages

SEED = 0
SLICE_ROWS = 50
TOLERANCE = 1e-9
SAMPLE_SEED = 1


class PlainLangdetect:
    """langdetect's own detector with a fixed seed, its languages sorted; what it finds as a vector."""

    def __init__(self, languages: Sequence[str], *, seed: int) -> None:
        self._factory = DetectorFactory()
        self._factory.load_json_profile([(PROFILES / code).read_text(encoding="utf-8") for code in languages])
        self._factory.set_seed(seed)
        self._dimension = {code: i for i, code in enumerate(languages)}

    def vector_of(self, text: str) -> Float64Array:
        vector = np.zeros(len(self._dimension) + 1)
        detector = self._factory.create()
        detector.append(text)
        try:
            for found in detector.get_probabilities():
                vector[self._dimension[found.lang]] = found.prob
        except LangDetectException:
            vector[-1] = 1.0
        return vector


class CountingReader(LangdetectReader):
    """Counts the texts on which rounding decides, which it hands to langdetect's own arithmetic."""

    n_handed_over = 0

    def _by_langdetect(self, text: str) -> Float64Array:
        self.n_handed_over += 1
        return super()._by_langdetect(text)


@dataclass(slots=True)
class Comparison:
    reader_seconds: list[float] = field(default_factory=list)  # a call, by slice
    plain_seconds: list[float] = field(default_factory=list)
    largest_difference: float = 0.0
    n_different: int = 0


def texts_of(path: Path, n_rows: int | None) -> list[str]:
    """`artist album title` of `n_rows` rows drawn at random, or of all."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        texts = [Metadata(**{name: row[name] for name in METADATA_FIELDS}).joined for row in rows]
    return texts if n_rows is None else random.Random(SAMPLE_SEED).sample(texts, min(n_rows, len(texts)))


def timed(read: Callable[[str], Float64Array], texts: Sequence[str]) -> tuple[list[Float64Array], float]:
    """The vectors, and CPU seconds a call."""
    begin = time.thread_time()
    vectors = [read(text) for text in texts]
    return vectors, (time.thread_time() - begin) / len(texts)


def compare(reader: LangdetectReader, plain: PlainLangdetect, texts: Sequence[str]) -> Comparison:
    result = Comparison()
    for start in range(0, len(texts), SLICE_ROWS):
        some = texts[start : start + SLICE_ROWS]
        vectors, reader_seconds = timed(reader.vector_of, some)
        expected, plain_seconds = timed(plain.vector_of, some)
        result.reader_seconds.append(reader_seconds)
        result.plain_seconds.append(plain_seconds)
        differences = np.abs(np.stack(vectors) - np.stack(expected)).max(axis=1)
        result.largest_difference = max(result.largest_difference, float(differences.max()))
        result.n_different += int((differences > TOLERANCE).sum())
        print(f"\r{min(start + SLICE_ROWS, len(texts))}/{len(texts)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="how many rows to draw (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="every row, in the file's order")
    parser.add_argument("--numpy", action="store_true", help="as where numba is missing")
    arguments = parser.parse_args()
    texts = texts_of(
        Path(os.environ.get("LRID_DATA", "../shared/data")) / "metadata.tsv", None if arguments.all else arguments.rows
    )
    begin = time.perf_counter()
    reader = CountingReader(langdetect_languages(), seed=SEED, compiled=not arguments.numpy)
    build_seconds = time.perf_counter() - begin
    result = compare(reader, PlainLangdetect(langdetect_languages(), seed=SEED), texts)
    reader_ms, plain_ms = (1e3 * statistics.median(times) for times in (result.reader_seconds, result.plain_seconds))
    ratio = statistics.median(p / r for p, r in zip(result.plain_seconds, result.reader_seconds, strict=True))
    by = "numba" if has_compiler() and not arguments.numpy else "numpy"
    print(f"Python {platform.python_version()}, by {by}; reader built in {build_seconds:.2f} s")
    print(f"{len(texts):,} rows: largest difference {result.largest_difference:.1e}, {result.n_different} rows over")
    print(f"1e-9, {reader.n_handed_over} handed to langdetect's own arithmetic because rounding decides")
    print(f"median of slices: reader {reader_ms:.3f} ms, plain langdetect {plain_ms:.3f} ms a call: {ratio:.1f} x")
    return 1 if result.n_different else 0


if __name__ == "__main__":
    sys.exit(main())
