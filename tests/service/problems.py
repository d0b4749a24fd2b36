"""What every refusal has in common."""

import httpx

from app.errors import public_errors


def check_problem(response: httpx.Response, status: int, code: str) -> None:
    """RFC 9457, with the expected status and code, a remedy, and the request id."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), response.text
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail", "code", "remedy", "request_id"}
    assert (body["status"], body["code"]) == (status, code), body
    assert public_errors()[code].status == status
    assert body["title"]
    assert body["detail"]
    assert len(body["remedy"]) > 10
    assert body["request_id"] == response.headers["x-request-id"] != ""
