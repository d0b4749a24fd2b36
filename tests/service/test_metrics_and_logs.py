"""What an operator sees: every number moves when it should, every line is an object, and no user's content is in it."""

from typing import Any

import pytest

from tests import audio_samples
from tests.service.live import LiveServer

TITLE = {"title": "Quand il me prend dans ses bras"}
FAMILIES = {
    "lrid_requests": "counter",
    "lrid_stage_seconds": "histogram",
    "lrid_batch_size": "histogram",
    "lrid_queue_items": "gauge",
    "lrid_queue_audio_seconds": "gauge",
    "lrid_in_flight_requests": "gauge",
    "lrid_upload_bytes": "gauge",
    "lrid_decoding_requests": "gauge",
    "lrid_decode_failures": "counter",
    "lrid_dropped_windows": "counter",
    "lrid_device_restarts": "counter",
    "lrid_predictions": "counter",
    "lrid_confidence": "histogram",
    "lrid_release_share": "gauge",
    "lrid_release_confidence": "gauge",
    "lrid_model_info": "gauge",
    "lrid_ready": "gauge",
}


def test_every_family_is_there(server: LiveServer) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    response = server.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = {family.name: family for family in text_string_to_metric_families(response.text)}
    types = {name: family.type for name, family in found.items() if not name.endswith("_created")}
    assert types == FAMILIES
    assert all(family.documentation for family in found.values())


@pytest.mark.parametrize(
    ("modalities", "files", "data"),
    [
        ("text", {}, TITLE),
        ("audio", {"audio": True}, {}),
        ("both", {"audio": True}, TITLE),
    ],
)
def test_requests_are_counted_by_modalities(
    server: LiveServer, clip: bytes, modalities: str, files: dict[str, Any], data: dict[str, Any]
) -> None:
    def counted() -> float:
        return server.metric("lrid_requests_total", modalities=modalities, outcome="ok")

    before = counted()
    parts = dict.fromkeys(files, clip) | {name: (None, value) for name, value in data.items()}
    assert server.identify(files=parts).status_code == 200
    assert counted() == before + 1


def test_stages_are_timed(server: LiveServer, clip: bytes) -> None:
    def counts() -> dict[str, float]:
        stages = ("decode", "read", "queue", "model", "total")
        return {stage: server.metric("lrid_stage_seconds_count", stage=stage) for stage in stages}

    start = counts()
    server.identify(json=TITLE)
    after_text = counts()
    server.identify(files={"audio": clip})
    after_audio = counts()
    assert {stage: after_text[stage] - start[stage] for stage in start} == {
        "decode": 0,
        "read": 1,
        "queue": 0,
        "model": 1,
        "total": 1,
    }
    assert {stage: after_audio[stage] - after_text[stage] for stage in start} == {
        "decode": 1,
        "read": 0,
        "queue": 1,
        "model": 1,
        "total": 1,
    }


def test_batches_predictions_and_confidence(server: LiveServer, song: bytes) -> None:
    names = ("lrid_batch_size_sum", "lrid_predictions_total", "lrid_confidence_count", "lrid_confidence_sum")
    before = [server.metric(name) for name in names]
    answer = server.identify(files={"audio": song}).json()
    after = [server.metric(name) for name in names]
    windows, predictions, count, confidence = (b - a for a, b in zip(before, after, strict=True))
    assert (windows, predictions, count) == (3, 1, 1)
    assert confidence == pytest.approx(answer["probability"])
    assert server.metric("lrid_predictions_total", language=answer["language"]) >= 1


def test_what_is_in_use_goes_back_to_nothing(server: LiveServer, clip: bytes) -> None:
    server.identify(files={"audio": clip})
    for name in ("queue_items", "queue_audio_seconds", "in_flight_requests", "decoding_requests", "upload_bytes"):
        assert server.metric(f"lrid_{name}") == 0, name


def test_model_info(server: LiveServer) -> None:
    model = server.identify(json=TITLE).json()["model"]
    assert server.metric("lrid_model_info", device="cpu", precision="fp32", **model) == 1
    assert server.metric("lrid_model_info") == 1
    assert server.metric("lrid_ready") == 1


# --- logs -------------------------------------------------------------------------------------------------------------


def test_every_request_has_a_line(server: LiveServer) -> None:
    server.identify(json=TITLE, headers={"X-Request-Id": "logged"})
    line = server.access_line("logged")
    assert (line["method"], line["route"], line["status"], line["code"]) == ("POST", "/identify", 200, None)
    assert line["level"] == "info"
    assert line["ms"] > 0
    assert line["time"].endswith("+00:00")


def test_an_unknown_path_is_not_repeated(server: LiveServer) -> None:
    server.client.get("/canary-path?canary=query", headers={"X-Request-Id": "lost"})
    assert server.access_line("lost")["route"] is None


CANARY = "Kanarienvogel"
SAYING_IT_ALL: dict[str, dict[str, Any]] = {
    "good": {"json": {"title": CANARY}},
    "good audio": {"files": {"audio": (f"{CANARY}.wav", audio_samples.wav(), f"audio/{CANARY}")}},
    "bad audio": {"files": {"audio": (f"{CANARY}.wav", CANARY.encode() * 100)}, "data": {"title": CANARY}},
    "truncated": {"files": {"audio": (CANARY, audio_samples.cut(audio_samples.wav()))}},
    "unknown part": {"files": {CANARY: CANARY.encode()}},
    "unknown option": {"json": {"title": CANARY, CANARY: CANARY}},
    "unknown query option": {"json": {}, "params": {CANARY: CANARY}},
    "metadata in the query": {"json": {}, "params": {"title": CANARY}},
    "unknown language": {"json": {"title": CANARY, "languages": CANARY}},
    "option of another type": {"json": {"title": CANARY, "top_k": CANARY}},
    "title of another type": {"json": {"title": [CANARY]}},
    "title with NUL": {"json": {"title": f"{CANARY}\0"}},
    "title that is too long": {"json": {"title": CANARY * 1000}},
    "no JSON": {"content": CANARY, "headers": {"Content-Type": "application/json"}},
    "another content type": {"content": CANARY, "headers": {"Content-Type": f"text/{CANARY}"}},
    "no form": {"content": CANARY, "headers": {"Content-Type": f"multipart/form-data; boundary={CANARY}"}},
    "form and more": {
        "content": b"--B\r\nContent-Disposition: form-data; name=title\r\n\r\nLa vie\r\n--B--\r\n" + CANARY.encode(),
        "headers": {"Content-Type": "multipart/form-data; boundary=B"},
    },
    "other headers": {"json": {"title": CANARY}, "headers": {"traceparent": CANARY, "X-Request-Timeout": CANARY}},
    "cookies": {"json": {"title": CANARY}, "headers": {"Cookie": CANARY, "Authorization": f"Bearer {CANARY}"}},
}


def test_no_content_in_the_log(server: LiveServer) -> None:
    for number, request in enumerate(SAYING_IT_ALL.values()):
        headers = {"X-Request-Id": f"canary-{number}"} | request.get("headers", {})
        server.identify(**(request | {"headers": headers}))
        server.access_line(f"canary-{number}")
    assert CANARY not in server.text_of_log()


def test_traces_are_exemplars_where_openmetrics_is_asked_for(server: LiveServer) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    server.identify(json=TITLE, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    response = server.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert f'# {{trace_id="{trace}"}}' in response.text
    assert trace not in server.client.get("/metrics").text
