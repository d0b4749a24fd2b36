"""`lrid score` answers for many songs: rows in, rows out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import Device, LyricsFromTags, Model, make_settings

if TYPE_CHECKING:
    from app.catalogue.output import Output
    from app.catalogue.rows import Row
    from app.catalogue.score import Scoring
    from app.catalogue.servers import Servers
    from app.http.options import Options
    from app.local import Here
    from app.settings import Settings

ServerUrls = Annotated[list[str] | None, typer.Option(help="URL of a running server, instead of this process; repeat.")]
_CLUSTER = typer.Option(metavar="ADDRESS", help="A Ray cluster, `auto` or `local`; --output is a folder then.")
Cluster = Annotated[str | None, _CLUSTER]
METER_SECONDS = 1.0  # on a terminal
LINE_SECONDS = 30.0  # elsewhere
WATCH_SECONDS = 5.0  # between two looks at a folder
_ENDING = (signal.SIGINT, signal.SIGTERM)


def score(
    given: Annotated[
        str, typer.Argument(metavar="INPUT", help="Folder, list of files, table, or NDJSON (- for standard input).")
    ],
    output: Annotated[Path, typer.Option(help=".csv, .tsv, .ndjson or .parquet; goes on if it exists.")],
    server: ServerUrls = None,
    key: Annotated[str | None, typer.Option(help="Key for the servers.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="INPUT is a folder: keep it scored until Ctrl-C.")] = False,
    ray: Cluster = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on that cluster.")] = 2,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Leave the tags of files unread.")] = False,
    lyrics_from_tags: LyricsFromTags = False,
    model: Model = None,
    device: Device = None,
) -> None:
    """Score many songs: a row for each as it is answered, and at the end the shares by language.

    A table has any of the columns path, artist, album, title, lyrics, id; all columns are kept. A bad row is a row with a
    code in the column `error`. Started again with the same output it goes on where it was.

        lrid score music --output languages.csv

        lrid score songs.csv --output languages.parquet

        lrid score --watch music --output languages.ndjson --server http://localhost:8000

        lrid score songs.parquet --output languages --ray auto --workers 40
    """
    from app.http.options import Options

    settings = make_settings(model=model, device=device)
    options = Options(top_k=2, tags=not no_tags, lyrics_from_tags=lyrics_from_tags)
    if any(not url.startswith(("http://", "https://")) for url in server or ()):
        raise typer.BadParameter("expected a URL such as http://localhost:8000", param_hint="--server")
    if ray is None:
        logging.basicConfig(level=logging.ERROR)
        answerer = partial(_answerer, settings, server or [], key, options)
        _score(given, output, answerer, watch=watch)
        return
    if server or watch:
        raise typer.BadParameter("--ray goes with neither --server nor --watch")
    from app.catalogue.ray import score as by_ray

    started = time.monotonic()
    by_ray.score(settings, given, output, ray, workers, options)
    typer.echo("\n".join([*by_ray.summarise(output).lines(), f"{time.monotonic() - started:,.0f} s"]))


def _score(given: str, output: Path, answerer: Callable[[], Here | Servers], *, watch: bool) -> None:
    from app.catalogue.errors import InputUnreadable, OutputUnfit
    from app.catalogue.output import Output
    from app.catalogue.rows import columns_of
    from app.catalogue.sources import open_songs

    source = open_songs(given)
    if watch and not Path(given).is_dir():
        raise InputUnreadable(f"--watch needs a folder; {given} is none")
    if output.exists() and Path(given).exists() and output.samefile(given):
        raise OutputUnfit(f"{output} is the input itself")
    target = Output(output, columns_of(source.columns))
    meter = Meter(source.total)
    try:
        scoring, stopped = asyncio.run(_run(Path(given) if watch else source.rows, target, answerer, meter))
    finally:
        target.close()
        meter.end()
    typer.echo("\n".join(scoring.summary.lines()))
    if not (meter.rows or scoring.skipped or stopped):
        typer.echo(f"{given} holds no songs", err=True)
    if scoring.skipped:
        typer.echo(f"{scoring.skipped:,} rows were answered by earlier runs")
    if stopped:
        sys.stdout.flush()
        os._exit(0)  # a thread inside torch, which loads, would crash the interpreter's shutdown


async def _run(
    songs: Path | Iterable[Row | None], target: Output, make: Callable[[], Here | Servers], meter: Meter
) -> tuple[Scoring, bool]:
    """Scores `songs`, a folder to keep scored, or rows. Also returns whether a signal ended it."""
    from app.catalogue.score import Scoring, watch

    stopped = _cancel_on_signals()
    answerer = make()
    scoring = Scoring(answerer, target, meter.count)
    try:
        await (watch(scoring, songs, WATCH_SECONDS) if isinstance(songs, Path) else scoring.run(songs))
    except asyncio.CancelledError:
        if not stopped.is_set():  # an error of ours
            raise
        print("stopped; the same command goes on from here", file=sys.stderr)
    finally:
        await answerer.close()
    return scoring, stopped.is_set()


def _cancel_on_signals() -> asyncio.Event:
    """Lets SIGINT and SIGTERM cancel the current task and set the event; a second one ends the process at once.

    The handlers of `asyncio.run` do not wake the loop when another thread takes the signal, and are not installed where
    SIGINT was ignored at the start, as a shell does for what a script starts with `&`.
    """
    loop, task, came = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()
    assert task is not None

    def cancel() -> None:
        for each in _ENDING:
            loop.remove_signal_handler(each)
        came.set()
        task.cancel()

    for each in _ENDING:
        loop.add_signal_handler(each, cancel)
    return came


def _answerer(settings: Settings, servers: list[str], key: str | None, options: Options) -> Here | Servers:
    if servers:
        from app.catalogue.servers import Servers

        return Servers(servers, key, options)
    from app.local import Here

    return Here(settings, options)


class Meter:
    """Tells rows, rate and time left on standard error."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._terminal = sys.stderr.isatty()
        self.rows = self._errors = 0
        self._started = self._said_at = time.monotonic()

    def count(self, rows: int, errors: int) -> None:
        self.rows += rows
        self._errors += errors
        if time.monotonic() - self._said_at > (METER_SECONDS if self._terminal else LINE_SECONDS):
            self._say()

    def end(self) -> None:
        """Says the last word, and the rate over all."""
        self._total = None
        self._say("\n")

    def _say(self, ending: str = "") -> None:
        self._said_at = time.monotonic()
        rate = self.rows / max(self._said_at - self._started, 1e-9)
        text = f"{self.rows:,} rows, {rate:,.1f}/s" + (f", {self._errors:,} with an error" if self._errors else "")
        if self._total and rate:
            left = max(0, round((self._total - self.rows) / rate))
            text += f", {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left of {self._total:,}"
        print(
            f"\r{text:<79}" if self._terminal else text, end=ending if self._terminal else "\n", file=sys.stderr, flush=True
        )
