"""Shares by language: in tracks, and in minutes that are sung."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from app.domain import NOTHING_SUNG, UNDETERMINED

APART = (UNDETERMINED, NOTHING_SUNG)  # they are no language: not in the total of the shares


class Summary:
    """Counts answers."""

    def __init__(self) -> None:
        self.tracks: Counter[str] = Counter()
        self.sung_seconds: defaultdict[str, float] = defaultdict(float)
        self.errors: Counter[str] = Counter()

    def count(self, row: Mapping[str, Any]) -> None:
        """`row`: columns of an output, numbers or text."""
        if row["error"]:
            self.errors[row["error"]] += 1
        else:
            self.tracks[row["language"]] += 1
            self.sung_seconds[row["language"]] += float(row["sung_seconds"] or 0.0)

    def lines(self) -> Iterator[str]:
        """Yield lines for people: one per language, most tracks first, then what is no language, then errors."""
        languages = {code: n for code, n in self.tracks.items() if code not in APART}
        minutes = sum(self.sung_seconds[code] for code in languages) / 60
        yield "language     tracks   share     sung minutes   share"
        for code, n in sorted(languages.items(), key=lambda item: (-item[1], item[0])):
            own = self.sung_seconds[code] / 60
            share = f"{own / minutes:6.1%}" if minutes else "     -"
            yield f"{code:8} {n:10,}  {n / sum(languages.values()):6.1%}  {own:15,.1f}  {share}"
        for code in APART:
            if self.tracks[code]:
                yield f"{code:8} {self.tracks[code]:10,}       -  {self.sung_seconds[code] / 60:15,.1f}       -"
        for code, n in sorted(self.errors.items()):
            yield f"error {code}: {n:,}"
