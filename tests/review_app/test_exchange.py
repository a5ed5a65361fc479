"""Decisions as a file: out of one catalogue and into another."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from corpus.catalogue import Catalogue, Segment, Waiting
from corpus.errors import UserError
from corpus.evidence import read_all
from corpus.workspace import Workspace
from review_app import decisions, order, recut
from review_app.export import export
from review_app.importing import Imported, import_decisions

from .conftest import AddSegment

PEOPLE = ("First", "Second", "Judge")
SLOW = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes a second
)
COMMAND = [sys.executable, "-m", "review_app"]

Copy = Callable[[], Catalogue]


@pytest.fixture
def base(catalogue: Catalogue, add_segment: AddSegment) -> list[str]:
    """Three segments that nobody has decided."""
    return [
        add_segment(f"heard {n}", 3000 * n, 3000 * n + 3000, subtitle=f"written {n}")
        for n in range(3)
    ]


@pytest.fixture
def copied(workspace: Workspace, base: list[str], tmp_path: Path) -> Copy:
    """Make another catalogue with what is in the workspace's (SQLite)."""
    with Catalogue(workspace.catalogue_url).engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql(f"VACUUM INTO '{tmp_path / 'base.sqlite'}'")
    count = iter(range(10_000))

    def copy() -> Catalogue:
        path = tmp_path / f"copy {next(count)}.sqlite"
        shutil.copy(tmp_path / "base.sqlite", path)
        return Catalogue(f"sqlite:///{path}")

    return copy


def bring(catalogue: Catalogue, lines: list[str]) -> Imported:
    return import_decisions(catalogue, io.BytesIO("".join(lines).encode()), "decisions.jsonl")


def decide(catalogue: Catalogue, key: str, reviewer: str, text: str | None, **wish: Any) -> None:
    with catalogue.session() as session:
        decisions.decide(
            session,
            reviewer=reviewer,
            segment_id=key,
            transcript_id=session.get_one(Segment, key).transcripts[0].id,
            action="correct" if text else "reject",
            text=text,
            reason=None if text else "cut_off",
            **({"client_id": f"{reviewer} {key} {text}"} | wish),
        )


def known(catalogue: Catalogue) -> list[Any]:
    """What verdicts and the queue go by, without numbers that each catalogue has of its own."""
    for _ in order.refresh(catalogue, 0.5):
        pass
    with catalogue.session() as session:
        queue = select(Waiting.segment_id, Waiting.worth, Waiting.disputed)
        waiting = [tuple(row) for row in session.execute(queue.order_by(Waiting.segment_id))]
    found: list[Any] = [waiting]
    for one in read_all(catalogue, ""):
        texts = {text.id: (text.kind, text.origin, text.text) for text in one.texts}
        decided = one.decided and (*one.decided[:2], texts.get(one.decided[2] or 0))
        found.append((one.id, one.seconds, list(texts.values()), decided, one.disputed))
    return found


STEPS = st.lists(
    st.tuples(
        st.sampled_from(PEOPLE),
        st.sampled_from(
            ["accept", "correct", "reject", "skip", "move", "split", "merge"] * 2
            + ["undo", "undo", "undo", "revert", "revert"]
        ),
        st.integers(0, 5),
    ),
    max_size=25,
)


def act(catalogue: Catalogue, steps: list[tuple[str, str, int]], name: str) -> None:
    """Review in some way; what the rules do not allow does not happen."""
    for number, (reviewer, what, which) in enumerate(steps):
        wish: dict[str, Any] = {"reviewer": reviewer, "client_id": f"{name} {number}"}
        share = {"double_share": 0.5}
        settles = share | {"may_settle": reviewer == "Judge"}
        try:
            with catalogue.session() as session:
                segments = session.scalars(select(Segment).order_by(Segment.start_ms)).all()
                segment = segments[which % len(segments)]
                start, end = segment.start_ms, segment.end_ms
                wish |= {"segment_id": segment.id}
                if what == "undo":
                    decisions.undo(session, reviewer, **share)
                elif what == "revert":
                    made = segment.decisions[which % max(1, len(segment.decisions)) :]
                    chosen = made[0].id if made else 0
                    decisions.revert(session, segment, reviewer, chosen, **settles)
                elif what == "split":
                    texts = ["so", f"on {which}"]
                    recut.split(session, at_ms=(start + end) // 2, texts=texts, **wish, **settles)
                elif what == "merge":
                    recut.merge(session, **wish, **settles)
                else:
                    shown = [one.id for one in segment.transcripts]
                    decisions.decide(
                        session,
                        transcript_id=shown[which % len(shown)] if shown else None,
                        action="accept" if what == "move" else what,
                        text=f"typed {which % 2}",
                        reason="no_speech",
                        start_ms=start + 20 * which if what == "move" else None,
                        lead_ms=which,
                        **wish,
                        **settles,
                    )
        except UserError:
            pass


@pytest.mark.sqlite
@settings(SLOW)
@given(steps=STEPS)
def test_any_history_is_the_same_in_another_catalogue(
    copied: Copy, steps: list[tuple[str, str, int]]
) -> None:
    here, there = copied(), copied()
    act(here, steps, "here")
    lines = list(export(here))
    assert bring(there, lines) == Imported(added=len(lines))
    assert list(export(there)) == lines
    assert known(there) == known(here)
    assert bring(there, lines) == bring(here, lines) == Imported(known=len(lines))
    assert list(export(there)) == list(export(here)) == lines


@pytest.mark.sqlite
@settings(SLOW)
@given(some=STEPS, others=STEPS)
def test_two_histories_that_are_brought_together_end_in_the_same_on_both_sides(
    copied: Copy, some: list[tuple[str, str, int]], others: list[tuple[str, str, int]]
) -> None:
    here, there = copied(), copied()
    act(here, some, "here")
    act(there, others, "there")
    ours, theirs = list(export(here)), list(export(there))
    bring(here, theirs)
    bring(there, ours)

    def stand(catalogue: Catalogue) -> dict[str, bool]:
        lines = map(json.loads, export(catalogue))
        return {line["client_id"]: line["undone"] for line in lines}

    def hold(catalogue: Catalogue) -> list[Any]:
        return [
            (one.id, one.decided and one.decided[:2], one.disputed)
            for one in read_all(catalogue, "")
        ]

    assert stand(here).keys() == {json.loads(line)["client_id"] for line in ours + theirs}
    assert stand(here) == stand(there)
    assert hold(here) == hold(there)
    spans = sorted(span_of(one.id) for one in read_all(here, ""))
    moved = [step for step in some + others if step[1] == "move"]
    if not moved:  # cut without gaps, the segments cover each moment once
        assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
        assert (spans[0][0], spans[-1][1]) == (0, 9000)


def span_of(key: str) -> tuple[int, int]:
    start, _, end = key.rpartition("@")[2].partition("-")
    return int(start), int(end)
