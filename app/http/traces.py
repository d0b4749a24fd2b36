"""OpenTelemetry spans of requests and their stages, under the caller's trace. OpenTelemetry is imported only if it is used.

Spans are made once a request has ended, from times that were taken anyway, so that the stages need not know of them.
"""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from starlette.types import Scope

from app.domain import Stage
from app.errors import InternalError

MAX_STAGES = 256  # of one request; a batch may have a million lines
BAD_REQUEST = 400  # from here on, statuses are errors; a server's span has the status `error` from 500 on, by convention
STAGES = "lrid.stages"  # in the scope, where traces are made: what the request has gone through so far


def note(scope: Mapping[str, Any], stages: Sequence[Stage]) -> None:
    """Add stages to the request's trace; nothing where none is made."""
    noted: list[Stage] | None = scope.get(STAGES)
    if noted is not None:
        noted.extend(stages[: MAX_STAGES - len(noted)])


def route_of(scope: Scope) -> str | None:
    """The route's pattern, never the path that the client sent."""
    found: str | None = scope.get("lrid.route") or getattr(scope.get("route"), "path", None)
    return found


class OpenTelemetry:
    """Sends spans by OTLP over HTTP, to where the OTEL_* variables say, sampled as they say."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        names = {"service.name": "lrid-serve", "service.version": version("lrid-serve")}
        self._provider = TracerProvider(resource=Resource(names).merge(Resource.create()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=5)))
        self._tracer = self._provider.get_tracer("lrid")
        self._caller = TraceContextTextMapPropagator().extract
        self._within = set_span_in_context
        self._server, self._failed = SpanKind.SERVER, Status(StatusCode.ERROR)

    def record(self, scope: Scope, status: int, started: float) -> None:
        """One request that has ended; `started` in time.perf_counter()'s seconds."""
        began = time.time_ns() - round(time.perf_counter() * 1e9)  # of perf_counter, since 1970
        span = self._tracer.start_span(
            f"{scope['method']} {route_of(scope) or ''}".rstrip(),
            context=self._caller({name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}),
            kind=self._server,
            attributes=_attributes(scope, status),
            start_time=began + round(started * 1e9),
        )
        if span.is_recording():
            inside = self._within(span)
            for stage in scope[STAGES]:
                start = began + round(stage.started * 1e9)
                child = self._tracer.start_span(stage.name, context=inside, start_time=start)
                if stage.failed:
                    child.set_status(self._failed)
                child.end(start + round(stage.seconds * 1e9))
        if status >= InternalError.status:
            span.set_status(self._failed)
        span.end()

    def close(self) -> None:
        """Send the remaining spans; takes some seconds if no collector answers."""
        self._provider.shutdown()


def _attributes(scope: Scope, status: int) -> dict[str, Any]:
    code = scope.get("lrid.code")
    found = {
        "http.request.method": scope["method"],
        "http.response.status_code": status,
        "lrid.request_id": scope["lrid.request_id"],
        "http.route": route_of(scope),
        "lrid.code": code,
        "error.type": str(code or status) if status >= BAD_REQUEST else None,
    }
    return {name: value for name, value in found.items() if value}
