"""Decisions as a file: out of one catalogue and into another."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from corpus.catalogue import Catalogue, Decision, Segment, Transcript, Waiting
from corpus.errors import UserError
from corpus.evidence import read_all
from corpus.workspace import Workspace
from review_app import browse, decisions, order, recut
from review_app.accounts import Person
from review_app.browse import Listing
from review_app.export import export
from review_app.importing import Imported, import_decisions
from review_app.queue import Filters

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


def test_a_history_comes_back_into_a_catalogue_that_has_lost_it(
    catalogue: Catalogue, base: list[str]
) -> None:
    actions = ["correct", "split", "undo", "move", "reject", "accept"]
    actions += ["undo", "revert", "skip", "correct", "accept", "revert"]
    steps = [(PEOPLE[n % 3], what, n) for n, what in enumerate(actions * 4)]
    act(catalogue, [("First", "merge", 0), ("First", "undo", 0), *steps], "here")
    lines, before = list(export(catalogue)), known(catalogue)
    assert {json.loads(line)["action"] for line in lines} > {"split", "merge", "undo", "reject"}
    with catalogue.session() as session:
        session.execute(delete(Decision))
        session.execute(delete(Transcript).filter_by(kind="review"))
        session.execute(delete(Segment).filter(Segment.id.not_in(base)))
        session.execute(update(Segment).values(superseded=False))
    assert bring(catalogue, lines) == Imported(added=len(lines))
    assert list(export(catalogue)) == lines
    assert known(catalogue) == before


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


@pytest.mark.sqlite
def test_people_who_decided_apart_differ_and_one_persons_later_word_holds(
    catalogue: Catalogue, base: list[str], copied: Copy
) -> None:
    here, there = copied(), copied()
    decide(here, base[0], "First", "one")
    decide(there, base[0], "Second", "another")
    decide(here, base[1], "First", "first thought")
    decide(there, base[1], "First", "second thought")
    found = bring(here, list(export(there)))
    assert found == Imported(added=2, replaced=1)
    evidence = {one.id: one for one in read_all(here, "")}
    assert evidence[base[0]].disputed
    decided = evidence[base[1]].decided
    assert decided is not None
    assert [text.text for text in evidence[base[1]].texts if text.id == decided[2]] == [
        "second thought"
    ]
    with here.session() as session:
        waiting = {row.segment_id: row.disputed for row in session.scalars(select(Waiting))}
    assert waiting == {base[0]: True}  # what was decided elsewhere goes to nobody


@pytest.mark.sqlite
def test_an_opinion_from_elsewhere_is_the_first_of_two_where_a_server_gives_segments_to_two(
    base: list[str], copied: Copy
) -> None:
    here, there = copied(), copied()
    list(order.refresh(here, 1.0))  # as its server does
    decide(there, base[0], "First", "typed")
    bring(here, list(export(there)))
    with here.session() as session:
        assert base[0] in session.scalars(select(Waiting.segment_id)).all()
        rows, _ = browse.page(session, Person("Second"), Filters(), Listing())
    assert "typed" not in [row["text"] for row in rows]
    list(order.refresh(there))
    bring(there, list(export(here)))
    with there.session() as session:
        assert base[0] not in session.scalars(select(Waiting.segment_id)).all()


@pytest.mark.sqlite
def test_what_was_taken_back_elsewhere_is_taken_back_here(base: list[str], copied: Copy) -> None:
    here, there = copied(), copied()
    decide(here, base[0], "First", "typed")
    bring(there, list(export(here)))
    with there.session() as session:
        decisions.undo(session, "First")
    assert bring(here, list(export(there))) == Imported(added=1, known=1, taken_back=1)
    assert all(one.decided is None for one in read_all(here, ""))
    assert list(export(here)) == list(export(there))
    with here.session() as session:  # and the segment waits again
        assert base[0] in session.scalars(select(Waiting.segment_id)).all()


@pytest.mark.sqlite
def test_what_holds_again_elsewhere_since_a_return_was_taken_back_holds_again_here(
    base: list[str], copied: Copy
) -> None:
    here, there = copied(), copied()
    decide(here, base[0], "First", "typed")
    with here.session() as session:
        segment = session.get_one(Segment, base[0])
        decisions.revert(session, segment, "Judge", segment.decisions[0].id)
    bring(there, list(export(here)))
    with here.session() as session:
        decisions.undo(session, "Judge")
    lines = list(export(here))
    assert bring(there, lines) == Imported(added=1, known=2, taken_back=1)
    assert list(export(there)) == lines
    assert known(there) == known(here)
    assert [one.decided is not None for one in read_all(there, "")] == [True, False, False]


@pytest.mark.sqlite
def test_of_two_cuts_of_one_segment_the_earlier_holds(base: list[str], copied: Copy) -> None:
    here, there = copied(), copied()

    def cut(catalogue: Catalogue, reviewer: str, at_ms: int) -> None:
        with catalogue.session() as session:
            recut.split(
                session,
                reviewer=reviewer,
                segment_id=base[0],
                at_ms=at_ms,
                texts=["one", "two"],
                client_id=f"cut of {reviewer}",
            )

    cut(here, "First", 1000)
    cut(there, "Second", 2000)
    decide(there, "files:tone@0-2000", "Second", "a part")
    assert bring(here, list(export(there))) == Imported(added=2, cut_otherwise=1)
    assert [one.id for one in read_all(here, "")][:2] == [
        "files:tone@0-1000",
        "files:tone@1000-3000",
    ]
    assert [json.loads(line)["undone"] for line in export(here)] == [False, True, False]
    assert bring(there, list(export(here))) == Imported(added=1, known=2, taken_back=1)
    assert known(here) == known(there)


@pytest.mark.sqlite
def test_what_has_no_place_here_is_counted(base: list[str], copied: Copy) -> None:
    here, there = copied(), copied()
    for key in base:
        decide(there, key, "First", "typed")
    with there.session() as session:
        decisions.undo(session, "First")
    lines = [json.loads(line) for line in export(there)]
    lines[0] |= {"recording_id": "files:other", "segment_id": "files:other@0-3000"}
    lines[1]["segment_id"] = "files:tone@1-2"
    found = bring(here, [json.dumps(line) + "\n" for line in lines])
    assert found == Imported(added=2, without_recording=1, without_segment=1)
    assert [one.id for one in read_all(here, "") if one.decided] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "line 2: format: Input should be 1"),
        ({"action": "praise"}, "line 2: unknown action praise"),
        ({"action": "reject", "after": None}, "line 2: reason: one of wrong_language"),
        ({"after": None}, "line 2: correct and the text do not go together"),
        ({"after": " \u200b "}, "line 2: after: there is no text"),
        ({"before": "\0"}, "line 2: a NUL character"),
        ({"made_at": "2026-01-01T00:00:00"}, "line 2: made_at: Input should have timezone info"),
        ({"start_ms": -1}, "line 2: start_ms: "),
        ({"mood": "good"}, "line 2: mood: Extra inputs are not permitted"),
        (
            {"cut": {"before": ["x"], "after": ["files:tone@9-3"]}},
            "line 2: cut: bounds that make no segment",
        ),
        (
            {"cut": {"before": ["x"], "after": ["files:a@1-3"]}},
            "line 2: cut: segments of another recording",
        ),
        (
            {"cut": {"before": ["x"], "after": ["files:tone@3"]}},
            "line 2: cut: bounds that make no segment",
        ),
        ({"cut": {"before": [], "after": ["files:tone@3-9"]}}, "line 2: cut: from nothing"),
    ],
)
def test_a_line_that_is_none_is_told_and_nothing_is_imported(
    catalogue: Catalogue, base: list[str], change: dict[str, Any], message: str
) -> None:
    for key in base[:2]:
        decide(catalogue, key, "First", "typed")
    lines = list(export(catalogue))
    with catalogue.session() as session:
        for decision in session.scalars(select(Decision)):
            session.delete(decision)
    lines[1] = json.dumps(json.loads(lines[1]) | change) + "\n"
    with pytest.raises(UserError, match=f"decisions.jsonl, {message}.*nothing is imported"):
        bring(catalogue, lines)
    assert list(export(catalogue)) == []


@pytest.mark.parametrize("line", [b"{", b"[]", b"no JSON", b'{"format": 1}', b"\xff\xfe"])
def test_what_is_no_line_at_all_is_told(catalogue: Catalogue, line: bytes) -> None:
    with pytest.raises(UserError, match=r"f, line 1: .*; nothing is imported") as told:
        import_decisions(catalogue, io.BytesIO(line), "f")
    assert "\n" not in str(told.value)


def test_a_line_tells_all_of_a_decision(catalogue: Catalogue, base: list[str]) -> None:
    decide(catalogue, base[0], "First", "typed", start_ms=100, lead_ms=1500, client_id="the first")
    with catalogue.session() as session:
        made = decisions.undo(session, "First")
        assert made.id == base[0]
    first, second = map(json.loads, export(catalogue))
    assert first.pop("made_at").endswith("Z")
    assert first == {
        "format": 1,
        "client_id": "the first",
        "segment_id": "files:tone@100-3000",
        "recording_id": "files:tone",
        "start_ms": 100,
        "end_ms": 3000,
        "reviewer": "First",
        "action": "correct",
        "reason": None,
        "before": "written 0",
        "shown": {"kind": "subtitle", "origin": "files:tone.srt"},
        "after": "typed",
        "repeats": None,
        "lead_ms": 1500,
        "cut": {"before": [base[0]], "after": ["files:tone@100-3000"], "texts": ["written 0"]},
        "adjudicates": False,
        "undone": True,
        "undone_by": second["client_id"],
    }
    assert (second["action"], second["undone"], second["segment_id"]) == ("undo", False, base[0])


def test_an_admin_gets_the_decisions_by_the_interface(
    client: TestClient, catalogue: Catalogue, base: list[str]
) -> None:
    decide(catalogue, base[0], "First", "typed")
    reply = client.get("/api/v1/export")
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.text == "".join(export(catalogue))


@pytest.mark.sqlite
def test_the_commands_take_decisions_out_and_in(
    workspace: Workspace, catalogue: Catalogue, base: list[str], tmp_path: Path
) -> None:
    def run(*arguments: str, **given: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments, "--workspace", str(workspace.root)],
            capture_output=True,
            text=True,
            check=False,
            **given,
        )

    decide(catalogue, base[0], "First", "typed")
    file = tmp_path / "decisions.jsonl"
    assert run("export", str(file)).returncode == 0
    assert file.read_text(encoding="utf-8") == "".join(export(catalogue))
    again = run("export", str(file))
    assert (again.returncode, "exists; give another name" in again.stderr) == (1, True)
    assert run("export", str(tmp_path / "none" / "f")).returncode == 1
    assert run("export", "-").stdout == file.read_text(encoding="utf-8")
    assert "1 were here already" in run("import", str(file)).stderr
    with catalogue.session() as session:
        session.delete(session.scalars(select(Decision)).one())
    told = run("import", "-", "--json", input=file.read_text(encoding="utf-8"))
    assert json.loads(told.stdout)["added"] == 1
    missing = run("import", str(tmp_path / "none"))
    assert (missing.returncode, "cannot be read" in missing.stderr) == (1, True)
