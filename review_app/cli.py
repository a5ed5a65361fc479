"""The command line of the review app: the server, the accounts and decisions as a file."""

import getpass
import shutil
import sys
import tempfile
from dataclasses import asdict
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from corpus import console
from corpus.errors import UserError
from corpus.workspace import WorkspaceOption, open_workspace

if TYPE_CHECKING:
    from review_app.auth import Access

LOOPBACK = ip_network("127.0.0.0/8"), ip_network("::1")

ABOUT = """Listen to segments and correct their labels, in a browser.

Decisions are stored in the catalogue at once; `corpus verdict` and `corpus build` use them. While
there are no accounts, the app serves this machine only, and whoever sits at it. Once `review_app
user add` has made one, people sign in, and --host may be any address."""

EXAMPLES = """Examples:

  review_app

  review_app --double-share 0.05

  review_app user add NAME --role admin

  review_app --host 0.0.0.0 --public-url https://review.example.org

  review_app --trust-header X-Forwarded-User --public-url https://review.example.org
"""

ADD_EXAMPLES = """Examples:

  review_app user add NAME --role admin

  pwgen 16 1 | tee NAME.txt | review_app user add NAME
"""

CHANGE_EXAMPLES = """Examples:

  review_app user change NAME --role adjudicator

  review_app user change NAME --password

  review_app user change NAME --disable
"""

cli = console.new_app(ABOUT)
user = console.new_app("Who may sign in: add, change and list accounts.")
cli.add_typer(user, name="user")


class Role(StrEnum):
    """What an account may do; each role may do all that those before it may."""

    reviewer = "reviewer"
    adjudicator = "adjudicator"
    admin = "admin"


RoleOption = typer.Option(
    help="reviewer: decides segments. adjudicator: also settles disagreements and changes what "
    "others decided. admin: also sees accounts and takes all decisions out."
)


@cli.callback(invoke_without_command=True, no_args_is_help=False, epilog=EXAMPLES)
def review_app(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; others than this machine need accounts.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")
    ] = 7860,
    reviewer: Annotated[
        str | None,
        typer.Option(help="Who reviews, while there are no accounts. Default: your user name."),
    ] = None,
    double_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the segments that two people are to decide."),
    ] = 0.0,
    public_url: Annotated[
        str | None,
        typer.Option(help="Where people reach the app through a proxy: https://review.example.org"),
    ] = None,
    trust_header: Annotated[
        str | None,
        typer.Option(help="The header in which a proxy names who it has signed in."),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="Address or network from which that header is believed; repeatable."),
    ] = None,
    json: console.JsonOption = False,
    debug: console.DebugOption = False,
) -> None:
    """Serve the app."""
    if context.invoked_subcommand is not None:
        return
    opened = open_workspace(workspace)
    from review_app.app import address, create_app, listen, serve

    access = _access(opened.catalogue_url, host, port, reviewer, public_url, trust_header, proxy)
    listening = listen(host, port)
    app = create_app(opened, access, double_share)
    url = public_url or address(listening)
    if json:
        console.print_json({"url": url, "reviewer": access.local})
    else:
        who = f"{access.local} reviews" if access.local else "people sign in to review"
        print(f"{url}   ({who} {opened.root.name}; Ctrl+C stops)")
    sys.stdout.flush()
    serve(app, listening)


def _access(
    catalogue_url: str,
    host: str,
    port: int,
    reviewer: str | None,
    public_url: str | None,
    trust_header: str | None,
    proxy: list[str] | None,
) -> "Access":
    from corpus.catalogue import Catalogue
    from review_app import accounts
    from review_app.auth import Access
    from review_app.guard import LOOPBACK_HOSTS

    with Catalogue(catalogue_url).session() as session:
        has_accounts = bool(accounts.every(session))
    if not has_accounts:
        if host not in LOOPBACK_HOSTS or public_url or trust_header:
            raise UserError(
                "there are no accounts yet, so the app serves this machine only; make one with: "
                "review_app user add NAME --role admin (or leave --host out and use a tunnel: "
                f"ssh -L {port}:127.0.0.1:{port})"
            )
        return Access(local=reviewer or getpass.getuser())
    if reviewer is not None:
        raise UserError("--reviewer: people sign in here, as there are accounts; leave it out")
    if proxy and trust_header is None:
        raise UserError("--proxy: there is no header to believe; give --trust-header too")
    if public_url is not None:
        parts = urlsplit(public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise UserError(
                f"--public-url {public_url}: give scheme and name, as https://review.example.org"
            )
    elif host not in LOOPBACK_HOSTS:
        console.say(
            "note: passwords and texts travel unencrypted; put a proxy with TLS in front and give "
            "--public-url https://..."
        )
    try:
        proxies = [ip_network(one) for one in proxy or []] or LOOPBACK
    except ValueError as error:
        raise UserError(f"--proxy: {error}") from None
    return Access(header=trust_header, proxies=tuple(proxies), public_url=public_url)


@cli.command("export", epilog="Example: review_app export decisions.jsonl")
def export_decisions(
    file: Annotated[Path, typer.Argument(help="Where to; - is the standard output.")],
    workspace: WorkspaceOption = None,
    debug: console.DebugOption = False,
) -> None:
    """Write all decisions as JSONL, a line for each; those that were taken back, too."""
    from corpus.catalogue import Catalogue
    from review_app.export import export

    lines = export(Catalogue(open_workspace(workspace).catalogue_url))
    if str(file) == "-":
        sys.stdout.writelines(lines)
        return
    if file.exists():
        raise UserError(f"{file} exists; give another name, or delete it first")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}")
    part = file.with_name(f".{file.name}.part")
    with part.open("w", encoding="utf-8") as target:
        target.writelines(lines)
    part.rename(file)


@cli.command("import", epilog="Example: review_app import decisions.jsonl")
def import_decisions(
    file: Annotated[Path, typer.Argument(help="What `review_app export` has written; - is stdin.")],
    workspace: WorkspaceOption = None,
    json: console.JsonOption = False,
    debug: console.DebugOption = False,
) -> None:
    """Add decisions from a file, all or none; a second time adds nothing.

    The recordings and their segments have to be here. What people have decided differently goes to
    an adjudicator; of two decisions of one person the later holds.
    """
    from corpus.catalogue import Catalogue
    from review_app import importing

    catalogue = Catalogue(open_workspace(workspace).catalogue_url)
    if str(file) == "-":
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.seek(0)
            found = importing.import_decisions(catalogue, copy, "the standard input")
    else:
        try:
            source = file.open("rb")
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}") from None
        with source:
            found = importing.import_decisions(catalogue, source, str(file))
    if json:
        console.print_json(asdict(found))
        return
    for count, told in importing.in_words(found):
        console.say(f"{count:,} {told}")


@user.command("add", epilog=ADD_EXAMPLES)
def add_user(
    name: Annotated[str, typer.Argument(help="By which the person signs in.")],
    workspace: WorkspaceOption = None,
    role: Annotated[Role, RoleOption] = Role.reviewer,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Only a proxy signs this person in.")
    ] = False,
    debug: console.DebugOption = False,
) -> None:
    """Make an account. Asks for its password, or reads it from a pipe."""
    from corpus.catalogue import Catalogue
    from review_app import accounts

    catalogue = Catalogue(open_workspace(workspace).catalogue_url)
    password = None if no_password else _ask_password(name)
    with catalogue.session() as session:
        accounts.add(session, name, role.value, password)
    console.say(f"{name} may use the review app as {role.value}.")


@user.command("change", epilog=CHANGE_EXAMPLES)
def change_user(
    name: Annotated[str, typer.Argument(help="Whose account.")],
    workspace: WorkspaceOption = None,
    role: Annotated[Role | None, RoleOption] = None,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a new password; ends all their sessions.")
    ] = False,
    disabled: Annotated[
        bool | None,
        typer.Option("--disable/--enable", help="Let the person in no longer, or again."),
    ] = None,
    debug: console.DebugOption = False,
) -> None:
    """Change an account. What the person has decided stays."""
    from corpus.catalogue import Catalogue
    from review_app import accounts

    if role is None and not password and disabled is None:
        raise UserError("nothing to change; give --role, --password, --disable or --enable")
    catalogue = Catalogue(open_workspace(workspace).catalogue_url)
    new = _ask_password(name) if password else None
    with catalogue.session() as session:
        accounts.change(
            session, name, role=role.value if role else None, password=new, disabled=disabled
        )
    console.say(f"The account of {name} is changed.")


@user.command("list")
def list_users(
    workspace: WorkspaceOption = None,
    json: console.JsonOption = False,
    debug: console.DebugOption = False,
) -> None:
    """List the accounts."""
    from corpus.catalogue import Catalogue
    from review_app import accounts

    with Catalogue(open_workspace(workspace).catalogue_url).session() as session:
        rows = [accounts.told(one) for one in accounts.every(session)]
    if json:
        console.print_json(rows)
    else:
        console.print_table(
            "Accounts", ["name", "role", "disabled", "added"], [list(row.values()) for row in rows]
        )


def _ask_password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"Password for {name}: ")
    if getpass.getpass("Once more: ") != password:
        raise UserError("the two passwords differ; nothing is changed")
    return password


def main() -> None:
    """Entry point of the `review_app` command."""
    console.run(cli)
