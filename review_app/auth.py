"""Who a request comes from. Nobody gets anything but the sign-in page without being known.

There are three ways to be known: as the one person at this machine, by an account's name and
password, or by the header of a reverse proxy that has signed people in.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from corpus.catalogue import Catalogue, User
from corpus.workspace import Workspace
from review_app import accounts
from review_app.accounts import Person
from review_app.guard import LOOPBACK_HOSTS, Guard, in_url

SIGN_IN = "/sign-in"
SIGN_OUT = "/sign-out"

SIGNED_IN_SECONDS = 30 * 24 * 3600
"""How long a browser stays signed in."""

KNOWN_SECONDS = 5
"""How long an account is believed without a look: within that a change of it takes effect."""

FREE_FAILURES = 5
"""Wrong passwords for a name that cost no time: people mistype."""

LONGEST_WAIT = 300
"""Seconds between two tries for a name, however many there were: about 300 a day."""

MAX_PENDING = 20
"""Sign-ins that may wait for their turn; one password is checked at a time (64 MiB each)."""

_PAGE = Path(__file__).with_name("player") / "sign-in.html"

Network: TypeAlias = IPv4Network | IPv6Network
Identify: TypeAlias = Callable[[HTTPConnection], Person | None]


@dataclass(frozen=True)
class Access:
    """How the app knows who somebody is, and under which address people reach it."""

    local: str | None = None
    """The name of the one person at this machine; without it people have accounts."""
    header: str | None = None
    """The header in which a proxy names who it has signed in."""
    proxies: tuple[Network, ...] = ()
    """From where that header is believed."""
    public_url: str | None = None

    @property
    def by_password(self) -> bool:
        """Whether people sign in here."""
        return self.local is None and self.header is None

    @property
    def hosts(self) -> list[str]:
        """The names under which the app may be asked for.

        A page that has rebound its own name to this machine is told by that name. A cookie never
        goes to such a name, so that where people sign in here any name will do.
        """
        if self.public_url is None and self.by_password:
            return ["*"]
        public = urlsplit(self.public_url).hostname if self.public_url else None
        return [in_url(host) for host in (*LOOPBACK_HOSTS, public) if host]


class Throttle:
    """Slows down who guesses passwords: from some failures on, twice as long after each.

    In the memory of the server; `at` is the present in seconds of any clock that runs on.
    """

    MAX_NAMES = 10_000

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def wait(self, name: str, at: float) -> float:
        """Seconds until the next try for `name`; 0 is now."""
        count, last = self._failures.get(name, (0, at))
        pause = min(LONGEST_WAIT, 2 ** (count - FREE_FAILURES)) if count >= FREE_FAILURES else 0
        return max(0.0, last + pause - at)

    def failed(self, name: str, at: float) -> None:
        """A password was wrong."""
        count, _ = self._failures.pop(name, (0, at))
        self._failures[name] = (count + 1, at)
        if len(self._failures) > self.MAX_NAMES:
            del self._failures[next(iter(self._failures))]

    def passed(self, name: str) -> None:
        """The password was right."""
        self._failures.pop(name, None)


class OnlyKnown:
    """ASGI middleware: notes who makes a request, and refuses those whom `identify` cannot tell."""

    def __init__(self, app: ASGIApp, identify: Identify, refuse: Callable[[str], Response]) -> None:
        self.app = app
        self.identify = identify
        self.refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        # Not the path of `connection.url`, into which a request can write by its Host header.
        path = scope["path"]
        open_to_all = path == SIGN_IN
        person = None if open_to_all else await run_in_threadpool(self.identify, connection)
        if person is None and not open_to_all:
            await self.refuse(path)(scope, receive, send)
            return
        connection.state.person = person
        await self.app(scope, receive, send)


def add_middleware(
    app: FastAPI, workspace: Workspace, catalogue: Catalogue, access: Access
) -> None:
    """Let `app` know who makes a request, and answer nobody else."""
    if access.local is not None:
        local = Person(access.local, "admin")
        app.add_middleware(OnlyKnown, identify=lambda _: local, refuse=_not_signed_in)
    elif access.header is not None:
        app.add_middleware(OnlyKnown, identify=_by_header(catalogue, access), refuse=_no_account)
    else:
        _add_sign_in(app, catalogue)
        app.add_middleware(OnlyKnown, identify=_by_cookie(catalogue), refuse=_not_signed_in)
        app.add_middleware(
            SessionMiddleware,
            secret_key=_key(workspace),
            session_cookie="review_app",
            max_age=SIGNED_IN_SECONDS,
            same_site="lax",
            https_only=(access.public_url or "").startswith("https:"),
        )
    app.add_middleware(Guard)


def _by_header(catalogue: Catalogue, access: Access) -> Identify:
    look_up, header = _Known(catalogue), access.header or ""

    def identify(connection: HTTPConnection) -> Person | None:
        peer = ip_address(connection.client.host) if connection.client else None
        name = connection.headers.get(header)
        if peer is None or name is None or not any(peer in proxy for proxy in access.proxies):
            return None
        user = look_up(name)
        return accounts.person(user) if user is not None else None

    return identify


def _by_cookie(catalogue: Catalogue) -> Identify:
    look_up = _Known(catalogue)

    def identify(connection: HTTPConnection) -> Person | None:
        user = look_up(name) if (name := connection.session.get("name")) else None
        if user is None or connection.session.get("stamp") != _stamp(user):
            return None
        return accounts.person(user)

    return identify


class _Known:
    """Accounts by name, kept for a moment: a page makes dozens of requests at once."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._users: dict[str, tuple[float, User]] = {}

    def __call__(self, name: str) -> User | None:
        until, user = self._users.get(name, (0.0, None))
        if monotonic() < until:
            return user
        with self._catalogue.session() as session:
            user = accounts.find(session, name)
        if user is None:
            self._users.pop(name, None)
        else:
            self._users[name] = (monotonic() + KNOWN_SECONDS, user)
        return user


def _add_sign_in(app: FastAPI, catalogue: Catalogue) -> None:
    throttle, turn, pending = Throttle(), asyncio.Lock(), 0
    page = _PAGE.read_text(encoding="utf-8")

    def told(message: str, status: int, **headers: str) -> HTMLResponse:
        shown = page.replace("<!-- message -->", f'<p role="alert">{message}</p>')
        return HTMLResponse(shown, status, {key.replace("_", "-"): headers[key] for key in headers})

    def check(name: str, password: str) -> User | None:
        with catalogue.session() as session:
            user = accounts.find(session, name)
        return user if accounts.is_password(user, password) else None

    @app.get(SIGN_IN)
    def ask() -> HTMLResponse:
        return HTMLResponse(page)

    @app.post(SIGN_IN)
    async def sign_in(
        request: Request,
        name: Annotated[str, Form(max_length=accounts.MAX_NAME)] = "",
        password: Annotated[str, Form(max_length=1000)] = "",
    ) -> Response:
        nonlocal pending
        if pending >= MAX_PENDING:
            return told("Many people sign in now. Try again in a moment.", 503, Retry_After="5")
        pending += 1
        try:
            async with turn:
                wait = throttle.wait(name, monotonic())
                if wait > 0:
                    left = str(int(wait) + 1)
                    return told(
                        f"Too many wrong passwords. Try again in {left} s.", 429, Retry_After=left
                    )
                user = await run_in_threadpool(check, name, password)
                if user is None:
                    throttle.failed(name, monotonic())
                    return told("The name or the password is wrong.", 401)
        finally:
            pending -= 1
        throttle.passed(name)
        request.session.update(name=user.name, stamp=_stamp(user))
        return RedirectResponse("/", 303)

    @app.post(SIGN_OUT)
    def sign_out(request: Request) -> Response:
        request.session.clear()
        return RedirectResponse(SIGN_IN, 303)


def _not_signed_in(path: str) -> Response:
    # The browser takes the part after # along, which links to a segment have.
    return RedirectResponse(SIGN_IN, 303) if path == "/" else _refused("sign in first", 401)


def _no_account(_: str) -> Response:
    return _refused("the proxy named nobody who has an account here", 403)


def _refused(detail: str, status: int) -> Response:
    return JSONResponse({"detail": detail}, status)


def _stamp(user: User) -> str:
    """Changes with the password, so that a new one signs out everywhere."""
    return hashlib.sha256((user.password or "").encode()).hexdigest()[:16]


def _key(workspace: Workspace) -> str:
    """The key by which cookies are signed; made once, for the owner's eyes only."""
    path = workspace.root / "review.key"
    if not path.exists():
        # Written whole before it has its name: another server may start at this moment.
        handle, draft = tempfile.mkstemp(dir=workspace.root)  # readable by its owner alone
        with open(handle, "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        os.unlink(draft)
    return path.read_text(encoding="ascii")


def gradio_user(request: Any) -> str | None:
    """For Gradio, which asks who makes the request of an event."""
    person: Person | None = getattr(request.state, "person", None)
    return person.name if person is not None else None
