"""The catalogue: a database of everything, and the queue of every stage.

A stage asks for what lacks its result, works, and commits per item in one transaction. So every
stage carries on after a kill, does only what is new, and does nothing twice.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, delete, event, func, inspect, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from corpus.catalogue.models import (
    CHANNEL_PREFIX,
    FINAL_ACTIONS,
    STANDS,
    Cue,
    Decision,
    Failure,
    Lease,
    Model,
    Overview,
    Recording,
    Score,
    Segment,
    Tombstone,
    Transcript,
    User,
    Verdict,
    Waiting,
    in_utc,
    now,
    recording_of,
    segment_id,
)
from corpus.errors import UserError

__all__ = [
    "CHANNEL_PREFIX",
    "FINAL_ACTIONS",
    "STANDS",
    "Catalogue",
    "Cue",
    "Decision",
    "Failure",
    "Lease",
    "Model",
    "Overview",
    "Recording",
    "Score",
    "Segment",
    "Tombstone",
    "Transcript",
    "User",
    "Verdict",
    "Waiting",
    "in_utc",
    "now",
    "recording_of",
    "segment_id",
]

HEAD = "0006"
"""The newest migration; an older catalogue is migrated when it is opened."""

MIGRATION_LOCK = 0x_C0_49_05
"""The number under which PostgreSQL knows that a catalogue is being migrated."""

BUSY_SECONDS = 30
"""How long SQLite waits for another writer before it gives up."""


_READING = "catalogue_reading"
"""The option of a connection whose transactions only read."""


class Catalogue:
    """An open catalogue. `url` is a SQLAlchemy database URL.

    Its connections are closed when nothing refers to it any more.

    Raises:
        UserError: it cannot be opened, belongs to another program or to a newer version of this.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        # A pool refers to itself: by itself it would stay open until the collector finds it, and
        # a PostgreSQL server lets in a hundred connections in all.
        weakref.finalize(self, self.engine.dispose)
        self._turn = threading.Lock()
        try:
            self._migrate()
        except DatabaseError as error:
            raise UserError(f"{self} cannot be opened: {error.orig}") from None

    def __str__(self) -> str:
        return f"the catalogue {self.engine.url.render_as_string(hide_password=True)}"

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction: committed at the end of the block, rolled back on an exception.

        Segments that a person has cut anew are not found by any query, unless it is executed with
        the option ``superseded=True``.

        Raises:
            UserError: another program keeps the database locked, or it cannot be reached.
        """
        # SQLite lets in whoever looks at the right moment; here those who wait get their turn.
        waits = self.engine.name == "sqlite" and self._turn.acquire(timeout=BUSY_SECONDS)
        try:
            with self._begun(self.engine) as session:
                yield session
        finally:
            if waits:
                self._turn.release()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that changes nothing: no writer waits for it, and it waits for none.

        Raises:
            UserError: as in `session`.
        """
        with self._begun(self.engine.execution_options(**{_READING: True})) as session:
            yield session

    @contextmanager
    def _begun(self, engine: Engine) -> Iterator[Session]:
        try:
            with _Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except OperationalError as error:
            raise UserError(
                f"{self} cannot be used now ({error.orig}); see whether another program holds it, "
                "then run the same command again"
            ) from error

    def record_failure(
        self,
        session: Session,
        *,
        stage: str,
        item: str,
        kind: str,
        message: str,
        transient: bool,
        url: str | None = None,
    ) -> None:
        """Note that a stage failed on an item, or that it failed once more."""
        told = {
            "kind": kind,
            "message": message,
            "transient": transient,
            "url": url,
            "failed_at": now(),
        }
        # One statement: between a look and an insert another process could have noted it.
        insert = postgresql.insert if self.engine.name == "postgresql" else sqlite.insert
        session.execute(
            insert(Failure)
            .values(stage=stage, item=item, attempts=1, **told)
            .on_conflict_do_update(
                index_elements=["stage", "item"], set_={"attempts": Failure.attempts + 1, **told}
            )
        )

    def failure_noter(self, stage: str) -> Callable[[Any, Exception], None]:
        """A function that notes, in its own transaction, that `stage` cannot read an item's media.

        Such a failure counts as passing: the file may be there and whole next time.
        """

        def note(item: Any, error: Exception) -> None:
            with self.session() as session:
                self.record_failure(
                    session,
                    stage=stage,
                    item=str(item),
                    kind="bad_media",
                    message=str(error),
                    transient=True,
                )

        return note

    def clear_failure(self, session: Session, *, stage: str, item: str) -> None:
        """Forget the failure of an item that has now succeeded."""
        session.execute(delete(Failure).filter_by(stage=stage, item=item))

    def _migrate(self) -> None:
        # One transaction, so that of two processes that open an older catalogue one waits.
        with self.engine.begin() as connection:
            if self.engine.name == "postgresql":  # which has no lock on a whole database
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            tables = inspect(connection).get_table_names()
            if tables and not {"alembic_version", Recording.__tablename__} <= set(tables):
                raise UserError(f"{self} is another program's database; give an empty one")
            current = (
                connection.scalar(text("SELECT version_num FROM alembic_version"))
                if tables
                else None
            )
            if current == HEAD:
                return
            if current is not None and current > HEAD:
                raise UserError(
                    f"{self} is of a newer version of this program ({current}, known here is "
                    f"{HEAD}); upgrade whisper-harvest"
                )
            from alembic import command
            from alembic.config import Config

            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)


class _Session(Session):
    """A session that leaves superseded segments out: said once here, not in every query."""


@event.listens_for(_Session, "do_orm_execute")
def _leave_out_superseded(state: ORMExecuteState) -> None:
    if state.is_select and not state.execution_options.get("superseded"):
        state.statement = state.statement.options(
            with_loader_criteria(Segment, Segment.superseded.is_(False))
        )


def _engine(url: str) -> Engine:
    try:
        address = make_url(url)
        if address.drivername == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
        # A connection that has lain idle for hours of labelling may be cut by now: look first.
        engine = create_engine(address, pool_pre_ping=address.get_backend_name() != "sqlite")
    except ArgumentError:
        raise UserError(
            "the catalogue's address is no database URL; give one such as postgresql://HOST/NAME"
        ) from None
    except ImportError as error:
        raise UserError(
            f"no driver for the catalogue ({error}); install whisper-harvest[postgres]"
        ) from None
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _: Any) -> None:
            # Python's driver must not open transactions by itself: see `_begin`.
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")  # a reviewer's work is worth an fsync
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.close()

        @event.listens_for(engine, "begin")
        def _begin(connection: Any) -> None:
            # Taking the write lock at once avoids the deadlock of two readers that both want to
            # write; transactions here are short.
            reading = connection.get_execution_options().get(_READING)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
