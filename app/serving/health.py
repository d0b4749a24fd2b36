"""Whether this server should get traffic, and if not, why. Readiness is computed from the parts at every request."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["starting", "ready", "draining", "failed"]


@dataclass(frozen=True, slots=True)
class Status:
    """The server's health at one moment."""

    phase: Phase
    ready: bool
    reason: str | None
    checks: dict[str, bool]
    uptime_seconds: float


class Health:
    """`starting` until golden.json was replayed; then `ready` as long as every check holds; `draining` after SIGTERM."""

    def __init__(self) -> None:
        self._phase: Phase = "starting"
        self._reason: str | None = "the model is loading"
        self._checks: dict[str, Callable[[], bool]] = {}
        self._started = time.monotonic()

    def add_check(self, name: str, holds: Callable[[], bool]) -> None:
        """Readiness needs `holds()` from now on."""
        self._checks[name] = holds

    def set_ready(self) -> None:
        if self._phase == "starting":
            self._phase, self._reason = "ready", None

    def set_failed(self, reason: str) -> None:
        """The model cannot be served. The state stays until the process is restarted."""
        if self._phase == "starting":
            self._phase, self._reason = "failed", reason

    def set_draining(self) -> None:
        self._phase, self._reason = "draining", "the server is shutting down"

    @property
    def draining(self) -> bool:
        return self._phase == "draining"

    @property
    def started(self) -> bool:
        """Whether loading has ended, in success or failure."""
        return self._phase != "starting"

    def status(self) -> Status:
        checks = {name: holds() for name, holds in self._checks.items()}
        broken = [name for name, held in checks.items() if not held]
        reason = self._reason or (f"being started or restarted: {', '.join(broken)}" if broken else None)
        return Status(
            phase=self._phase,
            ready=self._phase == "ready" and not broken,
            reason=reason,
            checks=checks,
            uptime_seconds=time.monotonic() - self._started,
        )
