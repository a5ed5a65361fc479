"""What keeps other web pages and oversized requests away from a server on this machine.

Any page in the reviewer's browser can send requests to a loopback port. It can neither set a header
of its own nor send JSON without asking first, it tells its origin, and a name that it has rebound
to 127.0.0.1 still shows in `Host`; so these are checked.
"""

from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

MAX_BODY_BYTES = 256 * 1024
"""A decision is a few kilobytes; so are the events of the page."""

REQUEST_HEADER = "X-Requested-With"

_HEADERS = {
    # The page framework needs inline scripts and eval. What matters: nothing is loaded from, sent
    # to or framed by anybody else.
    "Content-Security-Policy": "default-src 'self' data: blob:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # With "no-referrer" a form of our own page would tell no origin either.
    "Referrer-Policy": "same-origin",
}


def in_url(host: str) -> str:
    """A host as addresses of pages have it: an IPv6 address stands in brackets."""
    return f"[{host}]" if ":" in host else host


def require_own_page(request: Request) -> None:
    """A dependency of the API: refuse what a form or a link of another page could have sent."""
    if REQUEST_HEADER not in request.headers:
        raise HTTPException(403, f"the header {REQUEST_HEADER} is missing; send it with any value")


class Guard:
    """ASGI middleware: checks the origin and the size of a request, adds the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # The name only: behind a proxy the page is encrypted, and the way from there is not.
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            answer: ASGIApp = PlainTextResponse("requests of other pages are not allowed", 403)
        elif "transfer-encoding" in headers:
            answer = PlainTextResponse("a length is required", 411)
        elif int(headers.get("content-length", 0)) > MAX_BODY_BYTES:
            answer = PlainTextResponse("the request is too large", 413)
        else:
            answer = self.app

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await answer(scope, receive, send_with_headers)
