"""Runs uvicorn: the port opens at once, and SIGTERM leads to exit code 0."""

import asyncio
import copy
import logging
import os
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.access import ON_ADMIN_PORT
from app.logs import log_config
from app.main import create_app
from app.server.connections import BoundedProtocol, raise_file_limit
from app.serving.memory import return_large_blocks
from app.serving.scheduling import let_threads_sleep
from app.settings import Settings

log = logging.getLogger("lrid.server")

STARTUP_FAILURE = 3  # exit code, as uvicorn's
GREETING = """Serving {model} on {address}: a page at /, its documentation at /docs.
It answers once `release loaded` is logged. Ctrl-C ends it."""


class Server(uvicorn.Server):
    """The first SIGTERM or SIGINT drains the server, a second one stops it at once. Both are a clean exit.

    Draining: for `drain_delay_seconds` it is not ready but still accepts requests, until balancers notice; then it closes
    the socket and finishes the accepted requests.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings, greeting: str = "") -> None:
        """`greeting` is printed once the server listens; `{model}` and `{address}` in it are what and where."""
        super().__init__(config)
        self._settings = settings
        self._greeting = greeting
        self._drains_at: float | None = None  # time.monotonic()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again after shutting down, and the exit status would not be 0
        if self._drains_at is not None:
            self.should_exit = self.force_exit = True
            return
        self._drains_at = time.monotonic() + self._settings.drain_delay_seconds
        app = getattr(self.config, "loaded_app", None)
        if app is not None:
            app.state.service.leave()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, on the admin port too if there is one; on a terminal say so in plain words."""
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn has logged why
            if not self.lifespan.should_exit:
                where = self.config.host, self.config.port
                log.error("cannot listen on %s, port %d: choose others by LRID_HOST and LRID_PORT", *where)
            raise
        if self._settings.admin_port is not None:
            await self._open_admin_port(self._settings.admin_host, self._settings.admin_port)
        if self._greeting and self.started:
            _, port, *_ = self.servers[0].sockets[0].getsockname()
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            scheme = "https" if self.config.is_ssl else "http"
            address = f"{scheme}://{host}:{port}"
            print(self._greeting.format(model=self._settings.model, address=address), file=sys.stderr, flush=True)

    async def _open_admin_port(self, host: str, port: int) -> None:
        """A second socket of the same server. Ends the process if it cannot, as uvicorn does for the public port."""
        config: Any = copy.copy(self.config)
        config.loaded_app = _marked(config.loaded_app)
        states = {"server_state": self.server_state, "app_state": self.lifespan.state}
        protocol = partial(config.http_protocol_class, config=config, **states)
        loop = asyncio.get_running_loop()
        try:
            opened = await loop.create_server(protocol, host=host, port=port, ssl=config.ssl, backlog=config.backlog)
        except OSError as error:
            log.error("the admin port cannot be opened: %s", error)
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)
        self.servers.append(opened)
        log.info("admin port is open", extra={"fields": {"host": host, "port": opened.sockets[0].getsockname()[1]}})

    async def on_tick(self, counter: int) -> bool:
        """Called every 0.1 s until it returns True."""
        if self._drains_at is not None and time.monotonic() >= self._drains_at:
            self.config.loaded_app.state.service.drain()
            self.should_exit = True
        return await super().on_tick(counter)


def serve(settings: Settings) -> NoReturn:
    """Run until a signal ends it. The process ends at once: a thread inside torch would delay or crash Python's shutdown."""
    terminal = sys.stderr.isatty()
    config = configure(settings, terminal=terminal)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line shows them
    if unknown := unknown_settings(os.environ):
        log.warning("no such setting, ignored: %s", ", ".join(unknown))
    check_certificate(settings)
    let_threads_sleep()
    raise_file_limit()
    return_large_blocks()
    server = Server(config, settings, GREETING if terminal else "")
    server.run()
    logging.shutdown()
    os._exit(0 if server.started else STARTUP_FAILURE)


def check_certificate(settings: Settings) -> None:
    """Raises OSError naming the settings; Python's own error names no file."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        reason = "no PEM certificate and its key" if isinstance(error, ssl.SSLError) else error.strerror
        given = f"LRID_TLS_CERTIFICATE={settings.tls_certificate} and LRID_TLS_KEY={settings.tls_key}"
        raise OSError(f"{given}: {reason}") from error


def configure(settings: Settings, *, terminal: bool = False) -> uvicorn.Config:
    """uvicorn's configuration for this service; from here on, logs are written."""
    return uvicorn.Config(
        partial(create_app, settings),
        factory=True,
        host=settings.host,
        port=settings.port,
        log_config=log_config(settings.log_level, terminal=terminal),
        http=BoundedProtocol,
        ws="none",
        backlog=4096,
        access_log=False,  # the middleware logs requests, with their id
        proxy_headers=False,
        server_header=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_seconds)),
    )


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """Environment variables that look like settings but are none, probably misspelt."""
    known = {f"LRID_{name.upper()}" for name in Settings.model_fields} | {"LRID_DATA"}  # that one is training's
    return sorted(name for name in environ if name.upper().startswith("LRID_") and name.upper() not in known)


def _marked(app: ASGIApp) -> ASGIApp:
    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        scope[ON_ADMIN_PORT] = True
        await app(scope, receive, send)

    return marked
