"""POST /identify: options and headers."""

from typing import Any

import pytest

from tests.releases import CODES
from tests.service.answers import TITLE, by_code, check_ranked
from tests.service.live import LiveServer

# --- options ----------------------------------------------------------------------------------------------------------


def ask_with(server: LiveServer, way: str, option: str, value: object) -> dict[str, Any]:
    """One option, given in one of the three ways."""
    if way == "query":
        response = server.identify(json=TITLE, params={option: str(value)})
    elif way == "form":
        response = server.identify(files={name: (None, str(text)) for name, text in (TITLE | {option: value}).items()})
    else:
        response = server.identify(json=TITLE | {option: value})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("way", ["query", "form", "json"])
def test_top_k(server: LiveServer, way: str) -> None:
    whole = server.identify(json=TITLE).json()
    answer = ask_with(server, way, "top_k", 3)
    assert answer["languages"] == whole["languages"][:3]
    assert answer["probability"] == whole["probability"]
    assert len(ask_with(server, way, "top_k", 100)["languages"]) == len(CODES)


@pytest.mark.parametrize("way", ["query", "form", "json"])
def test_candidate_languages(server: LiveServer, way: str) -> None:
    raw = by_code(server.identify(json=TITLE).json()["languages"])
    answer = ask_with(server, way, "languages", "ko,fr, en")
    assert sorted(by_code(answer["languages"])) == ["en", "fr", "ko"]
    check_ranked(answer["languages"])
    kept = {code: raw[code] for code in ("en", "fr", "ko")}
    assert by_code(answer["languages"], "raw_probability") == kept
    total = sum(kept.values())
    shares = {code: pytest.approx(value / total, abs=2e-6 / total) for code, value in kept.items()}
    assert by_code(answer["languages"]) == shares
    assert answer["language"] == max(kept, key=kept.__getitem__)


def test_candidate_languages_as_a_json_list(server: LiveServer) -> None:
    answer = server.identify(json=TITLE | {"languages": ["fr", "others"], "top_k": 1}).json()
    assert len(answer["languages"]) == 1
    assert answer["languages"][0]["code"] in ("fr", "others")


@pytest.mark.parametrize("way", ["query", "form"])
def test_windows(server: LiveServer, song: bytes, way: str) -> None:
    def ask(windows: int) -> int:
        option = {"windows": str(windows)}
        given = {"params": option} if way == "query" else {"data": option}
        return server.identify(files={"audio": song}, **given).json()["modalities"]["audio"]["windows"]

    assert [ask(1), ask(2), ask(3), ask(8)] == [1, 2, 3, 3]


def test_timeline(server: LiveServer, song: bytes) -> None:
    answer = server.identify(files={"audio": song}, data={"timeline": "true"}).json()
    moments = answer["timeline"]
    assert len(moments) == 3
    for moment in moments:
        assert set(moment) == {"start_seconds", "seconds", "language", "probability", "languages"}
        assert moment["seconds"] == 30.0
        check_ranked(moment["languages"])
        assert moment["language"] == moment["languages"][0]["code"]
    starts = [moment["start_seconds"] for moment in moments]
    assert starts == sorted(starts)
    assert starts[0] == pytest.approx(0.0, abs=0.2)
    assert starts[-1] == pytest.approx(40.0, abs=0.2)
    for code, probability in by_code(answer["languages"]).items():  # the answer is the mean over the windows
        mean = sum(by_code(moment["languages"])[code] for moment in moments) / 3
        assert probability == pytest.approx(mean, abs=2e-6)


def test_timeline_of_a_single_window_is_the_answer(server: LiveServer, clip: bytes) -> None:
    answer = server.identify(files={"audio": clip}, params={"timeline": "true", "top_k": "2"}).json()
    (moment,) = answer["timeline"]
    assert moment["languages"] == answer["languages"]
    assert (moment["start_seconds"], moment["seconds"]) == (0.0, 5.0)


def test_timeline_without_audio_is_empty(server: LiveServer) -> None:
    assert server.identify(json=TITLE | {"timeline": True}).json()["timeline"] == []


def test_explain(server: LiveServer, clip: bytes) -> None:
    answer = server.identify(files={"audio": clip}, data=TITLE | {"explain": "true"}).json()
    assert answer["explanation"] == {
        "audio_only": server.identify(files={"audio": clip}).json()["languages"],
        "text_only": server.identify(json=TITLE).json()["languages"],
    }
    assert answer["languages"] not in answer["explanation"].values()


def test_explain_is_null_where_a_modality_was_not_used(server: LiveServer, clip: bytes) -> None:
    text = server.identify(json=TITLE | {"explain": True}).json()
    assert text["explanation"] == {"audio_only": None, "text_only": text["languages"]}
    audio = server.identify(files={"audio": clip}, data={"title": "1999", "explain": "true"}).json()
    assert audio["explanation"]["text_only"] is None
    assert audio["explanation"]["audio_only"] is not None


def test_options_that_are_empty_are_not_given(server: LiveServer) -> None:
    """As HTML forms send them."""
    fields = {"title": "Bonjour", "top_k": "", "languages": "", "windows": ""}
    answer = server.identify(files={name: (None, value) for name, value in fields.items()}).json()
    assert len(answer["languages"]) == len(CODES)


# --- headers ----------------------------------------------------------------------------------------------------------


def test_request_id_is_echoed(server: LiveServer) -> None:
    for given in ("a", "0af7651916cd43dd8448eb211c80319c", "team.a:batch_7-3"):
        assert server.identify(json=TITLE, headers={"X-Request-Id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "two words", "x" * 129, 'quote"', "naïve"])
def test_request_id_is_made(server: LiveServer, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given.encode()}
    made = [server.identify(json=TITLE, headers=headers).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert given not in made
    assert all(len(request_id) == 32 for request_id in made)


def test_traceparent_is_in_the_log(server: LiveServer) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-Id": "traced"}
    assert server.identify(json=TITLE, headers=headers).status_code == 200
    assert server.access_line("traced")["trace_id"] == trace


def test_malformed_traceparent_is_ignored(server: LiveServer) -> None:
    headers = {"traceparent": "00-nonsense-01", "X-Request-Id": "untraced"}
    assert server.identify(json=TITLE, headers=headers).status_code == 200
    assert "trace_id" not in server.access_line("untraced")


def test_request_timeout_that_suffices(server: LiveServer, clip: bytes) -> None:
    for given in ("30", "59.5", "1e9", "inf"):
        assert server.identify(files={"audio": clip}, headers={"X-Request-Timeout": given}).status_code == 200


def test_request_timeout_that_passes(server: LiveServer, song: bytes) -> None:
    response = server.identify(files={"audio": song}, headers={"X-Request-Timeout": "0.001"})
    assert response.status_code == 504
    assert response.json()["code"] == "deadline_exceeded"


@pytest.mark.parametrize("given", ["", "soon", "0", "-1", "nan"])
def test_request_timeout_that_is_none(server: LiveServer, given: str) -> None:
    response = server.identify(json=TITLE, headers={"X-Request-Timeout": given})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert "X-Request-Timeout" in response.json()["detail"]


def test_metadata_in_the_query_is_told_where_it_belongs(server: LiveServer) -> None:
    refused = server.client.post("/identify", params={"title": "La vie en rose"}).json()
    assert (refused["code"], refused["detail"].rpartition(". ")[2]) == ("invalid_option", "Metadata belongs in the body")
    assert "body" not in server.client.post("/identify", params={"loudness": "1"}).json()["detail"]
