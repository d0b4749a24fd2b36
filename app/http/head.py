"""HEAD wherever GET is answered (RFC 9110 §9.3.2): the same headers, and no content. A slash behind a path is nothing."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_WRITTEN = ("route", "lrid.route", "lrid.code")  # what the application leaves in the scope for the access log


class HeadAsGet:
    """Wraps the application, which sees a GET, and no slash: clients lose bodies, keys and TLS on redirects."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["path"].removesuffix("/") or "/"
        if scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_without_content(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send_without_content)
        finally:
            scope.update({name: as_get[name] for name in _WRITTEN if name in as_get})
