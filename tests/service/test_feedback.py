"""POST /feedback: off by default, bounded, and nothing that the operator did not ask for. And the card of a release."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.live import LiveServer
from tests.service.problems import check_problem

GIVEN = {"id": "mine", "hash": "0" * 64, "answer": "es", "correction": "pt"}
NAMED = GIVEN | {"title": "Garota de Ipanema", "artist": "Tom Jobim"}


def test_off_by_default(server: LiveServer) -> None:
    check_problem(server.client.post("/feedback", json=GIVEN), 404, "not_found")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_appended_without_names_up_to_the_bound(tiny_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "feedback.jsonl"
    with LiveServer(tmp_path, model_store=tiny_store, feedback_file=file, feedback_max_mb=0.0005) as live:
        assert live.client.post("/feedback", json=NAMED).status_code == 204
        assert live.client.post("/feedback", json=NAMED | {"hash": None}).status_code == 204
        first, second = lines(file)
        assert first.pop("time") > 1.7e9
        assert first == GIVEN
        assert "hash" not in second
        assert file.stat().st_mode & 0o777 == 0o600
        while live.client.post("/feedback", json=GIVEN).status_code == 204:
            assert file.stat().st_size <= 500
        check_problem(live.client.post("/feedback", json=GIVEN), 503, "feedback_closed")
        assert all(line["id"] == "mine" for line in lines(file))
        assert "Ipanema" not in live.text_of_log()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "a b"},
        {"id": None},
        {"hash": "x"},
        {"answer": "Spanish"},
        {"correction": ""},
        {"audio": "x"},
        {"title": "a" * 1001},
    ],
)
def test_refused_and_names_where_asked_for(changes: dict[str, Any], feedback_server: tuple[LiveServer, Path]) -> None:
    live, file = feedback_server
    response = live.client.post("/feedback", json=NAMED | changes)
    check_problem(response, 422, "invalid_option")
    assert next(iter(changes)) in response.json()["detail"]
    assert live.client.post("/feedback", json=NAMED).status_code == 204
    assert lines(file)[-1]["title"] == NAMED["title"]


@pytest.fixture(scope="module")
def feedback_server(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("feedback")
    file = folder / "feedback.jsonl"
    with LiveServer(folder, model_store=tiny_store, feedback_file=file, feedback_names=True) as live:
        yield live, file


def test_a_file_that_cannot_be_written(tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tiny_store, feedback_file=tmp_path / "nowhere" / "file") as live:
        check_problem(live.client.post("/feedback", json=GIVEN), 503, "feedback_closed")
        check_problem(
            live.client.post("/feedback", content=b"[]", headers={"Content-Type": "application/json"}), 400, "malformed_json"
        )


def test_card(server: LiveServer) -> None:
    response = server.client.get("/models/lrid_net/1/card")
    assert (response.status_code, response.text) == (200, "Random weights, for tests.\n")
    assert response.headers["content-type"].startswith("text/markdown")
    assert server.client.head("/models/lrid_net/1/card").status_code == 200
    for path in ("lrid_net/2", "..%2f..%2fetc/1", "lrid_net/..", "Lrid_Net/1"):
        check_problem(server.client.get(f"/models/{path}/card"), 404, "not_found")
