"""What a call can raise."""

from __future__ import annotations

from app.families.tasks import Json, column_of
from app.http.schemas import Problem


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
        """The stable code, as listed in the README of the project."""
        return self.problem.code


class NoLanguages(ClientError):
    """The release that is served answers something else; `body` is the answer, as GenreResponse or another of `schemas`."""

    def __init__(self, body: Json) -> None:
        release = "{family}/{release}".format_map(body.get("model", {"family": "?", "release": "?"}))
        super().__init__(f"the server's release {release} answers `{column_of(body)}`, no languages: ask one that does")
        self.body = body


class ServerUnreachable(ClientError):
    """No answer: the connection failed, broke, or the deadline passed."""
