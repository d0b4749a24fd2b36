"""`lrid`: serve, identify, releases, and what makes releases."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from app.cli import corpus as cli_corpus
from app.cli import training as cli_training
from app.domain import Metadata
from app.errors import LridError
from app.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Which language is this song sung in? Listen to the audio, read the metadata, identify the language.\n\n"
    "`lrid serve` answers over HTTP, `lrid identify song.mp3` answers without a server. "
    "Settings are environment variables, LRID_<NAME>; the README lists them all.",
)
releases = typer.Typer(no_args_is_help=True, help="The releases in the model store.")
app.add_typer(releases, name="releases")

Model = Annotated[str | None, typer.Option(help="Release to use, `family/release`. Default: LRID_MODEL, lrid_net_plus/3.")]
Device = Annotated[str | None, typer.Option(help="`auto` (CUDA where there is one), `cpu` or `cuda`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Entry point; errors with a public face end in a message and exit code 1, not in a traceback."""
    try:
        app()
    except LridError as error:
        fail(error.code, error.detail, error.remedy)
    except Exception as error:
        from app.lab.training.errors import CorpusError, TrainingError

        if not isinstance(error, CorpusError | TrainingError):
            raise
        fail("corpus_error" if isinstance(error, CorpusError) else "training_error", str(error))


def fail(code: str, detail: str, remedy: str = "") -> NoReturn:
    """Say what happened and what to do."""
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]{code}[/]: ", end="")
    console.print(detail, markup=False)
    if remedy:
        console.print(f"  {remedy}", markup=False)
    raise SystemExit(1)


def make_settings(**given: Any) -> Settings:
    """Settings from the environment, with the options that were given on the command line on top."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = f"{first['loc'][0]}: " if first["loc"] else ""
        raise typer.BadParameter(f"{place}{first['msg']}") from None


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: LRID_HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 picks a free one. Default: LRID_PORT, else 8000.")] = None,
    model: Model = None,
    device: Device = None,
    precision: Annotated[str | None, typer.Option(help="`auto`, `fp32`, `bf16`, `fp16` or `int8`.")] = None,
    workers: Annotated[int | None, typer.Option(hidden=True, help="Always 1; more gets an error that says how.")] = None,
    decode_workers: Annotated[int | None, typer.Option(help="Processes that decode audio.")] = None,
    log_level: Annotated[str | None, typer.Option(help="`debug`, `info`, `warning` or `error`.")] = None,
) -> None:
    """Run the server: POST /identify, a page at /, and /docs, /health, /metrics.

    The port opens at once; /health/ready answers 200 when the release has proven itself.
    Ctrl-C or SIGTERM finishes what was accepted, then ends. Every setting is also an
    environment variable, LRID_<NAME>. Ask it with:

        curl -F audio=@song.mp3 -F artist=Someone -F title=Something localhost:8000/identify
    """
    from app.server.run import serve as run

    run(
        make_settings(
            host=host,
            port=port,
            model=model,
            device=device,
            precision=precision,
            workers=workers,
            decode_workers=decode_workers,
            log_level=log_level,
        )
    )


@app.command()
def identify(
    files: Annotated[list[Path], typer.Argument(help="Audio files; their tags are read unless metadata is given.")],
    artist: Annotated[str | None, typer.Option(help="Metadata for all files instead of their tags.")] = None,
    album: Annotated[str | None, typer.Option(help="As --artist.")] = None,
    title: Annotated[str | None, typer.Option(help="As --artist.")] = None,
    windows: Annotated[int | None, typer.Option(min=1, help="Most 30 s windows of a file.")] = None,
    languages: Annotated[str | None, typer.Option(help="Candidates, such as en,fr.")] = None,
    timeline: Annotated[bool, typer.Option(help="With --json: also answer for each window.")] = False,
    explain: Annotated[bool, typer.Option(help="With --json: also from audio alone and text alone.")] = False,
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Identify files without a server.

    Prints a table, or with --json one object a line: the answer of POST /identify.
    Exit code 1 if a file could not be answered; the others are answered anyway.

        lrid identify album/*.flac

        lrid identify song.mp3 --artist Someone --title Something --explain --json
    """
    from app.http.schemas import build_options
    from app.local import FileAnswer, FileRequest, identify_files

    logging.basicConfig(level=logging.ERROR)
    given = {"windows": windows, "languages": languages, "timeline": timeline, "explain": explain}
    options = build_options({name: value for name, value in given.items() if value is not None})
    settings = make_settings(model=model, device=device, max_windows=windows)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("listening", total=len(files))

        def advance(_: FileAnswer) -> None:
            progress.advance(task)

        request = FileRequest(Metadata(artist=artist, album=album, title=title), options)
        answers = asyncio.run(identify_files(settings, files, request, advance))
    _print_answers(answers, as_json)
    if any(answer.error for answer in answers):
        raise SystemExit(1)


def _print_answers(answers: list[Any], as_json: bool) -> None:
    if as_json:
        for answer in answers:
            body = (
                answer.response.model_dump(mode="json")
                if answer.response
                else {"code": answer.error.code, "detail": answer.error.detail, "remedy": answer.error.remedy}
            )
            typer.echo(json.dumps({"file": str(answer.path), **body}, ensure_ascii=False))
        return
    table = Table(Column("file", overflow="fold"), "language", "probability", "next", "used")
    for answer in answers:
        if answer.error:
            table.add_row(answer.path.name, "[red]error[/]", "", answer.error.code, escape(answer.error.detail))
            continue
        response = answer.response
        following = ", ".join(f"{entry.code} {entry.probability:.2f}" for entry in response.languages[1:3])
        used = [*(["audio"] if response.modalities.audio.used else []), *response.modalities.text.fields]
        table.add_row(answer.path.name, response.language, f"{response.probability:.2f}", following, ", ".join(used))
    Console().print(table)


@releases.command("list")
def list_command(as_json: AsJson = False) -> None:
    """What is in the model store. With --json one manifest a line."""
    from app.families.store import list_releases, read_manifest, release_folder

    settings = make_settings()
    table = Table("release", "created", "classes", "sha256", "served by default")
    for name in list_releases(settings.model_store):
        try:
            manifest = read_manifest(release_folder(settings.model_store, name))
        except LridError as error:
            table.add_row(name, "[red]refused[/]", "", "", escape(error.detail))
            if as_json:
                typer.echo(json.dumps({"release": name, "refused": error.detail}, ensure_ascii=False))
            continue
        default = "yes" if name == settings.model else ""
        table.add_row(name, manifest.created.isoformat(), str(len(manifest.labels)), manifest.sha256[:12], default)
        if as_json:
            typer.echo(json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False))
    if not as_json:
        Console().print(table)


@releases.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="`family/release`; all of them when none is named.")] = None,
) -> None:
    """Check manifest, hash and weights, and replay golden.json. Exit code 1 if a release is refused."""
    from app.families.store import list_releases
    from app.serving.loading import load_release

    settings = make_settings()
    refused = 0
    for name in names or list_releases(settings.model_store):
        try:
            load_release(settings.model_copy(update={"precision": "fp32", "device": "cpu"}), name)
        except LridError as error:
            refused += 1
            typer.echo(f"{name}: refused: {error.detail}")
        else:
            typer.echo(f"{name}: good")
    if refused:
        raise SystemExit(1)


# Last, so that the help begins with what everybody needs.
for _command in (
    cli_training.train,
    cli_training.evaluate,
    cli_training.table,
):
    app.command()(_command)
releases.command()(cli_training.make)
app.add_typer(cli_corpus.corpus, name="corpus")


if __name__ == "__main__":
    main()
