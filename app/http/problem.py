"""LridError → RFC 9457 problem+json."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import Response

from app.errors import LridError
from app.http.schemas import Problem

MEDIA_TYPE = "application/problem+json"


def problem_of(error: LridError, request_id: str) -> Problem:
    """The error as a client sees it."""
    return Problem(
        type=f"/docs#{error.code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        remedy=error.remedy,
        request_id=request_id,
    )


def problem_response(error: LridError, request_id: str) -> Response:
    """The error as an answer of its own."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    return Response(
        problem_of(error, request_id).model_dump_json(), status_code=error.status, headers=headers, media_type=MEDIA_TYPE
    )


def on_lrid_error(request: Request, error: Exception) -> Response:
    """Exception handler for LridError; leaves the code where the access log finds it."""
    assert isinstance(error, LridError)
    request.scope["lrid.code"] = error.code
    return problem_response(error, request.scope.get("lrid.request_id", ""))
