"""Requests that came together do each thing one after another."""

from __future__ import annotations

import asyncio


async def in_step() -> None:
    """Let the other requests that came in the meantime get to this point, then go on.

    The event loop then runs one piece of code over the same weights for one request after another, while they are in the
    processor's caches. Were one request run to its end before the next, each would fetch all of it anew: reading and
    identifying a name then took nearly twice as long. Nobody waits for company: alone, a request goes on at once.
    """
    await asyncio.sleep(0)
