"""The command line of the review app."""

import json
import socket
import subprocess
import sys

import httpx
import pytest

from corpus.catalogue import Catalogue
from corpus.workspace import Workspace
from review_app import accounts

COMMAND = [sys.executable, "-c", "from review_app.cli import main; main()"]


def run(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "review.example"])
def test_it_serves_no_other_machine_while_there_are_no_accounts(
    workspace: Workspace, host: str
) -> None:
    result = run("--workspace", str(workspace.root), "--host", host)
    assert result.returncode == 1
    assert result.stderr.startswith("error: there are no accounts yet")
    assert result.stderr.count("\n") == 1


def test_help_comes_without_loading_the_web_framework() -> None:
    code = (
        "import sys\nfrom review_app.cli import main\nsys.argv[1:] = ['--help']\n"
        "try:\n    main()\nfinally:\n"
        "    sys.exit(9 if {'gradio', 'fastapi'} & set(sys.modules) else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0
    assert "--reviewer" in result.stdout


def test_a_taken_port_is_one_line_of_advice(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--workspace", str(workspace.root), "--port", str(port))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert f"127.0.0.1, port {port}" in result.stderr
    assert "another port with --port" in result.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "nowhere.invalid", "a..b"])
def test_an_address_that_is_not_this_machines_is_one_line_of_advice(
    workspace: Workspace, catalogue: Catalogue, host: str
) -> None:
    with catalogue.session() as session:
        accounts.add(session, "first", "admin", None)
    where = ("--workspace", str(workspace.root), "--public-url", "https://review.example.org")
    result = run(*where, "--host", host, "--port", "7999")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert f"{host}, port 7999" in result.stderr
    assert "an address of this machine with --host" in result.stderr


def speaks_ipv6() -> bool:
    """Whether this machine does; some containers do not."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not speaks_ipv6(), reason="IPv4"))],
)
def test_it_tells_its_address_serves_and_stops_on_interrupt(
    workspace: Workspace, host: str
) -> None:
    arguments = [
        "--workspace",
        str(workspace.root),
        "--host",
        host,
        "--port",
        "0",
        "--reviewer",
        "First",
        "--json",
    ]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            said = json.loads("".join(server.stdout.readline() for _ in range(4)))
            reply = httpx.get(
                f"{said['url']}/api/v1/session", headers={"X-Requested-With": "test"}, timeout=30
            )
            assert reply.json()["reviewer"] == said["reviewer"] == "First"
        finally:
            server.terminate()
        assert "Traceback" not in server.communicate(timeout=30)[1]


def test_accounts_are_made_changed_and_listed_and_then_people_sign_in(workspace: Workspace) -> None:
    where = ("--workspace", str(workspace.root))
    typed = "a long password\n"
    assert run("user", "add", "first", *where, "--role", "admin", typed=typed).returncode == 0
    assert run("user", "add", "second", *where, "--no-password").returncode == 0
    assert run("user", "change", "second", *where, "--role", "adjudicator").returncode == 0
    assert run("user", "change", "second", *where, "--disable").returncode == 0
    listed = json.loads(run("user", "list", *where, "--json").stdout)
    assert [(one["name"], one["role"], one["disabled"]) for one in listed] == [
        ("first", "admin", False),
        ("second", "adjudicator", True),
    ]
    refused = run(*where, "--reviewer", "first")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "people sign in here" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "typed", "told"),
    [
        (["add", "first"], "short\n", "too short"),
        (["add", " "], "a long password\n", "is no name"),
        (["change", "nobody", "--role", "admin"], "", "has no account"),
        (["change", "nobody"], "", "nothing to change"),
    ],
)
def test_what_makes_no_account_is_one_line(
    workspace: Workspace, arguments: list[str], typed: str, told: str
) -> None:
    result = run("user", *arguments, "--workspace", str(workspace.root), typed=typed)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert told in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--public-url", "review.example.org"], "give scheme and name"),
        (["--public-url", "https://review.example.org/app"], "give scheme and name"),
        (["--proxy", "10.0.0.0/24"], "give --trust-header too"),
        (["--trust-header", "X-User", "--proxy", "my-proxy"], "--proxy: 'my-proxy'"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    workspace: Workspace, catalogue: Catalogue, arguments: list[str], told: str
) -> None:
    with catalogue.session() as session:
        accounts.add(session, "first", "admin", None)
    result = run("--workspace", str(workspace.root), *arguments)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert told in result.stderr
