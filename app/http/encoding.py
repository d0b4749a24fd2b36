"""Content-Encoding of a request: gzip is inflated piece by piece, so that the bounds on a body hold for what comes out."""

import zlib
from collections.abc import AsyncIterator

from starlette.requests import Request

from app.errors import MalformedEncoding, UnsupportedContentType
from app.serving.scheduling import yield_to_others

PIECE_BYTES = 65_536  # inflated at once, before other requests get their turn
_GZIP = zlib.MAX_WBITS | 16  # zlib's way to say: with gzip's header and checksum


def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it was before it was compressed. Raises UnsupportedContentType; while it is read, MalformedEncoding."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return request.stream()
    if encoding in {"gzip", "x-gzip"}:
        return _inflated(request.stream())
    raise UnsupportedContentType(f"the body has Content-Encoding {encoding[:40]!r}; gzip is read")


async def _inflated(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    inflater = zlib.decompressobj(_GZIP)
    try:
        async for chunk in chunks:
            waiting, piece = chunk, bytes(PIECE_BYTES)
            while not inflater.eof and (waiting or len(piece) == PIECE_BYTES):
                piece = inflater.decompress(waiting, PIECE_BYTES)
                yield piece
                waiting = inflater.unconsumed_tail
                await yield_to_others()
            if waiting or inflater.unused_data:
                raise MalformedEncoding("bytes follow the end of the gzip stream")
    except zlib.error as error:
        raise MalformedEncoding(f"the body is not gzip: {error}") from None
    if not inflater.eof:
        raise MalformedEncoding("the gzip stream ended early")
