"""What makes releases: `lrid train`, `lrid releases make`, `lrid evaluate`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from app.lab.evaluation.evaluate import EvaluationSet

Manifest = Annotated[Path, typer.Argument(help="CSV or TSV with any of path, artist, album, title, language/label, split.")]
Store = Annotated[Path | None, typer.Option(help="Model store. \\[default: LRID_MODEL_STORE]")]


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """A bar for work whose length is not known in advance."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda n: progress.advance(task, n)


def train(
    manifest: Manifest,
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, log.csv and curves.png.")] = Path("runs/train"),
    variant: Annotated[str, typer.Option(help="main, adr, tdr, atdr (served), to, ao; all: compare them.")] = "atdr",
    text_manifest: Annotated[Path | None, typer.Option(help="More rows, of which only the metadata is used.")] = None,
    text_rows: Annotated[int, typer.Option(min=0, help="Of those, how many in each batch.")] = 0,
    epochs: Annotated[int, typer.Option(min=1)] = 200,
    batch_size: Annotated[int, typer.Option(min=2, help="Rows with audio.")] = 32,
    crop_seconds: Annotated[float, typer.Option(min=0.0, help="Random crops to train on; 0: whole windows.")] = 30.0,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 1e-3,
    schedule: Annotated[str, typer.Option(help="constant or cosine.")] = "constant",
    warmup_steps: Annotated[int, typer.Option(min=0, help="Of linear warm-up.")] = 0,
    steps_per_epoch: Annotated[int, typer.Option(min=0, help="0: one pass over the rows with audio.")] = 0,
    patience_epochs: Annotated[int, typer.Option(min=1, help="Stop after so many without a better validation.")] = 20,
    audio_loss_weight: Annotated[float, typer.Option(min=0.0, help="Of a training-only classifier on f alone.")] = 0.0,
    base_channels: Annotated[int, typer.Option(min=1, help="Of f; the paper's is 64.")] = 64,
    threads: Annotated[int, typer.Option(min=0, help="Of torch on the CPU; 0: all. On a shared machine 1 is best.")] = 0,
    precision: Annotated[str, typer.Option(help="Of f: auto (bf16, on CPU and GPU), bf16 or fp32.")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="Of decoded audio, to share. \\[default: OUTPUT/cache]")] = None,
    spectrogram_cache: Annotated[bool, typer.Option(help="Cache spectrograms instead of samples.")] = False,
    augment: Annotated[bool, typer.Option(help="Random colour and gaps in the spectrogram.")] = False,
    init_from: Annotated[Path | None, typer.Option(help="Checkpoint whose weights to start from.")] = None,
    fresh_heads: Annotated[bool, typer.Option(help="Of --init-from take f only: g and h begin anew.")] = False,
    validate_items: Annotated[int, typer.Option(min=0, help="Rows with audio that each validation hears; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="With --variant all: trainings of each, from --seed on.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option(help="Go on from last.pt in --output, to the same result.")] = False,
    release: Annotated[str | None, typer.Option(help="Make a release of this name afterwards, in the model store.")] = None,
) -> None:
    """Train an LRID-Net on a manifest, by default with the paper's settings, and make a release of it if one is named.

    Several GPUs: torchrun --standalone --nproc-per-node 4 -m app.cli train MANIFEST ...; each batch is shared by them.
    `lrid releases make` does that later, and with words of your own for its card.
    """
    from app.families.lrid_net.config import NetworkConfig
    from app.lab.training.config import TrainConfig, VariantName
    from app.lab.training.train import train as run
    from app.lab.training.variants import run_variants

    config = TrainConfig(
        manifest=manifest,
        output=output,
        variant=cast(VariantName, "atdr" if variant == "all" else variant),  # TrainConfig refuses what it does not know
        text_manifest=text_manifest,
        text_rows_per_batch=text_rows,
        epochs=epochs,
        batch_size=batch_size,
        crop_seconds=crop_seconds,
        learning_rate=learning_rate,
        schedule=cast(Literal["constant", "cosine"], schedule),
        warmup_steps=warmup_steps,
        steps_per_epoch=steps_per_epoch,
        patience_epochs=patience_epochs,
        audio_loss_weight=audio_loss_weight,
        network=NetworkConfig(base_channels=base_channels),
        threads=threads,
        precision=cast(Literal["auto", "fp32", "bf16"], precision),
        cache=cache,
        spectrogram_cache=spectrogram_cache,
        augment=augment,
        init_from=init_from,
        fresh_heads=fresh_heads,
        validate_items=validate_items,
        seed=seed,
        device=cast(Literal["auto", "cpu", "cuda"], device),
        resume=resume,
    )
    if variant == "all":
        run_variants(config, range(seed, seed + seeds), Console(stderr=True))
        typer.echo((output / "variants.md").read_text(encoding="utf-8"))
        return
    best = run(config)
    if int(os.environ.get("RANK", "0")):
        return  # one of several processes of torchrun, not the first
    typer.echo(f"best checkpoint: {best}")
    if release is not None:
        make(best, release, calibration=manifest, data=f"Rows of {manifest.name} with split=train.", variant=variant)


def make(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt of a training.")],
    release: Annotated[str, typer.Argument(help="Name of the new release, such as 2; releases never change.")],
    calibration: Annotated[Path, typer.Option(help="Manifest whose split=valid sets temperatures and thresholds.")],
    data: Annotated[str, typer.Option(help="What it was trained on, in words, for the card.")],
    limits: Annotated[str, typer.Option(help="What it does not know, in words, for the card.")] = "",
    variant: Annotated[str, typer.Option(help="Of the checkpoint.")] = "atdr",
    store: Store = None,
) -> None:
    """Make a release: weights, manifest, golden answers and card, calibrated and measured on a manifest's split=valid."""
    from app.lab.evaluation.evaluate import EvaluationSet
    from app.lab.training.release import ReleaseConfig, make_release
    from app.settings import Settings

    chosen = EvaluationSet("validation", "split=valid of the calibration manifest", calibration, splits=("valid",))
    config = ReleaseConfig(
        checkpoint=checkpoint,
        store=store or Settings().model_store,
        release=release,
        calibration=[chosen],
        data=data,
        limits=limits,
        variant=variant,
    )
    with counting("listening") as advance:
        folder = make_release(config, advance)
    typer.echo(f"{folder}: made and verified")


Split = Annotated[str, typer.Option(help="Which rows; several separated by commas.")]
Named = Annotated[str, typer.Option(help="What the rows are called in the report. \\[default: the manifest's name]")]
CatalogPrior = Annotated[
    str, typer.Option(help="Class mix of the rows: training, uniform, music4all or a JSON file, as LRID_CATALOG_PRIOR.")
]
ExcludeStrength = Annotated[str, typer.Option(help="Leave out rows of these strengths, such as script.")]


def evaluate(
    release: Annotated[str, typer.Argument(help="`family/release`.")],
    manifest: Manifest,
    output: Annotated[Path, typer.Option(help="Folder for the report (JSON, Markdown, PNGs).")] = Path("runs/evaluation"),
    split: Split = "test",
    name: Named = "",
    exclude_strength: ExcludeStrength = "",
    catalog_prior: CatalogPrior = "training",
    store: Store = None,
) -> None:
    """Measure a release in the paper's three cases: both inputs, audio missing, text missing; and langdetect alone.

    Precision, recall and F1, macro and weighted, and by class; confusion; calibration; coverage against precision.
    """
    from app.families.store import release_folder
    from app.lab.evaluation.evaluate import evaluate as run
    from app.lab.evaluation.evaluate import markdown
    from app.settings import Settings

    chosen = replace(_rows(manifest, name, split, exclude_strength), catalog_prior=catalog_prior)
    folder = release_folder(store or Settings().model_store, release)
    with counting("listening and reading") as advance:
        evaluation = run(folder, chosen, output, progress=advance)
    typer.echo(markdown(evaluation))
    typer.echo(f"{output}: {', '.join(sorted(path.name for path in output.iterdir()))}")


def table(
    number: Annotated[int, typer.Argument(min=1, max=5, help="1 to 5, see below.")],
    manifest: Manifest,
    releases: Annotated[list[str] | None, typer.Argument(help="`family/release`: one for table 4, any for table 5.")] = None,
    split: Split = "test",
    name: Named = "",
    exclude_strength: ExcludeStrength = "",
    store: Store = None,
) -> None:
    """One of the paper's tables on any rows, beside the figures it printed, as Markdown.

    1, 2: langdetect by artist, album, title and all joined, macro and weighted. 3: langdetect on all joined, by language.
    4: a release by language. 5: releases (such as all six variants) with both inputs, audio missing, text missing.
    """
    from app.families.store import release_folder
    from app.lab.evaluation.baselines import baselines
    from app.lab.evaluation.evaluate import describe, measure
    from app.lab.evaluation.tables import NEEDS_RELEASE, baseline_page, release_page
    from app.lab.training.labels import PAPER_LABELS
    from app.settings import Settings

    chosen = _rows(manifest, name, split, exclude_strength)
    if (number in NEEDS_RELEASE) != bool(releases):
        raise typer.BadParameter("tables 4 and 5 need releases; tables 1 to 3 are about langdetect and take none")
    if not releases:
        codes = [label.code for label in PAPER_LABELS]
        rows = chosen.rows(codes)
        typer.echo(baseline_page(number, baselines(rows, codes), describe(chosen, rows)))
        return
    folders = [release_folder(store or Settings().model_store, release) for release in releases]
    with counting("listening and reading") as advance:
        typer.echo(release_page(number, [measure(folder, chosen, progress=advance) for folder in folders]))


def _rows(manifest: Path, name: str, split: str, exclude_strength: str) -> EvaluationSet:
    from app.lab.evaluation.evaluate import EvaluationSet

    left_out = tuple(filter(None, exclude_strength.split(",")))
    return EvaluationSet(name or manifest.name, "", manifest, splits=tuple(split.split(",")), exclude_strength=left_out)
