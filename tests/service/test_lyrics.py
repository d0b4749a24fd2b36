"""Lyrics over HTTP: as form field, as JSON member, in a batch, from the tags of a file; and what is refused, by name."""

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutagen.flac
import pytest

from app.catalogue.rows import Row, Scored
from app.catalogue.servers import Servers
from app.client import LridClient, Options
from app.domain import Metadata
from tests import audio_samples
from tests.service.live import LiveServer
from tests.voices import write_reading_voice

LYRICS = "[Couplet 1]\nJe suis resté devant la porte\navec mes fleurs et mon chagrin"
TITLE = {"title": "Summer Nights"}


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("voice")
    write_reading_voice(folder / "store")
    settings: dict[str, Any] = {"model_store": folder / "store", "model": "lrid_voice/1", "decode_workers": 1}
    with LiveServer(folder / "server", **settings) as live:
        yield live.wait_until_ready()


@pytest.fixture(scope="module")
def song() -> bytes:
    """With lyrics in its tags, and no title."""
    file = io.BytesIO(audio_samples.flac(audio_samples.song(4.0)))
    tagged = mutagen.flac.FLAC(file)  # type: ignore[no-untyped-call]
    tagged["LYRICS"] = [LYRICS]
    file.seek(0)
    tagged.save(file)
    return file.getvalue()


def test_a_table_by_a_server_that_reads_lyrics_and_by_one_that_does_not(
    voice: LiveServer, server: LiveServer, song: bytes, tmp_path: Path
) -> None:
    (tmp_path / "song.flac").write_bytes(song)
    assert voice.client.get("/languages").json()["modalities"] == ["audio", "text", "lyrics"]
    assert server.client.get("/languages").json()["modalities"] == ["audio", "text"]
    rows = [Row("read", Metadata(title="Summer Nights"), lyrics=LYRICS), Row("words", Metadata(), lyrics=LYRICS)]

    async def ask(live: LiveServer) -> list[Scored]:
        servers = Servers([str(live.client.base_url)], None, Options(lyrics_from_tags=True))
        try:
            heard = [Row("own", Metadata(), tmp_path / "song.flac"), Row("sent", Metadata(), tmp_path / "song.flac", LYRICS)]
            return [*await servers.names(rows), *[await servers.file(row) for row in heard]]
        finally:
            await servers.close()

    assert [one.modalities for one in asyncio.run(ask(voice))] == ["text+lyrics", "lyrics", "audio+lyrics", "audio+lyrics"]
    assert [one.modalities or one.error for one in asyncio.run(ask(server))] == ["text", "nothing_given", "audio", "audio"]


def used(answer: dict[str, Any]) -> set[str]:
    return {name for name, use in answer["modalities"].items() if use["used"]}


def test_every_way_in_gives_the_same_answer(voice: LiveServer) -> None:
    as_json = voice.identify(json={"lyrics": LYRICS}, params={"explain": "true"}).json()
    assert used(as_json) == {"lyrics"}
    assert as_json["modalities"]["lyrics"] == {"used": True, "reason": None, "source": "request"}
    assert as_json["explanation"]["lyrics_only"] == as_json["languages"]
    assert as_json["explanation"]["text_only"] is None
    as_form = voice.identify(files={"lyrics": (None, LYRICS)}).json()
    line = json.dumps({"id": 7, "lyrics": LYRICS})
    batch = voice.client.post("/identify/batch", content=line, headers={"Content-Type": "application/x-ndjson"}).json()
    assert batch["id"] == 7
    with LridClient(str(voice.client.base_url)) as client:
        by_client = client.identify(lyrics=LYRICS).model_dump()
    assert as_json["languages"] == as_form["languages"] == batch["languages"] == by_client["languages"]


def test_lyrics_join_names_and_audio(voice: LiveServer, song: bytes) -> None:
    joined = voice.identify(json={**TITLE, "lyrics": LYRICS}).json()
    assert used(joined) == {"text", "lyrics"}
    everything = voice.identify(files={"audio": song}, data={**TITLE, "lyrics": LYRICS, "explain": "true"}).json()
    assert used(everything) == {"audio", "text", "lyrics"}
    assert all(everything["explanation"][f"{name}_only"] for name in ("audio", "text", "lyrics"))
    alone = voice.identify(json=TITLE).json()
    assert alone["modalities"]["lyrics"] == {"used": False, "reason": "not_given", "source": None}


def test_the_files_lyrics_are_read_on_request_alone(voice: LiveServer, song: bytes) -> None:
    assert used(voice.identify(files={"audio": song}).json()) == {"audio"}
    read = voice.identify(files={"audio": song}, params={"lyrics_from_tags": "true"}).json()
    assert used(read) == {"audio", "lyrics"}
    assert read["modalities"]["lyrics"]["source"] == "tags"
    given = voice.identify(files={"audio": song}, data={"lyrics": LYRICS, "lyrics_from_tags": "true"}).json()
    assert given["modalities"]["lyrics"]["source"] == "request"
    assert given["languages"] == read["languages"]


def test_lyrics_that_say_nothing(voice: LiveServer) -> None:
    refused = voice.identify(json={"lyrics": "♪ ♪ ♪"})
    assert (refused.status_code, refused.json()["code"]) == (422, "nothing_usable")
    assert "nothing in lyrics is known to this release" in refused.json()["detail"]
    beside = voice.identify(json={**TITLE, "lyrics": "♪ ♪ ♪"}).json()
    assert beside["modalities"]["lyrics"] == {"used": False, "reason": "no_text_features", "source": "request"}


@pytest.mark.parametrize("length", [16_001, 10_000_000])
def test_long_lyrics_are_refused_by_name(voice: LiveServer, length: int) -> None:
    text = "la " * (length // 3 + 1)
    line = json.dumps({"id": 1, "lyrics": text}) + "\n"
    ndjson = {"Content-Type": "application/x-ndjson"}
    answers = [
        voice.identify(json={"lyrics": text}),
        voice.identify(files={"lyrics": (None, text)}),
        voice.client.post("/identify/batch", content=line, headers=ndjson),
    ]
    for answer in answers:
        found = answer.json()
        assert (found["status"], found["code"]) == (413, "metadata_too_long"), found
        assert "lyrics" in found["detail"]


def test_a_release_that_reads_no_lyrics_says_what_it_reads(server: LiveServer) -> None:
    refused = server.identify(json={"lyrics": LYRICS})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_option")
    ignored = server.identify(json=TITLE | {"lyrics_from_tags": True})
    assert ignored.status_code == 200
    assert "lyrics" not in ignored.json()["modalities"]


def test_the_document_has_the_field(voice: LiveServer) -> None:
    body = voice.client.get("/openapi.json").json()["paths"]["/identify"]["post"]["requestBody"]["content"]
    for kind in ("application/json", "multipart/form-data"):
        assert "lyrics" in body[kind]["schema"]["properties"]


def test_the_open_inference_protocol(voice: LiveServer) -> None:
    inputs = voice.client.get("/v2/models/lrid").json()["inputs"]
    assert [one["name"] for one in inputs] == ["audio", "artist", "album", "title", "lyrics"]
    tensor = {"name": "lyrics", "datatype": "BYTES", "shape": [1], "data": [LYRICS]}
    answer = voice.client.post("/v2/models/lrid/infer", json={"inputs": [tensor], "outputs": [{"name": "answer"}]}).json()
    found = json.loads(answer["outputs"][0]["data"][0])
    assert used(found) == {"lyrics"}


def test_lyrics_count_as_text(voice: LiveServer) -> None:
    before = voice.metric("lrid_requests_total", modalities="text", outcome="ok")
    voice.identify(json={"lyrics": LYRICS})
    assert voice.metric("lrid_requests_total", modalities="text", outcome="ok") == before + 1
