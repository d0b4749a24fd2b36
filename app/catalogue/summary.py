"""Shares by language: in tracks, and in minutes that are sung."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from app.catalogue.rows import Scored
from app.domain import NOTHING_SUNG, UNDETERMINED

APART = (UNDETERMINED, NOTHING_SUNG)  # they are no language: not in the total of the shares


class Summary:
    """Counts answers."""

    def __init__(self) -> None:
        self.tracks: Counter[str] = Counter()
        self.sung_seconds: defaultdict[str, float] = defaultdict(float)
        self.errors: Counter[str] = Counter()

    def count(self, scored: Scored) -> None:
        self._count(scored.language, scored.sung_seconds or 0.0, scored.error)

    def count_cells(self, cells: Mapping[str, str]) -> None:
        """A row of an output, as text."""
        self._count(cells["language"], float(cells["sung_seconds"] or 0.0), cells["error"])

    def _count(self, language: str, sung_seconds: float, error: str) -> None:
        if error:
            self.errors[error] += 1
        else:
            self.tracks[language] += 1
            self.sung_seconds[language] += sung_seconds

    def lines(self) -> Iterator[str]:
        """For people: a line per language, most tracks first, then what is no language, then errors."""
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
