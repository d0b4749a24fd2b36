"""Trunk, latency and GPU measurements: what can be checked on a tiny network and without a server."""

from __future__ import annotations

import socket
import threading

import pytest
import torch

from app.serving.engine import EngineChoice
from loadtest import gpu, latency, trunk
from tests.releases import tiny_model


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_windows_per_second_counts_passes_of_all_callers() -> None:
    calls, lock = [], threading.Lock()

    def listen(x: torch.Tensor) -> torch.Tensor:
        with lock:
            calls.append(threading.get_ident())
        threading.Event().wait(0.01)
        return x

    rate = trunk.windows_per_second(listen, torch.zeros(1), at_once=3, threads=1, seconds=0.5)
    assert len(set(calls)) == 3
    assert 0 < rate <= 3 / 0.01


def test_both_trunks_compute_the_same() -> None:
    model = tiny_model()
    named = trunk.trunks(model, "fp32")
    x = (torch.randn(1, 1, 128, 2580) * 20 - 30).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = model.listener.trunk(x)
        for one in [trunk for by_threads in named.values() for trunk in by_threads.values()]:
            torch.testing.assert_close(one(x), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


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


def test_gpu_measurements_run_on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "BATCH_SIZES", (1, 2))
    model = tiny_model()
    result = gpu.measure_on(model, EngineChoice("cpu", "fp32", batch_size=1), torch.device("cpu"), n_windows=3)
    assert [(rate["trunk"], rate["batch_size"]) for rate in result["trunk"]] == [  # type: ignore[attr-defined]
        ("plain", 1), ("plain", 2), ("fused", 1), ("fused", 2)
    ]  # fmt: skip
    assert result["engine_windows_per_second"] > 0  # type: ignore[operator]
    assert result["captured"] is False
    assert all(rate["windows_per_second"] > 0 for rate in result["trunk"])  # type: ignore[attr-defined]
    assert result["agreement"]["largest_difference"] < 1e-3  # type: ignore[index]
    assert result["agreement"]["same_top_1"] == 1.0  # type: ignore[index]
    assert set(result["stages_ms"]) == {"stack on the CPU", "copy to the device", "log-mel", "trunk", "copy back"}  # type: ignore[call-overload]
    text = gpu.table(
        "a device", "fp32", result | {"end_to_end": {"clips_per_second": 1.0, "decoder_cores": 1.0, "server_cores": 0.1}}
    )
    assert "windows/s" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    assert gpu.main() == 0
    assert "no GPU" in capsys.readouterr().out
