"""From made songs to an answer over HTTP: train both tasks and the baselines, measure, serve."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.families.tasks import headline_of
from app.http.schemas import ArtistResponse, IdentifyResponse
from app.lab.corpus.made.multitask import make
from app.lab.evaluation.answers import EvaluationSet
from app.lab.progress import Progress
from app.lab.training.recipes import recipe_of
from app.lab.training.recipes.multitask import MultitaskRecipe
from tests.recipes import publish
from tests.service.live import LiveServer


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"), 0, artists=2, songs=3, seconds=3.0)


@pytest.fixture(scope="module")
def store(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`multitask/both`, and both baselines."""
    store = tmp_path_factory.mktemp("store")
    valid = EvaluationSet(songs, splits=("valid",))
    for tasks in ("artist", "language", "both"):
        settings: dict[str, Any] = {"catalogue": songs, "output": store.parent / tasks, "cache": store.parent / "cache"}
        best = recipe_of("multitask", settings | {"tasks": tasks, "epochs": 1, "batch_size": 8}).train(Progress())
        publish(best, store, tasks, calibration=valid)
    return store


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings: dict[str, Any] = {"model_store": store, "model": "multitask/both", "decode_workers": 1, "admin_keys": "admin"}
    with LiveServer(tmp_path_factory.mktemp("server"), **settings) as live:
        yield live.wait_until_ready()


@pytest.fixture(scope="module")
def song(songs: Path) -> bytes:
    return (songs.parent / "audio/fr-1-2.wav").read_bytes()


def test_the_table_of_the_paper(store: Path, songs: Path, tmp_path: Path) -> None:
    chosen = EvaluationSet(songs)
    said = MultitaskRecipe.evaluate(store / "multitask/both", chosen, tmp_path, Progress())
    kinds = [line.split(" | ")[:3] for line in said.splitlines() if line.startswith(("| Base", "| Multi"))]
    assert kinds == [
        ["| Baseline", "artist", "multitask/artist"],
        ["| Baseline", "language", "multitask/language"],
        ["| Multi-task I", "artist", "multitask/both"],
        ["| Multi-task II", "language", "multitask/both"],
    ]
    assert said in (tmp_path / "evaluation.md").read_text()
    alone = MultitaskRecipe.evaluate(store / "multitask/artist", chosen, tmp_path, Progress())
    assert alone.count("| Baseline |") == 1
    assert "Multi-task" not in alone


def test_a_song_is_answered_with_artists(server: LiveServer, song: bytes) -> None:
    response = server.identify(files={"audio": song}, data={"timeline": "true", "explain": "true"})
    assert response.status_code == 200, response.text
    answer = response.json()
    IdentifyResponse.model_validate(answer, strict=True)
    assert sum(one["probability"] for one in answer["artists"]) == pytest.approx(1, abs=1e-4)
    assert {one["name"] for one in answer["artists"]} >= {"Made Voice en 1", "Made Voice fr 2"}
    assert len(answer["languages"]) == 4
    assert answer["modalities"]["text"]["reason"] == "not_given"
    assert len(server.identify(files={"audio": song}, data={"top_k": "2"}).json()["artists"]) == 2


def test_names_are_not_read(server: LiveServer, song: bytes) -> None:
    beside = server.identify(files={"audio": song}, data={"title": "La vie en rose"}).json()
    assert beside["modalities"]["text"]["reason"] == "not_trusted"
    refused = server.identify(json={"title": "La vie en rose"})
    assert (refused.status_code, refused.json()["code"]) == (422, "modality_not_used")
    assert "reads audio only" in refused.json()["detail"]


def test_a_baseline_is_served_as_well(server: LiveServer, song: bytes) -> None:
    key = {"Authorization": "Bearer admin"}
    assert server.client.post("/admin/releases", json={"model": "multitask/artist"}, headers=key).status_code == 200
    answer = server.identify(files={"audio": song}, data={"timeline": "true"}).json()
    ArtistResponse.model_validate(answer, strict=True)
    assert answer["artist"] == answer["artists"][0]["code"] == headline_of(answer).label
    assert answer["timeline"][0]["artist"] == answer["artist"]
    assert "language" not in answer
