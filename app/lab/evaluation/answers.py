"""Asks a release about rows of a catalogue, in the paper's cases: all modalities, and each alone (§4.4).

Audio goes the way of a request: the same decoding, the same windows, one after the other until the release is sure.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.domain import AUDIO, MULTIPLE, NOTHING_SUNG, UNDETERMINED, FloatArray, Mode, Scores, Track
from app.errors import LridError
from app.families.contract import InputField, Model, further_fields, mode_name
from app.families.fields import further_values
from app.families.tasks import View
from app.lab.corpus.catalogue import LANGUAGE, Row, read_catalogue
from app.lab.errors import CorpusError
from app.lab.features import FeatureExtractor
from app.lab.labels import PAPER_CODES
from app.lab.progress import Progress

UNDECIDED, UNSUNG, SEVERAL = -1, -2, -3  # decisions that are no class: und, zxx, mul; UNSUNG is a label too
REST = "others"  # the class of all languages that are no class


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Says on which rows a release is measured, and how."""

    catalogue: Path
    splits: Collection[str] = ("test",)
    catalog_prior: str = "training"  # class mix that answers are corrected to, as LRID_CATALOG_PRIOR has it
    all_windows: bool = False  # listen to every window, as for a timeline, where the release would stop when sure
    view: Literal["all", "eleven"] = "all"  # eleven: the paper's classes, all others summed, to compare with older figures
    cache: Path | None = None  # folder for features of audio, to measure again without listening

    def rows(self, codes: Sequence[str] | None, column: str = LANGUAGE) -> list[Row]:
        """Rows whose label is a class, `zxx` (len(codes)), or `others`; `codes` None: none is read. Raises CorpusError."""
        rest = REST if codes and REST in codes else None
        known = [*codes, NOTHING_SUNG] if codes and column == LANGUAGE else codes
        rows = read_catalogue(self.catalogue, known, rest=rest, column=column)
        rows = [row for row in rows if row.split in self.splits]
        if not rows:
            raise CorpusError(f"{self.catalogue} has no rows of split {', '.join(self.splits)}")
        return rows

    def rows_with_audio(self) -> list[Row]:
        """Rows whose labels are not read. Raises CorpusError if there are none."""
        if rows := [row for row in self.rows(None) if row.path is not None]:
            return rows
        raise CorpusError(f"{self.catalogue} has no rows with audio in these splits")

    def extractor(self, model: Model) -> FeatureExtractor | None:
        """Listens as a request to the server, in fp32 on the CPU; None where the release does not listen."""
        if model.audio is None:
            return None
        return FeatureExtractor(model.audio, cache=self.cache, identity=model.manifest.sha256)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Holds a row as the release sees it."""

    label: int  # a class, or UNSUNG
    features: Mapping[str, FloatArray]  # by modality; audio as (n_windows, n_features)
    informative: Mode


@dataclass(frozen=True, slots=True)
class Answers:
    """Holds what a release says about n rows that have what a case needs."""

    labels: npt.NDArray[np.int64]  # (n,) classes, or UNSUNG
    probabilities: FloatArray  # (n, n_classes)
    decisions: npt.NDArray[np.int64]  # (n,) classes, or UNDECIDED, UNSUNG, SEVERAL
    windows: npt.NDArray[np.int64]  # (n,) that were listened to


def read_inputs(model: Model, rows: Sequence[Row], extractor: FeatureExtractor | None, progress: Progress) -> list[Inputs]:
    """Listens to every row, where there is an extractor, and reads it. Raises CorpusError for audio that cannot be read."""
    n_classes = len(model.manifest.labels)
    heard_rows = [row for row in rows if row.path is not None and extractor is not None]
    heard = dict(zip(map(id, heard_rows), extractor.rows(heard_rows, progress) if extractor else [], strict=True))
    found = []
    fields = further_fields(model)
    for row in rows:
        track = Track(None, row.metadata, further_of(row, fields))
        readings = {name: branch.read(track) for name, branch in model.inputs.items()}
        features = {name: reading.vector for name, reading in readings.items() if reading is not None}
        informative = {name for name, reading in readings.items() if reading is not None and reading.informative}
        if len(windows := heard.get(id(row), np.zeros((0, 1), np.float32))):
            features[AUDIO] = windows
            informative.add(AUDIO)
        label = UNSUNG if row.label == n_classes else row.label
        found.append(Inputs(label, features, frozenset(informative)))
    return found


def further_of(row: Row, fields: Mapping[str, InputField]) -> dict[str, object]:
    """Reads a row's columns for modalities of the family's own; a vector is a JSON array. Raises CorpusError."""
    try:
        return dict(further_values({name: text.encode() for name in fields if (text := row.cells.get(name))}, fields))
    except LridError as error:
        raise CorpusError(f"{row.where}: {error.detail}. Correct the cell, or empty it") from error


def cases_of(model: Model, inputs: Sequence[Inputs]) -> list[Mode]:
    """Lists the cases: all modalities that the rows have, of three and more all but one, then each alone."""
    given = {name for row in inputs for name in row.features}
    every = frozenset([*([AUDIO] if model.audio else []), *model.inputs]) & given
    lacking = [every - {name} for name in sorted(every)] if len(every) > 2 else []
    alone = [frozenset({name}) for name in sorted(every)] if len(every) > 1 else []
    return [case for case in [every, *lacking, *alone] if case]


def answer(model: Model, inputs: Sequence[Inputs], *, all_windows: bool = False) -> dict[str, Answers]:
    """Answers every row that has all modalities of a case, by the name of the case. Raises CorpusError if none has any."""
    found = {}
    for case in cases_of(model, inputs):
        asked = [row for row in inputs if case <= row.features.keys()]
        if asked:
            found[mode_name(case)] = answer_case(model, asked, case, all_windows)
    if inputs and not found:
        reads = ", ".join([*([AUDIO] if model.audio else []), *model.inputs])
        raise CorpusError(f"none of the {len(inputs)} rows has what the release reads: {reads}")
    return found


def answer_case(model: Model, asked: Sequence[Inputs], case: Mode, all_windows: bool = False) -> Answers:
    """Answers every row by what it has of the case."""
    number = {label.code: i for i, label in enumerate(model.manifest.labels)}
    number |= {UNDETERMINED: UNDECIDED, NOTHING_SUNG: UNSUNG, MULTIPLE: SEVERAL}
    scores = [score(model, row, case, all_windows) for row in asked]
    modes = [row.informative & case or case for row in asked]
    task = model.task
    said = [task.headline(task.answer(s, mode, View()))[0] for s, mode in zip(scores, modes, strict=True)]
    return Answers(
        np.array([row.label for row in asked], np.int64),
        np.stack([s.probabilities for s in scores]),
        np.array([number[language] for language in said], np.int64),
        np.array([len(s.windows) for s in scores], np.int64),
    )


def score(model: Model, row: Inputs, case: Mode, all_windows: bool = False) -> Scores:
    """Scores as served: one window after the other until the release says `enough`, if it stops early at all."""
    features = {name: value for name, value in row.features.items() if name in case}
    mode = row.informative & case
    windows = features.get(AUDIO)
    if windows is not None and model.audio is not None and model.audio.first_windows is not None and not all_windows:
        for n in range(1, len(windows)):
            scores = model.combine(features | {AUDIO: windows[:n]}, mode)
            if scores.enough:
                return scores
    return model.combine(features, mode)


def viewed(answers: Answers, codes: Sequence[str], kept: Sequence[str] = PAPER_CODES) -> Answers:
    """Reduces the answers to the classes `kept`: all others are summed as `others`."""
    place = np.array([kept.index(code) if code in kept else kept.index(REST) for code in codes])
    probabilities = np.zeros((len(answers.labels), len(kept)), np.float32)
    np.add.at(probabilities.T, place, answers.probabilities.T)
    place_of = np.concatenate([place, [SEVERAL, UNSUNG, UNDECIDED]])  # negative numbers index from the end
    return Answers(place_of[answers.labels], probabilities, place_of[answers.decisions], answers.windows)
