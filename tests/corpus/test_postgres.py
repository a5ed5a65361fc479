"""The catalogue on PostgreSQL: several writers at once, and the same corpus as on SQLite.

`pytest --postgres` runs what is promised of every catalogue there too.
"""

import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import NullPool, create_engine, func, select, text

from corpus import catalogue as module
from corpus.catalogue import Catalogue, Decision, Failure, Recording, Transcript, Verdict
from corpus.catalogue.models import Base, now
from corpus.errors import UserError
from corpus.plan import make_plan
from corpus.workspace import BuildConfig, Workspace, init_workspace

from ..conftest import copy_rows, with_catalogue
from .conftest import AddRecording


@pytest.fixture
def workspace(tmp_path: Path, postgres: Iterator[str]) -> Workspace:
    """A fresh workspace whose catalogue is a database of a PostgreSQL server."""
    return with_catalogue(init_workspace(tmp_path / "workspace", "en"), next(postgres))


def run_at_once(code: str, *arguments: list[str]) -> list[str]:
    """Run a program in several processes at the same time; what each of them printed."""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)
        for words in arguments
    ]
    told = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return told


class TestMigrations:
    def test_a_catalogue_of_the_first_version_keeps_its_rows_and_gets_what_is_new(
        self, workspace: Workspace
    ) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
        url = workspace.catalogue_url
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            connection.exec_driver_sql(
                "INSERT INTO failures (stage, item, kind, message, transient, attempts, failed_at) "
                "VALUES ('fetch', 'youtube:x', 'gone', 'gone', false, 1, '2026-01-01')"
            )
        engine.dispose()
        catalogue = Catalogue(url)
        with catalogue.session() as session:
            assert session.scalars(select(Failure.item)).all() == ["youtube:x"]
        with catalogue.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, Base.metadata) == []
            config.attributes["connection"] = connection
            command.downgrade(config, "0001")

    def test_many_processes_that_open_a_new_catalogue_at_once_all_succeed(
        self, workspace: Workspace
    ) -> None:
        code = "import sys; from corpus.catalogue import Catalogue; Catalogue(sys.argv[1])"
        run_at_once(code, *[[workspace.catalogue_url]] * 4)


def test_a_catalogue_that_nothing_uses_any_more_keeps_no_connection(
    workspace: Workspace,
) -> None:
    gc.disable()  # which might otherwise close them, sooner or later
    try:
        for _ in range(5):
            with Catalogue(workspace.catalogue_url).session() as session:
                session.scalars(select(Recording)).all()
        engine = create_engine(
            workspace.catalogue_url.replace("postgresql:", "postgresql+psycopg:"),
            poolclass=NullPool,
        )
        ours = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        for _ in range(100):  # the server notices that a client is gone a moment later
            with engine.connect() as connection:
                left = connection.scalar(ours)
            if left == 1:
                break
            time.sleep(0.1)
        assert left == 1
    finally:
        gc.enable()


class TestWritersAtOnce:
    def test_a_failure_that_many_note_is_one_row_that_counts_them(
        self, workspace: Workspace, catalogue: Catalogue
    ) -> None:
        code = """
import sys
from corpus.catalogue import Catalogue
catalogue = Catalogue(sys.argv[1])
for number in range(60):
    with catalogue.session() as session:
        catalogue.record_failure(session, stage="add", item=f"{number % 7}", kind="k",
                                 message="m", transient=True)
"""
        run_at_once(code, *[[workspace.catalogue_url]] * 3)
        with catalogue.session() as session:
            assert session.scalar(select(func.count()).select_from(Failure)) == 7
            assert session.scalar(select(func.sum(Failure.attempts))) == 180

    def test_of_reviewers_who_decide_a_segment_at_once_one_does_and_the_others_are_told(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        label = {"text": "one", "kind": "pseudo", "verdict": "review"}
        segments = add_recording("talk", [label] * 20)
        code = """
import sys
from corpus.catalogue import Catalogue, Segment
from review_app import decisions, standing
catalogue = Catalogue(sys.argv[1])
for id in sys.argv[3:]:
    with catalogue.session() as session:
        shown = session.get_one(Segment, id).transcripts[0].id
    try:
        with catalogue.session() as session:
            decisions.decide(session, reviewer=sys.argv[2], segment_id=id, transcript_id=shown,
                         action="accept", client_id=f"{sys.argv[2]} {id}")
        print("decided")
    except standing.Conflict:
        print("told")
"""
        names = ["one", "two", "three"]
        told = run_at_once(code, *([workspace.catalogue_url, name, *segments] for name in names))
        assert "".join(told).count("decided") == 20
        assert "".join(told).count("told") == 40
        with catalogue.session() as session:
            decided = session.scalars(select(Decision.segment_id)).all()
        assert sorted(decided) == sorted(segments)

    def test_verdicts_at_once_are_one_for_each_segment(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        segments = add_recording("talk", [{"text": "one"}] * 200)
        code = """
import sys
from corpus.catalogue import Catalogue
from corpus.thresholds import read_thresholds
from corpus.verdict import apply_verdicts
thresholds = read_thresholds("default")
for _ in range(3):
    apply_verdicts(Catalogue(sys.argv[1]), "default", thresholds, "en")
"""
        run_at_once(code, *[[workspace.catalogue_url]] * 3)
        with catalogue.session() as session:
            judged = session.scalars(select(Verdict.segment_id)).all()
        assert sorted(judged) == sorted(segments)


class TestWhatIsKept:
    def test_json_times_and_every_script_come_back_as_they_went(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        before = now()
        (segment,) = add_recording("talk", [{"text": "ahoj 你好 🎙 'quoted' %s \\ \n"}])
        with catalogue.session() as session:
            session.get_one(Recording, "talk").timing = {"shift_ms": -40, "why": "čas"}
            transcript = Transcript(
                segment_id=segment, kind="pseudo", origin="m", text="", words=[[0, 10, "č", 0.5]]
            )
            session.add(transcript)
        with catalogue.session() as session:
            release, pseudo = session.scalars(select(Transcript).order_by(Transcript.id)).all()
            assert release.text == "ahoj 你好 🎙 'quoted' %s \\ \n"
            assert pseudo.words == [[0, 10, "č", 0.5]]
            assert before <= pseudo.made_at <= now()
            assert session.get_one(Recording, "talk").timing == {"shift_ms": -40, "why": "čas"}

    def test_a_dataset_is_planned_as_from_sqlite_whatever_the_order_of_letters(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        add_recording: AddRecording,
        tmp_path: Path,
    ) -> None:
        for name in ("ch", "ci", "hop", "Hop", "a-b", "ab", "č"):
            add_recording(
                name, [{"text": f"{name} {i}", "seconds": 5.0, "verdict": "keep"} for i in "123"]
            )
        with catalogue.session() as session:
            order = session.scalars(select(Recording.id).order_by(Recording.id)).all()
        assert order != sorted(order), "the database sorts as Python does: nothing is tested"
        on_sqlite = Catalogue(f"sqlite:///{tmp_path / 'same.sqlite'}")
        copy_rows(catalogue, on_sqlite)
        wishes = BuildConfig(dev_hours=0.01, test_hours=0.0, seed=3)
        plans = [make_plan(workspace, place, wishes) for place in (catalogue, on_sqlite)]
        assert plans[0].fingerprint == plans[1].fingerprint


class TestTheServer:
    def test_a_connection_that_was_cut_while_idle_is_made_again(
        self, workspace: Workspace, catalogue: Catalogue
    ) -> None:
        with catalogue.session() as session:
            session.scalars(select(Failure)).all()
        with Catalogue(workspace.catalogue_url).session() as session:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
            others += "current_database() AND pid <> pg_backend_pid()"
            assert session.execute(text(others)).all() == [(True,)]
        with catalogue.session() as session:
            assert session.scalars(select(Failure)).all() == []

    def test_one_that_does_not_answer_is_told_without_the_password(self) -> None:
        with pytest.raises(UserError, match="cannot be opened: ") as error:
            Catalogue("postgresql://harvest:secret@127.0.0.1:9/none")
        assert "secret" not in str(error.value)
