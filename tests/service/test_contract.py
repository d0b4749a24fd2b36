"""POST /identify: how to ask, and the shape of the answer."""

import json
from typing import Any

import mutagen.flac
import pytest

from tests import audio_samples
from tests.releases import CODES
from tests.service.answers import TITLE, by_code, check_ranked
from tests.service.live import LiveServer


def wav_clip(seconds: float = 2.0, hz: float = 440.0, peak: float = 0.5) -> bytes:
    return audio_samples.wav(audio_samples.tone(seconds, hz, 22_050, 1, peak), rate_hz=22_050)


# --- ways to ask ------------------------------------------------------------------------------------------------------


def test_metadata_as_json(server: LiveServer) -> None:
    response = server.identify(json=TITLE)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert set(answer) == {
        "language",
        "probability",
        "languages",
        "sung",
        "modalities",
        "timeline",
        "explanation",
        "model",
        "timing_ms",
    }
    check_ranked(answer["languages"])
    assert sorted(by_code(answer["languages"])) == sorted(CODES)
    assert set(answer["languages"][0]) == {"code", "iso639_3", "name", "probability", "raw_probability"}
    assert answer["language"] == answer["languages"][0]["code"]
    assert answer["probability"] == answer["languages"][0]["probability"]
    assert answer["modalities"] == {
        "audio": {"used": False, "reason": "not_given", "seconds": None, "windows": 0, "sung_windows": None, "warnings": []},
        "text": {"used": True, "reason": None, "fields": ["artist", "album", "title"], "source": "request", "values": None},
    }
    assert answer["timeline"] is None
    assert answer["explanation"] is None
    assert set(answer["timing_ms"]) == {"decode", "read", "queue", "model", "total"}
    assert answer["timing_ms"]["decode"] == answer["timing_ms"]["queue"] == 0
    assert 0 < answer["timing_ms"]["read"] <= answer["timing_ms"]["total"]


def test_metadata_as_form_answers_as_json_does(server: LiveServer) -> None:
    as_json = server.identify(json=TITLE).json()
    as_form = server.identify(files={name: (None, value) for name, value in TITLE.items()}).json()
    assert as_form["languages"] == as_json["languages"]
    assert as_form["modalities"] == as_json["modalities"]


def test_audio_and_metadata(server: LiveServer, song: bytes) -> None:
    response = server.identify(files={"audio": ("song.mp3", song, "audio/mpeg")}, data=TITLE)
    assert response.status_code == 200
    answer = response.json()
    check_ranked(answer["languages"])
    audio = answer["modalities"]["audio"]
    assert audio["used"] is True
    assert audio["reason"] is None
    assert audio["seconds"] == pytest.approx(70.0, abs=0.2)
    assert audio["windows"] == 3  # enough 30 s windows to cover it
    text = {"used": True, "reason": None, "fields": ["artist", "album", "title"], "source": "request", "values": None}
    assert answer["modalities"]["text"] == text
    timing = answer["timing_ms"]
    assert min(timing["decode"], timing["read"], timing["model"]) > 0
    assert timing["decode"] + timing["queue"] <= timing["total"]


@pytest.mark.parametrize("kind", sorted(audio_samples.WHOLE))
def test_every_format(server: LiveServer, kind: str) -> None:
    response = server.identify(files={"audio": ("anything", audio_samples.WHOLE[kind](), "application/octet-stream")})
    assert response.status_code == 200, response.text
    audio = response.json()["modalities"]["audio"]
    seconds = pytest.approx(2.0, abs=0.1)
    assert audio == {"used": True, "reason": None, "seconds": seconds, "windows": 1, "sung_windows": None, "warnings": []}


def test_the_audio_part_needs_no_file_name(server: LiveServer, clip: bytes) -> None:
    assert server.identify(files={"audio": (None, clip)}).status_code == 200


def test_each_modality_counts(server: LiveServer, clip: bytes) -> None:
    audio = server.identify(files={"audio": clip}).json()
    text = server.identify(json=TITLE).json()
    both = server.identify(files={"audio": clip}, data=TITLE).json()
    answers = [by_code(answer["languages"]) for answer in (audio, text, both)]
    assert answers[0] != answers[1] != answers[2] != answers[0]


def test_the_same_request_gives_the_same_answer(server: LiveServer, song: bytes) -> None:
    def ask() -> dict[str, Any]:
        answer = server.identify(files={"audio": song}, data=TITLE | {"timeline": "true", "explain": "true"}).json()
        del answer["timing_ms"]
        return answer

    assert ask() == ask()


def test_model_names_what_languages_and_models_name(server: LiveServer) -> None:
    model = server.identify(json=TITLE).json()["model"]
    assert model["family"] == "lrid_net"
    assert model["release"] == "1"
    assert server.client.get("/languages").json()["model"] == model
    (entry,) = server.client.get("/models").json()["models"]
    assert {name: entry[name] for name in model} == model
    assert entry["serving"] is True
    assert entry["languages"] == list(CODES)


# --- modalities that are not used -------------------------------------------------------------------------------------


def test_silent_audio_with_metadata(server: LiveServer) -> None:
    silence = wav_clip(3.0, peak=0.0)
    answer = server.identify(files={"audio": silence}, data=TITLE).json()
    audio = {"used": False, "reason": "silent", "seconds": 3.0, "windows": 0, "sung_windows": None, "warnings": []}
    assert answer["modalities"]["audio"] == audio
    assert answer["languages"] == server.identify(json=TITLE).json()["languages"]


@pytest.mark.parametrize("title", ["1999", "!?…", "4:33 (2)"])
def test_text_without_features_beside_audio(server: LiveServer, clip: bytes, title: str) -> None:
    answer = server.identify(files={"audio": clip}, data={"title": title}).json()
    text = {"used": False, "reason": "no_text_features", "fields": ["title"], "source": "request", "values": None}
    assert answer["modalities"]["text"] == text
    assert answer["modalities"]["audio"]["used"] is True


@pytest.mark.parametrize("title", ["", "   ", "\t\n"])
def test_blank_text_beside_audio_is_not_given(server: LiveServer, clip: bytes, title: str) -> None:
    answer = server.identify(files={"audio": clip, "title": (None, title)}).json()
    text = {"used": False, "reason": "not_given", "fields": [], "source": None, "values": None}
    assert answer["modalities"]["text"] == text
    assert answer["languages"] == server.identify(files={"audio": clip}).json()["languages"]


# --- tags of the file -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """2 s of FLAC with artist and title."""
    path = tmp_path_factory.mktemp("tagged") / "song.flac"
    path.write_bytes(audio_samples.flac())
    tags = mutagen.flac.FLAC(path)  # type: ignore[no-untyped-call]
    tags["artist"], tags["title"] = TITLE["artist"], TITLE["title"]
    tags.save()
    return path.read_bytes()


def test_tags_are_read_when_no_metadata_is_given(server: LiveServer, tagged: bytes) -> None:
    answer = server.identify(files={"audio": tagged}).json()
    text: dict[str, Any] = {"used": True, "reason": None, "fields": ["artist", "title"], "source": "tags"}
    text["values"] = {name: TITLE[name] for name in ("artist", "title")}
    assert answer["modalities"]["text"] == text
    given = {name: TITLE[name] for name in ("artist", "title")}
    assert answer["languages"] == server.identify(files={"audio": tagged}, data=given).json()["languages"]


@pytest.mark.parametrize("options", [{"tags": "false"}, {"tags": "false", "title": "  "}])
def test_tags_are_not_read_when_they_are_turned_off(server: LiveServer, tagged: bytes, options: dict[str, str]) -> None:
    text = server.identify(files={"audio": tagged}, data=options).json()["modalities"]["text"]
    assert text == {"used": False, "reason": "not_given", "fields": [], "source": None, "values": None}


def test_metadata_of_the_request_goes_before_tags(server: LiveServer, tagged: bytes) -> None:
    text = server.identify(files={"audio": tagged}, data={"album": "Greatest hits of the world"}).json()["modalities"][
        "text"
    ]
    assert (text["fields"], text["source"]) == (["album"], "request")


# --- the other pages --------------------------------------------------------------------------------------------------


def test_languages(server: LiveServer) -> None:
    languages = server.client.get("/languages").json()["languages"]
    assert [entry["code"] for entry in languages] == list(CODES)
    assert languages[3] == {"code": "ko", "iso639_3": "kor", "name": "Korean"}


def test_openapi_describes_identify(server: LiveServer) -> None:
    document = server.client.get("/openapi.json").json()
    post = document["paths"]["/identify"]["post"]
    form = post["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    options = {"top_k", "languages", "windows", "timeline", "explain", "tags", "lyrics_from_tags"}
    assert set(form) == {"audio", "title", "album", "artist", "lyrics"} | options
    as_json = post["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(as_json) == set(form) - {"audio"}
    assert {"200", "400", "413", "415", "422", "429", "503", "504"} <= set(post["responses"])
    assert "application/problem+json" in post["responses"]["422"]["content"]
    assert json.dumps(document).count("audio_truncated") >= 1  # codes are listed


def test_openapi_has_keys_and_an_example_for_every_body(server: LiveServer) -> None:
    document = server.client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"].values()
    assert [(one["type"], one.get("scheme") or one["name"]) for one in schemes] == [
        ("http", "bearer"),
        ("apiKey", "X-API-Key"),
    ]
    bodies = {
        path: methods["post"]["requestBody"]["content"] for path, methods in document["paths"].items() if "post" in methods
    }
    assert all(media["examples"] for content in bodies.values() for media in content.values())
    for path, content in bodies.items():
        for one in content.get("application/json", {"examples": {}})["examples"].values():
            url = path.replace("{name}", "lrid").replace("{release}", "1")
            answer = server.client.post(url, json=one["value"])
            assert answer.status_code in ({401, 404} if path in {"/admin/releases", "/feedback"} else {200}), answer.text


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/health/startup"])
def test_health_of_a_server_at_work(server: LiveServer, path: str) -> None:
    response = server.client.get(path)
    assert response.status_code == 200
    body = response.json()
    assert (body["status"], body["ready"], body["reason"], body["model"]) == ("ready", True, None, "lrid_net/1")
    assert body["checks"] == {"batcher": True, "decoders": True}
    assert body["uptime_seconds"] > 0
