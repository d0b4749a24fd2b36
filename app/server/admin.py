"""The admin port: a second socket of the same server, for `/metrics`, `/admin` and `/health` alone."""

import asyncio
import copy
import logging
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.ports import ON_ADMIN_PORT

log = logging.getLogger("lrid.server")


async def listen(server: uvicorn.Server, host: str, port: int) -> asyncio.Server:
    """Open the port, for the application that `server` has loaded. Raises OSError."""
    config = copy.copy(server.config)
    config.loaded_app = _marked(config.loaded_app)

    def protocol() -> asyncio.Protocol:
        kind: Any = config.http_protocol_class
        made: asyncio.Protocol = kind(config=config, server_state=server.server_state, app_state=server.lifespan.state)
        return made

    loop = asyncio.get_running_loop()
    opened = await loop.create_server(protocol, host=host, port=port, ssl=config.ssl, backlog=config.backlog)
    log.info("admin port is open", extra={"fields": {"host": host, "port": opened.sockets[0].getsockname()[1]}})
    return opened


def _marked(app: ASGIApp) -> ASGIApp:
    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        scope[ON_ADMIN_PORT] = True
        await app(scope, receive, send)

    return marked
