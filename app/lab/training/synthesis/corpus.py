"""`lrid synthesize`: a corpus of sung clips on disk, with a manifest. Resumable: what exists is not made again."""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.lab.training.synthesis.clip import METADATA, Clip, ClipName, plan_clip
from app.lab.training.synthesis.errors import OrderRefused, OutputUnusable
from app.lab.training.synthesis.humans import HumanVoices, load_voices
from app.lab.training.synthesis.lines import load_grammars
from app.lab.training.synthesis.pairing import MetadataRows, load_rows
from app.lab.training.synthesis.phonemes import write_phonemes
from app.lab.training.synthesis.settings import ClipSettings
from app.lab.training.synthesis.voices import SAMPLE_RATE_HZ, require_espeak, require_world

MANIFEST = "manifest.tsv"
COLUMNS = (
    "path", "artist", "album", "title", "language", "label", "split", "voice", "line_id", "seed", "duration_seconds",
    "domain",
)  # fmt: skip
CLIPS_PER_VALIDATION_CLIP = 6  # default: one validation clip for so many training clips
CLIPS_BETWEEN_MANIFESTS = 200  # a stopped run leaves a manifest of nearly all it made


class Plan(Protocol):
    """A clip that can be made, whoever sings it."""

    @property
    def name(self) -> ClipName: ...
    @property
    def language(self) -> str: ...
    @property
    def voice(self) -> str: ...
    @property
    def line(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def settings(self) -> ClipSettings: ...
    def render(self) -> Clip: ...


@dataclass(frozen=True)
class CorpusOrder:
    """What corpus is wanted."""

    clips_per_class: int  # in training
    valid_clips_per_class: int
    seed: int

    def names(self, labels: tuple[str, ...]) -> Iterator[ClipName]:
        """All clips, classes and splits interleaved, so that a part of the corpus is a smaller corpus."""
        done_valid = 0
        for number in range(max(self.clips_per_class, self.valid_clips_per_class)):
            if number < self.clips_per_class:
                yield from (ClipName(self.seed, "train", label, number) for label in labels)
            share = min(1.0, (number + 1) / max(self.clips_per_class, 1))
            while done_valid < round(share * self.valid_clips_per_class):
                yield from (ClipName(self.seed, "valid", label, done_valid) for label in labels)
                done_valid += 1


@dataclass(frozen=True)
class CorpusReport:
    """What a run did."""

    manifest: Path
    made: int
    found: int  # clips of an earlier run


@dataclass(frozen=True)
class Corpus:
    """A corpus on its way: what it will hold and where."""

    output: Path
    plans: Sequence[Plan]
    rows: MetadataRows

    def missing(self) -> list[Plan]:
        """Plans of the clips that are not there yet."""
        return [plan for plan in self.plans if not (self.output / plan.name.path).exists()]

    def make(self, jobs: int, show_progress: bool) -> int:
        """Make the missing clips; returns how many. A run that is stopped leaves a smaller corpus, not none."""
        missing = self.missing()
        columns = (TextColumn("singing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        try:
            with Progress(*columns, disable=not show_progress) as progress:
                task = progress.add_task("singing", total=len(self.plans), completed=len(self.plans) - len(missing))
                for done, _ in enumerate(_write_all(self.output, missing, jobs), start=1):
                    progress.advance(task)
                    if done % CLIPS_BETWEEN_MANIFESTS == 0:
                        self.write_manifest()
        finally:
            self.write_manifest()
        return len(missing)

    def write_manifest(self) -> None:
        """List the clips that exist, in the order of the plans, replacing the manifest as a whole."""
        part = self.output / f"{MANIFEST}.part"
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
            writer.writerow(COLUMNS)
            exist = (plan for plan in self.plans if (self.output / plan.name.path).exists())
            writer.writerows(_row(plan, self.rows) for plan in exist)
        part.replace(self.output / MANIFEST)


def synthesize_corpus(
    output: Path,
    *,
    metadata: Path,
    clips_per_class: int,
    seed: int,
    jobs: int,
    valid_clips_per_class: int | None = None,
    labels: tuple[str, ...] | None = None,
    speech: Path | None = None,
    held_out_sources: Collection[str] = (),
    show_progress: bool = True,
) -> CorpusReport:
    """Make `clips_per_class` training clips of each class, and validation clips, under `output`.

    Clips are FLAC, mono, 22,050 Hz, 16 bit, 7 to 9 s, with their phonemes beside them where they are known;
    `manifest.tsv` has COLUMNS, paths relative to it. A clip depends on its seed, split, class and number only: a larger
    corpus of the same seed holds the smaller one. `valid_clips_per_class` defaults to one for every
    CLIPS_PER_VALIDATION_CLIP, `labels` to all classes with lines. With `speech`, an index of recordings, its voices sing
    in the place of espeak-ng's (see `humans.load_voices`).

    Raises:
        SynthesisError: a tool is missing, metadata or speech cannot be used, the disk is full or not writable, or an
            argument is out of range.
    """
    if valid_clips_per_class is None:
        valid_clips_per_class = -(-clips_per_class // CLIPS_PER_VALIDATION_CLIP)
    order = CorpusOrder(clips_per_class, valid_clips_per_class, seed)
    plans = _plans(order, jobs, labels, load_voices(speech, held_out_sources) if speech else None)
    rows = load_rows(metadata, tuple(dict.fromkeys(plan.name.label for plan in plans)))
    try:
        output.mkdir(parents=True, exist_ok=True)
        made = Corpus(output, plans, rows).make(jobs, show_progress)
    except OSError as error:
        raise OutputUnusable(f"{output} cannot be written: {error}.") from error
    return CorpusReport(output / MANIFEST, made, len(plans) - made)


def _plans(order: CorpusOrder, jobs: int, labels: tuple[str, ...] | None, humans: HumanVoices | None) -> Sequence[Plan]:
    grammars = load_grammars()
    possible = humans.labels if humans else tuple(grammars)
    labels = labels or possible
    unknown = sorted(set(labels) - set(possible))
    if unknown or order.clips_per_class < 1 or jobs < 1 or order.seed < 0 or order.valid_clips_per_class < 0:
        raise OrderRefused(f"{order}, {jobs=}, labels that nobody can sing: {unknown}.")
    if not humans:
        require_espeak()
    require_world()
    if humans:
        return [humans.plan(name) for name in order.names(labels)]
    return [plan_clip(name, grammars[name.label]) for name in order.names(labels)]


def _write_all(output: Path, plans: Sequence[Plan], jobs: int) -> Iterator[None]:
    work = ((output, plan) for plan in plans)
    if jobs == 1:
        yield from map(_write_clip, work)
        return
    # spawn: the caller may have threads (a server, torch), which do not survive a fork
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_write_clip, work, chunksize=4)


def _write_clip(job: tuple[Path, Plan]) -> None:
    output, plan = job
    path = output / plan.name.path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        clip = plan.render()
        if clip.phonemes is not None:
            write_phonemes(path, clip.phonemes)
        pcm = np.round(clip.samples * 32767).astype(np.int16)
        soundfile.write(part, pcm, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        part.replace(path)  # whole or not at all
    except soundfile.LibsndfileError as error:
        raise OSError(str(error)) from error
    finally:
        part.unlink(missing_ok=True)


def _row(plan: Plan, rows: MetadataRows) -> list[str]:
    name = plan.name
    metadata = rows.draw(name.split, name.label, plan.language, name.rng(METADATA))
    written = [metadata.artist or "", metadata.album or "", metadata.title or ""]
    seconds = int(plan.settings.seconds * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return [name.path, *written, plan.language, name.label, name.split, plan.voice, plan.line,
            str(name.seed), f"{seconds:.4f}", plan.domain]  # fmt: skip
