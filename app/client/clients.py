"""LridClient and AsyncLridClient: the same calls, blocking and not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import httpx

from app.client.batch import BatchAnswer, Block, Row, blocks
from app.client.calls import Audio, Call, batch_call, identify_call, parsed, read_audio, refusal
from app.client.problems import ServerUnreachable
from app.client.retries import Deadline, wait_seconds
from app.http.options import DEFAULT_OPTIONS, Options
from app.http.schemas import IdentifyResponse, LanguagesResponse

TIMEOUT_SECONDS = 60.0
LANGUAGES = Call("GET", "/languages")


@dataclass(frozen=True, slots=True)
class _Server:
    """Where to send to, and for how long an answer is worth waiting."""

    url: str
    key: str | None
    timeout_seconds: float
    retries: bool = True

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}

    def request(self, client: httpx.Client | httpx.AsyncClient, call: Call, deadline: Deadline) -> httpx.Request:
        body = dict(call.body)
        headers = body.pop("headers", {}) | deadline.headers()
        remaining = max(deadline.remaining_seconds, 0.001) + 1.0  # the server's own 504 says more than a broken connection
        return client.build_request(call.method, call.path, params=call.query, headers=headers, timeout=remaining, **body)

    def wait_seconds(self, outcome: httpx.Response | httpx.TransportError, attempt: int, deadline: Deadline) -> float | None:
        return wait_seconds(outcome, attempt, deadline) if self.retries else None

    def unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        return ServerUnreachable(f"{self.url} does not answer: {str(error) or type(error).__name__}")


class LridClient:
    """Blocking client of one server; may be shared by threads. Use `with`, or call close().

    `timeout_seconds` bounds each call as a whole, with the waits between its attempts; for a batch, each block.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._server = _Server(url, key, timeout_seconds)
        self._http = httpx.Client(base_url=url, headers=self._server.headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def identify(
        self,
        audio: Audio = None,
        *,
        title: str | None = None,
        artist: str | None = None,
        album: str | None = None,
        lyrics: str | None = None,
        options: Options = DEFAULT_OPTIONS,
    ) -> IdentifyResponse:
        """`audio`: the bytes of a file, or its path. Raises ClientError; OSError where the file cannot be read."""
        names = {"title": title, "artist": artist, "album": album, "lyrics": lyrics}
        return parsed(self._send(identify_call(read_audio(audio), names, options)), IdentifyResponse)

    def identify_batch(self, rows: Iterable[Row], options: Options = DEFAULT_OPTIONS) -> Iterator[BatchAnswer]:
        """Names, many at a time: one answer for each row, in order. Takes rows as answers are taken. Raises ClientError."""
        for block in blocks(rows):
            left, deadline = block, Deadline.after(self._server.timeout_seconds)
            while left.ids:
                answers = _answers(left, self._send(batch_call(left.body, options), deadline))
                yield from answers
                left = left.after(len(answers))

    def languages(self) -> LanguagesResponse:
        """The classes of the release that is served. Raises ClientError."""
        return parsed(self._send(LANGUAGES), LanguagesResponse)

    def _send(self, call: Call, deadline: Deadline | None = None) -> httpx.Response:
        deadline = deadline or Deadline.after(self._server.timeout_seconds)
        attempt = 0
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.send(self._server.request(self._http, call, deadline))
            except httpx.TransportError as error:
                outcome = error
            if (wait := self._server.wait_seconds(outcome, attempt, deadline)) is None:
                break
            time.sleep(wait)
            attempt += 1
        if isinstance(outcome, httpx.TransportError):
            raise self._server.unreachable(outcome) from outcome
        return outcome


class AsyncLridClient:
    """LridClient for asyncio. Use `async with`, or call close(). Without `retries` each call is made once."""

    def __init__(
        self, url: str, *, key: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS, retries: bool = True
    ) -> None:
        self._server = _Server(url, key, timeout_seconds, retries)
        self._http = httpx.AsyncClient(base_url=url, headers=self._server.headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def identify(
        self,
        audio: Audio = None,
        *,
        title: str | None = None,
        artist: str | None = None,
        album: str | None = None,
        lyrics: str | None = None,
        options: Options = DEFAULT_OPTIONS,
    ) -> IdentifyResponse:
        """As LridClient.identify."""
        names = {"title": title, "artist": artist, "album": album, "lyrics": lyrics}
        content = await asyncio.to_thread(read_audio, audio)
        return parsed(await self._send(identify_call(content, names, options)), IdentifyResponse)

    async def identify_batch(self, rows: Iterable[Row], options: Options = DEFAULT_OPTIONS) -> AsyncIterator[BatchAnswer]:
        """As LridClient.identify_batch."""
        for block in blocks(rows):
            left, deadline = block, Deadline.after(self._server.timeout_seconds)
            while left.ids:
                answers = _answers(left, await self._send(batch_call(left.body, options), deadline))
                for answer in answers:
                    yield answer
                left = left.after(len(answers))

    async def languages(self) -> LanguagesResponse:
        """As LridClient.languages."""
        return parsed(await self._send(LANGUAGES), LanguagesResponse)

    async def _send(self, call: Call, deadline: Deadline | None = None) -> httpx.Response:
        deadline = deadline or Deadline.after(self._server.timeout_seconds)
        attempt = 0
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.send(self._server.request(self._http, call, deadline))
            except httpx.TransportError as error:
                outcome = error
            if (wait := self._server.wait_seconds(outcome, attempt, deadline)) is None:
                break
            await asyncio.sleep(wait)
            attempt += 1
        if isinstance(outcome, httpx.TransportError):
            raise self._server.unreachable(outcome) from outcome
        return outcome


def _answers(block: Block, response: httpx.Response) -> list[BatchAnswer]:
    """At least one, so that a batch gets on. Raises ClientError."""
    if not response.is_success:
        raise refusal(response)
    answers = block.answered(response.content)
    if not answers:
        raise ServerUnreachable(f"{response.url} ended the batch before the first answer")
    return answers
