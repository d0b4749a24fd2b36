"""The service on Ray Serve: every replica is a whole server without its port. `serve.yaml` deploys it."""

import asyncio
import importlib
import logging.config
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.catalogue.ray.scaling import QUEUE_SECONDS
from app.logs import log_config
from app.main import create_app
from app.serving.metrics import Metrics
from app.serving.service import Service
from app.settings import Settings

MAX_ONGOING_REQUESTS = 512  # for one replica: Ray's default of 5 would starve the batcher; the service's own bounds reject
# Settings of a server with a port of its own, and what does their work on Ray.
RAYS_OWN = {
    "host": "http_options",
    "port": "http_options",
    "admin_port": "user_config, and metrics of Ray",
    "admin_host": "user_config, and metrics of Ray",
    "admin_keys": "user_config: it swaps the release of every replica",
    "tls_certificate": "a proxy before Ray",
    "tls_key": "a proxy before Ray",
    "workers": "num_replicas or autoscaling_config",
    "drain_delay_seconds": "graceful_shutdown_timeout_s",
    "drain_timeout_seconds": "graceful_shutdown_timeout_s",
}


class UserConfig(BaseModel):
    """What can change while replicas run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="`family/release` to serve.")


class Lrid:
    """A replica."""

    def __init__(self, settings: Settings) -> None:
        logging.config.dictConfig(log_config(settings.log_level))
        assigned = importlib.import_module("ray").get_runtime_context().get_assigned_resources()
        threads = settings.torch_threads or max(1, int(assigned.get("CPU", 1)))
        self._app = create_app(settings.model_copy(update={"torch_threads": threads}))
        self._app.front = _without_request_id(self._app.front)
        self._service: Service = self._app.state.service
        self._exported = ExportedMetrics(self._app.state.metrics)

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray once the replica is made; its lifespan starts loading."""
        return self._app

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the release that is named; Ray calls it at the start and for every change. Raises ReleaseError."""
        wanted = UserConfig.model_validate(user_config)
        await self._service.loaded_once()
        if self._service.reference != wanted.model:
            await self._service.swap(wanted.model)

    async def check_health(self) -> None:
        """Called every some seconds; after three errors Ray replaces the replica."""
        status = self._service.status()
        await asyncio.to_thread(self._exported.export, status.ready)
        if status.phase == "failed" or (status.phase == "ready" and not status.ready):
            raise RuntimeError(status.reason)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell `scaling.by_queue_seconds` what waits."""
        return {QUEUE_SECONDS: self._app.state.metrics.registry.get_sample_value("lrid_queue_audio_seconds") or 0.0}


def _without_request_id(app: ASGIApp) -> ASGIApp:
    """Ray's proxy gives every request an id, which the service takes over, and adds it to the answer a second time."""

    async def without(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [(name, value) for name, value in message["headers"] if name != b"x-request-id"]
            await send(message)

        await app(scope, receive, send_without)

    return without


class ExportedMetrics:
    """The replica's own metrics among Ray's: gauges `ray_lrid_…`, labelled with the replica; `rate` works as ever."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._gauges: dict[str, Any] = {}
        self._make = importlib.import_module("ray.serve.metrics").Gauge

    def export(self, ready: bool) -> None:
        self._metrics.ready.set(ready)
        for family in self._metrics.registry.collect():
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue
                if sample.name not in self._gauges:
                    self._gauges[sample.name] = self._make(sample.name, tag_keys=tuple(sample.labels))
                self._gauges[sample.name].set(sample.value, tags=sample.labels)


def build(args: dict[str, Any]) -> Any:
    """Settings without their prefix → an application of Ray Serve; `import_path` in the YAML. Raises ValueError."""
    serve = importlib.import_module("ray.serve")
    replica = serve.deployment(name=Lrid.__name__, max_ongoing_requests=MAX_ONGOING_REQUESTS)(serve.ingress()(Lrid))
    return replica.bind(settings_of(args))


def settings_of(args: dict[str, Any]) -> Settings:
    """Raises ValueError."""
    try:
        settings = Settings(**args)
    except ValidationError as error:
        raise ValueError(f"args: {'; '.join(mistakes(error))}") from None
    taken = [f"{name} (instead: {instead})" for name, instead in RAYS_OWN.items() if name in settings.model_fields_set]
    if taken:
        raise ValueError(f"args: of no use on Ray: {'; '.join(taken)}")
    return settings


def mistakes(error: ValidationError, place: str = "") -> list[str]:
    """What is wrong, and where."""
    return [f"{place}{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)]
