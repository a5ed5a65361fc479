"""The server: the page (Gradio around the player), the HTTP interface and the sound, in one app.

Nothing is loaded from or sent to any other machine. The review screen itself is plain JavaScript
in `player/`, mounted into an empty Gradio component: a transcript comes from the web and is never
part of a template.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from corpus.catalogue import Catalogue
from corpus.errors import UserError
from corpus.workspace import Workspace
from review_app import api, auth, figures, order
from review_app.auth import Access
from review_app.guard import LOOPBACK_HOSTS, in_url

PLAYER = Path(__file__).with_name("player")
STYLES = ("player", "browse", "figures")


def create_app(workspace: Workspace, access: Access, double_share: float = 0.0) -> FastAPI:
    """The review app of a workspace, for the people whom `access` lets in.

    `double_share` of the segments are decided by two people.
    """
    catalogue = Catalogue(workspace.catalogue_url)
    app = FastAPI(title="review_app", docs_url=None, redoc_url=None)  # those load scripts from afar
    auth.add_middleware(app, workspace, catalogue, access)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=access.hosts, www_redirect=False)
    api.add_routes(app, workspace, catalogue, double_share, by_password=access.by_password)
    app.state.keep_order = lambda stop: order.keep(catalogue, double_share, stop)
    app.mount("/player", StaticFiles(directory=PLAYER))
    return _mount_page(app, workspace)


def _mount_page(app: FastAPI, workspace: Workspace) -> FastAPI:
    # Read when Gradio is imported: no usage statistics, no look-up of its newest version.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gradio

    def screen(name: str) -> None:
        """A screen of plain JavaScript: it is mounted where its HTML is, which holds no data."""
        gradio.HTML(
            html_template=(PLAYER / f"{name}.html").read_text(encoding="utf-8"),
            js_on_load=f"import('/player/{name}.js').then((screen) => screen.mount(element));",
            apply_default_css=False,
        )

    with gradio.Blocks(title=f"Review · {workspace.root.name}", analytics_enabled=False) as page:
        with gradio.Tab("Review"):
            screen("player")
        with gradio.Tab("Browse"):
            screen("browse")
        figures.build(app.state.figures)
    return gradio.mount_gradio_app(
        app,
        page,
        path="/",
        auth_dependency=auth.gradio_user,
        theme=gradio.themes.Default(primary_hue="indigo", neutral_hue="zinc"),
        head="".join(f'<link rel="stylesheet" href="/player/{name}.css">' for name in STYLES),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
    )


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve `app`, and keep the order of its queue up to date, until it is interrupted."""
    stop = threading.Event()
    keeper = threading.Thread(target=app.state.keep_order, args=(stop,), daemon=True)
    keeper.start()
    try:
        _server(app).run(sockets=[listening])
    finally:
        stop.set()


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve `app` in a thread on a free port; yields its address and stops it at the end."""
    server, listening = _server(app), listen(LOOPBACK_HOSTS[0], 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield address(listening)
    finally:
        server.should_exit = True
        thread.join()


def listen(host: str, port: int) -> socket.socket:
    """Open a port, 0 for a free one. A client that comes before the server runs waits for it.

    Raises:
        UserError: the port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:  # the latter of what is no name
        why = str(getattr(error, "strerror", error)).partition(" (while")[0]
        raise UserError(
            f"{host}, port {port}: cannot be listened on ({why}); give an address of this machine "
            "with --host, or another port with --port"
        ) from None


def address(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{in_url(host)}:{port}"


def _server(app: FastAPI) -> Any:
    import uvicorn

    # Browsers hold connections open; a stop does not wait for them.
    # Who is at the other end is looked at, not what a header says of it.
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=1, proxy_headers=False
    )
    return uvicorn.Server(config)
