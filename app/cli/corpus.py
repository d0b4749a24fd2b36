"""`lrid corpus`: look at a catalogue, split it, or make one."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from app.cli.common import AsJson, Catalogue, make_settings
from app.lab.progress import Progress

if TYPE_CHECKING:
    from app.lab.corpus.check import CorpusCheck
    from app.lab.corpus.split import Made

corpus = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Catalogues to train on: check them, split them, make them of data sets, of corrections or of synthetic songs.",
)

Output = Annotated[Path, typer.Option(help="The catalogue to write: .csv, .tsv or .parquet.")]
Force = Annotated[bool, typer.Option("--force", help="Replace --output if it exists.")]
LabelColumn = Annotated[str, typer.Option(help="Which column holds the labels, such as genre.")]
System = Literal["genre", "multimodal", "multitask", "tagging"]
SHOWN = 20  # findings of each kind; --json has them all


@corpus.command()
def check(
    catalogue: Catalogue,
    audio: Annotated[bool, typer.Option(help="Decode every file; without, only look whether it is there.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Files decoded at once.")] = os.cpu_count() or 1,
    release: Annotated[str | None, typer.Option(help="Whose classes to check for. \\[default: the paper's eleven]")] = None,
    column: LabelColumn = "language",
    as_json: AsJson = False,
) -> None:
    """Count rows by split and class, and name every row that cannot or should not be trained on.

    Missing files, unreadable audio, duplicates, empty rows, unknown labels, artists in two splits, classes with one item.
    Exit code 1 when there are any.
    """
    from app.domain import NOTHING_SUNG
    from app.families.lrid_net.config import ListenConfig
    from app.families.store import read_manifest, release_folder
    from app.lab.caches import Decoder
    from app.lab.corpus.catalogue import LANGUAGE, classes_of
    from app.lab.corpus.check import check_corpus
    from app.lab.labels import PAPER_CODES

    codes = list(PAPER_CODES) if column == LANGUAGE else classes_of(catalogue, column)
    if release is not None:
        manifest = read_manifest(release_folder(make_settings().model_store, release))
        codes = [*(label.code for label in manifest.labels), NOTHING_SUNG]
    decode = Decoder(ListenConfig().window) if audio else None
    found = check_corpus(catalogue, codes, decode=decode, column=column, jobs=jobs, progress=Progress())
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"found": found.found}, ensure_ascii=False))
    else:
        _print_check(found)
    if found.findings:
        raise SystemExit(1)


def _print_check(found: CorpusCheck) -> None:
    from app.lab.corpus.check import FINDINGS

    console = Console(highlight=False)
    _print_counts(found.counts)
    console.print(f"{found.rows:,} rows: {found.with_audio:,} with audio, {found.with_metadata:,} with metadata")
    for kind, number in found.found.items():
        console.print(f"\n[bold red]{FINDINGS[kind]}: {number:,}[/]")
        own = [finding for finding in found.findings if finding.kind == kind]
        for finding in own[:SHOWN]:
            console.print(f"  {escape(str(finding))}", soft_wrap=True)
        if number > SHOWN:
            console.print(f"  … and {number - SHOWN:,} more: --json lists them all")
    if not found.findings:
        console.print("[green]nothing wrong[/]")


def _print_counts(counts: dict[str, dict[str, int]]) -> None:
    """Prints rows by class, a column for each split."""
    table = Table("class", *(Column(split, justify="right") for split in counts))
    for code in next(iter(counts.values())):
        table.add_row(code, *(f"{by_class[code]:,}" for by_class in counts.values()))
    table.add_section()
    table.add_row("all", *(f"{sum(by_class.values()):,}" for by_class in counts.values()))
    Console(highlight=False).print(table)


@corpus.command()
def split(
    catalogue: Catalogue,
    output: Output,
    valid_share: Annotated[float, typer.Option(min=0.02, max=0.5, help="Of the rows.")] = 0.2,
    test_share: Annotated[float, typer.Option(min=0, max=0.5, help="Of the rows; with --column artist.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same split.")] = 0,
    column: LabelColumn = "language",
    force: Force = False,
) -> None:
    """Split into train and valid as the paper does: 80:20, stratified by language, every artist in one of them only.

    With --column artist, artists are the classes: songs are split, and each artist is in every split.
    Rows with split=test stay there. All columns are kept; relative paths are made to hold from the new place.
    """
    from app.lab.corpus.split import split_corpus

    shares = {"valid_share": valid_share, "test_share": test_share}
    _print_counts(split_corpus(catalogue, output, **shares, seed=seed, column=column, force=force))
    typer.echo(f"{output}: seed {seed}; `lrid corpus check` looks at every row")


@corpus.command()
def music4all(
    folder: Annotated[Path, typer.Argument(help="With id_information.csv, id_lang.csv, audios/, and split lists if any.")],
    output: Output,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, where there are no lists.")] = 0,
    force: Force = False,
) -> None:
    """Make a catalogue of Music4All: instrumentals dropped, languages mapped to the paper's eleven classes.

    Split lists are train.txt, valid.txt and test.txt with one id a line, or one row number of id_lang.csv as
    music4all_contrib has them. Without a valid.txt, test.txt is the validation split, as in the paper. Without any
    list the rows are split here.
    """
    from app.lab.corpus.music4all import read_music4all
    from app.lab.labels import PAPER_CODES

    _print_made(read_music4all(folder, output, PAPER_CODES, seed=seed, force=force), output)


def _print_made(made: Made, output: Path) -> None:
    _print_counts(made.counts)
    typer.echo(f"{made.left_out}\n{output}: {made.split}")


@corpus.command()
def magnatagatune(
    folder: Annotated[
        Path, typer.Argument(help="With annotations_final.csv, clip_info_final.csv if any, and mp3/0 to mp3/f.")
    ],
    output: Output,
    n_tags: Annotated[int, typer.Option(min=2, help="The most popular tags that are kept.")] = 50,
    force: Force = False,
) -> None:
    """Make a catalogue of MagnaTagATune: tags that say the same joined, the most popular kept, clips without any left out.

    Folders 0 to b train, c is for validation, d to f to test.
    """
    from app.lab.corpus.magnatagatune import read_magnatagatune

    _print_made(read_magnatagatune(folder, output, n_tags=n_tags, force=force), output)


@corpus.command()
def made(
    system: Annotated[System, typer.Argument(help="Which system the songs are for; see app/lab/README.md.")],
    folder: Annotated[Path, typer.Argument(help="Gets the files, and songs.csv.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same songs.")] = 0,
) -> None:
    """Make a small catalogue of synthetic songs, to try a system where there is no data.

    Figures on them say nothing about music.
    """
    if folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} is not empty; choose another folder", param_hint="FOLDER")
    place = import_module(f"app.lab.corpus.made.{system}").make(folder, seed)
    typer.echo(f"{place}: made songs; figures on them say nothing about music")


@corpus.command()
def feedback(
    corrections: Annotated[Path, typer.Argument(metavar="FILE", help="The file of LRID_FEEDBACK_FILE.")],
    output: Output,
    songs: Annotated[
        Path | None, typer.Option(help="Folder, list or table (`lrid score` makes one) of the songs they may be about.")
    ] = None,
    force: Force = False,
) -> None:
    """Make a catalogue of the corrections that a server kept: the audio is found by its SHA-256, or by the answer's id.

    Later corrections of the same song replace earlier ones. The catalogue has strength=feedback.

        lrid corpus feedback feedback.jsonl --songs music --output corrected.tsv
    """
    from app.catalogue.sources import open_source
    from app.lab.corpus.feedback import Song, feedback_corpus

    rows = iter(()) if songs is None else open_source(str(songs)).rows
    known = (Song(row.id, row.path, row.cells) for row in rows if row is not None and row.error is None)
    report = feedback_corpus(corrections, known, output, force=force)
    for code, number in sorted(report.languages.items()):
        typer.echo(f"{code:8} {number:8,}")
    for why, number in sorted(report.left_out.items()):
        typer.echo(f"left out, {why}: {number:,}")
    typer.echo(f"{output}: {report.languages.total():,} rows")
