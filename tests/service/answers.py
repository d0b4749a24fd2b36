"""A song that tests ask about, and what they look at in its answer."""

from typing import Any

import pytest

TITLE = {"title": "Quand il me prend dans ses bras", "artist": "Édith Piaf", "album": "Chansons parisiennes"}


def by_code(languages: list[dict[str, Any]], number: str = "probability") -> dict[str, float]:
    return {entry["code"]: entry[number] for entry in languages}


def check_ranked(languages: list[dict[str, Any]]) -> None:
    probabilities = [entry["probability"] for entry in languages]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-5)
