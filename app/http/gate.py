"""Admission of audio: room for one more track, and for its bytes."""

from dataclasses import dataclass
from typing import Self

from app.errors import QueueFull
from app.serving.identifier import Identifier
from app.serving.metrics import Metrics


@dataclass(slots=True)
class UploadAccount:
    """Bytes of audio that all requests hold together. Slow uploads hold few, so they do not block others."""

    max_bytes: int
    metrics: Metrics
    held_bytes: int = 0

    def change(self, n_bytes: int) -> None:
        self.held_bytes += n_bytes
        self.metrics.upload_bytes.set(self.held_bytes)


class AudioGate:
    """Admission of one request, which holds its bytes until the block ends."""

    def __init__(self, identifier: Identifier, account: UploadAccount, deadline: float) -> None:
        self._identifier = identifier
        self._account = account
        self._deadline = deadline
        self._held_bytes = 0

    def open(self) -> None:
        """Called before the first byte of audio. Raises QueueFull if the track would not be served."""
        self._identifier.check_room(self._deadline)

    def take(self, n_bytes: int) -> None:
        """Account for received bytes. Raises QueueFull if all requests together would hold too many."""
        if self._account.held_bytes + n_bytes > self._account.max_bytes:
            raise QueueFull(
                f"current requests hold {self._account.held_bytes} bytes of audio, which is the limit",
                retry_after_seconds=self._identifier.retry_after_seconds(),
            )
        self._account.change(n_bytes)
        self._held_bytes += n_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._held_bytes:
            self._account.change(-self._held_bytes)
