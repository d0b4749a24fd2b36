"""POST /detect-language of whisper-asr-webservice, so that what speaks to that (Bazarr, for one) can speak to this server.

That protocol has no word for "not sure", "nothing is sung" or "another language": the best single language is answered, with
its probability.
"""

import struct
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from app.domain import Metadata, Track
from app.errors import NotFound, NothingGiven
from app.families.tasks import Json
from app.http import openapi
from app.http.answering import Answering
from app.http.body import BodyReader
from app.http.gate import AudioGate
from app.http.options import DEFAULT_OPTIONS, IdentifyRequest

PATH = "/detect-language"
FILE_PART = "audio_file"
PCM_HZ, PCM_BYTES = 16_000, 2  # of `encode=false`: mono, signed, little-endian
_WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


class DetectedLanguage(BaseModel):
    """The answer of whisper-asr-webservice."""

    detected_language: str = Field(description="In English, lower case.")
    language_code: str
    confidence: float = Field(description="Probability of that language.")


def build_detect_router(answering: Answering, body: BodyReader) -> APIRouter:
    router = APIRouter()

    @router.post(PATH, responses=openapi.problems(), openapi_extra=openapi.detect_language())
    async def detect_language(
        request: Request,
        encode: Annotated[bool, Query(description="false: the file is raw PCM, 16 kHz, mono, 16 bit.")] = True,
    ) -> DetectedLanguage:
        """The best language of a file, as whisper-asr-webservice has it; its other query parameters change nothing."""

        async def read(gate: AudioGate) -> Sequence[IdentifyRequest]:
            audio = await body.read_file(request, gate, FILE_PART)
            if not audio:
                raise NothingGiven(f"the part {FILE_PART} is missing or empty")
            return (IdentifyRequest(Track(audio if encode else wav(audio), Metadata()), DEFAULT_OPTIONS),)

        (answer,) = await answering.answers(request, read)
        if "language" not in answer:
            raise NotFound("the release that is served tells no languages; POST /identify answers what it tells")
        return best_language(answer)

    return router


def wav(pcm: bytes) -> bytes:
    """Raw samples with the header that says what they are; half a sample at the end is cut off."""
    size = len(pcm) - len(pcm) % PCM_BYTES
    rates = (PCM_HZ, PCM_HZ * PCM_BYTES, PCM_BYTES, 8 * PCM_BYTES)
    header = _WAV_HEADER.pack(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, *rates, b"data", size)
    return header + memoryview(pcm)[:size]


def best_language(answer: Json) -> DetectedLanguage:
    """The most probable class that is a single language."""
    found = next((one for one in answer["languages"] if one["iso639_3"] not in {None, "mis"}), answer["languages"][0])
    return DetectedLanguage(
        detected_language=found["name"].lower(), language_code=found["code"], confidence=found["probability"]
    )
