"""LridError → RFC 9457 problem+json."""

import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.errors import LridError, Unauthorized
from app.http.access import path_of
from app.http.schemas import Problem

MEDIA_TYPE = "application/problem+json"
INFERENCE_PREFIX = "/v2/"


def problem_of(error: LridError, request_id: str) -> Problem:
    """The error as problem+json."""
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
    headers = _headers(error)
    return Response(
        problem_of(error, request_id).model_dump_json(), status_code=error.status, headers=headers, media_type=MEDIA_TYPE
    )


def _headers(error: LridError) -> dict[str, str]:
    found = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
    if error.retry_after_seconds is not None:
        found["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    return found


def on_lrid_error(request: Request, error: Exception) -> Response:
    """Exception handler for LridError; stores the code for the access log."""
    assert isinstance(error, LridError)
    request.scope["lrid.code"] = error.code
    if f"{path_of(request.scope)}/".startswith(INFERENCE_PREFIX):
        sentence = f"{error.code}: {error.detail.rstrip('.')}. {error.remedy}"  # the Open Inference Protocol's form
        return JSONResponse({"error": sentence}, status_code=error.status, headers=_headers(error))
    return problem_response(error, request.scope.get("lrid.request_id", ""))
