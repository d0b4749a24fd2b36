"""A catalogue being identified: songs, clips, bare metadata, and sometimes a request that must be rejected.

    locust -f loadtest/locustfile.py --headless -u 8 -r 8 -t 30s --host http://localhost:8000

Every answer is checked: status, probabilities that sum to 1, and for bad input the code of the error. The exit code is
1 if any was wrong. After a 429 the user waits for Retry-After. Files are made at the start.
"""

import random
import sys
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, between, task

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # locust puts only this folder on the path

from loadtest.client import BOUNDARY, form
from loadtest.sounds import TRACKS, encoded, hostile

# Made while this file is imported: clips, and songs of 2 to 3 min.
CLIPS = [encoded(seconds, 1, kind) for seconds, kind in ((30, "MP3"), (12, "OGG"), (30, "FLAC"))]
SONGS = [encoded(seconds, 2, kind) for seconds, kind in ((180, "MP3"), (120, "OGG"))]
HOSTILE = list(hostile().values())
gevent.get_hub().loop.update_now()  # or the seconds this took would be missing from -t

REJECTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("nothing_given", {"json": {}}),
    ("nothing_usable", {"json": {"title": "12345"}}),
    ("malformed_json", {"data": b'{"title": ', "headers": {"Content-Type": "application/json"}}),
    ("unsupported_content_type", {"data": b"x", "headers": {"Content-Type": "text/plain"}}),
    ("invalid_option", {"json": {"title": "La vie en rose", "top_k": -1}}),
    ("unknown_language", {"json": {"title": "La vie en rose", "languages": "tlh"}}),
)


def upload(audio: bytes, fields: dict[str, str]) -> dict[str, Any]:
    """Keyword arguments of a multipart request."""
    return {
        "data": b"".join(form(audio, fields)),
        "headers": {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    }


class Catalogue(FastHttpUser):
    """One importer: a request, a pause, the next."""

    host = "http://localhost:8000"
    wait_time = between(0.05, 0.5)
    network_timeout = connection_timeout = 90.0

    @task(10)
    def metadata(self) -> None:
        artist, title = random.choice(TRACKS)
        self._ask("metadata", json={"artist": artist, "title": title})

    @task(4)
    def clip(self) -> None:
        self._ask("clip", **upload(random.choice(CLIPS), {}))

    @task(2)
    def song(self) -> None:
        artist, title = random.choice(TRACKS)
        self._ask("song with metadata", **upload(random.choice(SONGS), {"artist": artist, "title": title}))

    @task(1)
    def bad_json(self) -> None:
        self._rejected(*random.choice(REJECTIONS))

    @task(1)
    def bad_audio(self) -> None:
        audio, code = random.choice(HOSTILE)
        self._rejected(code, upload(audio, {}))

    def _ask(self, name: str, **request: Any) -> None:
        with self.client.post("/identify", name=name, catch_response=True, **request) as response:
            if response.status_code == 429:
                response.success()  # the server may say so; what matters is that it says when to come back
                gevent.sleep(float(response.headers["Retry-After"]))
                return
            if response.status_code != 200:
                response.failure(f"expected 200, got {response.status_code}: {response.text[:200]}")
                return
            total = sum(entry["probability"] for entry in response.json()["languages"])
            if abs(total - 1) > 1e-3:
                response.failure(f"probabilities sum to {total}")
            else:
                response.success()

    def _rejected(self, code: str, request: dict[str, Any]) -> None:
        with self.client.post("/identify", name=f"rejected: {code}", catch_response=True, **request) as response:
            if response.status_code == 429:
                response.success()
                return
            problem = response.json() if response.text else {}
            if response.status_code == problem.get("status") and problem["code"] == code:
                response.success()
            else:
                response.failure(f"expected {code}, got {response.status_code} {problem}")
