"""What FastAPI itself costs: the same JSON in and out, and nothing between; and plain langdetect between.

uvicorn --factory loadtest.empty:create_app --port 8002
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from langdetect import DetectorFactory, detect_langs
from langdetect.lang_detect_exception import LangDetectException

from app.http.schemas import IdentifyResponse, Options

_CODES = ("en", "pt", "es", "ko", "others", "fr", "ja", "de", "pl", "it", "sv")


class Track(Options):
    """A request with metadata only."""

    artist: str | None = None
    album: str | None = None
    title: str | None = None


def create_app() -> FastAPI:
    app, answer = FastAPI(), IdentifyResponse.model_validate(_answer())
    DetectorFactory.seed = 0

    @app.post("/identify")
    async def identify(track: Track) -> IdentifyResponse:
        return answer

    @app.post("/langdetect")
    async def langdetect(track: Track) -> IdentifyResponse:
        try:
            detect_langs(" ".join(part for part in (track.artist, track.album, track.title) if part))
        except LangDetectException:
            return answer
        return answer

    return app


def _answer() -> dict[str, Any]:
    """As long as a real one."""
    languages = [
        {"code": code, "iso639_3": "xxx", "name": "A language", "probability": 0.090909, "raw_probability": 0.090909}
        for code in _CODES
    ]
    return {
        "language": "en",
        "probability": 0.090909,
        "languages": languages,
        "modalities": {
            "audio": {"used": False, "seconds": None, "windows": 0, "reason": "not_given"},
            "text": {"used": True, "fields": ["artist", "title"], "reason": None},
        },
        "timeline": None,
        "explanation": None,
        "model": {"family": "lrid_net", "release": "1", "sha256": "0" * 64},
        "timing_ms": {"decode": 0.0, "read": 0.123, "queue": 0.0, "model": 0.123, "total": 0.345},
    }
