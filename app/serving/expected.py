"""The answers expected of a release on data like its own: an operator compares the current answers with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain import UNDETERMINED
from app.families.contract import Manifest
from app.families.prior import prior_ratio


@dataclass(frozen=True, slots=True)
class Expected:
    """Statistics of the answers of one release."""

    shares: Mapping[str, float]  # by language, und among them; they sum to 1
    confidence: float  # mean probability of the best language: the accuracy, since the release is calibrated


def expected_answers(manifest: Manifest, catalogue: str) -> Expected | None:
    """By the manifest's largest evaluation and class mix, or that of `catalogue`; None without. `und` is spread evenly."""
    evaluated = max((row for mode in manifest.metrics.values() for row in mode.values()), key=_rows, default=None)
    mix = manifest.training.get("class_prior")
    if not isinstance(mix, dict) or evaluated is None or not {"accuracy", "coverage"} <= evaluated.keys():
        return None
    codes = list(mix)
    wanted = dict(zip(codes, prior_ratio(catalogue, codes, mix).tolist(), strict=True))
    weights = {code: share * wanted[code] for code, share in mix.items()}
    coverage, total = evaluated["coverage"], sum(weights.values())
    shares = {code: coverage * weight / total for code, weight in weights.items()}
    return Expected(shares | {UNDETERMINED: 1 - coverage}, evaluated["accuracy"])


def _rows(evaluation: Mapping[str, Any]) -> int:
    return int(evaluation.get("rows", 0))
