"""gzip bodies: inflated in pieces, refused when they are none."""

import asyncio
import gzip
import os

import pytest
from starlette.requests import Request
from starlette.types import Message

from app.errors import MalformedEncoding, UnsupportedContentType
from app.http.encoding import PIECE_BYTES, body_chunks

ZIPPED = gzip.compress(b"{}", mtime=0)


def pieces(sent: list[bytes], encoding: str | None) -> list[bytes]:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": True} for body in sent]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return messages.pop(0)

    headers = [] if encoding is None else [(b"content-encoding", encoding.encode())]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)

    async def collect() -> list[bytes]:
        return [chunk async for chunk in body_chunks(request)]

    return asyncio.run(collect())


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_inflated(encoding: str, step: int) -> None:
    content = b"La vie en rose " * 1000 + os.urandom(1000)
    body = gzip.compress(content)
    assert b"".join(pieces([body[i : i + step] for i in range(0, len(body), step)], encoding)) == content


@pytest.mark.parametrize("encoding", [None, "", "identity"])
def test_not_encoded(encoding: str | None) -> None:
    assert b"".join(pieces([b"a", b"b"], encoding)) == b"ab"


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, 50 * PIECE_BYTES])
def test_a_bomb_comes_in_pieces(size: int) -> None:
    found = pieces([gzip.compress(bytes(size))], "gzip")
    assert sum(map(len, found)) == size
    assert max(map(len, found)) <= PIECE_BYTES


@pytest.mark.parametrize("body", [b"", b"{}", ZIPPED[:-1], ZIPPED + b"x", ZIPPED[:-8] + bytes(8)])
def test_not_gzip(body: bytes) -> None:
    with pytest.raises(MalformedEncoding):
        pieces([body], "gzip")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "deflate"])
def test_other_encodings_are_named(encoding: str) -> None:
    with pytest.raises(UnsupportedContentType, match=encoding):
        pieces([b""], encoding)
