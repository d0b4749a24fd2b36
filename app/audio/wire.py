"""How the service and its decoding processes talk: a JSON header, then raw bytes. Over a socket pair, in lock step.

No pickle on purpose: a decoder that a hostile file took over must not be able to run anything in the service.
"""

import json
import socket
from collections.abc import Callable
from typing import Any

_LENGTH_BYTES = 4
_MAX_HEADER_BYTES = 1 << 20

Header = dict[str, Any]
Check = Callable[[], None]  # called between system calls; raises to give up


class PeerGoneError(Exception):
    """The other side closed the connection or speaks nonsense."""


def _wait_for_ever() -> None:
    pass


def send(connection: socket.socket, header: Header, check: Check = _wait_for_ever) -> None:
    """Send the header of a message; a body follows by `send_body`. Raises PeerGoneError, or what `check` raises."""
    text = json.dumps(header).encode()
    send_body(connection, len(text).to_bytes(_LENGTH_BYTES, "big") + text, check)


def send_body(connection: socket.socket, body: memoryview | bytes, check: Check = _wait_for_ever) -> None:
    """Send raw bytes. Raises as `send`."""
    view = memoryview(body).cast("B")
    while view:
        check()
        try:
            view = view[connection.send(view) :]
        except TimeoutError:
            continue
        except OSError as error:
            raise PeerGoneError from error


def receive_header(connection: socket.socket, check: Check = _wait_for_ever) -> Header:
    """Read the header of the next message; the caller reads the body. Raises as `send`."""
    raw = bytearray(_LENGTH_BYTES)
    receive_into(connection, memoryview(raw), check)
    size = int.from_bytes(raw, "big")
    if size > _MAX_HEADER_BYTES:
        raise PeerGoneError
    text = bytearray(size)
    receive_into(connection, memoryview(text), check)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise PeerGoneError from error
    if not isinstance(header, dict):
        raise PeerGoneError
    return header


def receive_into(connection: socket.socket, view: memoryview, check: Check = _wait_for_ever) -> None:
    """Read bytes until `view` is full. Raises as `send`."""
    view = view.cast("B")
    while view:
        check()
        try:
            came = connection.recv_into(view)
        except TimeoutError:
            continue
        except OSError as error:
            raise PeerGoneError from error
        if came == 0:
            raise PeerGoneError("it has ended")
        view = view[came:]


def receive_bytes(connection: socket.socket, size: int) -> bytes:
    """A body as bytes, without a second copy; for a blocking connection.

    Raises PeerGoneError; MemoryError where memory is too small for the body, which then was read but not kept.
    """
    try:
        data = connection.recv(size, socket.MSG_WAITALL) if size else b""
    except MemoryError:
        scratch = memoryview(bytearray(1 << 16))
        for start in range(0, size, len(scratch)):
            receive_into(connection, scratch[: size - start])
        raise
    if len(data) < size:
        raise PeerGoneError
    return data
