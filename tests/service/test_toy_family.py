"""Another family over HTTP: a modality of its own as form field and JSON member, in every mode."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import audio_samples
from tests.service.live import LiveServer
from tests.toy_family import write_toy_release

TITLE = {"title": "La vie en rose"}
WHERE = [0.1, 0.2, 0.3, 0.4]
MODES = [
    {"audio"},
    {"text"},
    {"listeners"},
    {"audio", "text"},
    {"audio", "listeners"},
    {"text", "listeners"},
    {"audio", "text", "listeners"},
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("toy")
    write_toy_release(folder / "store", sure=1.0)
    settings: dict[str, Any] = {"model_store": folder / "store", "model": "toy/1", "decode_workers": 1}
    with LiveServer(folder / "server", module="tests.service.toy", **settings) as live:
        yield live.wait_until_ready()


@pytest.fixture(scope="module")
def song() -> bytes:
    """9 s of 44.1 kHz: five windows of the release, of which it listens to three."""
    return audio_samples.wav(audio_samples.song(9.0))


def identify(server: LiveServer, mode: set[str], song: bytes, **fields: Any) -> dict[str, Any]:
    fields |= TITLE if "text" in mode else {}
    fields |= {"listeners": WHERE} if "listeners" in mode else {}
    if "audio" in mode:
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        response = server.identify(files={"audio": song}, data=texts)
    else:
        response = server.identify(json=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "+".join(sorted(mode)))
def test_every_mode(toy: LiveServer, song: bytes, mode: set[str]) -> None:
    answer = identify(toy, mode, song, explain=True, timeline=True)
    used = {name for name, use in answer["modalities"].items() if use["used"]}
    assert set(answer["modalities"]) == {"audio", "text", "listeners"}
    assert used == mode
    assert {name.removesuffix("_only") for name, alone in answer["explanation"].items() if alone} == mode
    assert len(answer["timeline"]) == (5 if "audio" in mode else 0)
    assert sum(entry["probability"] for entry in answer["languages"]) == pytest.approx(1, abs=1e-4)


def test_what_was_not_sent_says_so(toy: LiveServer, song: bytes) -> None:
    answer = identify(toy, {"text"}, song)
    assert answer["modalities"]["listeners"] == {"used": False, "reason": "not_given", "source": None}
    assert answer["modalities"]["audio"]["reason"] == "not_given"


def test_form_and_json_are_the_same(toy: LiveServer) -> None:
    as_json = toy.identify(json={**TITLE, "listeners": WHERE}).json()
    as_form = toy.identify(files={"title": (None, TITLE["title"]), "listeners": (None, json.dumps(WHERE))}).json()
    assert as_form["languages"] == as_json["languages"]


def test_windows_are_the_familys(toy: LiveServer, song: bytes) -> None:
    audio = identify(toy, {"audio"}, song)["modalities"]["audio"]
    assert (audio["seconds"], audio["windows"]) == (pytest.approx(9.0, abs=0.01), 3)
    assert identify(toy, {"audio"}, song, windows=2)["modalities"]["audio"]["windows"] == 2


def test_a_form_field_that_is_no_json_array(toy: LiveServer) -> None:
    for value in ("0.1 0.2 0.3 0.4", "[0.1, 0.2, 0.3, NaN]", "{}"):
        response = toy.identify(files={"listeners": (None, value)})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_option"), value


def test_limits_apply(toy: LiveServer) -> None:
    response = toy.identify(files={"listeners": (None, "[" + "0.000" * 10_000 + "]")})
    assert (response.status_code, response.json()["code"]) == (413, "metadata_too_long")


def test_unknown_fields_are_refused_with_those_that_are_known(toy: LiveServer, server: LiveServer) -> None:
    refused = toy.identify(json={"listener": WHERE})
    assert refused.json()["code"] == "invalid_option"
    assert "languages, listeners, lyrics_from_tags, tags" in refused.json()["detail"]
    elsewhere = server.identify(json={"listeners": WHERE})  # a release that does not read it
    assert elsewhere.json()["code"] == "invalid_option"
    assert "listeners" not in elsewhere.json()["detail"].partition("known:")[2]
    as_form = server.identify(files={"listeners": (None, "[]")})
    assert as_form.json()["code"] == "invalid_option"


def test_the_other_pages_know_the_family(toy: LiveServer) -> None:
    (entry,) = toy.client.get("/models").json()["models"]
    assert (entry["family"], entry["serving"], entry["languages"]) == ("toy", True, ["en", "fr", "others"])
    assert toy.client.get("/languages").json()["languages"][2]["iso639_3"] is None
