"""Bodies under their bounds, whichever protocol they are in."""

import asyncio
import gzip

import pytest
from starlette.requests import Request
from starlette.types import Message

from app.errors import UploadTooLarge
from app.http.body import BodyReader
from app.settings import Settings

READER = BodyReader(Settings(max_upload_mb=0.002), dict)


def upload(body: bytes, headers: dict[str, str]) -> bytes:
    """What is read of a body that comes in pieces of 7 bytes."""
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return messages.pop(0)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)

    async def collect() -> bytes:
        return b"".join([chunk async for chunk in READER.upload(request)])

    return asyncio.run(collect())


@pytest.mark.parametrize("size", [0, 1999, 2000])
def test_an_upload_up_to_the_bound(size: int) -> None:
    assert upload(bytes(size), {}) == upload(bytes(size), {"Content-Length": str(size)}) == bytes(size)
    assert upload(gzip.compress(bytes(size)), {"Content-Encoding": "gzip"}) == bytes(size)


def test_an_upload_beyond_the_bound() -> None:
    with pytest.raises(UploadTooLarge, match="larger than 2000"):
        upload(bytes(2001), {})
    with pytest.raises(UploadTooLarge, match="larger than 2000"):
        upload(gzip.compress(bytes(2001)), {"Content-Encoding": "gzip"})


def test_a_length_beyond_the_bound_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UploadTooLarge, match="the body has 2001 bytes, at most 2000 are accepted"):
        upload(b"", {"Content-Length": "2001"})
