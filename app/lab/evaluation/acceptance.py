"""Measures each language by itself, as Lee & Coviello do (§4.3, footnote 3).

Conventions
-----------
- `labels`: (n,) integers from 0 to n_classes - 1. `probabilities`: (n, n_classes).
- A language is *accepted* for a track from its own threshold on; a track may have several, or none.
- `average_precision` is the area under the precision-recall curve of all tracks ranked by P(language); its mean over the
  languages is mAP. Languages without a track are NaN, and count in no mean; nor does `others`, as in the paper.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from app.lab import markdown as md
from app.lab.evaluation.answers import REST
from app.lab.evaluation.metrics import Float64, Floats, Ints, validate_probabilities

MEASURES = ("P", "R", "F", "mAP")
Acceptance = Mapping[str, Float64]  # by measure, (n_classes,) each


def means(found: Acceptance, codes: Sequence[str]) -> dict[str, float]:
    """Averages over the languages that have a figure."""
    counted = np.array(codes) != REST
    kept = {name: values[counted & np.isfinite(values)] for name, values in found.items()}
    return {name: float(values.mean()) if len(values) else float("nan") for name, values in kept.items()}


def tuned_thresholds(labels: Ints, probabilities: Floats) -> Float64:
    """(n_classes,) thresholds with the best F1 of each language, half-way to the next track; 0.5 for one without tracks."""
    from sklearn.metrics import precision_recall_curve

    validate_probabilities(labels, probabilities)
    found = np.full(probabilities.shape[1], 0.5)
    for language in np.unique(labels):
        precision, recall, thresholds = precision_recall_curve(labels == language, probabilities[:, language])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        last = int(f1[:-1].argmax())  # thresholds rise; the last point has none
        found[language] = (thresholds[last] + (thresholds[last - 1] if last else 0)) / 2
    return found


def acceptance(labels: Ints, probabilities: Floats, thresholds: Floats) -> Acceptance:
    """Measures precision, recall and F1 at the thresholds, and average precision."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    validate_probabilities(labels, probabilities)
    truth = labels[:, None] == np.arange(probabilities.shape[1])  # (n, n_classes)
    *scores, support = precision_recall_fscore_support(truth, probabilities >= thresholds, zero_division=0)
    pairs = zip(truth.T, probabilities.T, strict=True)
    area = [average_precision_score(*pair) if pair[0].any() else np.nan for pair in pairs]
    columns = [*(np.where(support > 0, score, np.nan) for score in scores), np.array(area)]
    return dict(zip(MEASURES, columns, strict=True))


def acceptance_table(found: Mapping[str, Acceptance], codes: Sequence[str]) -> str:
    """Writes the paper's table 1: a row per language and one for the average, four columns for each of the named."""
    heads = [f"{name} {measure}" for name in found for measure in MEASURES]
    columns = [column for one in found.values() for column in one.values()]
    rows = [(code, *(column[i] for column in columns)) for i, code in enumerate(codes)]
    last = [mean for one in found.values() for mean in means(one, codes).values()]
    return md.table(["language", *heads], [*rows, ("mean", *last)]) + "\n"
