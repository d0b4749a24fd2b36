"""Measures a release on a catalogue in the paper's three cases: both inputs, audio missing, text missing (§4.4)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from app.families.contract import Manifest
from app.families.prior import under_prior
from app.families.store import load_model
from app.lab.corpus.catalogue import Row
from app.lab.corpus.made.sounds import MADE
from app.lab.errors import CorpusError
from app.lab.evaluation import figures
from app.lab.evaluation.answers import EvaluationSet, answer, read_inputs, viewed
from app.lab.evaluation.report import Evaluation, Measured, as_page, case_report
from app.lab.labels import PAPER_CODES
from app.lab.progress import QUIET, Progress


def evaluate(folder: Path, chosen: EvaluationSet, output: Path, progress: Progress = QUIET) -> Evaluation:
    """Measures a release; writes evaluation.json, .md, and PNGs if matplotlib is there. Raises ReleaseError, CorpusError."""
    measured = measure(folder, chosen, progress)
    said = {
        "release": measured.release,
        "catalogue": str(chosen.catalogue),
        "splits": list(chosen.splits),
        "data": measured.data,
        "catalog_prior": chosen.catalog_prior,
        "labels": measured.codes,
        "cases": {name: asdict(case) for name, case in measured.cases.items()},
    }
    write_report(output, said, as_page(measured))
    figures.draw(measured, output)
    return measured.cases


def write_report(output: Path, said: object, page: str) -> None:
    """Writes evaluation.json and evaluation.md. Raises CorpusError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "evaluation.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
        (output / "evaluation.md").write_text(page, encoding="utf-8")
    except OSError as error:
        raise CorpusError(f"{output} cannot be written ({error}); free some disk or choose another --output") from error


def measure(folder: Path, chosen: EvaluationSet, progress: Progress = QUIET) -> Measured:
    """Measures the release in `folder` on the chosen rows. Raises ReleaseError, CorpusError."""
    model = under_prior(load_model(folder), chosen.catalog_prior)
    codes = [label.code for label in model.manifest.labels]
    rows = chosen.rows(codes, model.task.column)
    answers = answer(model, read_inputs(model, rows, chosen.extractor(model), progress), all_windows=chosen.all_windows)
    if chosen.view == "eleven":
        answers = {name: viewed(given, codes) for name, given in answers.items()}
        codes = list(PAPER_CODES)
    return Measured(
        name=chosen.catalogue.name,
        data=describe(chosen, rows),
        release=describe_release(model.manifest, chosen.catalog_prior),
        codes=codes,
        cases={name: case_report(given, codes) for name, given in answers.items()},
    )


def describe(chosen: EvaluationSet, rows: Sequence[Row]) -> str:
    """Describes data and split in a sentence, and says whether the songs are made."""
    listened = ", listening to all windows" if chosen.all_windows else ""
    made = " The songs are made: figures on them say nothing about music." if any(r.strength == MADE for r in rows) else ""
    return (
        f"{chosen.catalogue.name}, split {', '.join(chosen.splits)}: {len(rows):,} rows, "
        f"{sum(row.path is not None for row in rows):,} with audio, "
        f"{sum(bool(row.metadata.fields) for row in rows):,} with metadata{listened}.{made}"
    )


def describe_release(manifest: Manifest, catalog_prior: str = "training") -> str:
    """Names the weights, their seed, and the class mix of the answers if it is not their own."""
    seed = manifest.training.get("settings", {}).get("seed", "not stated")
    variant = manifest.training.get("variant")
    of = f"variant {variant}, " if variant else ""
    under = "" if catalog_prior == "training" else f", under the class mix {catalog_prior}"
    return f"{manifest.family}/{manifest.release} ({of}training seed {seed}, sha256 {manifest.sha256[:12]}{under})"
