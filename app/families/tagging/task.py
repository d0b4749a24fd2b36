"""Several labels at once: which tags apply to a song."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain import FloatArray, Language, Mode, Scores
from app.errors import UnknownLanguage
from app.families.tasks import Json, View


class TagsTask:
    """Every tag by itself: it applies where its probability reaches its own threshold. Implements `tasks.Task`."""

    column = "tags"

    def __init__(self, tags: Sequence[Language], thresholds: Sequence[float]) -> None:
        """`thresholds` in the order of the tags."""
        self._tags = tuple(tags)
        self._thresholds = tuple(thresholds)

    def check(self, view: View) -> None:
        """Raises UnknownLanguage when a candidate is not a tag of the release."""
        codes = [tag.code for tag in self._tags]
        if unknown := [code for code in view.candidates or () if code not in codes]:
            raise UnknownLanguage(f"{unknown[0][:40]!r} is not among {', '.join(codes)}")

    def answer(self, scores: Scores, mode: Mode, view: View) -> Json:
        """`tags`, the most probable first."""
        return {"tags": self.ranked(scores.probabilities, view)}

    def headline(self, answer: Json) -> tuple[str, float]:
        """The most probable tag."""
        return answer["tags"][0]["code"], answer["tags"][0]["probability"]

    def moments(self, scores: Scores, mode: Mode, view: View) -> list[Json]:
        """The same for each window, without its time."""
        return [{"tags": self.ranked(row, view)} for row in scores.windows]

    def ranked(self, probabilities: FloatArray, view: View) -> list[Json]:
        """(n_tags,) → the tags listed, most probable first, as TagProbability. Candidates keep their probabilities."""
        raw: list[float] = probabilities.tolist()
        rows = [i for i, tag in enumerate(self._tags) if view.candidates is None or tag.code in view.candidates]
        return [
            {
                "code": self._tags[i].code,
                "name": self._tags[i].name,
                "probability": round(raw[i], 6),
                "applies": raw[i] >= self._thresholds[i],
            }
            for i in sorted(rows, key=raw.__getitem__, reverse=True)[: view.top_k]
        ]
