"""From made songs to the answer of a real server: `multimodal` with audio, with consumption data, with both."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.http.schemas import IdentifyResponse
from app.lab.progress import Progress
from tests.multimodal_release import small_recipe, small_settings
from tests.recipes import publish
from tests.service.live import LiveServer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("multimodal")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[LiveServer]:
    best = small_recipe(small_settings(folder), epochs=2).train(Progress())
    publish(best, folder / "store")
    with LiveServer(folder / "server", model_store=folder / "store", model="multimodal/1") as live:
        yield live.wait_until_ready()


@pytest.fixture(scope="module")
def song(folder: Path, server: LiveServer) -> tuple[bytes, list[float]]:
    """A file of split test, and what it is listened to with."""
    with (folder / "songs" / "songs.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["split"] == "test")
    return (folder / "songs" / row["path"]).read_bytes(), json.loads(row["consumption"])


def test_every_modality_and_both(server: LiveServer, song: tuple[bytes, list[float]]) -> None:
    audio, vector = song
    part = {"audio": ("song.wav", audio)}
    answers = {
        "audio": server.identify(files=part),
        "consumption": server.identify(json={"consumption": vector}),
        "both": server.identify(files=part | {"consumption": (None, json.dumps(vector))}, params={"explain": "true"}),
    }
    found = {}
    for name, response in answers.items():
        assert response.status_code == 200, response.text
        found[name] = response.json()
        IdentifyResponse.model_validate(found[name])
        assert found[name]["model"]["family"] == "multimodal"
        assert sum(one["probability"] for one in found[name]["languages"]) == pytest.approx(1, abs=1e-4)
    used = {name: {kind for kind, use in one["modalities"].items() if use["used"]} for name, one in found.items()}
    assert used == {"audio": {"audio"}, "consumption": {"consumption"}, "both": {"audio", "consumption"}}
    for name in ("audio", "consumption"):
        assert probabilities(found["both"]["explanation"][f"{name}_only"]) == pytest.approx(
            probabilities(found[name]["languages"]), abs=1e-4
        )


def probabilities(languages: list[dict[str, Any]]) -> dict[str, float]:
    return {one["code"]: one["probability"] for one in languages}


def test_a_timeline_has_every_window(server: LiveServer, song: tuple[bytes, list[float]]) -> None:
    response = server.identify(files={"audio": ("song.wav", song[0])}, params={"timeline": "true"}).json()
    assert len(response["timeline"]) == response["modalities"]["audio"]["windows"] > 3


@pytest.mark.parametrize("vector", [[0.5] * 31, [0.5] * 33, [], ["a"] * 32, [1e300] * 32])
def test_a_wrong_vector_is_refused(server: LiveServer, vector: list[Any]) -> None:
    as_form = {"consumption": (None, json.dumps(vector))}
    for response in (server.identify(json={"consumption": vector}), server.identify(files=as_form)):
        assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
        assert "consumption: expected" in response.json()["detail"]


def test_nan_is_refused(server: LiveServer, song: tuple[bytes, list[float]]) -> None:
    text = json.dumps([*song[1][:-1], float("nan")])
    as_form = server.identify(files={"audio": ("song.wav", song[0]), "consumption": (None, text)})
    assert (as_form.status_code, as_form.json()["code"]) == (422, "invalid_option")
    as_json = server.client.post(
        "/identify", content=f'{{"consumption": {text}}}', headers={"content-type": "application/json"}
    )
    assert (as_json.status_code, as_json.json()["code"]) == (400, "malformed_json")
    assert "NaN and Infinity, as in 'consumption', are no JSON" in as_json.json()["detail"]
