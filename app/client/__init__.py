"""Python client of a running server, blocking and asynchronous. Needs the extra `client` (httpx)."""

from app.client.batch import BatchAnswer
from app.client.clients import AsyncLridClient, LridClient
from app.client.problems import ClientError, RequestRefused, ServerUnreachable
from app.http.schemas import IdentifyResponse, Options

__all__ = [
    "AsyncLridClient",
    "BatchAnswer",
    "ClientError",
    "IdentifyResponse",
    "LridClient",
    "Options",
    "RequestRefused",
    "ServerUnreachable",
]
