"""Latency measurements: the parts that need no server."""

from __future__ import annotations

import socket

import pytest

from loadtest import latency


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_answer_is_read_to_its_end(pieces: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        size = -(-len(answer) // pieces)
        for start in range(0, len(answer), size):
            theirs.sendall(answer[start : start + size])
        latency._read_answer(ours)
        theirs.sendall(b"next")
        assert ours.recv(100) == b"next"


def test_a_refusal_is_no_answer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(RuntimeError, match="503"):
            latency._read_answer(ours)


def test_verdicts_of_the_latency_table() -> None:
    added = latency.Delays(text_http=3.0, text_bare=0.5, clip_http=130.0, clip_bare=100.0, clip_decode=20.0)
    rates = [latency.Rates(name, [rps], [rps]) for name, rps in (("ours", 3000), ("empty", 5000), ("langdetect", 200))]
    text = latency.table(added, rates)
    assert "| 3.00 | 0.50 | 2.50 | <= 5 |" in text
    assert "| 130.0 | 100.0 | 30.0 | <= 35.0 |" in text
    assert "60% of the empty handler" in text
    assert "15.0 x langdetect" in text
