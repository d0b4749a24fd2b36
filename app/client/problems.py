"""What a call can raise."""

from __future__ import annotations

from app.http.schemas import Problem


class ClientError(Exception):
    """Base of both."""


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


class ServerUnreachable(ClientError):
    """No answer: the connection failed, broke, or the deadline passed."""
