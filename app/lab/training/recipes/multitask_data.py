"""Cuts songs as Singh & Biswas do (§3.2.1): segments of 3 s from two pieces of a minute, with artist and language."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from app.families.contract import Label
from app.families.multitask.manifest import TaskName
from app.lab.corpus.catalogue import ARTIST, LANGUAGE, Row, artist_key, class_code
from app.lab.errors import CorpusError
from app.lab.labels import WORLD_LABELS
from app.lab.training.recipe import IntArray
from app.lab.training.recipes.songs import Clips

Labels = Mapping[TaskName, Sequence[Label]]  # the classes of each task that is learnt
CODE = re.compile(r"[^a-z0-9]+")
REMEDY = "`lrid corpus split --column artist` keeps every artist in train"


def starts(n_samples: int, size: int) -> range:
    """Returns the first sample of each whole segment; a song shorter than a segment has one, followed by silence."""
    return range(0, max(1, n_samples - size + 1), size)


@dataclass(frozen=True)
class Segments(Clips):
    """Holds the rows of a split, their classes, and their segments on disk."""

    classes: dict[TaskName, IntArray]  # (n_rows,) each

    @cached_property
    def places(self) -> IntArray:
        """Returns (n_segments, 2): row, first sample."""
        size = self.heard.window_samples
        return np.array([(row, i) for row in range(len(self.rows)) for i in starts(self.length(row), size)], np.int64)

    def classes_of(self, numbers: IntArray, task: TaskName) -> IntArray:
        """Returns (n,) classes of the segments' songs."""
        return self.classes[task][self.places[numbers, 0]]  # type: ignore[no-any-return]


def classes_of_rows(rows: Sequence[Row], labels: Labels) -> dict[TaskName, IntArray]:
    """Returns (n_rows,) classes by task. Raises CorpusError naming the row whose artist or language is none."""
    found = {}
    for task, own in labels.items():
        number = {artist_key(label.name) if task == ARTIST else label.code: i for i, label in enumerate(own)}
        keys = [artist_key(_cell(row, task)) if task == ARTIST else class_code(row.cells, number) for row in rows]
        for row, key in zip(rows, keys, strict=True):
            if key not in number:
                what = f"{task} {key!r} is in split {row.split}, and none of the {len(number)} that are learnt"
                raise CorpusError(f"{row.where}: {what}. {REMEDY}")
        found[task] = np.array([number[key] for key in keys], np.int64)
    return found


def labels_among(rows: Sequence[Row], task: TaskName) -> tuple[Label, ...]:
    """Lists the classes of a task among the rows, by name. Raises CorpusError unless there are two."""
    names = {artist_key(name) if task == ARTIST else name: name for row in rows if (name := _cell(row, task))}
    if len(names) < 2:
        raise CorpusError(f"column {task!r} names {len(names)} in split train; a classifier needs two at least")
    if task == LANGUAGE:
        named = {label.code: label for label in WORLD_LABELS}
        return tuple(named.get(code, Label(code=code, iso639_3=None, name=code)) for code in sorted(names))
    labels: dict[str, Label] = {}
    for key, name in sorted(names.items()):
        code = CODE.sub("-", key).strip("-")[:56] or ARTIST
        code = code if code not in labels else f"{code}-{len(labels)}"
        labels[code] = Label(code=code, iso639_3=None, name=name)
    return tuple(labels.values())


def _cell(row: Row, task: TaskName) -> str:
    """Returns what the task's column says of a row."""
    return " ".join(row.cells.get(task, "").split())
