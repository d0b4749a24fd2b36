"""Several labels at once: which tags apply to a song."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain import Language
from app.families.tasks import ClassTask, Json


class TagsTask(ClassTask):
    """Every tag by itself: it applies where its probability reaches its own threshold. Candidates keep theirs."""

    def __init__(self, tags: Sequence[Language], thresholds: Sequence[float]) -> None:
        """`thresholds` in the order of the tags."""
        super().__init__(tags, "tags", "tags")
        self._thresholds = tuple(thresholds)

    def headline(self, answer: Json) -> tuple[str, float]:
        """The most probable tag."""
        return answer["tags"][0]["code"], answer["tags"][0]["probability"]

    def _members(self, ranked: list[Json]) -> Json:
        return {"tags": ranked}

    def _total(self, candidates: list[float]) -> float:
        return 1.0

    def _described(self, row: int, probability: float) -> Json:
        return super()._described(row, probability) | {"applies": probability >= self._thresholds[row]}
