"""Writes Markdown tables."""

from collections.abc import Iterable, Sequence
from math import isnan


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Writes a header and a line per row. Floats get three decimals; None and NaN are empty cells."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if isnan(value) else f"{value:.3f}"
    return "" if value is None else str(value)
