"""All routes. Handlers only call the parts that do the work."""

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse

from app.domain import AUDIO
from app.errors import LridError, NotFound, NotReady
from app.families.store import CARD, Families, list_releases, read_manifest, release_folder
from app.http import identify, openapi, schemas
from app.http.answer import release_name
from app.serving.metrics import Metrics
from app.serving.service import Service

WEB = Path(__file__).resolve().parent.parent / "web"
WEB_TYPES = {".css": "text/css", ".js": "text/javascript"}
WEB_FILES = {path.name: WEB_TYPES[path.suffix] for path in WEB.iterdir() if path.suffix in WEB_TYPES}  # what the page loads


class MarkdownResponse(PlainTextResponse):
    media_type = "text/markdown"


def build_router(
    service: Service, endpoint: identify.Endpoint, metrics: Metrics, store: Path, known: Families | None
) -> APIRouter:
    """All routes of one server."""
    router = APIRouter()

    router.add_api_route(
        identify.PATH,
        endpoint,
        methods=["POST"],
        response_model=schemas.IdentifyResponse | schemas.GenreResponse | schemas.ArtistResponse | schemas.TagsResponse,
        responses=openapi.problems(),
        openapi_extra=openapi.identify(),
    )
    _add_releases(router, service, store, known)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def prometheus(request: Request) -> Response:
        """Prometheus text format, or OpenMetrics with exemplars where `Accept` asks for it."""
        metrics.ready.set(service.status().ready)
        content, media_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": media_type})

    _add_pages(router)
    _add_health(router, service)
    return router


def _add_releases(router: APIRouter, service: Service, store: Path, known: Families | None) -> None:
    @router.get("/languages")
    async def languages() -> schemas.LanguagesResponse:
        """The classes of the release that is served, in logit order, and what it reads."""
        model = service.model
        manifest, modalities = model.manifest, [*([AUDIO] if model.audio else []), *model.inputs]
        entries = [schemas.LanguageEntry(code=x.code, iso639_3=x.iso639_3, name=x.name) for x in manifest.languages]
        return schemas.LanguagesResponse(model=release_name(manifest), modalities=modalities, languages=entries)

    @router.get("/models")
    async def models() -> schemas.ModelsResponse:
        """Every release in the store that can be read, and which one is served."""
        served = service.loaded.model.manifest.sha256 if service.loaded else None
        return await asyncio.to_thread(_models, store, known, served)

    @router.get("/models/{family}/{release}/card", response_class=MarkdownResponse, responses=openapi.problems(NotFound))
    async def card(family: str, release: str) -> Response:
        """The card of a release in the store, in Markdown: what it knows and does not."""
        return MarkdownResponse(await asyncio.to_thread(_card, store, f"{family}/{release}"))

    @router.post("/admin/releases", responses=openapi.problems())
    async def swap(
        release: Annotated[schemas.SwapRequest, Body(openapi_examples={"default": {"value": {"model": "lrid_voice/4"}}})],
    ) -> schemas.ReleaseName:
        """Load another release, prove it, and serve it. Needs an admin key. Requests in flight end with the old one."""
        return release_name((await service.swap(release.model)).model.manifest)


def _add_pages(router: APIRouter) -> None:
    @router.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", media_type="text/html")

    @router.get("/web/{name}", include_in_schema=False)
    async def part_of_page(name: str) -> FileResponse:
        if name not in WEB_FILES:
            raise NotFound("the page has no such part")
        return FileResponse(WEB / name, media_type=WEB_FILES[name])

    @router.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(WEB / "docs.html", media_type="text/html")


def _add_health(router: APIRouter, service: Service) -> None:
    def health(response: Response, holds: bool) -> schemas.HealthResponse:
        status = service.status()
        response.status_code = 200 if holds else NotReady.status
        return schemas.HealthResponse(
            status=status.phase,
            ready=status.ready,
            reason=status.reason,
            checks=status.checks,
            model=service.reference,
            uptime_seconds=round(status.uptime_seconds, 1),
        )

    @router.get("/health/live")
    async def live(response: Response) -> schemas.HealthResponse:
        """200 as long as the process answers at all."""
        return health(response, True)

    @router.get("/health")
    @router.get("/health/ready")
    async def ready(response: Response) -> schemas.HealthResponse:
        """200 while this server should get traffic; 503 while loading, restarting, draining or failed."""
        return health(response, service.status().ready)

    @router.get("/health/startup")
    async def startup(response: Response) -> schemas.HealthResponse:
        """200 once loading is over and the release was proven."""
        return health(response, service.loaded is not None)


def _card(store: Path, reference: str) -> bytes:
    """Raises NotFound."""
    try:
        return (release_folder(store, reference) / CARD).read_bytes()
    except (LridError, OSError):
        raise NotFound("no such release in the store, or it has no card") from None


def _models(store: Path, known: Families | None, served_sha256: str | None) -> schemas.ModelsResponse:
    entries = []
    for reference in list_releases(store):
        try:
            manifest = read_manifest(release_folder(store, reference), known)
        except LridError:
            continue  # `lrid releases` names what is wrong with it
        described = manifest.model_dump(mode="json", include={"family", "release", "sha256", "created", "metrics"})
        codes = [language.code for language in manifest.languages]
        entries.append(schemas.ModelEntry(**described, serving=manifest.sha256 == served_sha256, languages=codes))
    return schemas.ModelsResponse(models=entries)
