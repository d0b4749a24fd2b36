"""OpenTelemetry spans of a real server, at a collector that speaks OTLP."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import StatusCode

from tests.audio_samples import wav
from tests.service.live import LiveServer, wait_until

GOOD = {"title": "La vie en rose", "artist": "Édith Piaf"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
UNSET, ERROR = StatusCode.UNSET.value, StatusCode.ERROR.value
STAGES = {"upload", "decode", "read", "queue", "listen", "identify"}


class Collector:
    """Receives spans over HTTP. Use `with`."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    spans.extend(span for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of_request(self, request_id: str) -> tuple[Any, list[Any]]:
        """The span of a request, and those within it."""

        def found() -> list[Any]:
            return [span for span in self.spans if attributes(span).get("lrid.request_id") == request_id]

        (root,) = wait_until(found)
        return root, [span for span in self.spans if span.parent_span_id == root.span_id]


def attributes(span: Any) -> dict[str, Any]:
    return {item.key: item.value.string_value or item.value.int_value for item in span.attributes}


@pytest.fixture(scope="module")
def traced(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, Collector]]:
    with Collector() as collector:
        extra = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        folder = tmp_path_factory.mktemp("traced")
        with LiveServer(folder, model_store=tiny_store, telemetry=True, extra=extra) as live:
            yield live.wait_until_ready(), collector
            live.terminate()
            assert live.exit_code() == 0


def test_stages_under_the_callers_trace(traced: tuple[LiveServer, Collector], clip: bytes) -> None:
    live, collector = traced
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "traced"}
    assert live.identify(files={"audio": clip}, data=GOOD, headers=headers).status_code == 200
    root, stages = collector.of_request("traced")
    assert (root.name, root.trace_id.hex(), root.parent_span_id.hex()) == ("POST /identify", TRACE, PARENT)
    assert attributes(root)["http.response.status_code"] == 200
    assert {span.name for span in stages} == STAGES
    assert {span.trace_id.hex() for span in stages} == {TRACE}
    for span in stages:
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
    starts = {span.name: span.start_time_unix_nano for span in stages}
    assert sorted(starts, key=starts.__getitem__) == ["upload", "read", "decode", "queue", "listen", "identify"]


@pytest.mark.parametrize("given", [None, "00-nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
def test_a_trace_of_its_own_without_a_good_one(traced: tuple[LiveServer, Collector], given: str | None) -> None:
    live, collector = traced
    name = f"own-{(given or 'none')[:6]}"
    headers = {"X-Request-Id": name} | ({} if given is None else {"traceparent": given})
    assert live.identify(json=GOOD, headers=headers).status_code == 200
    root, stages = collector.of_request(name)
    assert root.trace_id.hex() not in (TRACE, "0" * 32)
    assert root.parent_span_id == b""
    assert {span.name for span in stages} == {"upload", "read", "identify"}


def test_what_the_caller_does_not_sample_is_not_sent(traced: tuple[LiveServer, Collector]) -> None:
    live, collector = traced
    unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00", "X-Request-Id": "unsampled"}
    live.identify(json=GOOD, headers=unsampled)
    live.identify(json=GOOD, headers={"X-Request-Id": "later"})
    collector.of_request("later")
    assert "unsampled" not in [attributes(span).get("lrid.request_id") for span in collector.spans]


def test_errors_have_their_code_and_no_content(traced: tuple[LiveServer, Collector]) -> None:
    live, collector = traced
    live.identify(files={"audio": b"Piaf is no audio"}, headers={"X-Request-Id": "refused"})
    root, stages = collector.of_request("refused")
    assert attributes(root)["lrid.code"] == "audio_unknown_format"
    assert attributes(root)["error.type"] == "audio_unknown_format"
    assert [(span.name, span.status.code) for span in stages] == [("upload", UNSET), ("decode", ERROR)]
    assert root.status.code == UNSET  # the client's error, as the convention has it
    assert "Piaf" not in str(collector.spans)


def test_a_request_that_fails_late_has_the_stages_before(traced: tuple[LiveServer, Collector]) -> None:
    live, collector = traced
    silence = wav(np.zeros((100_000, 1), np.float32))
    assert live.identify(files={"audio": silence}, headers={"X-Request-Id": "silent"}).status_code == 422
    root, stages = collector.of_request("silent")
    assert attributes(root)["error.type"] == "nothing_usable"
    assert [span.name for span in stages] == ["upload", "decode"]


def test_nothing_is_imported_where_it_is_off() -> None:
    code = "import sys; from app.main import create_app; create_app(); sys.exit('opentelemetry.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_packages_are_named() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from app.settings import Settings\n"
        "try: Settings(telemetry=True)\n"
        "except ValueError as error: sys.exit('lrid-serve[telemetry]' not in str(error))\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
