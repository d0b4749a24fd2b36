"""LridClient and AsyncLridClient: the same calls, blocking and not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import count
from typing import Self, TypedDict, Unpack

import httpx

from app.client.batch import BatchAnswer, Row, blocks
from app.client.calls import (
    Audio,
    Call,
    Outcome,
    ServerUnreachable,
    answer_of,
    batch_call,
    identify_call,
    parsed,
    read_audio,
    request_of,
    wait_seconds,
)
from app.http.options import DEFAULT_OPTIONS, Options
from app.http.schemas import IdentifyResponse, LanguagesResponse

TIMEOUT_SECONDS = 60.0
LANGUAGES: Call = {"method": "GET", "url": "/languages"}


class Names(TypedDict, total=False):
    """What is written about a song; None is not given."""

    title: str | None
    artist: str | None
    album: str | None
    lyrics: str | None


class _Client:
    """What both have: where to send, and for how long an answer is worth waiting."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._url, self._timeout_seconds = url, timeout_seconds

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_seconds

    def _response(self, outcome: Outcome) -> httpx.Response:
        """Raises ServerUnreachable."""
        if isinstance(outcome, httpx.UnsupportedProtocol):
            raise ServerUnreachable(f"expected a URL such as http://localhost:8000, got {self._url!r}") from outcome
        if isinstance(outcome, httpx.TransportError):
            raise ServerUnreachable(f"{self._url} does not answer: {str(outcome) or type(outcome).__name__}") from outcome
        return outcome


class LridClient(_Client):
    """Blocking client of one server; may be shared by threads. Use `with`, or call close().

    `timeout_seconds` bounds each call as a whole, with the waits between its attempts; for a batch, each block.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        super().__init__(url, timeout_seconds)
        self._http = httpx.Client(base_url=url, headers=_headers(key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def identify(
        self, audio: Audio = None, *, options: Options = DEFAULT_OPTIONS, **names: Unpack[Names]
    ) -> IdentifyResponse:
        """`audio`: the bytes of a file, or its path. Raises ClientError; OSError where the file cannot be read."""
        return parsed(self._send(identify_call(read_audio(audio), names, options), self._deadline()), answer_of)

    def identify_batch(self, rows: Iterable[Row], options: Options = DEFAULT_OPTIONS) -> Iterator[BatchAnswer]:
        """Names, many at a time: one answer for each row, in order. Takes rows as answers are taken. Raises ClientError."""
        for block in blocks(rows):
            deadline = self._deadline()
            while block.lines:
                yield from block.answered(self._send(batch_call(block.lines, options), deadline))

    def languages(self) -> LanguagesResponse:
        """The classes of the release that is served, and what it reads. Raises ClientError."""
        return parsed(self._send(LANGUAGES, self._deadline()), LanguagesResponse.model_validate)

    def _send(self, call: Call, deadline: float) -> httpx.Response:
        for attempt in count():
            outcome: Outcome
            try:
                outcome = self._http.send(request_of(self._http, call, deadline))
            except httpx.TransportError as error:
                outcome = error
            if (wait := wait_seconds(outcome, attempt, deadline)) is None:
                break
            time.sleep(wait)
        return self._response(outcome)


class AsyncLridClient(_Client):
    """LridClient for asyncio. Use `async with`, or call close(). Without `retries` each call is made once."""

    def __init__(
        self, url: str, *, key: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS, retries: bool = True
    ) -> None:
        super().__init__(url, timeout_seconds)
        self._retries = retries
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def identify(
        self, audio: Audio = None, *, options: Options = DEFAULT_OPTIONS, **names: Unpack[Names]
    ) -> IdentifyResponse:
        """As LridClient.identify."""
        content = await asyncio.to_thread(read_audio, audio)
        return parsed(await self._send(identify_call(content, names, options), self._deadline()), answer_of)

    async def identify_batch(self, rows: Iterable[Row], options: Options = DEFAULT_OPTIONS) -> AsyncIterator[BatchAnswer]:
        """As LridClient.identify_batch."""
        for block in blocks(rows):
            deadline = self._deadline()
            while block.lines:
                for answer in block.answered(await self._send(batch_call(block.lines, options), deadline)):
                    yield answer

    async def languages(self) -> LanguagesResponse:
        """As LridClient.languages."""
        return parsed(await self._send(LANGUAGES, self._deadline()), LanguagesResponse.model_validate)

    async def _send(self, call: Call, deadline: float) -> httpx.Response:
        for attempt in count():
            outcome: Outcome
            try:
                outcome = await self._http.send(request_of(self._http, call, deadline))
            except httpx.TransportError as error:
                outcome = error
            if not self._retries or (wait := wait_seconds(outcome, attempt, deadline)) is None:
                break
            await asyncio.sleep(wait)
        return self._response(outcome)


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}
