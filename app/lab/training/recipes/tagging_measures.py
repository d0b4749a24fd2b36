"""A release of tags, measured on rows of a catalogue as it would answer about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from app.domain import AUDIO
from app.families.contract import Model
from app.families.store import load_model
from app.families.tagging.manifest import TaggingManifest
from app.lab.corpus.catalogue import Row
from app.lab.corpus.tags import truth_of
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import EvaluationSet, read_inputs, score
from app.lab.evaluation.evaluate import Options, describe, describe_release, write_report
from app.lab.evaluation.tags import TagFigures, averages, by_tag, figures, table_4
from app.lab.features import FeatureExtractor, cache_folder, served_windows
from app.lab.progress import Progress
from app.lab.training.recipe import Figures

HEARD = frozenset({AUDIO})


def _measured(model: Model, rows: Sequence[Row], extractor: FeatureExtractor, progress: Progress) -> list[TagFigures]:
    """As served: all windows, averaged. Raises CorpusError about a row whose audio cannot be heard."""
    assert isinstance(model.manifest, TaggingManifest)
    codes = [label.code for label in model.manifest.labels]
    heard = [row for row in rows if row.path is not None]
    inputs = read_inputs(model, heard, extractor, progress)
    if silent := [row for row, given in zip(heard, inputs, strict=True) if AUDIO not in given.features]:
        raise CorpusError(f"line {silent[0].line}: {silent[0].path} is silent; drop the row")
    if not heard:
        raise CorpusError("no rows with audio: a release of tags hears, and reads nothing")
    probabilities = np.stack([score(model, given, HEARD).probabilities for given in inputs])
    return figures(truth_of([row.cells for row in heard], codes), probabilities, codes, model.manifest.thresholds)


def measure_release(model: Model, sets: Sequence[EvaluationSet], progress: Progress) -> Figures:
    """For manifest and card. Raises CorpusError."""
    assert model.audio is not None
    assert isinstance(model.manifest, TaggingManifest)
    extractor = FeatureExtractor(model.audio)
    metrics, pages = {}, []
    for chosen in sets:
        rows = chosen.rows(None)
        found = _measured(model, rows, extractor, progress)
        metrics[chosen.name] = averages(found)
        table = table_4(model.manifest.network.kind, metrics[chosen.name])
        pages.append(f"### {chosen.name}\n{describe(chosen, rows)} {chosen.note}\n\n{table}\n\n{by_tag(found)}")
    return Figures({"audio_only": metrics} if metrics else {}, "\n\n".join(pages) or "None were measured.")


def evaluate_tags(folder: Path, chosen: EvaluationSet, output: Path, options: Options, progress: Progress) -> str:
    """Measures the release in `folder`; writes evaluation.json and evaluation.md. Raises ReleaseError, CorpusError."""
    model = load_model(folder)
    assert model.audio is not None
    assert isinstance(model.manifest, TaggingManifest)
    cache = options.cache and cache_folder(options.cache, served_windows(model.audio), model.manifest.sha256)
    rows = chosen.rows(None)
    found = _measured(model, rows, FeatureExtractor(model.audio, options.target, cache=cache), progress)
    data, release = describe(chosen, rows), describe_release(model.manifest)
    table = table_4(model.manifest.network.kind, averages(found))
    page = f"{release} on {data}\n\n{table}\n\n{by_tag(found)}"
    said = {"release": release, "data": data, "averages": averages(found), "tags": [asdict(tag) for tag in found]}
    write_report(output, said, page + "\n")
    return page
