"""Requests that came together do each thing one after another."""

from __future__ import annotations

import asyncio


async def in_step() -> None:
    """Let the other requests that came in the meantime get to this point, then go on.

    The event loop then runs the same code over the same weights for one request after another, while the processor's
    caches hold them. All of a request at once, then all of the next, fetches everything anew each time: reading and
    identifying a name cost three times as much so. Nobody waits for company: alone, a request goes on at once.
    """
    await asyncio.sleep(0)
