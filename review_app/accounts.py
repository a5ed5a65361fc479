"""Who may review, and what each may do.

The roles build on each other: a reviewer decides segments, an adjudicator settles what reviewers
disagree on and may change what others decided, an admin keeps the accounts and takes decisions
out. Without accounts whoever sits at this machine may do everything.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import select
from sqlalchemy.orm import Session

from corpus.catalogue import User
from corpus.errors import UserError

Role = Literal["reviewer", "adjudicator", "admin"]

ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do all that those before it may."""

MIN_PASSWORD = 10
"""Characters. Length is the one rule that helps (NIST SP 800-63B, 3.1.1)."""

MAX_NAME = 100

_hasher = PasswordHasher()  # Argon2id with the memory and time of RFC 9106


@dataclass(frozen=True)
class Person:
    """Who makes a request."""

    name: str
    role: Role = "reviewer"

    def may(self, role: Role) -> bool:
        """Whether they may do what `role` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def add(session: Session, name: str, role: Role, password: str | None) -> User:
    """Make an account; without a password one signs in through a proxy only.

    Raises:
        UserError: the name is taken or no name, or the password is too short.
    """
    if not 0 < len(name) <= MAX_NAME or name != name.strip() or not name.isprintable():
        raise UserError(f"{name!r} is no name; give 1 to {MAX_NAME} visible characters")
    if session.get(User, name) is not None:
        raise UserError(f"{name} has an account already; change it with: review_app user change")
    user = User(name=name, role=role, password=_hash(password) if password is not None else None)
    session.add(user)
    session.flush()
    return user


def change(
    session: Session,
    name: str,
    *,
    role: Role | None = None,
    password: str | None = None,
    disabled: bool | None = None,
) -> User:
    """Change an account; what is None stays. A new password ends where they are signed in.

    Raises:
        UserError: there is no such account, or the password is too short.
    """
    user = session.get(User, name)
    if user is None:
        raise UserError(f"{name} has no account; see: review_app user list")
    if role is not None:
        user.role = role
    if password is not None:
        user.password = _hash(password)
    if disabled is not None:
        user.disabled = disabled
    session.flush()
    return user


def every(session: Session) -> list[User]:
    """All accounts by name."""
    return list(session.scalars(select(User).order_by(User.name)))


def told(user: User) -> dict[str, Any]:
    """An account as a row of a list, without its password."""
    return {
        "name": user.name,
        "role": user.role,
        "disabled": user.disabled,
        "added": user.added_at.isoformat(timespec="seconds"),
    }


def find(session: Session, name: str) -> User | None:
    """The account of that name, unless it is disabled."""
    user = session.get(User, name)
    return None if user is None or user.disabled else user


def person(user: User) -> Person:
    """What the app needs to know of an account."""
    return Person(user.name, user.role)  # type: ignore[arg-type]


def is_password(user: User | None, password: str) -> bool:
    """Whether this is the password of the account; takes as long where there is none."""
    stored = user.password if user is not None else None
    try:
        return _hasher.verify(stored or _nobodys(), password) and stored is not None
    except VerifyMismatchError:
        return False


@cache
def _nobodys() -> str:
    """A hash to check where there is none, so that the time does not tell who has an account."""
    return _hasher.hash("")


def _hash(password: str) -> str:
    if len(password) < MIN_PASSWORD:
        raise UserError(f"the password is too short; at least {MIN_PASSWORD} characters are needed")
    return _hasher.hash(password)
