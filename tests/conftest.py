"""Fixtures that the whole suite shares."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from corpus.catalogue import Catalogue
from corpus.catalogue.models import Base
from corpus.workspace import CONFIG_NAME, Workspace, init_workspace, open_workspace

from .browser import CHROMIUM, open_chromium

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real speech, subtitles and broken media that are not part of this repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real test material is absent: ../shared/data does not exist")
    return SHARED_DATA


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; skips where there is none."""
    if not CHROMIUM.exists():
        pytest.skip("no browser: install the package chromium")
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def postgres() -> Iterator[Iterator[str]]:
    """Addresses of empty databases on a PostgreSQL server of our own on loopback.

    Its language is Czech, whose order of letters is not that of their codes.
    """
    programs = [
        Path(shutil.which("initdb") or "").parent,
        *Path("/usr/lib/postgresql").glob("*/bin"),
    ]
    found = [folder for folder in programs if (folder / "initdb").exists()]
    if not found:
        pytest.skip("PostgreSQL is absent: apt-get install postgresql")
    psycopg = pytest.importorskip("psycopg", reason="psycopg is absent")
    # PostgreSQL refuses to be run by root; Debian's package makes this user.
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user:
        shutil.chown(folder, **user)
    (folder / "password").write_text("secret")
    subprocess.run(
        [
            *(found[0] / "initdb", "--pgdata", folder / "data", "--username", "harvest"),
            *("--auth", "scram-sha-256", "--pwfile", folder / "password", "--encoding", "UTF8"),
            *("--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "cs", "--no-sync"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        **user,
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [
                *(found[0] / "postgres", "-D", folder / "data", "-p", str(port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"),
                *("-c", "fsync=off"),
            ],
            stderr=log,
            cwd=folder,
            **user,
        )
    address = f"postgresql://harvest:secret@127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                connection = psycopg.connect(f"{address}/postgres", autocommit=True)
                break
            except psycopg.OperationalError:
                time.sleep(0.1)

        def databases() -> Iterator[str]:
            for number in count():
                connection.execute(f"CREATE DATABASE test{number}")
                yield f"{address}/test{number}"

        yield databases()
    finally:
        server.send_signal(signal.SIGQUIT)  # at once
        server.wait()
        shutil.rmtree(folder)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests work on another database, or with another model, than they do by themselves."""
    parser.addoption("--postgres", action="store_true", help="Catalogues in PostgreSQL.")
    parser.addoption("--whisper", metavar="FOLDER", help="A Whisper that knows English.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about SQLite itself when it is not SQLite that is tested."""
    if config.getoption("--postgres"):
        items[:] = [item for item in items if not item.get_closest_marker("sqlite")]


@pytest.fixture
def workspace(tmp_path: Path, request: pytest.FixtureRequest) -> Workspace:
    """A fresh workspace for English."""
    workspace = init_workspace(tmp_path / "workspace", "en")
    if request.config.getoption("--postgres"):
        workspace = with_catalogue(workspace, next(request.getfixturevalue("postgres")))
    return workspace


def with_catalogue(workspace: Workspace, url: str) -> Workspace:
    """The workspace with its catalogue at another address."""
    config = workspace.root / CONFIG_NAME
    config.write_text(f'catalogue = "{url}"\n' + config.read_text(encoding="utf-8"))
    return open_workspace(workspace.root)


@pytest.fixture
def catalogue(workspace: Workspace) -> Catalogue:
    """The catalogue of the fresh workspace."""
    return Catalogue(workspace.catalogue_url)


def copy_rows(source: Catalogue, target: Catalogue) -> None:
    """All rows of a catalogue into an empty one."""
    with source.engine.begin() as old, target.engine.begin() as new:
        for table in Base.metadata.sorted_tables:
            rows = [dict(row) for row in old.execute(select(table)).mappings()]
            if rows:
                new.execute(table.insert(), rows)
