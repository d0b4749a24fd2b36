"""`lrid` joins the commands, one file each, and turns their errors into messages."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import fail
from app.cli.corpus import corpus
from app.cli.evaluate import evaluate, table
from app.cli.identify import identify
from app.cli.releases import releases
from app.cli.score import score
from app.cli.serve import serve
from app.cli.tag import tag
from app.cli.train import train, variants
from app.errors import LridError
from app.lab.errors import LabError

INTERRUPTED = 130  # exit code of Ctrl-C: 128 + SIGINT

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which language is this song sung in? Listen to the audio, read the metadata, identify the language.\n\n"
    "`lrid serve` answers over HTTP, `lrid identify song.mp3` answers without a server. "
    "Settings are environment variables, `LRID_<NAME>`; app/ops/README.md lists them all.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lrid-serve {version('lrid-serve')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Holds the options before any command."""


for _command in (serve, identify, score, tag, train, variants, evaluate, table):
    app.command()(_command)
app.add_typer(releases, name="releases")
app.add_typer(corpus, name="corpus")


def main() -> None:
    """Runs the command line; known errors end in a message and exit code 1, not in a traceback."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    try:
        app()
    except KeyboardInterrupt:  # before a command has begun
        raise SystemExit(INTERRUPTED) from None
    except LridError as error:
        fail(error.code, error.detail, error.remedy)
    except LabError as error:
        fail(error.code, str(error))
    except OSError as error:
        fail("system_error", str(error), "Check the path, its permissions and the room on the disk.")
    except SystemExit as end:
        if end.code == INTERRUPTED or isinstance(end.__context__, BrokenPipeError):
            os._exit(int(end.code or 0))  # a thread inside torch would crash the interpreter's shutdown
        raise
