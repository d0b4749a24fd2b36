"""Requests that are nearly right, for `loadtest.fuzz`.

A case is a function of its seed and its number, apart from the serial numbers that encoders draw for Ogg streams.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.client import BOUNDARY, audio_post, json_post, post_request
from loadtest.sounds import encoded, muxed

DEADLINE = "X-Request-Timeout: 20"
FIELDS = ("title", "album", "artist", "top_k", "languages", "windows", "timeline", "explain", "tags")
TEXTS = ("La vie en rose", "사랑해", "1999", "", " ", "\u0301" * 31, "a" * 1001, "\x00", "\ud800", "𝔘𝔫𝔦", "\u202e", "null")
NUMBERS = (0, -1, 1, 3, 10**30, 1.5, 1e308, True, False, None)


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes for one connection. `whole`: they are a complete request, which must be answered."""

    kind: str
    data: bytes
    whole: bool


def bases() -> list[tuple[str, bytes]]:
    """Whole files to start from, in the formats that the service reads."""
    files = {kind: encoded(1.0, 1, kind) for kind in ("WAV", "AIFF", "FLAC", "MP3", "OGG")}
    files |= {"float wav": encoded(1.0, 1, "WAV", "FLOAT"), "24-bit flac": encoded(1.0, 1, "FLAC", "PCM_24")}
    files |= {"long mp3": encoded(25.0, 2, "MP3")}
    ways = (("ogg", "libopus"), ("ipod", "aac"), ("mp4", "aac"), ("adts", "aac"), ("webm", "libopus"), ("matroska", "flac"),
            ("mov", "alac"), ("ogg", "flac"), ("wv", "wavpack"), ("tta", "tta"), ("asf", "wmav2"), ("mpegts", "aac"),
            ("mpeg", "mp2"), ("avi", "libmp3lame"), ("flv", "libmp3lame"), ("ac3", "ac3"), ("latm", "aac"), ("rm", "ac3"),
            ("voc", "pcm_s16le"), ("caf", "pcm_s16le"), ("w64", "pcm_s16le"))  # fmt: skip
    return [*files.items(), *((f"{codec} in {container}", muxed(1.0, 1, container, codec)) for container, codec in ways)]


def mutate(rng: random.Random, data: bytes, others: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Flip, cut, splice or cross a file, or forge a number in it."""
    out = bytearray(data)
    way = rng.choices(("flip", "cut", "splice", "cross", "forge"), (50, 15, 15, 10, 10))[0]
    if way == "flip":
        reach = min(rng.choice((64, 300, 2000, len(out))), len(out))
        for _ in range(rng.choice((1, 2, 5, 30))):
            out[rng.randrange(reach)] = rng.choice((0, 255, rng.randrange(256)))
    elif way == "cut":
        del out[rng.randrange(1, len(out)) :]
    elif way == "splice":
        to, start, n = rng.randrange(len(out)), rng.randrange(len(out)), rng.randrange(1, 3000)
        out[to : to + rng.choice((0, n))] = out[start : start + n]
    elif way == "cross":
        _, other = rng.choice(others)
        out[rng.randrange(len(out)) :] = other[rng.randrange(len(other)) :]
    else:
        at = rng.randrange(max(len(out) - 8, 1))
        out[at : at + 4] = rng.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4, b"\x80\0\0\0", b"\0\0\0\1"))
    return way, bytes(out)


class Cases:
    """Numbered cases: two thirds audio, the rest multipart, JSON, options, and HTTP itself."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._bases = bases()
        self._clip = encoded(0.5, 9, "WAV")
        self._makers: tuple[tuple[int, Callable[[random.Random], Case]], ...] = (
            (66, self._audio),
            (14, self._multipart),
            (8, self._json),
            (5, self._options),
            (7, self._http),
        )

    def __getitem__(self, number: int) -> Case:
        rng = random.Random(f"{self._seed}/{number}")
        weights, makers = [weight for weight, _ in self._makers], [make for _, make in self._makers]
        return rng.choices(makers, weights)[0](rng)

    def _audio(self, rng: random.Random) -> Case:
        name, data = rng.choice(self._bases)
        way, mutated = mutate(rng, data, self._bases)
        if rng.random() < 0.1:
            _, mutated = mutate(rng, mutated or b"\0", self._bases)
        fields = {"title": "La vie en rose"} if rng.random() < 0.2 else None
        return Case(f"audio: {name}, {way}", audio_post(mutated, fields, DEADLINE), whole=True)

    def _multipart(self, rng: random.Random) -> Case:
        whole = audio_post(self._clip, {"title": "Nel blu dipinto di blu"}, DEADLINE)
        head, _, body = whole.partition(b"\r\n\r\n")
        mutated = bytearray(body)
        seams = [found.start() for found in re.finditer(BOUNDARY.encode(), body)] + [0, len(body) - 8]
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = min(max(rng.choice(seams) + rng.randrange(-8, 120), 0), len(mutated))
            what = rng.choice(
                (b"", b"\r\n", b"\n", b"--", b"\r\n--" + BOUNDARY.encode(), b'name="audio"', b'name="', b";", b"\0", b'"',
                 rng.randbytes(rng.randrange(1, 40)), b"Content-Transfer-Encoding: base64\r\n", b"A" * 5000)
            )  # fmt: skip
            mutated[at : at + rng.choice((0, len(what), 20))] = what
        if rng.random() < 0.1:
            mutated = mutated * rng.choice((2, 40))
        odd = (
            "multipart/form-data",
            "multipart/form-data; boundary=",
            'multipart/form-data; boundary="x',
            "multipart/mixed",
            f"multipart/form-data; boundary={'B' * 300}",
            f"MULTIPART/FORM-DATA; charset=utf-16; boundary={BOUNDARY}",
        )
        kind = rng.choice(odd if rng.random() < 0.5 else (f"multipart/form-data; boundary={BOUNDARY}",))
        data = post_request("/identify", kind, bytes(mutated), DEADLINE)
        if rng.random() < 0.2:  # the client disconnects early
            return Case("multipart: cut off", data[: rng.randrange(len(head), len(data))], whole=False)
        return Case("multipart: mutated", data, whole=True)

    def _json(self, rng: random.Random) -> Case:
        fields = {name: self._value(rng) for name in rng.sample([*FIELDS, "extra", ""], rng.randrange(0, 5))}
        if rng.random() < 0.6:
            return Case("json: odd values", json_post(fields, DEADLINE), whole=True)
        text = bytearray(json.dumps(fields, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass") or b" ")
        for _ in range(rng.choice((1, 3))):
            what = rng.choice((b"{", b"[" * 3000, b'"', b"\\u", b"NaN", b"\xff\xfe", b"1e999", b",", rng.randbytes(4)))
            at = rng.randrange(len(text) + 1)
            text[at:at] = what
        return Case("json: broken", post_request("/identify", "application/json", bytes(text), DEADLINE), whole=True)

    def _value(self, rng: random.Random, depth: int = 0) -> object:
        if depth < 3 and rng.random() < 0.2:
            inner = [self._value(rng, depth + 1) for _ in range(rng.randrange(4))]
            return inner if rng.random() < 0.5 else {str(i): value for i, value in enumerate(inner)}
        return rng.choice((*TEXTS, *NUMBERS, "en,fr", "x" * 200_000))

    def _options(self, rng: random.Random) -> Case:
        names, values = (*FIELDS, "x", "%00", "%ff"), ("1", "-1", "en,fr", "true", "%00", "%F0%9F", "a" * 3000, "")
        pairs = "&".join(f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.randrange(1, 4)))
        timeout = rng.choice(("1e-9", "nan", "inf", "-1", "x", "", "10", "1e400"))
        body = json.dumps({"title": "Nel blu"}).encode()
        data = post_request(f"/identify?{pairs}", "application/json", body, f"X-Request-Timeout: {timeout}")
        return Case("options", data, whole=True)

    def _http(self, rng: random.Random) -> Case:
        data = bytearray(json_post({"title": "La vie en rose"}, DEADLINE, "X-Request-Id: fuzz"))
        for _ in range(rng.choice((1, 2, 4))):
            at = rng.randrange(len(data))
            what = rng.choice(
                (b"", b"\r\n", b"\0", b" ", b":", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n",
                 b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"HTTP/9.9", b"PRI * HTTP/2.0\r\n",
                 b"%2e%2e/", b"A" * 70_000, rng.randbytes(6))
            )  # fmt: skip
            data[at : at + rng.choice((0, 0, len(what)))] = what
        return Case("http", bytes(data), whole=False)
