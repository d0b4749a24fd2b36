"""POST /detect-language, as whisper-asr-webservice answers it."""

from typing import Any

import httpx
import numpy as np
import pytest

from app.http.detect_language import best_language
from tests import audio_samples
from tests.service.live import LiveServer
from tests.service.problems import check_problem

PCM = (audio_samples.song(4.0, 16_000, channels=1) * 32_767).astype("<i2").tobytes()


def test_a_file(server: LiveServer, clip: bytes) -> None:
    response = server.client.post("/detect-language", files={"audio_file": ("a.wav", clip)}, params={"encode": "true"})
    assert response.status_code == 200, response.text
    best = next(one for one in server.identify(files={"audio": clip}).json()["languages"] if one["code"] != "others")
    assert response.json() == {
        "detected_language": best["name"].lower(),
        "language_code": best["code"],
        "confidence": best["probability"],
    }


@pytest.mark.parametrize("tail", [b"", b"\x01"])
def test_raw_pcm_as_bazarr_sends_it(server: LiveServer, tail: bytes) -> None:
    params = {"encode": "false", "video_file": "a.mkv"}
    raw = server.client.post("/detect-language", files={"audio_file": PCM + tail}, params=params)
    wav = audio_samples.wav(np.frombuffer(PCM, "<i2").astype(np.float32)[:, None] / 32_768, rate_hz=16_000)
    filed = server.client.post("/detect-language", files={"audio_file": wav})
    assert raw.status_code == filed.status_code == 200, raw.text
    assert raw.json()["language_code"] == filed.json()["language_code"]
    assert raw.json()["confidence"] == pytest.approx(filed.json()["confidence"], abs=0.02)


def test_refused(server: LiveServer, clip: bytes) -> None:
    def post(**request: Any) -> httpx.Response:
        return server.client.post("/detect-language", **request)

    check_problem(post(files={"audio": clip}), 422, "invalid_option")
    check_problem(post(files={"audio_file": (None, "")}), 422, "nothing_given")
    check_problem(post(json={}), 415, "unsupported_content_type")
    check_problem(post(files={"audio_file": clip}, params={"encode": "perhaps"}), 422, "invalid_option")
    check_problem(post(files={"audio_file": PCM}), 415, "audio_unknown_format")
    check_problem(post(files={"audio_file": bytes(64_000)}, params={"encode": "false"}), 422, "nothing_usable")
    check_problem(post(files={"audio_file": bytes(70_000_000)}), 413, "upload_too_large")


def test_the_best_single_language() -> None:
    def one(code: str, iso: str | None, name: str, probability: float) -> dict[str, object]:
        return {"code": code, "iso639_3": iso, "name": name, "probability": probability}

    others = one("others", None, "Other languages", 0.5)
    found = best_language({"languages": [others, one("ko", "kor", "Korean", 0.4)]})
    assert (found.language_code, found.detected_language, found.confidence) == ("ko", "korean", 0.4)
    assert best_language({"languages": [others]}).language_code == "others"
