"""The catalogue as a database: its migrations, its transactions, and what it is not."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, delete, func, inspect, select, text

from corpus import catalogue as module
from corpus.catalogue import (
    Catalogue,
    Cue,
    Decision,
    Failure,
    Recording,
    Score,
    Segment,
    Tombstone,
    Transcript,
    Verdict,
)
from corpus.catalogue.models import Base
from corpus.errors import UserError
from corpus.workspace import Workspace

from .conftest import AddRecording


def counts(catalogue: Catalogue) -> dict[str, int]:
    tables = (Recording, Cue, Segment, Transcript, Score, Decision, Verdict)
    with catalogue.session() as session:
        return {
            table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
            for table in tables
        }


@pytest.fixture
def full(catalogue: Catalogue, add_recording: AddRecording) -> Catalogue:
    """A catalogue with a row in every table that hangs on a recording."""
    label = {"text": "one", "kind": "pseudo", "scores": {"avg_logprob": -0.1}, "verdict": "keep"}
    (segment,) = add_recording("talk", [label])
    with catalogue.session() as session:
        transcript = Transcript(segment_id=segment, kind="review", origin="Reviewer", text="won")
        session.add(transcript)
        session.flush()
        session.add(
            Decision(
                segment_id=segment,
                reviewer="Reviewer",
                action="correct",
                transcript_id=transcript.id,
            )
        )
        session.add(Cue(recording_id="talk", position=0, start_ms=0, end_ms=10, text="one"))
    assert set(counts(catalogue).values()) == {1, 2}
    return catalogue


class TestMigrations:
    def test_they_make_exactly_the_tables_of_the_models(self, catalogue: Catalogue) -> None:
        with catalogue.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, Base.metadata) == []

    def test_a_catalogue_of_the_first_version_keeps_its_rows_and_gets_what_is_new(
        self, tmp_path: Path
    ) -> None:
        url = f"sqlite:///{tmp_path / 'old.sqlite'}"
        config = Config()
        config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
        engine = create_engine(url)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            connection.exec_driver_sql(
                "INSERT INTO failures (stage, item, kind, message, transient, attempts, failed_at) "
                "VALUES ('fetch', 'youtube:x', 'gone', 'gone', 0, 1, '2026-01-01 00:00:00')"
            )
        engine.dispose()
        catalogue = Catalogue(url)
        with catalogue.session() as session:
            assert session.scalars(select(Failure.item)).all() == ["youtube:x"]
            assert session.scalars(select(Tombstone.item)).all() == []
        with catalogue.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, Base.metadata) == []
            config.attributes["connection"] = connection
            command.downgrade(config, "0001")
            assert "tombstones" not in inspect(connection).get_table_names()

    def test_decisions_of_before_get_the_names_that_other_catalogues_know_them_by(
        self, workspace: Workspace, full: Catalogue
    ) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
        with full.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "0004")
            connection.exec_driver_sql("UPDATE decisions SET client_id = NULL")
        with Catalogue(workspace.catalogue_url).session() as session:
            (decision,) = session.scalars(select(Decision))
            assert len(decision.client_id) == 32

    def test_a_catalogue_is_migrated_once(self, workspace: Workspace, catalogue: Catalogue) -> None:
        with catalogue.session() as session:
            session.add(Failure(stage="add", item="x", kind="k", message="m", transient=True))
        again = Catalogue(workspace.catalogue_url)
        with again.session() as session:
            assert session.scalar(select(Failure.item)) == "x"

    def test_the_newest_version_is_the_one_that_the_program_knows(self) -> None:
        scripts = ScriptDirectory(str(Path(module.__file__).parent / "migrations"))
        assert scripts.get_heads() == [module.HEAD]

    def test_a_newer_catalogue_is_told_in_one_line(
        self, workspace: Workspace, catalogue: Catalogue
    ) -> None:
        with catalogue.session() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '0999'"))
        with pytest.raises(UserError, match=r"newer version .*0999.*upgrade whisper-harvest"):
            Catalogue(workspace.catalogue_url)

    def test_many_processes_that_open_a_new_catalogue_at_once_all_succeed(
        self, tmp_path: Path
    ) -> None:
        url = f"sqlite:///{tmp_path / 'new.sqlite'}"
        code = "import sys; from corpus.catalogue import Catalogue; Catalogue(sys.argv[1])"
        processes = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(3)]
        assert [process.wait() for process in processes] == [0, 0, 0]


class TestWhatIsNoCatalogue:
    def test_a_database_of_another_program_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "foreign.sqlite"
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE invoices (id INTEGER)")
        with pytest.raises(UserError, match="another program's database"):
            Catalogue(f"sqlite:///{path}")
        with sqlite3.connect(path) as database:
            tables = database.execute("SELECT name FROM sqlite_master").fetchall()
        assert tables == [("invoices",)]

    def test_a_file_that_is_no_database_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "text.sqlite"
        path.write_text("this is a text and no database at all, however long it is" * 20)
        with pytest.raises(UserError, match="cannot be opened: file is not a database"):
            Catalogue(f"sqlite:///{path}")

    def test_a_place_that_cannot_be_opened_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot be opened: unable to open database file"):
            Catalogue(f"sqlite:///{tmp_path}/nowhere/catalogue.sqlite")

    def test_an_address_that_is_none_is_told(self) -> None:
        with pytest.raises(UserError, match="no database URL"):
            Catalogue("my catalogue")

    def test_a_password_is_never_shown(self) -> None:
        with pytest.raises(UserError) as error:
            Catalogue("postgresql://voice2:secret@127.0.0.1:9/x")
        assert "secret" not in str(error.value)


class TestTransactions:
    def test_a_block_that_fails_leaves_nothing(self, catalogue: Catalogue) -> None:
        failure = Failure(stage="add", item="x", kind="k", message="m", transient=True)

        def fail() -> None:
            with catalogue.session() as session:
                session.add(failure)
                session.flush()
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError):
            fail()
        with catalogue.session() as session:
            assert session.scalar(select(Failure.item)) is None

    def test_everything_of_a_recording_goes_with_it(self, full: Catalogue) -> None:
        with full.session() as session:
            session.delete(session.get_one(Recording, "talk"))
        assert set(counts(full).values()) == {0}

    def test_the_database_itself_cascades_too(self, full: Catalogue) -> None:
        with full.session() as session:
            session.execute(delete(Recording))
        assert set(counts(full).values()) == {0}

    def test_a_failure_is_counted_up_and_forgotten(self, catalogue: Catalogue) -> None:
        def note(message: str) -> None:
            with catalogue.session() as session:
                catalogue.record_failure(
                    session,
                    stage="fetch",
                    item="v",
                    kind="network",
                    message=message,
                    transient=True,
                )

        note("first")
        note("second")
        with catalogue.session() as session:
            failure = session.scalars(select(Failure)).one()
            assert (failure.message, failure.attempts) == ("second", 2)
            catalogue.clear_failure(session, stage="fetch", item="v")
        with catalogue.session() as session:
            assert session.scalars(select(Failure)).all() == []

    @pytest.mark.sqlite
    def test_a_lock_that_stays_is_told_in_one_line(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "BUSY_SECONDS", 0)
        catalogue = Catalogue(workspace.catalogue_url)
        other = sqlite3.connect(workspace.root / "catalogue.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(UserError, match=r"cannot be used now \(database is locked\)"),
            catalogue.session() as session,
        ):
            session.scalar(select(Failure.item))
        with pytest.raises(UserError, match=r"cannot be opened: database is locked"):
            Catalogue(workspace.catalogue_url)
        other.close()

    def test_two_processes_that_write_at_once_both_succeed(
        self, workspace: Workspace, catalogue: Catalogue
    ) -> None:
        code = """
import sys
from corpus.catalogue import Catalogue
catalogue = Catalogue(sys.argv[1])
for number in range(60):
    with catalogue.session() as session:
        catalogue.record_failure(session, stage="add", item=f"{number % 7}", kind="k",
                                 message=sys.argv[2], transient=True)
"""
        processes = [
            subprocess.Popen([sys.executable, "-c", code, workspace.catalogue_url, name])
            for name in ("one", "two")
        ]
        assert [process.wait() for process in processes] == [0, 0]
        with catalogue.session() as session:
            assert session.scalar(select(func.sum(Failure.attempts))) == 120
