"""Measures langdetect alone, by artist, album, title and all joined: a model has to beat it (Choi & Wang 2021, §5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.domain import METADATA_FIELDS, Metadata
from app.families.lrid_net.read import LangdetectReader
from app.families.parts.profiles import langdetect_languages
from app.lab.corpus.catalogue import Row
from app.lab.evaluation.answers import REST
from app.lab.evaluation.report import LabelReport, label_report

SEED = 0  # of langdetect's draws
JOINED = "all joined"


def baselines(rows: Sequence[Row], codes: Sequence[str]) -> dict[str, LabelReport]:
    """Measures by what langdetect is given, on rows that have it. Empty where no class stands for all other languages.

    The prediction is langdetect's first guess. A guess that is no class, and no guess at all, count as `others`.
    """
    if REST not in codes:
        return {}
    languages = langdetect_languages()
    reader = LangdetectReader(languages, seed=SEED)
    rest = codes.index(REST)
    class_of = np.array([codes.index(code) if code in codes else rest for code in languages] + [rest])  # last: undetected
    found = {}
    for name, given in [*((field, (field,)) for field in METADATA_FIELDS), (JOINED, METADATA_FIELDS)]:
        texts = [(_only(row.metadata, given), row.label) for row in rows]
        texts = [(metadata, label) for metadata, label in texts if metadata.fields]
        if texts:
            guesses = class_of[[int(reader(metadata).vector.argmax()) for metadata, _ in texts]]
            found[name] = label_report(np.array([label for _, label in texts]), guesses, codes)
    return found


def _only(metadata: Metadata, names: Sequence[str]) -> Metadata:
    return Metadata(**{name: getattr(metadata, name) for name in METADATA_FIELDS if name in names})
