"""Errors that a call can raise."""

from __future__ import annotations

from typing import Any

from app.http.schemas import OTHER_ANSWERS, Problem


class ClientError(Exception):
    """Base of all."""


class RequestRefused(ClientError):
    """The server answered with a problem."""

    def __init__(self, problem: Problem, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{problem.code}: {problem.detail.rstrip('.')}. {problem.remedy}")
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds

    @property
    def code(self) -> str:
        """The stable code, as listed in app/http/README.md."""
        return self.problem.code


class NoLanguages(ClientError):
    """The release that is served answers something else; `body` is the answer, as one of `schemas.OTHER_ANSWERS`."""

    def __init__(self, body: dict[str, Any]) -> None:
        found = next(name for name in OTHER_ANSWERS if name in body)
        release = "{family}/{release}".format_map(body.get("model", {"family": "?", "release": "?"}))
        super().__init__(f"the server's release {release} answers `{found}`, no languages: ask one that does")
        self.body = body


class ServerUnreachable(ClientError):
    """No answer: the connection failed, broke, or the deadline passed."""
