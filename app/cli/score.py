"""`lrid score`: many songs, rows in, rows out."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import Device, Model, make_settings

if TYPE_CHECKING:
    from app.catalogue.here import Here
    from app.catalogue.output import Output
    from app.catalogue.score import Scoring
    from app.catalogue.servers import Servers
    from app.catalogue.sources import Source
    from app.settings import Settings

METER_SECONDS = 1.0  # on a terminal
LINE_SECONDS = 30.0  # elsewhere
WATCH_SECONDS = 5.0  # between two looks at a folder


def score(
    given: Annotated[
        str, typer.Argument(metavar="INPUT", help="Folder, list of files, table, or NDJSON (- for standard input).")
    ],
    output: Annotated[Path, typer.Option(help=".csv, .tsv, .ndjson or .parquet; goes on if it exists.")],
    server: Annotated[
        list[str] | None, typer.Option(help="URL of a running server, instead of this process; repeat.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Key for the servers.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="INPUT is a folder: keep it scored until Ctrl-C.")] = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster, `auto` or `local`; --output is a folder then.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on that cluster.")] = 2,
    model: Model = None,
    device: Device = None,
) -> None:
    """Score many songs: a row for each as it is answered, and at the end the shares by language.

    A table has any of the columns path, artist, album, title, id; all columns are kept. A bad row is a row with a
    code in the column `error`. Started again with the same output it goes on where it was.

        lrid score music --output languages.csv

        lrid score songs.csv --output languages.parquet

        lrid score --watch music --output languages.ndjson --server http://localhost:8000

        lrid score songs.parquet --output languages --ray auto --workers 40
    """
    if ray is not None:
        if server or watch:
            raise typer.BadParameter("--ray goes with neither --server nor --watch")
        _by_ray(make_settings(model=model, device=device), given, output, (ray, workers))
        return
    from app.catalogue.errors import InputUnreadable
    from app.catalogue.output import Output
    from app.catalogue.rows import columns_of
    from app.catalogue.sources import open_source

    logging.basicConfig(level=logging.ERROR)
    source = open_source(given)
    if watch and not Path(given).is_dir():
        raise InputUnreadable("--watch needs a folder")
    target = Output(output, columns_of(source.columns))
    meter = Meter(source.total)
    settings = make_settings(model=model, device=device)
    try:
        scoring = asyncio.run(
            _run(source, target, _Chosen(settings, server or [], key, Path(given) if watch else None), meter)
        )
    finally:
        target.close()
        meter.end()
    for line in scoring.summary.lines():
        typer.echo(line)
    if scoring.skipped:
        typer.echo(f"{scoring.skipped:,} rows were answered by earlier runs")


def _by_ray(settings: Settings, given: str, output: Path, cluster: tuple[str, int]) -> None:
    from app.catalogue.ray import score as by_ray

    started = time.monotonic()
    by_ray.score(settings, given, output, by_ray.Cluster(*cluster))
    for line in by_ray.summarise(output).lines():
        typer.echo(line)
    typer.echo(f"{time.monotonic() - started:,.0f} s")


class _Chosen:
    """What the options say."""

    def __init__(self, settings: Settings, servers: list[str], key: str | None, watched: Path | None) -> None:
        self.settings, self.servers, self.key, self.watched = settings, servers, key, watched

    def answerer(self) -> Here | Servers:
        from app.catalogue.here import Here
        from app.catalogue.names import load_names

        if self.servers:
            from app.catalogue.servers import Servers

            return Servers(self.servers, self.key)
        from app.local import files_at_once, listener

        ears, readers = partial(listener, self.settings), partial(load_names, self.settings)
        return Here(ears, readers, files_at_once(self.settings))


async def _run(source: Source, target: Output, chosen: _Chosen, meter: Meter) -> Scoring:
    from app.catalogue.score import Scoring
    from app.catalogue.watch import watch

    answerer = chosen.answerer()
    scoring = Scoring(answerer, target, meter.count)
    try:
        if chosen.watched is not None:
            await watch(scoring, chosen.watched, WATCH_SECONDS)
        await scoring.run(source.rows)
    except asyncio.CancelledError:  # Ctrl-C
        print("stopped; the same command goes on from here", file=sys.stderr)
    finally:
        await answerer.close()
    return scoring


class Meter:
    """Rows, rate and time left, on standard error."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._terminal = sys.stderr.isatty()
        self._rows = self._errors = 0
        self._started = self._said_at = time.monotonic()

    def count(self, rows: int, errors: int) -> None:
        self._rows += rows
        self._errors += errors
        if time.monotonic() - self._said_at > (METER_SECONDS if self._terminal else LINE_SECONDS):
            self._say()

    def end(self) -> None:
        """The last word, and the rate over all."""
        self._total = None
        self._say("\n")

    def _say(self, ending: str = "") -> None:
        self._said_at = time.monotonic()
        rate = self._rows / max(self._said_at - self._started, 1e-9)
        text = f"{self._rows:,} rows, {rate:,.1f}/s" + (f", {self._errors:,} with an error" if self._errors else "")
        if self._total and rate:
            left = max(0, round((self._total - self._rows) / rate))
            text += f", {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left of {self._total:,}"
        print(
            f"\r{text:<79}" if self._terminal else text, end=ending if self._terminal else "\n", file=sys.stderr, flush=True
        )
