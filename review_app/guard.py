"""What keeps other web pages and oversized requests away from a server on this machine.

Any page in the reviewer's browser can send requests to a loopback port. It can neither set a header
of its own nor send JSON without asking first, it tells its origin, and a name that it has rebound
to 127.0.0.1 still shows in `Host`; so these are checked.
"""

from fastapi import HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_HOSTS = ("127.0.0.1", "localhost")

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
    "Referrer-Policy": "no-referrer",
}


def require_own_page(request: Request) -> None:
    """A dependency of the API: refuse what another web page could have sent."""
    if REQUEST_HEADER not in request.headers:
        raise HTTPException(403, f"the header {REQUEST_HEADER} is missing; send it with any value")
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers['host']}":
        raise HTTPException(403, f"requests from {origin} are not allowed")


class Guard:
    """ASGI middleware: limits the size of requests and adds the security headers to responses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers:
            await PlainTextResponse("a length is required", 411)(scope, receive, send)
        elif int(headers.get("content-length", 0)) > MAX_BODY_BYTES:
            await PlainTextResponse("the request is too large", 413)(scope, receive, send)
        else:

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    MutableHeaders(scope=message).update(_HEADERS)
                await send(message)

            await self.app(scope, receive, send_with_headers)
