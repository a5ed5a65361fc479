"""Leases: who has a segment before them, so that two people never work on the same one.

A lease ends by itself; a browser that is closed or asleep holds nothing for long. `at` is the
present in seconds since 1970 and comes from the caller.
"""

import secrets
from collections.abc import Collection

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from corpus.catalogue import Lease, Waiting

LEASE_SECONDS = 180
"""How long a segment is kept for a reviewer who does not renew."""


def take(session: Session, segment_id: str, reviewer: str, at: float) -> str:
    """Take or prolong the reviewer's lease of a segment; returns its token.

    The caller has seen to it that nobody else may hold the segment.
    """
    session.execute(delete(Lease).filter(Lease.segment_id == segment_id, Lease.expires <= at))
    lease = session.get(Lease, (segment_id, reviewer))
    if lease is None:
        token = secrets.token_urlsafe(16)
        lease = Lease(segment_id=segment_id, reviewer=reviewer, token=token, expires=at)
        session.add(lease)
    lease.expires = at + LEASE_SECONDS
    session.flush()
    return lease.token


def holder(session: Session, segment_id: str, reviewer: str, at: float) -> str | None:
    """Who else has the segment before them now, if anybody."""
    others = select(Lease.reviewer).filter(
        Lease.segment_id == segment_id, Lease.reviewer != reviewer, Lease.expires > at
    )
    return session.scalar(others.limit(1))


def held_by_another(reviewer: str, at: float) -> ColumnElement[bool]:
    """SQL: somebody else has the waiting segment before them."""
    return exists().where(
        Lease.segment_id == Waiting.segment_id, Lease.reviewer != reviewer, Lease.expires > at
    )


def renew(session: Session, tokens: Collection[str], reviewer: str, at: float) -> list[str]:
    """Prolong the reviewer's own leases; returns the tokens of those that were still alive."""
    own = (Lease.token.in_(tokens), Lease.reviewer == reviewer, Lease.expires > at)
    alive = list(session.scalars(select(Lease.token).filter(*own)))
    session.execute(update(Lease).filter(*own).values(expires=at + LEASE_SECONDS))
    return alive


def release(session: Session, tokens: Collection[str], reviewer: str) -> None:
    """Give the reviewer's own leases back."""
    session.execute(delete(Lease).filter(Lease.token.in_(tokens), Lease.reviewer == reviewer))


def end_own(session: Session, segment_id: str, reviewer: str) -> None:
    """End the reviewer's lease of a segment that they are done with."""
    session.execute(delete(Lease).filter_by(segment_id=segment_id, reviewer=reviewer))
