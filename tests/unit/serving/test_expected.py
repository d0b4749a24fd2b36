"""What answers are expected of a release."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from app.families.contract import Manifest
from app.serving.expected import Expected, expected_answers
from app.serving.metrics import Metrics

MIX = {"en": 0.6, "fr": 0.3, "de": 0.1}
SMALL = {"rows": 10, "accuracy": 0.1, "coverage": 0.1}
LARGE = {"rows": 1000, "accuracy": 0.9, "coverage": 0.8}


def manifest(**changes: Any) -> Manifest:
    fields = {
        "family": "f",
        "release": "1",
        "created": "2026-01-01",
        "labels": [{"code": code, "name": code} for code in MIX],
        "sha256": "0" * 64,
        "training": {"class_prior": MIX},
        "metrics": {"both": {"songs": SMALL}, "text_only": {"names": LARGE}},
    }
    return Manifest.model_validate(fields | changes)


def test_class_mix_and_largest_evaluation() -> None:
    expected = expected_answers(manifest(), "training")
    assert expected is not None
    assert expected.shares == pytest.approx({"en": 0.48, "fr": 0.24, "de": 0.08, "und": 0.2})
    assert expected.confidence == 0.9


def test_the_catalogues_mix_where_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "mix.json"
    path.write_text(json.dumps({"en": 10, "fr": 10, "de": 20}))
    for catalogue, share in ((str(path), 0.4), ("uniform", 0.8 / 3)):
        expected = expected_answers(manifest(), catalogue)
        assert expected is not None
        assert expected.shares["de"] == pytest.approx(share)
        assert sum(expected.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("changes", [{"training": {}}, {"metrics": {}}, {"metrics": {"both": {"songs": {"rows": 3}}}}])
def test_unknown_without_figures(changes: dict[str, Any]) -> None:
    assert expected_answers(manifest(**changes), "training") is None


def test_metrics_follow_the_release_that_is_served() -> None:
    metrics = Metrics()
    metrics.expect(Expected({"en": 0.9, "und": 0.1}, 0.8))
    value = metrics.registry.get_sample_value
    assert value("lrid_release_share", {"language": "en"}) == 0.9
    assert value("lrid_predictions_total", {"language": "en"}) == 0.0  # is there before the first answer
    metrics.expect(None)
    assert value("lrid_release_share", {"language": "en"}) is None
    assert math.isnan(value("lrid_release_confidence") or 0.0)
