"""Python client of a running server, blocking and asynchronous. Needs the extra `client` (httpx)."""

from importlib.util import find_spec

if find_spec("httpx") is None:
    raise ModuleNotFoundError("the client needs httpx: pip install 'lrid-serve[client]'", name="httpx")

from app.client.batch import BatchAnswer
from app.client.calls import ClientError, NoLanguages, RequestRefused, ServerUnreachable
from app.client.clients import AsyncLridClient, LridClient
from app.http.options import Options
from app.http.schemas import IdentifyResponse

__all__ = [
    "AsyncLridClient",
    "BatchAnswer",
    "ClientError",
    "IdentifyResponse",
    "LridClient",
    "NoLanguages",
    "Options",
    "RequestRefused",
    "ServerUnreachable",
]
