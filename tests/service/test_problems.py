"""Refusals that have nothing to do with what was sent."""

import pytest

from tests.service.live import LiveServer
from tests.service.problems import check_problem


def test_unknown_path(server: LiveServer) -> None:
    check_problem(server.client.get("/identify/more"), 404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/identify"), ("PUT", "/identify"), ("POST", "/health/ready")])
def test_wrong_method(server: LiveServer, method: str, path: str) -> None:
    response = server.client.request(method, path)
    check_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"]


def test_the_request_id_is_in_the_problem_and_in_the_log(server: LiveServer) -> None:
    response = server.identify(json={}, headers={"X-Request-Id": "problem-1"})
    assert response.json()["request_id"] == response.headers["x-request-id"] == "problem-1"
    line = server.access_line("problem-1")
    assert (line["status"], line["code"], line["route"]) == (422, "nothing_given", "/identify")
