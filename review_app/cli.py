"""The command line of the review app."""

import getpass
import sys
from typing import Annotated

import typer

from corpus import console
from corpus.errors import UserError
from corpus.workspace import WorkspaceOption, open_workspace

cli = console.new_app("Listen to segments and correct their labels, in a browser.")


@cli.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def review_app(
    workspace: WorkspaceOption = None,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")
    ] = 7860,
    reviewer: Annotated[
        str | None, typer.Option(help="Who reviews. Default: your user name.")
    ] = None,
    double_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the segments that two people are to decide."),
    ] = 0.0,
    json: console.JsonOption = False,
    debug: console.DebugOption = False,
) -> None:
    """Listen to segments and correct their labels, in a browser.

    Decisions are stored in the catalogue at once; `corpus verdict` and `corpus build` use them.
    Several servers on one catalogue, each with its own --reviewer and --port, share the queue: no
    two people get the same segment.
    """
    from review_app.guard import LOOPBACK_HOSTS

    if host not in LOOPBACK_HOSTS:
        raise UserError(
            f"--host {host}: there are no accounts yet, so the app serves this machine only; "
            f"leave --host out and reach it through a tunnel such as ssh -L {port}:127.0.0.1:{port}"
        )
    opened, name = open_workspace(workspace), reviewer or getpass.getuser()
    from review_app.app import address, create_app, listen, serve

    listening = listen(host, port)
    app = create_app(opened, name, double_share)
    if json:
        console.print_json({"url": address(listening), "reviewer": name})
    else:
        print(f"{address(listening)}   ({name} reviews {opened.root.name}; Ctrl+C stops)")
    sys.stdout.flush()
    serve(app, listening)


def main() -> None:
    """Entry point of the `review_app` command."""
    console.run(cli)
