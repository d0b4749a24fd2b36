"""One song to an LRID Serve server, by the standard library alone: Picard brings no HTTP client that uploads files."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

NAMES = ("title", "artist", "album")
NO_LANGUAGE = frozenset({"und", "others"})  # answers that are no value for a tag
AGAIN = frozenset({429, 503})
PAUSE_SECONDS = 1.0  # where the server names no seconds


class NotAnswered(Exception):
    """Why there is no answer, and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask, and for how long a song is worth waiting, waits for a full server included."""

    url: str
    key: str = ""
    timeout_seconds: float = 120.0


def identify(server: Server, path: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """The answer of POST /identify. Raises NotAnswered; OSError where the file cannot be read."""
    body, content_type = _form(path.read_bytes(), names)
    deadline = time.monotonic() + server.timeout_seconds
    headers = {"Content-Type": content_type} | ({"Authorization": f"Bearer {server.key}"} if server.key else {})
    if not server.url.startswith(("http://", "https://")):
        raise NotAnswered(f"{server.url!r} is no address of a server: it begins with http:// or https://")
    while True:
        remaining = max(deadline - time.monotonic(), 0.001)
        headers["X-Request-Timeout"] = f"{remaining:.3f}"
        try:
            request = urllib.request.Request(f"{server.url.rstrip('/')}/identify", body, headers)  # noqa: S310
            with urllib.request.urlopen(request, timeout=remaining) as response:  # noqa: S310
                return _answer(json.load(response))
        except urllib.error.HTTPError as error:
            wait = _wait_seconds(error)
            if error.code not in AGAIN or wait > deadline - time.monotonic():
                raise NotAnswered(_problem(error)) from None
            time.sleep(wait)
        except (OSError, HTTPException, ValueError) as error:
            raise NotAnswered(f"{server.url} does not answer: {error}") from None


def _wait_seconds(error: urllib.error.HTTPError) -> float:
    try:
        return max(0.0, float(error.headers["Retry-After"]))
    except (TypeError, ValueError):  # none, or a date, as some proxies send
        return PAUSE_SECONDS


def _answer(found: Any) -> dict[str, Any]:
    """Raises NotAnswered where the server's release tells something else, such as genres."""
    if not isinstance(found, dict) or "language" not in found:
        model = found.get("model", {}) if isinstance(found, dict) else {}
        release = f"release {model['family']}/{model['release']}" if model else "the server"
        raise NotAnswered(f"{release} tells no languages: ask a server of a release that does")
    return found


def tag_of(answer: Mapping[str, Any]) -> str | None:
    """The value of the tag `language`, as MusicBrainz has it; None where the answer is not sure or no language."""
    language: str = answer["language"]
    if language in NO_LANGUAGE:
        return None
    found: dict[str, Any] = next((entry for entry in answer["languages"] if entry["code"] == language), {})
    return found.get("iso639_3") or language


def _form(audio: bytes, names: Mapping[str, str]) -> tuple[bytes, str]:
    """multipart/form-data and its content type."""
    boundary = uuid.uuid4().hex
    parts = [("audio", '; filename="audio"', audio)]
    parts += [(name, "", names[name].encode()) for name in NAMES if names.get(name)]
    heads = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n' for name, extra, _ in parts]
    body = b"".join([head.encode() + content + b"\r\n" for head, (_, _, content) in zip(heads, parts, strict=True)])
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _problem(error: urllib.error.HTTPError) -> str:
    try:
        problem = json.load(error)
        return f"{problem['code']}: {problem['detail'].rstrip('.')}. {problem['remedy']}"
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"
