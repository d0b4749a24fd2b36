"""What FastAPI costs by itself: the same JSON in and out with nothing between, and with langdetect between.

`loadtest.throughput` starts it as `uvicorn --factory loadtest.baselines:create_app`, with a real answer in ANSWER.
"""

import contextlib
import os

from fastapi import FastAPI
from langdetect import DetectorFactory, detect_langs
from langdetect.lang_detect_exception import LangDetectException

from app.http.options import Options
from app.http.schemas import IdentifyResponse


class Track(Options):
    """A request with metadata only."""

    artist: str | None = None
    album: str | None = None
    title: str | None = None


def create_app() -> FastAPI:
    app, answer = FastAPI(), IdentifyResponse.model_validate_json(os.environ["ANSWER"])
    DetectorFactory.seed = 0

    @app.post("/identify")
    async def identify(track: Track) -> IdentifyResponse:
        return answer

    @app.post("/langdetect")
    async def langdetect(track: Track) -> IdentifyResponse:
        with contextlib.suppress(LangDetectException):
            detect_langs(" ".join(part for part in (track.artist, track.album, track.title) if part))
        return answer

    return app
