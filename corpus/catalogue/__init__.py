"""The catalogue: a database of everything, and the queue of every stage.

A stage asks for what lacks its result, works, and commits per item in one transaction. So every
stage carries on after a kill, does only what is new, and does nothing twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, delete, event, inspect, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from corpus.catalogue.models import (
    Cue,
    Decision,
    Failure,
    Recording,
    Score,
    Segment,
    Transcript,
    Verdict,
    now,
    segment_id,
)
from corpus.errors import UserError

__all__ = [
    "Catalogue",
    "Cue",
    "Decision",
    "Failure",
    "Recording",
    "Score",
    "Segment",
    "Transcript",
    "Verdict",
    "now",
    "segment_id",
]

HEAD = "0001"
"""The newest migration; an older catalogue is migrated when it is opened."""

BUSY_SECONDS = 30
"""How long SQLite waits for another writer before it gives up."""


class Catalogue:
    """An open catalogue. `url` is a SQLAlchemy database URL."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        try:
            self._migrate()
        except OperationalError as error:
            raise UserError(f"the catalogue {url} cannot be opened: {error.orig}") from None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction: committed at the end of the block, rolled back on an exception."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

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
        failure = session.scalar(select(Failure).filter_by(stage=stage, item=item))
        if failure is None:
            failure = Failure(stage=stage, item=item, attempts=0)
            session.add(failure)
        failure.kind, failure.message, failure.transient = kind, message, transient
        failure.url, failure.failed_at = url, now()
        failure.attempts += 1

    def clear_failure(self, session: Session, *, stage: str, item: str) -> None:
        """Forget the failure of an item that has now succeeded."""
        session.execute(delete(Failure).filter_by(stage=stage, item=item))

    def _migrate(self) -> None:
        with self.engine.connect() as connection:
            tables = inspect(connection).get_table_names()
            current = (
                connection.scalar(text("SELECT version_num FROM alembic_version"))
                if "alembic_version" in tables
                else None
            )
        if current == HEAD:
            return
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["engine"] = self.engine
        command.upgrade(config, HEAD)


def _engine(url: str) -> Engine:
    engine = create_engine(url)
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
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
