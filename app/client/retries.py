"""When a call is made again: after Retry-After where the server names it, else after growing waits; never too late."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import httpx

AGAIN = frozenset({429, 502, 503})  # full, restarting or draining; 502: a proxy found no server behind it
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0

Outcome = httpx.Response | httpx.TransportError


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time, by time.monotonic()."""

    at_seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def remaining_seconds(self) -> float:
        return self.at_seconds - time.monotonic()

    def headers(self) -> dict[str, str]:
        """What tells the server how long the answer is worth waiting for."""
        return {"X-Request-Timeout": f"{max(self.remaining_seconds, 0.001):.3f}"}


def wait_seconds(outcome: Outcome, attempt: int, deadline: Deadline) -> float | None:
    """How long to wait before the call is made again. None: never, the outcome stands.

    `attempt` counts from 0. A call may be repeated after a broken connection: identifying changes nothing.
    """
    if isinstance(outcome, httpx.Response) and outcome.status_code not in AGAIN:
        return None
    asked = retry_after_seconds(outcome) if isinstance(outcome, httpx.Response) else None
    backoff = min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0)
    wait = backoff if asked is None else asked
    return wait if wait < deadline.remaining_seconds else None


def retry_after_seconds(response: httpx.Response) -> float | None:
    """Only seconds: this service sends no dates."""
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
