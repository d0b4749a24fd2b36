"""create_app(settings): the only place where objects are wired together."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.audio.pool import DecodePool
from app.audio.spec import DecodeLimits
from app.errors import InvalidOption, LridError, MethodNotAllowed, NotFound
from app.families.contract import Target, further_fields
from app.families.store import Families
from app.http.access import Access, check_port
from app.http.answering import Answering
from app.http.batch import build_batch_router
from app.http.body import BodyReader
from app.http.detect_language import build_detect_router
from app.http.feedback import FeedbackFile, build_feedback_router
from app.http.identify import Front, identify_endpoint
from app.http.inference_protocol import build_inference_router
from app.http.middleware import HeadAsGet, RequestContext
from app.http.openapi import describe
from app.http.options import first_fault
from app.http.problem import on_lrid_error
from app.http.routes import build_router
from app.http.traces import OpenTelemetry
from app.serving.batcher import Batcher
from app.serving.decoding import Decoding
from app.serving.expected import expected_answers
from app.serving.identifier import Identifier
from app.serving.metrics import Metrics
from app.serving.service import Service
from app.serving.threads import Threads
from app.settings import MEGABYTE, Settings

if TYPE_CHECKING:
    from app.serving.loading import Loaded

CORS_HEADERS = (
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Inference-Header-Content-Length",
    "traceparent",
    "X-API-Key",
    "X-Request-Id",
    "X-Request-Timeout",
)


class Application(FastAPI):
    """FastAPI inside this service's middleware."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.front if scope["type"] == "http" else self.framework)(scope, receive, send)

    async def framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application without the middleware."""
        await super().__call__(scope, receive, send)


def create_app(settings: Settings | None = None, known: Families | None = None) -> Application:
    """Build a whole server. Two share nothing; nothing starts before the lifespan, and the port opens while it loads."""
    settings = settings or Settings()
    metrics = Metrics()
    pool = build_pool(settings)
    loader = Threads("lrid-loader")  # one for all releases
    build = partial(build_identifier, settings, pool, metrics, loader=loader, known=known)
    service = Service(pool, build, settings.model)
    body = BodyReader(settings, lambda: further_fields(service.loaded.model) if service.loaded is not None else {})
    answering = Answering(service, settings, metrics)
    endpoint = identify_endpoint(answering, body)
    traces = OpenTelemetry() if settings.telemetry else None
    app = _application(service, traces)
    app.state.service, app.state.metrics = service, metrics
    app.include_router(build_router(service, endpoint, metrics, settings.model_store, known))
    for build_further in (build_batch_router, build_inference_router, build_detect_router):
        app.include_router(build_further(answering, body))
    kept, most = settings.feedback_file, int(settings.feedback_max_mb * MEGABYTE)
    feedback = FeedbackFile(kept, most, settings.feedback_names) if kept else None
    app.include_router(build_feedback_router(feedback, body))
    access = Access(settings)
    checks = [access.check] if settings.admin_port is None else [check_port, access.check]
    answered = HeadAsGet(Front(app.framework, endpoint, checks))
    app.front = RequestContext(_with_cors(answered, settings), lambda: service.leaving, traces)
    return app


def _application(service: Service, traces: OpenTelemetry | None) -> Application:
    """Without routes: what it starts and stops, its description, and its answers to errors."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        with contextlib.suppress(RuntimeError, ValueError):  # signals exist in the main thread only
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload)
        yield
        await service.stop()
        if traces is not None:
            await asyncio.to_thread(traces.close)

    app = Application(
        title="LRID Serve",
        summary="Which language is this song sung in?",
        version=version("lrid-serve"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    describe(app)
    app.add_exception_handler(LridError, on_lrid_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    return app


def build_pool(settings: Settings) -> DecodePool:
    """The decoding processes, not yet started."""
    return DecodePool(
        workers=settings.decode_workers, timeout_seconds=settings.decode_timeout_seconds, memory_mb=settings.decode_memory_mb
    )


async def build_identifier(
    settings: Settings,
    pool: DecodePool,
    metrics: Metrics,
    reference: str,
    known: Families | None = None,
    loader: Threads | None = None,
    *,
    listen: bool = True,
) -> Identifier:
    """Load in `loader`, a daemon thread, so that the port answers and the process can end; then start what serves."""

    def load():  # type: ignore[no-untyped-def]
        from app.serving.loading import load_release

        return load_release(settings, reference, known, listen=listen)

    loader = loader or Threads("lrid-loader")  # its thread ends with it
    loaded = await loader.call(load)
    decode = DecodeLimits(max_audio_seconds=settings.max_audio_seconds, silence_dbfs=settings.silence_dbfs)
    decoding = Decoding(pool, decode, settings.decode_queue_max, metrics)
    manifest, engine = loaded.model.manifest, loaded.engine
    target = engine.target if engine is not None else Target("cpu", "fp32")
    metrics.name_release(manifest.family, manifest.release, manifest.sha256, target.device, target.precision)
    metrics.expect(expected_answers(manifest, settings.catalog_prior))
    batcher = _batcher(settings, loaded, metrics)
    return Identifier(loaded.model, decoding, batcher, settings.max_windows, settings.queue_max_seconds)


def _batcher(settings: Settings, loaded: Loaded, metrics: Metrics) -> Batcher | None:
    """Started; None for a release that does not listen."""
    engine = loaded.engine
    if engine is None or (audio := loaded.model.audio) is None:  # in this order: audio branches are built when asked for
        return None
    sized = settings.model_copy(update={"max_batch_size": settings.max_batch_size or engine.batch_size})
    batcher = Batcher(engine.listen, audio.window.window_samples, audio.listener.n_features, sized, metrics)
    batcher.start()
    return batcher


def _with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Answers the preflights of pages from other origins, which carry no key; where the operator has named origins."""
    origins = [origin.strip().rstrip("/") for origin in settings.cors_origins.split(",") if origin.strip()]
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=CORS_HEADERS,
        expose_headers=["Inference-Header-Content-Length", "Retry-After", "X-Request-Id"],
    )


def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer the framework's errors as problems of this service."""
    assert isinstance(error, HTTPException)
    if error.status_code == NotFound.status:
        return on_lrid_error(request, NotFound("no such path"))
    if error.status_code == MethodNotAllowed.status:
        response = on_lrid_error(request, MethodNotAllowed(f"{request.method} is not answered here"))
        allowed = (error.headers or {}).get("Allow", "")
        response.headers["Allow"] = "GET, HEAD" if allowed == "GET" else allowed
        return response
    return on_lrid_error(request, InvalidOption(str(error.detail)))


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return on_lrid_error(request, InvalidOption(first_fault(error.errors())))
