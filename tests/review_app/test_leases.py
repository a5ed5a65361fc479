"""Leases: no two people have the same segment before them, whatever happens at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from corpus.catalogue import Catalogue
from corpus.workspace import Workspace
from review_app import decisions, leases, order, queue, standing

from .conftest import AddSegment

WORKER = """
import sys
from corpus.catalogue import Catalogue
from review_app import decisions, leases, queue, standing
catalogue, reviewer = Catalogue(sys.argv[1]), sys.argv[2]
while True:
    with catalogue.session() as session:
        segment = queue.next_segment(session, reviewer, at=1000.0)
        if segment is None:
            break
        leases.take(session, segment.id, reviewer, 1000.0)
        shown = standing.shown_transcript(segment).id
    with catalogue.session() as session:
        decisions.decide(session, reviewer=reviewer, segment_id=segment.id, transcript_id=shown,
                     action="accept", client_id=f"{reviewer} {segment.id}", at=1000.0)
    print(segment.id)
"""


def take_next(catalogue: Catalogue, reviewer: str, at: float) -> str | None:
    """What the reviewer is handed, and now has before them."""
    with catalogue.session() as session:
        segment = queue.next_segment(session, reviewer, at=at)
        if segment is None:
            return None
        leases.take(session, segment.id, reviewer, at)
        return segment.id


def test_a_segment_that_somebody_has_goes_to_nobody_else_until_the_lease_runs_out(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one, two = add_segment("one", 0, 4000), add_segment("two", 4000, 6000)
    list(order.refresh(catalogue))
    assert take_next(catalogue, "First", at=1000) == one
    assert take_next(catalogue, "First", at=1001) == one  # after a reload
    assert take_next(catalogue, "Second", at=1001) == two
    assert take_next(catalogue, "Third", at=1001) is None
    assert take_next(catalogue, "Third", at=1001.5 + leases.LEASE_SECONDS) == one


def test_a_renewed_lease_lives_on_and_one_that_is_given_back_or_over_does_not(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("one")
    list(order.refresh(catalogue))
    with catalogue.session() as session:
        token = leases.take(session, key, "First", 1000)
        assert leases.renew(session, [token], "Second", 1010) == []
        assert leases.renew(session, [token], "First", 1100) == [token]
        assert leases.holder(session, key, "Second", 1099 + leases.LEASE_SECONDS) == "First"
        assert leases.renew(session, [token], "First", 1100 + leases.LEASE_SECONDS) == []
        leases.release(session, [token], "Second")
        assert leases.holder(session, key, "Second", 1101) == "First"
        leases.release(session, [token], "First")
        assert leases.holder(session, key, "Second", 1101) is None


def test_threads_that_ask_at_once_get_different_segments(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    for start in range(0, 12_000, 1000):
        add_segment(f"text {start}", start, start + 1000)
    list(order.refresh(catalogue))
    with ThreadPoolExecutor(20) as threads:
        held = list(threads.map(lambda name: take_next(catalogue, f"r{name}", 1000), range(20)))
    found = [key for key in held if key is not None]
    assert len(found) == len(set(found)) == 12


def test_processes_that_review_at_once_decide_every_segment_once(
    workspace: Workspace, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    keys = [add_segment(f"text {start}", start, start + 500) for start in range(0, 15_000, 500)]
    list(order.refresh(catalogue))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, workspace.catalogue_url, name],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two", "three")
    ]
    told = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted("".join(told).split()) == sorted(keys)


def test_a_segment_that_is_to_be_decided_twice_goes_to_two_people_and_no_third(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("one")
    list(order.refresh(catalogue, 1.0))

    def accept(reviewer: str) -> None:
        with catalogue.session() as session:
            segment = queue.next_segment(session, reviewer, at=1000)
            assert segment is not None
            decisions.decide(
                session,
                reviewer=reviewer,
                segment_id=segment.id,
                transcript_id=segment.transcripts[0].id,
                action="accept",
                client_id=f"of {reviewer}",
                seen=0,
                double_share=1.0,
            )

    accept("First")
    assert take_next(catalogue, "First", 1000) is None
    accept("Second")
    assert take_next(catalogue, "Third", 1000) is None
    with catalogue.session() as session:
        assert [made.reviewer for made in standing.find(session, key).decisions] == [
            "First",
            "Second",
        ]
