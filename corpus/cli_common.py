"""What the commands of `corpus` share: options, what they open, how they tell what was done."""

import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpus import console
from corpus.catalogue import Catalogue
from corpus.errors import UserError
from corpus.workspace import FetchConfig, Workspace, open_workspace

if TYPE_CHECKING:
    from corpus.engine import Counts, Workers

ProxyOption = Annotated[str | None, typer.Option(help="HTTP or SOCKS proxy URL.")]
NoCheckCertificateOption = Annotated[
    bool, typer.Option("--no-check-certificate", help="Accept any TLS certificate.")
]
NoSleepOption = Annotated[
    bool,
    typer.Option(
        "--no-sleep", help="Do not pause between requests; only to a site on this machine."
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="local, or ray: the cluster at RAY_ADDRESS, else one here."),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes, or Ray actors.")
]


def open_both(workspace: Path | None) -> tuple[Workspace, Catalogue]:
    """The workspace and its catalogue."""
    found = open_workspace(workspace)
    return found, Catalogue(found.catalogue_url)


def open_to_read(workspace: Path | None) -> tuple[Workspace, Catalogue]:
    """As `open_both`, to look only: a catalogue that is gone is told, not made anew."""
    space = open_workspace(workspace)
    if space.config.catalogue is None and not (space.root / "catalogue.sqlite").exists():
        console.say(
            f"warning: {space.root} has no catalogue.sqlite, so nothing is known here; put it "
            "back, or begin a new one with `corpus fetch` or `corpus add`"
        )
        return space, Catalogue("sqlite://")
    return space, Catalogue(space.catalogue_url)


def workers_of(space: Workspace, engine: str | None, workers: int | None) -> "Workers":
    """Where to work: what the options say, else corpus.toml."""
    from corpus.engine import Workers

    config = space.config.engine
    return Workers(engine or config.name, workers or config.workers)


def folder_or_name(space: Workspace, name: str) -> str:
    """A folder of the workspace or elsewhere on this machine, else a name of the Hub."""
    return str(space.path(name)) if space.path(name).is_dir() else name


def tell(
    counts: "Counts", what: str, as_json: bool, words: tuple[str, str] = ("done", "failed")
) -> None:
    """Print how many items were done and how many failed."""
    if as_json:
        console.print_json({"done": counts.done, "failed": counts.failed})
        return
    print(f"{what}: {counts.done} {words[0]}, {counts.failed} {words[1]}")
    if counts.failed:
        print("all of them, with their reasons: corpus status --json")


def network_options(
    config: FetchConfig, proxy: str | None, no_check_certificate: bool, no_sleep: bool
) -> dict[str, Any]:
    """The options of `FetchOptions` on how to reach a site."""
    proxy = proxy or config.proxy
    sleep = config.sleep and not no_sleep
    host = urllib.parse.urlsplit(proxy or "").hostname
    if not sleep and host not in {"localhost", "127.0.0.1", "::1"}:
        raise UserError(
            "without pauses a public site blocks this address; --no-sleep is only for a site on "
            "this machine, reached by --proxy http://127.0.0.1:PORT"
        )
    return {
        "proxy": proxy,
        "check_certificate": config.check_certificate and not no_check_certificate,
        "sleep": sleep,
    }
