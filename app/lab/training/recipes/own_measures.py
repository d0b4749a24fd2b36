"""Recipes whose paper has measures and a table of its own: for the card of a release, and for `lrid evaluate`."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.families.contract import Model
from app.families.store import load_model
from app.lab.corpus.catalogue import Row
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import EvaluationSet
from app.lab.evaluation.evaluate import Options, describe, describe_release, write_report
from app.lab.progress import Progress
from app.lab.training.learner import C
from app.lab.training.recipe import Figures
from app.lab.training.recipes.songs import SongRecipe, has_audio


@dataclass(frozen=True, slots=True)
class SetFigures:
    """What was measured of a release, on one set of rows."""

    summary: dict[str, dict[str, Any]]  # for the manifest, by mode
    plain: dict[str, Any]  # for evaluation.json
    page: str  # tables, as Markdown


class MeasuringRecipe(SongRecipe[C]):
    """A recipe with measures of its own."""

    @classmethod
    @abstractmethod
    def figures(cls, models: Sequence[Model], rows: Sequence[Row], options: Options, progress: Progress) -> SetFigures:
        """Of the last model, beside those it is compared with. Raises CorpusError naming the row that cannot be heard."""

    @classmethod
    def compared_with(cls, folder: Path) -> list[Path]:
        """Releases whose figures stand beside those of the one in `folder`."""
        return []

    @classmethod
    def rows_of(cls, chosen: EvaluationSet, model: Model) -> list[Row]:
        """Rows with audio. Raises CorpusError if there are none."""
        if rows := [row for row in chosen.rows(None) if has_audio(row)]:
            return rows
        raise CorpusError(f"set {chosen.name!r}: {chosen.catalogue} has no rows with audio in these splits")

    @classmethod
    def measure(cls, model: Model, chosen: EvaluationSet, progress: Progress) -> Figures:
        """For manifest and card."""
        rows = cls.rows_of(chosen, model)
        found = cls.figures([model], rows, Options(), progress)
        metrics = {mode: {chosen.name: summary} for mode, summary in found.summary.items()}
        return Figures(metrics, f"### {chosen.name}\n{describe(chosen, rows)} {chosen.note}\n\n{found.page}")

    @classmethod
    def evaluate(cls, folder: Path, chosen: EvaluationSet, output: Path, options: Options, progress: Progress) -> str:
        """Writes evaluation.json and evaluation.md. Raises ReleaseError, CorpusError."""
        models = [load_model(each) for each in (*cls.compared_with(folder), folder)]
        rows = cls.rows_of(chosen, models[-1])
        found = cls.figures(models, rows, options, progress)
        said = {"release": describe_release(models[-1].manifest), "data": describe(chosen, rows)}
        page = f"{said['release']} on {said['data']} {chosen.note}\n\n{found.page}"
        write_report(output, said | found.plain, page + "\n")
        return page
