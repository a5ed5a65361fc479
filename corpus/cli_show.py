"""`corpus status`, `show` and `report`: what is there, and why the rest is not."""

from pathlib import Path
from typing import Annotated

import typer

from corpus import console
from corpus.cli_common import open_to_read
from corpus.console import DebugOption, JsonOption
from corpus.workspace import WorkspaceOption


def status(
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what is there, what was refused and why, and hours by verdict and label.

    Example: corpus status --json
    """
    from corpus.status import print_status
    from corpus.status import status as find_status

    _, catalogue = open_to_read(workspace)
    found = find_status(catalogue)
    if as_json:
        console.print_json(found)
    else:
        print_status(found)


def show(
    id: Annotated[str, typer.Argument(help="Of a recording, a segment, or what was not taken.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show everything that is known of one recording or segment, by its id.

    Where it is from and under which licence, its subtitles, transcripts, scores, decisions and
    verdicts; or why it was not taken.

    Example: corpus show youtube:dQw4w9WgXcQ
    """
    from corpus.show import print_shown
    from corpus.show import show as find

    _, catalogue = open_to_read(workspace)
    found = find(catalogue, id)
    if as_json:
        console.print_json(found)
    else:
        print_shown(found)


def report(
    html: Annotated[
        Path | None, typer.Option(help="Write one page with plots and samples to listen to.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Report hours by source, label and verdict, why hours were lost, and the worst channels.

    The page holds all it shows and is read offline. An earlier report is replaced, no other file.

    Example: corpus report --html report.html
    """
    from corpus.report.numbers import report as find
    from corpus.report.tables import print_report

    space, catalogue = open_to_read(workspace)
    if html is not None:
        from corpus.report.page import GENERATOR

        console.check_page(html, GENERATOR)  # before the work
    found = find(space, catalogue)
    if html is not None:
        from corpus.report.page import write_page

        write_page(html, found, space)
    if as_json:
        console.print_json(found)
    elif html is not None:
        print(f"{html} is written; it opens in any browser")
    else:
        print_report(found)
