"""Sets the reader's class mixes: in its answers, in its batches, and where all letters are Latin."""

from collections.abc import Mapping, Sequence

import numpy as np

# The paper's ten languages by name: between the mix of Music4All and that of the rows with the surest labels. All other
# classes together have the share TAIL, split by TAIL_WEIGHTS.
COMMON: Mapping[str, float] = {
    "en": 0.56298, "pt": 0.08399, "es": 0.07802, "fr": 0.05926, "de": 0.05004, "it": 0.03645, "pl": 0.03035, "sv": 0.02043,
    "ja": 0.00325, "ko": 0.00325,
}  # fmt: skip
TAIL = 0.25
TAIL_WEIGHTS = (  # 1 for the rest
    dict.fromkeys(("nl", "zh", "ru", "hi", "tr", "others"), 3.0)
    | dict.fromkeys(("ar", "el", "fi", "da", "no", "ro", "he", "id", "vi", "th", "hu", "cs", "uk", "fa", "ta", "te"), 2.0)
    | dict.fromkeys(("af", "cy", "gl", "eu", "km", "kk", "gu", "ne", "ka", "hy", "az", "mr"), 0.5)
)
COMMON_IN_BATCHES: Mapping[str, float] = {
    "en": 0.45704, "pt": 0.13204, "es": 0.0895, "ko": 0.05333, "fr": 0.04969, "ja": 0.03908, "de": 0.03786, "pl": 0.03328,
    "it": 0.03294, "sv": 0.02395,
}  # fmt: skip
TAIL_IN_BATCHES = 0.35
MOST_ROWS = 4000  # of a class; more do not make it more frequent in the batches

OTHER_SCRIPT = (
    *("uk", "ru", "be", "bg", "mk", "kk", "el", "ka", "hy", "he", "ar", "fa", "ur"),
    *("bn", "si", "gu", "mr", "ne", "ml", "kn", "pa", "th", "km", "zh"),
)
LATIN_SHARES = dict.fromkeys(OTHER_SCRIPT, 0.1) | {"ja": 0.002, "ko": 0.002}


def answer_mix(codes: Sequence[str]) -> dict[str, float]:
    """Returns shares by class, in order; they add up to 1."""
    return _joined(codes, COMMON, {code: TAIL_WEIGHTS.get(code, 1.0) for code in codes}, TAIL)


def batch_mix(codes: Sequence[str], labels: Sequence[int], answers: Mapping[str, float]) -> dict[str, float]:
    """Moves the mix towards uniform: in the tail √(share in the answers) · rows ** ¼; 0 for a class without rows."""
    counts = np.minimum(np.bincount(labels, minlength=len(codes)), MOST_ROWS)
    weights = {code: float(answers[code] ** 0.5 * n**0.25) for code, n in zip(codes, counts, strict=True)}
    present = [code for code in codes if weights[code]]
    found = _joined(present, COMMON_IN_BATCHES, weights, TAIL_IN_BATCHES)
    return {code: found.get(code, 0.0) for code in codes}


def _joined(codes: Sequence[str], common: Mapping[str, float], tail: Mapping[str, float], share: float) -> dict[str, float]:
    """Joins the classes of `common` as it says, and all others by `tail`, with this share of the whole."""
    of_common = sum(common[code] for code in codes if code in common)
    of_tail = sum(tail[code] for code in codes if code not in common)
    share = share if of_common and of_tail else float(not of_common)
    mix = {c: (1 - share) * common[c] / of_common if c in common else share * tail[c] / of_tail for c in codes}
    return {code: round(part, 6) for code, part in mix.items()}
