"""Holds bad connections until it is ended: `python -m loadtest.chaos.attacker PORT IDLE HEADS BODIES ODD`.

IDLE connections are silent, HEADS send a byte of headers per second, BODIES a byte of an upload per second. ODD send, once
per second and anew: headers of 80 kB; five pipelined requests whose answers are not read; and a quarter as often an upload
whose sender shuts its side down. Connections that the server closes are opened anew.
"""

import asyncio
import contextlib
import random
import sys

from app.server.connections import raise_file_limit
from loadtest.client import audio_post, get_request

HEAD = b"POST /identify HTTP/1.1\r\nHost: x\r\nX-Slow: "
UPLOAD = audio_post(bytes(50_000))
BODY = UPLOAD[:1500]
TOO_LARGE = HEAD + b"a" * 80_000 + b"\r\n\r\n"
PIPELINED = get_request("/health/live") * 5


async def hold(port: int, start: bytes, drip: bytes, gate: asyncio.Semaphore) -> None:
    """Hold one connection after the other, for ever."""
    while True:
        with contextlib.suppress(OSError):
            async with gate:  # not all in the same moment
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if start:
                writer.write(start)
            while not reader.at_eof():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), 1.0 if drip else None)
                if drip and not writer.is_closing():
                    writer.write(drip)
            writer.close()


async def annoy(port: int, data: bytes, *, half_closes: bool) -> None:
    """Send, stay for a second without reading, disconnect; for ever."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            if half_closes:
                writer.write_eof()
            await asyncio.sleep(random.uniform(0.5, 1.5))
            writer.transport.abort()


async def run(port: int, idle: int, heads: int, bodies: int, odd: int) -> None:
    gate = asyncio.Semaphore(64)
    kinds = [(b"", b"")] * idle + [(HEAD, b"a")] * heads + [(BODY, b"a")] * bodies
    odd_kinds = [(TOO_LARGE, False), (PIPELINED, False)] * odd + [(UPLOAD, True)] * (odd // 4)
    await asyncio.gather(
        *(hold(port, start, drip, gate) for start, drip in kinds),
        *(annoy(port, data, half_closes=half_closes) for data, half_closes in odd_kinds),
    )


if __name__ == "__main__":
    raise_file_limit()
    asyncio.run(run(*map(int, sys.argv[1:])))
