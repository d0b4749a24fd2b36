"""What a catalogue sends, and sometimes what must be rejected: for Locust and `loadtest.soak`."""

import json
import random
from dataclasses import dataclass

from loadtest.client import BOUNDARY, form, post_request
from loadtest.sounds import TRACKS, encoded, hostile

JSON = "application/json"
REJECTED = (  # code of the error, content type, body
    ("nothing_given", JSON, b"{}"),
    ("nothing_usable", JSON, b'{"title": "12345"}'),
    ("malformed_json", JSON, b'{"title": '),
    ("unsupported_content_type", "text/plain", b"x"),
    ("invalid_option", JSON, b'{"title": "La vie en rose", "top_k": -1}'),
    ("unknown_language", JSON, b'{"title": "La vie en rose", "languages": "tlh"}'),
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One POST to /identify."""

    kind: str
    content_type: str
    body: bytes
    expected: str = "200"  # or the code of the error

    @property
    def request(self) -> bytes:
        return post_request("/identify", self.content_type, self.body)


class Mix:
    """Draws songs, clips, names, bad requests and hostile files."""

    def __init__(self) -> None:
        self.songs = [encoded(seconds, seed, "MP3") for seed, seconds in enumerate((150, 95))]
        self._clips = [encoded(20, 7, kind) for kind in ("MP3", "OGG", "FLAC")]
        self._hostile = list(hostile().values())

    def draw(self, rng: random.Random) -> Drawn:
        artist, title = rng.choice(TRACKS)
        kind = rng.choices(("name", "clip", "song", "rejected", "hostile"), (60, 14, 4, 12, 10))[0]
        if kind == "name":
            return Drawn(kind, JSON, json.dumps({"artist": artist, "title": title}).encode())
        if kind == "clip":
            return _upload(kind, rng.choice(self._clips), {"title": title})
        if kind == "song":
            return _upload(kind, rng.choice(self.songs), {"artist": artist, "title": title})
        if kind == "rejected":
            code, content_type, body = rng.choice(REJECTED)
            return Drawn(kind, content_type, body, code)
        audio, code = rng.choice(self._hostile)
        return _upload(kind, audio, {}, code)


def _upload(kind: str, audio: bytes, fields: dict[str, str], expected: str = "200") -> Drawn:
    return Drawn(kind, f"multipart/form-data; boundary={BOUNDARY}", b"".join(form(audio, fields)), expected)
