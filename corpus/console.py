"""What the three command lines share: options, progress, tables, JSON and one-line errors."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from corpus.errors import UserError

T = TypeVar("T")

INTERRUPTED = 130
"""Exit code after Ctrl-C, which typer gives (128 + SIGINT, as a shell counts)."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def new_app(help_text: str) -> typer.Typer:
    """A typer application with the project's defaults."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def run(app: typer.Typer) -> None:
    """Run a command line: wrong usage exits 2, a `UserError` prints one line and exits 1.

    Any other exception is a defect of ours; it too prints one line, with the advice to run again
    with ``--debug`` for its traceback.
    """
    debug = "--debug" in sys.argv
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("interrupted; the same command carries on where it stopped", file=sys.stderr)
        raise
    except UserError as error:
        if debug:
            raise
        _fail(str(error), 1)
    except Exception as error:
        if debug:
            raise
        reason = str(error) or "no message"
        _fail(f"{type(error).__name__}: {reason} (run again with --debug for the traceback)", 1)


def _fail(message: str, code: int) -> None:
    print("error:", printable(" ".join(message.split())), file=sys.stderr)
    sys.exit(code)


def progress(
    items: Iterable[T], *, total: int | None = None, desc: str = "", unit: str = "it"
) -> Iterator[T]:
    """Iterate with a progress bar on stderr that shows the rate and the time left.

    Nothing to do shows no bar.
    """
    from tqdm import tqdm

    if total is None and isinstance(items, Sized):
        total = len(items)
    if total == 0:
        return
    # A log file gets a line every few seconds instead of a bar that is redrawn ten times a second.
    interval = 0.1 if sys.stderr.isatty() else 5.0
    yield from tqdm(items, total=total, desc=desc, unit=unit, mininterval=interval)


def say(message: str) -> None:
    """Tell the person at the terminal something, on stderr so that stdout stays data."""
    print(printable(message), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """A text without the control characters by which one from the web could drive a terminal.

    Nor with bytes that are no UTF-8, which names of files may have and no stream takes.
    """
    kept = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return kept.encode("utf-8", "replace").decode()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stdout; numbers are set to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    table = Table(title=printable(title), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # Text, not markup: a transcript with square brackets is shown as it is.
        table.add_row(*(Text(printable(_cell(value))) for value in row))
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_json(data: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(data, ensure_ascii=False, indent=2))


def check_page(path: Path, generator: str) -> None:
    """See that a page may be written to `path`: only an earlier one of ours is replaced.

    Args:
        generator: what our pages have as their meta element `generator`.

    Raises:
        UserError: there is no such folder, or another file is there.
    """
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}; make it, or choose another file")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file, such as {path / 'report.html'}")
    if path.exists():
        with path.open("rb") as file:
            if f'content="{generator}"'.encode() not in file.read(1000):
                raise UserError(f"{path} exists and is no report; choose another file")
