"""`lrid evaluate` and `lrid table` say how right a release is."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.common import Catalogue, Store, make_settings
from app.lab.progress import Progress

Split = Annotated[str, typer.Option(help="Which rows; several separated by commas.")]
CatalogPrior = Annotated[
    str, typer.Option(help="Class mix of the rows: training, uniform, music4all or a JSON file, as LRID_CATALOG_PRIOR.")
]
View = Annotated[Literal["all", "eleven"], typer.Option(help="eleven: the paper's classes, all others summed.")]


def evaluate(
    release: Annotated[str, typer.Argument(help="`family/release`.")],
    catalogue: Catalogue,
    output: Annotated[Path, typer.Option(help="Folder for the report (JSON, Markdown, PNGs).")] = Path("runs/evaluation"),
    split: Split = "test",
    view: View = "all",
    catalog_prior: CatalogPrior = "training",
    all_windows: Annotated[bool, typer.Option(help="Listen to all windows instead of until sure.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder for features of audio, to measure again quickly.")] = None,
) -> None:
    """Measure a release in the paper's three cases: both inputs, audio missing, text missing; or in its family's measures.

    Precision, recall and F1, macro and weighted, and by class; confusion; calibration; coverage against precision. Rows
    labelled `zxx` measure whether the release tells that nothing is sung.
    """
    from app.families.store import release_folder
    from app.lab.evaluation.answers import EvaluationSet
    from app.lab.training.recipe import Trainable
    from app.lab.training.recipes import of_family

    chosen = EvaluationSet(catalogue, split.split(","), catalog_prior, all_windows, view, cache)
    folder = release_folder(make_settings().model_store, release)
    measures = of_family(folder.parent.name) or Trainable
    typer.echo(measures.evaluate(folder, chosen, output, Progress()))
    typer.echo(f"{output}: {', '.join(sorted(path.name for path in output.iterdir()))}")


def table(
    number: Annotated[int, typer.Argument(min=1, max=5, help="1 to 5, see below.")],
    catalogue: Catalogue,
    releases: Annotated[list[str] | None, typer.Argument(help="`family/release`: one for table 4, any for table 5.")] = None,
    split: Split = "test",
    store: Store = None,
) -> None:
    """Print one of the paper's tables on any rows, beside the figures it printed, as Markdown.

    1, 2: langdetect by artist, album, title and all joined, macro and weighted. 3: langdetect on all joined, by language.
    4: a release by language. 5: releases (such as all six variants) with both inputs, audio missing, text missing.
    """
    from app.families.store import release_folder
    from app.lab.evaluation.answers import EvaluationSet
    from app.lab.evaluation.evaluate import describe, measure
    from app.lab.evaluation.tables import NEEDS_RELEASE, baseline_page, baselines, release_page
    from app.lab.labels import PAPER_CODES

    chosen = EvaluationSet(catalogue, split.split(","))
    if (number in NEEDS_RELEASE) != bool(releases):
        raise typer.BadParameter("tables 4 and 5 need releases; tables 1 to 3 are about langdetect and take none")
    if not releases:
        rows = [row for row in chosen.rows(PAPER_CODES) if row.label < len(PAPER_CODES)]
        typer.echo(baseline_page(number, baselines(rows, PAPER_CODES), describe(chosen, rows)))
        return
    folders = [release_folder(store or make_settings().model_store, release) for release in releases]
    typer.echo(release_page(number, [measure(folder, chosen, progress=Progress()) for folder in folders]))
