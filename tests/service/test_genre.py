"""From made songs to an answer over HTTP: train, measure, publish, serve."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.catalogue.rows import Row, Scored
from app.catalogue.servers import Servers
from app.client import LridClient, NoLanguages, Options
from app.domain import Metadata
from app.http.schemas import GenreResponse
from app.lab.corpus.made.genre import GENRES, make
from app.lab.evaluation.answers import EvaluationSet
from app.lab.progress import Progress
from app.lab.training.recipes import recipe_of
from app.lab.training.recipes.genre import GenreRecipe
from tests.recipes import publish
from tests.service.live import LiveServer

WORDS = "[Verse]\ndrum street boots and flag\nmoon moon cradle"


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"), 0, songs=7, seconds=2.0)


@pytest.fixture(scope="module")
def store(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`genre/1`, two epochs old."""
    store = tmp_path_factory.mktemp("store")
    settings: dict[str, Any] = {"catalogue": songs, "output": store.parent / "genre", "epochs": 2, "batch_size": 8}
    small = {"see": {"channels": [8, 16], "window_seconds": 1.0, "mel_bands": 32}}
    best = recipe_of("genre", settings | small).train(Progress())
    publish(best, store, calibration=EvaluationSet(songs, splits=("valid",)))
    return store


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings: dict[str, Any] = {"model_store": store, "model": "genre/1", "decode_workers": 1}
    with LiveServer(tmp_path_factory.mktemp("server"), **settings) as live:
        yield live.wait_until_ready()


@pytest.fixture(scope="module")
def song(songs: Path) -> bytes:
    return (songs.parent / "audio/polka-1.wav").read_bytes()


def used(answer: dict[str, Any]) -> set[str]:
    return {name for name, use in answer["modalities"].items() if use["used"]}


def test_the_release_was_measured_in_three_cases(store: Path, songs: Path, tmp_path: Path) -> None:
    card = (store / "genre/1/CARD.md").read_text()
    assert "spectrograms and lyrics, concatenated" in card
    said = GenreRecipe.evaluate(store / "genre/1", EvaluationSet(songs), tmp_path, Progress())
    for case in ("audio+lyrics", "audio only", "lyrics only"):
        assert case in said, said
    assert "macro" in said
    assert (tmp_path / "evaluation.json").is_file()


@pytest.mark.parametrize("mode", [{"audio"}, {"lyrics"}, {"audio", "lyrics"}], ids=lambda mode: "+".join(sorted(mode)))
def test_a_song_gets_its_genres(server: LiveServer, song: bytes, mode: set[str]) -> None:
    fields = {"lyrics": WORDS} if "lyrics" in mode else {}
    if "audio" in mode:
        response = server.identify(files={"audio": song}, data=fields | {"explain": "true", "timeline": "true"})
    else:
        response = server.identify(json=fields | {"explain": True})
    assert response.status_code == 200, response.text
    answer = response.json()
    GenreResponse.model_validate(answer, strict=True)
    assert used(answer) == mode
    assert {one["code"] for one in answer["genres"]} == set(GENRES)
    assert sum(one["probability"] for one in answer["genres"]) == pytest.approx(1, abs=1e-4)
    assert (answer["genre"], answer["probability"]) == (answer["genres"][0]["code"], answer["genres"][0]["probability"])
    assert {name.removesuffix("_only") for name, alone in answer["explanation"].items() if alone} == mode


def test_clients_for_languages_say_that_these_are_none(server: LiveServer, song: bytes, tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(song)
    with LridClient(str(server.client.base_url)) as client:
        with pytest.raises(NoLanguages, match="genre/1 answers `genre`, no languages") as caught:
            client.identify(path)
        assert GenreResponse.model_validate(caught.value.body).genres
        read, bad = client.identify_batch([{"lyrics": WORDS}, {"title": "Waltz"}])
        with pytest.raises(NoLanguages):
            _ = read.answer
        assert GenreResponse.model_validate(read.body).genre
        assert bad.problem is not None


def test_a_catalogue_is_scored_by_genre(server: LiveServer, song: bytes, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(song)

    async def ask() -> list[Scored]:
        servers = Servers([url], None, Options())
        try:
            names = await servers.names([Row("a", Metadata(), lyrics=WORDS), Row("b", Metadata(title="Waltz"))])
            return [*names, await servers.file(Row("c", Metadata(), tmp_path / "song.wav"))]
        finally:
            await servers.close()

    url = str(server.client.base_url)
    read, refused, heard = asyncio.run(ask())
    assert {read.language, heard.language} <= set(GENRES)
    assert (read.modalities, heard.modalities) == ("lyrics", "audio")
    assert refused.error == "modality_not_used"


def test_beets_names_the_release_that_tells_no_languages(server: LiveServer, store: Path, tmp_path: Path) -> None:
    pytest.importorskip("beets", reason="needs beets (extra `beets`)")
    from tests.service.test_beets import Library

    for name, settings in {"server": {"server": str(server.client.base_url)}, "own": {}}.items():
        library = Library(tmp_path / name, store, **settings)
        library.environment["LRID_MODEL"] = "genre/1"
        library.beet("import", "-qA", str(library.songs))
        said = library.beet("lrid")
        assert said.count("genre/1") == 2, said
        assert "no languages" in said


def test_candidates_and_what_cannot_be_read(server: LiveServer, song: bytes) -> None:
    chosen = server.identify(json={"lyrics": WORDS, "languages": ["march", "techno"], "top_k": 1}).json()
    assert chosen["genre"] in {"march", "techno"}
    assert len(chosen["genres"]) == 1
    unknown = server.identify(json={"lyrics": "nothing known here"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "nothing_usable")
    long = server.identify(json={"lyrics": "la " * 4_000_000})
    assert (long.status_code, long.json()["code"]) == (413, "metadata_too_long")
    assert "lyrics" in long.json()["detail"]
    names = server.identify(json={"title": "Waltz"})
    assert names.status_code == 422
