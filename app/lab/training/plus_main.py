"""`python -m app.lab.training.plus_main METADATA --output RUN --release 2`: `lrid_net_plus` from metadata alone.

Three steps, each kept in RUN and not done twice: answers to held-out rows, one network for each seed, and the release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from app.families.lrid_net.model import LridNetModel
from app.families.store import load_model, read_weights, release_folder
from app.families.store import read_manifest as read_release
from app.lab.corpus.manifest import read_manifest
from app.lab.evaluation.evaluate import EvaluationSet
from app.lab.training.errors import TrainingError
from app.lab.training.plus_data import Float64
from app.lab.training.plus_folds import HeldOut, held_out_answers
from app.lab.training.plus_merge import merged
from app.lab.training.plus_release import Parts, PlusReleaseConfig, make_plus_release
from app.lab.training.train_plus import PlusConfig, TextNet, load_text, sources_of, train_text
from app.settings import Settings

CLEANEST = ("dali_v1", "eurovision", "junior_esc")  # sources whose labels are right, and the only ones that are scored
SOURCE_WEIGHT = 3.0
CATALOGUE_POWER = 0.25  # of the class mix of the answers; by cross-validation
LACKING_ROWS = 10.0  # of a class that has none; by cross-validation, with what is left of it in Latin letters


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a release is made of and how."""

    metadata: Path
    output: Path
    store: Path
    release: str
    trunk: str = "lrid_net/1"
    seeds: Sequence[int] = (1, 2, 3)
    sources: Sequence[str] = CLEANEST
    figures: Sequence[EvaluationSet] = ()
    data: str
    limits: str
    held_out_note: str = ""
    text: dict[str, object] = field(default_factory=dict)  # other settings of PlusConfig

    def config(self, name: str = "", seed: int = 0) -> PlusConfig:
        weights = dict.fromkeys(self.sources, SOURCE_WEIGHT)
        made = PlusConfig(manifest=self.metadata, output=self.output / name, source_weights=weights, seed=seed)
        return replace(made, **self.text)  # type: ignore[arg-type]


def make(recipe: Recipe) -> Path:
    """The folder of the release. Raises LridError and its kinds."""
    held_out = held_out_of(recipe)
    networks = [trained_with(recipe, seed) for seed in recipe.seeds]
    config = recipe.config(seed=recipe.seeds[0])
    text, wide = merged([network for network, _ in networks], config)
    folder = release_folder(recipe.store, recipe.trunk)
    trunk = load_model(folder)
    assert isinstance(trunk, LridNetModel)
    n_units = wide.network.identify_units
    parts = Parts(
        text=text,
        n_text_rows=networks[0][1],
        trunk=trunk,
        trunk_tensors=read_weights(folder, read_release(folder)),
        audio_weight=torch.zeros(n_units, trunk.network.f.n_features),  # not listened to: see plus_audio
    )
    release = PlusReleaseConfig(
        store=recipe.store,
        release=recipe.release,
        held_out=held_out,
        held_out_note=recipe.held_out_note,
        answer_mix=answer_mix(recipe, config),
        figures=recipe.figures,
        data=recipe.data,
        limits=recipe.limits,
    )
    return make_plus_release(release, wide, parts)


def answer_mix(recipe: Recipe, config: PlusConfig) -> dict[str, float]:
    """Between the mix of the batches and that of the cleanest rows, which is more like a catalogue's.

    A class that the cleanest rows lack has a share as if they held a few (additive smoothing).
    """
    source = sources_of(recipe.metadata)
    rows = [row for row in read_manifest(recipe.metadata, config.codes) if row.split != "test"]
    counts: Float64 = np.bincount(
        [row.label for row in rows if source.get(row.line) in recipe.sources], minlength=len(config.codes)
    ).astype(np.float64)
    if not counts.sum():
        raise TrainingError(f"{recipe.metadata}: no rows of {', '.join(recipe.sources)}")
    trained, shares = config.class_mix(), counts / counts.sum()
    lacking = LACKING_ROWS / (counts.sum() + len(counts))
    mix = np.where(counts > 0, trained ** (1 - CATALOGUE_POWER) * shares**CATALOGUE_POWER, lacking)
    return dict(zip(config.codes, (mix / mix.sum()).tolist(), strict=True))


def held_out_of(recipe: Recipe) -> HeldOut:
    """From its file in the run's folder, or made now."""
    path = recipe.output / "held_out.npz"
    if path.is_file():
        with np.load(path) as stored:
            names = [name for name in stored.files if name != "labels"]
            return HeldOut(stored["labels"], {name: stored[name] for name in names})
    found = held_out_answers(
        recipe.config(seed=recipe.seeds[0]), recipe.sources, n_seeds=len(recipe.seeds), progress=typer.echo
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, labels=found.labels, **found.logits)  # type: ignore[arg-type]
    part.replace(path)
    return found


def trained_with(recipe: Recipe, seed: int) -> tuple[TextNet, int]:
    """A finished network of the run, or a new one; and how many rows it was trained on."""
    config = recipe.config(f"seed-{seed}", seed)
    path = config.output / "text.pt"
    finished = config.output / "finished"
    if not finished.is_file():
        train_text(replace(config, resume=path.is_file()))
        finished.touch()
    return load_text(path, config)


def main(
    metadata: Annotated[Path, typer.Argument(help="Manifest of metadata with a column `source`.")],
    output: Annotated[Path, typer.Option(help="Folder of the run.")],
    release: Annotated[str, typer.Option(help="Name of the release.")],
    data: Annotated[str, typer.Option(help="What it was trained on, for the card.")],
    limits: Annotated[str, typer.Option(help="What it does not know, for the card.")] = "Not stated.",
    trunk: Annotated[str, typer.Option(help="Release whose f it takes.")] = "lrid_net/1",
) -> None:
    """Trains, calibrates and measures on the split valid."""
    torch.set_num_threads(1)  # the same sums on every machine
    valid = EvaluationSet("Real metadata, validation", "Rows of the validation split.", metadata, ("valid",), ("script",))
    recipe = Recipe(
        metadata=metadata, output=output, store=Settings().model_store, release=release, trunk=trunk, figures=[valid],
        data=data, limits=limits, held_out_note="Fitted on answers to rows held out, by cross-validation over artists.",
    )  # fmt: skip
    typer.echo(make(recipe))


if __name__ == "__main__":
    typer.run(main)
