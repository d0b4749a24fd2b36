"""Measures of several labels at once (Dalla Longa et al., §4.6), tag by tag and averaged over the tags.

*AUC* is the area under the ROC curve. A tag's threshold is where the true positive rate (recall) equals the true negative
rate (specificity); TPR and FPR are measured there. The paper calls it the crossing of TPR and FPR; recall equal
to specificity, which it asks for, is the crossing of TPR and 1 - FPR.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from app.domain import FloatArray
from app.lab import markdown as md
from app.lab.errors import CorpusError

PAPER_TABLE_4 = {  # AUC, TPR, FPR
    "mel_cnn": ("Mel Spectrogram - 2D CNN", 0.894, 0.827, 0.173),
    "sample_cnn": ("Sample CNN - 1D CNN", 0.880, 0.812, 0.187),
    "lstm": ("LSTM", 0.870, 0.800, 0.203),
}


@dataclass(frozen=True, slots=True)
class TagFigures:
    """Holds how right one tag is; None where all rows have it, or none has."""

    code: str
    positives: int
    rows: int
    auc: float | None
    threshold: float
    tpr: float | None
    fpr: float | None


def equal_rate_threshold(truth: FloatArray, probabilities: FloatArray) -> float:
    """Finds from which probability on a tag applies, so that TPR = TNR as nearly as the rows allow; (n,) each.

    Between two rows' probabilities, so that rounding changes no answer. Raises ValueError without rows of both kinds.
    """
    if len(set(truth.tolist())) < 2:
        raise ValueError("a threshold needs rows with the tag and rows without")
    fpr, tpr, found = roc_curve(truth, probabilities, drop_intermediate=False)
    best = int(np.lexsort((fpr - tpr, np.abs(tpr - (1 - fpr)).round(9)))[0])  # of two as near, the one with more right
    least = found[best]
    below = found[best + 1] if best + 1 < len(found) else 0.0
    return float(np.clip((least + below) / 2, 0.0, 1.0)) if np.isfinite(least) else 1.0


def thresholds(truth: FloatArray, probabilities: FloatArray) -> list[float]:
    """(n, n_tags) each → a threshold for each tag."""
    return [equal_rate_threshold(*column) for column in zip(truth.T, probabilities.T, strict=True)]


def figures(truth: FloatArray, probabilities: FloatArray, codes: Sequence[str], least: Sequence[float]) -> list[TagFigures]:
    """(n, n_tags) each; `least`: from which probability on each tag applies."""
    found = []
    for code, true, chances, threshold in zip(codes, truth.T > 0, probabilities.T, least, strict=True):
        applies, n = chances >= threshold, int(true.sum())
        auc = float(roc_auc_score(true, chances)) if 0 < n < len(true) else None
        tpr = float(applies[true].mean()) if n else None
        fpr = float(applies[~true].mean()) if n < len(true) else None
        found.append(TagFigures(code, n, len(true), auc, threshold, tpr, fpr))
    return found


def averages(found: Sequence[TagFigures]) -> dict[str, float]:
    """AUC, TPR and FPR over the tags that can be measured, and how many those are. Raises CorpusError if none can."""
    measured = [tag for tag in found if tag.auc is not None]
    if not measured:
        raise CorpusError("no tag can be measured: each needs rows with it and rows without it")
    means = {name: float(np.mean([getattr(tag, name) for tag in measured])) for name in ("auc", "tpr", "fpr")}
    return means | {"tags": len(measured), "rows": measured[0].rows}


def table_4(kind: str, means: dict[str, float]) -> str:
    """Writes the release's row beside those that the paper printed."""
    own = (f"{PAPER_TABLE_4[kind][0]}, this release", means["auc"], means["tpr"], means["fpr"])
    printed = [(f"{name}, the paper on MagnaTagATune", *measured) for name, *measured in PAPER_TABLE_4.values()]
    return md.table(["model", "AUC", "TPR", "FPR"], [own, *printed])


def by_tag(found: Sequence[TagFigures]) -> str:
    """Writes a row for each tag; `-` where the rows do not tell."""
    measured = [("-" if x is None else x for x in (tag.auc, tag.threshold, tag.tpr, tag.fpr)) for tag in found]
    rows = [(tag.code, f"{tag.positives} of {tag.rows}", *own) for tag, own in zip(found, measured, strict=True)]
    return md.table(["tag", "rows with it", "AUC", "threshold", "TPR", "FPR"], rows)
