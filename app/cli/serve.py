"""`lrid serve` runs the server."""

from typing import Annotated

import typer

from app.cli.common import Device, Model, make_settings


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
    environment variable, `LRID_<NAME>`. Ask it with:

        curl -F audio=@song.mp3 -F artist=Someone -F title=Something localhost:8000/identify
    """
    settings = make_settings(**locals())  # every option is a setting of the same name

    from app.server.run import serve as run

    run(settings)
