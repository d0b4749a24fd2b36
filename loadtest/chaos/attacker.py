"""Holds connections that do little: `python -m loadtest.chaos.attacker PORT IDLE HEADS BODIES`, until it is ended.

IDLE say nothing, HEADS send a byte of headers a second, BODIES a byte of an upload a second. What the server closes is
opened anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from app.connections import raise_file_limit
from loadtest.openloop import audio_post
from tests.service.faulty import clip

HEAD = b"POST /identify HTTP/1.1\r\nHost: x\r\nX-Slow: "
BODY = audio_post(clip(0.3))[:1500]


async def hold(port: int, start: bytes, drip: bytes, gate: asyncio.Semaphore) -> None:
    """One connection after the other, for ever."""
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


async def run(port: int, idle: int, heads: int, bodies: int) -> None:
    gate = asyncio.Semaphore(64)
    kinds = [(b"", b"")] * idle + [(HEAD, b"a")] * heads + [(BODY, b"a")] * bodies
    await asyncio.gather(*(hold(port, start, drip, gate) for start, drip in kinds))


if __name__ == "__main__":
    raise_file_limit()
    asyncio.run(run(*map(int, sys.argv[1:])))
