"""When a call is repeated: after Retry-After if the server sent it, else after growing waits, and before the deadline."""

from __future__ import annotations

import random
import time

import httpx

AGAIN = frozenset({429, 502, 503})  # full, restarting or draining; 502: a proxy found no server behind it
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0

Outcome = httpx.Response | httpx.TransportError


def wait_seconds(outcome: Outcome, attempt: int, deadline: float) -> float | None:
    """Seconds until the call is made again, which changes nothing; None: never. `attempt` counts from 0."""
    if isinstance(outcome, httpx.Response) and outcome.status_code not in AGAIN:
        return None
    asked = retry_after_seconds(outcome) if isinstance(outcome, httpx.Response) else None
    backoff = min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0)
    wait = backoff if asked is None else asked
    return wait if wait < deadline - time.monotonic() else None


def retry_after_seconds(response: httpx.Response) -> float | None:
    """Only seconds: this service sends no dates."""
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
