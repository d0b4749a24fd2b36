"""The least that a load balancer does: pass requests to servers whose /health/ready says 200. On loopback, for tests.

No retries and no kept connections on either side: a request that a server loses is lost.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Self

from tests.service.openloop import exchange, get_request

CHECK_SECONDS = 0.2


class Balancer:
    """Use with `async with`; then `port` is what clients connect to."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ready: dict[int, bool] = dict.fromkeys(ports, False)
        self._turn = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        await self._look()
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._looking = asyncio.create_task(self._look_for_ever())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        self._server.close()
        await asyncio.gather(self._looking, return_exceptions=True)

    def add(self, port: int) -> None:
        """A server that gets requests once it was seen to be ready."""
        self._ready[port] = False

    def remove(self, port: int) -> None:
        del self._ready[port]

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        for port in list(self._ready):
            ready = False
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(5):
                    ready = (await exchange(port, get_request("/health/ready", "Connection: close"))).status == 200
            if port in self._ready:
                self._ready[port] = ready

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bytes both ways until one side closes."""
        able = [port for port, ready in self._ready.items() if ready]
        self._turn += 1
        with contextlib.closing(writer), contextlib.suppress(OSError):
            if not able:
                return
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", able[self._turn % len(able)])
            with contextlib.closing(there_writer):
                ways = [asyncio.ensure_future(copy) for copy in (_copy(reader, there_writer), _copy(there_reader, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
