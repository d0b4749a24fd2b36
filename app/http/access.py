"""Which requests may pass: by their port, and by optional API keys with a rate limit per key.

Several keys may be valid at once, so that they can be rotated. Keys are stored as SHA-256 digests, compared in constant
time, and never appear in logs or answers.
"""

import hashlib
import hmac
import time
from collections.abc import Iterable

from starlette.types import Scope

from app.errors import NotFound, RateLimited, Unauthorized
from app.settings import HASHED, Settings

ADMIN_PREFIX = "/admin/"
ON_ADMIN_PORT = "lrid.admin_port"  # set in the scope of requests that came in through it


def path_of(scope: Scope) -> str:
    """The path as routes match it: without the root path that a server such as Ray puts the application under, and without
    a line end, which their patterns allow.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root if path.startswith(f"{root}/") else "").removesuffix("\n")


def check_port(scope: Scope) -> None:
    """Where there is an admin port: raises NotFound where a path belongs to the other one."""
    path = f"{path_of(scope)}/"
    on_admin_port = bool(scope.get(ON_ADMIN_PORT))
    if not path.startswith("/health/") and path.startswith((ADMIN_PREFIX, "/metrics/")) != on_admin_port:
        raise NotFound("no such path on this port")


def digest(key: str) -> bytes:
    """SHA-256 of a key as settings have it, in clear or already hashed; the key itself is not kept."""
    if key.startswith(HASHED):
        return bytes.fromhex(key.removeprefix(HASHED))
    return hashlib.sha256(key.encode()).digest()


class TokenBucket:
    """Allows `per_minute` requests per minute, in bursts of up to that many."""

    def __init__(self, per_minute: float) -> None:
        self._capacity = max(per_minute, 1.0)  # rates below one per minute must still add up to one request
        self._per_second = per_minute / 60
        self._tokens = self._capacity
        self._counted_at = time.monotonic()

    def take(self) -> float:
        """0 if a request may pass; else seconds until the next one may."""
        now = time.monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_second
        self._tokens -= 1
        return 0.0


class Access:
    """Without `api_keys` no request needs a key; without `admin_keys` every request to /admin is refused."""

    def __init__(self, settings: Settings) -> None:
        self._api_keys, self._admin_keys = (
            [digest(key.get_secret_value()) for key in keys] for keys in (settings.api_keys, settings.admin_keys)
        )
        self._public = [path.strip() for path in settings.public_paths.split(",") if path.strip()]
        self._per_minute = settings.requests_per_minute
        self._buckets = {key: TokenBucket(self._per_minute) for key in self._api_keys if self._per_minute}

    def check(self, scope: Scope) -> None:
        """Raises Unauthorized or RateLimited."""
        path = path_of(scope)
        admin = path.startswith(ADMIN_PREFIX)
        keys = self._admin_keys if admin else self._api_keys
        public = any(path == p or (p != "/" and path.startswith(f"{p}/")) for p in self._public)
        if not admin and (not keys or public):
            return
        key = _match(_given_key(scope), keys)
        if key is None:
            raise Unauthorized("no valid key was sent")
        if (bucket := self._buckets.get(key)) and (wait_seconds := bucket.take()):
            raise RateLimited(f"a key may send {self._per_minute:g} requests a minute", retry_after_seconds=wait_seconds)


def _given_key(scope: Scope) -> bytes:
    """Digest of the key in `Authorization: Bearer …` or `X-API-Key`."""
    headers = dict(scope["headers"])
    kind, _, value = headers.get(b"authorization", b"").partition(b" ")
    key = value.strip() if kind.lower() == b"bearer" else headers.get(b"x-api-key", b"")
    return hashlib.sha256(key).digest()


def _match(given: bytes, keys: Iterable[bytes]) -> bytes | None:
    """The digest among `keys` that equals `given`. Compares all of them, so that timing does not tell which matched."""
    found = [key for key in keys if hmac.compare_digest(given, key)]
    return found[0] if found else None
