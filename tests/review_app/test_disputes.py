"""What two reviewers disagree on goes to an adjudicator, and to nobody else."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Any

import pytest
from fastapi.testclient import TestClient

from corpus.catalogue import Catalogue, Decision, Segment, Waiting
from corpus.evidence import read_all
from corpus.thresholds import read_thresholds
from corpus.verdict import apply_verdicts
from corpus.workspace import Workspace
from review_app import accounts, order
from review_app.accounts import Role
from review_app.agreement import agreement, read_pairs
from review_app.app import create_app
from review_app.auth import Access

from .conftest import AddSegment

PEOPLE: dict[str, Role] = {"First": "reviewer", "Second": "reviewer", "Judge": "adjudicator"}

Clients = dict[str, TestClient]
Decide = Callable[..., Any]


@pytest.fixture
def clients(workspace: Workspace, catalogue: Catalogue) -> Iterator[Clients]:
    """Clients of two reviewers and an adjudicator; every segment is to be decided by two."""
    with catalogue.session() as session:
        for name, role in PEOPLE.items():
            accounts.add(session, name, role, None)
    access = Access(header="X-User", proxies=(ip_network("127.0.0.0/8"),))
    app = create_app(workspace, access, double_share=1.0)
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                TestClient(
                    app,
                    base_url="http://127.0.0.1:7860",
                    headers={"X-Requested-With": "test", "X-User": name},
                    client=("127.0.0.1", 9),
                )
            )
            for name in PEOPLE
        }


@pytest.fixture
def decide(clients: Clients) -> Decide:
    """Decide a segment as somebody who has just opened it."""
    count = iter(range(1000))

    def made(name: str, key: str, action: str = "correct", **wish: object) -> Any:
        item = opened(clients[name], key)
        body = {
            "segment_id": key,
            "transcript_id": item["transcript_id"],
            "version": item["version"],
            "action": action,
            "client_id": f"request {next(count)}",
        }
        return clients[name].post("/api/v1/decide", json=body | wish)

    return made


def opened(client: TestClient, key: str) -> Any:
    return client.get(f"/api/v1/segments/{key}").json()["item"]


def following(client: TestClient, **filters: str) -> tuple[str | None, int, int]:
    found = client.get("/api/v1/next", params=filters).json()
    key = found["item"] and found["item"]["segment_id"]
    if key:
        client.post("/api/v1/release", json={"leases": [found["item"]["lease"]]})
    return key, found["waiting"], found["conflicts"]


def browsed(client: TestClient, **filters: str) -> list[str]:
    rows = client.get("/api/v1/browse", params=filters).json()["rows"]
    return [row["segment_id"] for row in rows]


def undo(client: TestClient) -> Any:
    """Take back one's last decision, and leave its segment to others."""
    item = client.post("/api/v1/undo").json()["item"]
    client.post("/api/v1/release", json={"leases": [item["lease"]]})
    return item


def holds(catalogue: Catalogue, key: str) -> tuple[str | None, bool]:
    """The text that is believed, and whether it is disputed."""
    (found,) = (one for one in read_all(catalogue, "") if one.id == key)
    assert found.decided is not None
    texts = {text.id: text.text for text in found.texts}
    return texts.get(found.decided[2] or 0), found.disputed


def made_by(catalogue: Catalogue, key: str, text: str) -> int:
    """The decision for a text."""
    with catalogue.session() as session:
        texts = {one.id: one.text for one in session.get_one(Segment, key).transcripts}
        made = session.get_one(Segment, key).decisions
        return next(one.id for one in made if texts.get(one.transcript_id or 0) == text)


def test_an_adjudicator_settles_what_two_differ_on_and_can_take_that_back(
    clients: Clients, catalogue: Catalogue, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("the plane", verdict="review")
    other = add_segment("agreed", 2000, 3000, verdict="review")
    for name, text in (("First", "the plain"), ("Second", "the planes")):
        assert decide(name, key, text=text).status_code == 200
        assert decide(name, other, text="Agreed!").status_code == 200
    judge = clients["Judge"]
    assert following(judge) == (None, 0, 1)
    assert following(judge, conflicts="1") == (key, 0, 1)
    (told,) = judge.get("/api/v1/conflicts").json()
    assert told["segment_id"] == key
    assert [(one["reviewer"], one["after"]) for one in told["opinions"]] == [
        ("First", "the plain"),
        ("Second", "the planes"),
    ]
    item = opened(judge, key)
    assert item["opinions"] == told["opinions"]
    assert (item["text"], item["others"]) == ("the plane", [])

    reply = decide("Judge", key, text="the planes", filters={"conflicts": True})
    assert (reply.status_code, reply.json()["item"], reply.json()["conflicts"]) == (200, None, 0)
    assert holds(catalogue, key) == ("the planes", False)
    with catalogue.session() as session:
        made = session.get_one(Segment, key).decisions
        assert [one.adjudicates for one in made] == [False, False, True]
        found = agreement(read_pairs(session))
        assert (found.segments, found.settled, found.settled_by_either) == (2, 1, 0)
        assert found.exact == 0.5
    assert decide("Judge", key, text="changed my mind").status_code == 409

    assert undo(judge)["opinions"] == told["opinions"]
    assert following(judge, conflicts="1") == (key, 0, 1)
    address = f"/api/v1/segments/{key}"
    of_judge = judge.get(f"{address}/history").json()[2]
    assert judge.post(f"{address}/revert", json={"decision_id": of_judge["id"]}).status_code == 200
    assert holds(catalogue, key) == ("the planes", False)
    assert following(judge, conflicts="1") == (None, 0, 0)
    with catalogue.session() as session:
        assert agreement(read_pairs(session)).settled == 1


def test_one_who_keeps_and_one_who_rejects_disagree_and_a_reject_can_settle_it(
    clients: Clients, catalogue: Catalogue, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("la la", verdict="review")
    decide("First", key, "reject", reason="music_or_noise")
    decide("Second", key, "accept")
    assert holds(catalogue, key) == ("la la", True)
    thresholds = read_thresholds("default")
    assert apply_verdicts(catalogue, "default", thresholds, "en")["review"] == 1
    item = opened(clients["Judge"], key)
    assert item["reasons_in_words"] == [
        "People have decided differently, and nobody has settled it yet "
        "(an adjudicator has to settle it)"
    ]
    assert decide("Judge", key, "skip").status_code == 200
    assert following(clients["Judge"], conflicts="1") == (key, 0, 1)
    assert decide("Judge", key, "reject", reason="no_speech").status_code == 200
    assert holds(catalogue, key) == (None, False)
    assert apply_verdicts(catalogue, "default", thresholds, "en")["drop"] == 1


def test_reviewers_see_and_settle_no_disagreement(
    clients: Clients, catalogue: Catalogue, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("the plane", verdict="review")
    decide("First", key, text="the plain")
    thresholds = read_thresholds("default")
    apply_verdicts(catalogue, "default", thresholds, "en")  # now it keeps what First typed
    for name in ("Second", "Judge"):
        item = opened(clients[name], key)
        assert (item["text"], item["others"], item["history"]) == ("the plane", [], [])
        clients[name].post("/api/v1/release", json={"leases": [item["lease"]]})
        assert clients[name].get(f"/api/v1/segments/{key}/history").json() == []
    decide("Second", key, text="the planes")
    for name in ("First", "Second"):
        assert following(clients[name], conflicts="1") == (None, 0, 0)
        assert clients[name].get("/api/v1/conflicts").status_code == 403
        item = opened(clients[name], key)
        assert item["opinions"] == []
        assert {row["reviewer"] for row in item["history"]} == {name}
        clients[name].post("/api/v1/release", json={"leases": [item["lease"]]})
        assert decide(name, key, text="my word is final").status_code == 409


def test_what_is_said_before_and_after_is_what_people_made_of_it(
    client: TestClient, add_segment: AddSegment
) -> None:
    """One person decides each segment."""
    keys = [add_segment(f"herd {n}", 2000 * n, 2000 * n + 2000) for n in range(3)]
    for key, wish in (
        (keys[0], {"action": "correct", "text": "heard 0"}),
        (keys[2], {"action": "reject", "reason": "cut_off"}),
    ):
        shown = opened(client, key)["transcript_id"]
        body = {"segment_id": key, "transcript_id": shown, "client_id": f"of {key}"}
        assert client.post("/api/v1/decide", json=body | wish).is_success
    item = opened(client, keys[1])
    assert (item["before"], item["after"]) == ("heard 0", "herd 2")
    client.post("/api/v1/undo")
    client.post("/api/v1/undo")
    assert opened(client, keys[1])["before"] == "herd 0"


def test_what_is_said_before_is_no_opinion_of_others_that_one_must_not_know(
    clients: Clients, add_segment: AddSegment, decide: Decide
) -> None:
    before, key = add_segment("the plane", 0, 2000), add_segment("the delta", 2000, 4000)

    def said() -> list[str]:
        return [opened(client, key)["before"] for client in clients.values()]

    decide("First", before, text="the plain")
    assert said() == ["the plain", "the plane", "the plane"]
    decide("Second", before, text="the planes")
    assert said() == ["the plain", "the planes", "the planes"]
    decide("Judge", before, text="the plain below")
    assert said() == ["the plain", "the planes", "the plain below"]


@pytest.mark.parametrize("text", ["the plane", None])
@pytest.mark.parametrize("wish", [{"action": "reject", "reason": "no_speech"}, {"text": "plain"}])
def test_a_verdict_that_rests_on_the_first_opinion_tells_nothing_of_it_to_the_second(
    clients: Clients,
    catalogue: Catalogue,
    add_segment: AddSegment,
    decide: Decide,
    text: str | None,
    wish: dict[str, str],
) -> None:
    key = add_segment(text, verdict="review", subtitle="the plane")
    assert decide("First", key, **wish).is_success
    counts = apply_verdicts(catalogue, "default", read_thresholds("default"), "en")
    verdict = "drop" if "reason" in wish else "keep"
    assert counts[verdict] == 1
    list(order.refresh(catalogue, 1.0))
    for name in ("Second", "Judge"):
        item = opened(clients[name], key)
        assert item["reasons"] == item["reasons_in_words"] == []
        clients[name].post("/api/v1/release", json={"leases": [item["lease"]]})
        assert following(clients[name]) == (key, 1, 0)
        assert following(clients[name], verdict="review")[0] == key  # where it was before
        assert following(clients[name], verdict=verdict)[0] is None
        (row,) = clients[name].get("/api/v1/browse").json()["rows"]
        assert row["verdict"] is None
        assert browsed(clients[name], verdict=verdict) == []
    assert browsed(clients["First"], verdict=verdict) == [key]
    with catalogue.session() as session:
        assert session.get_one(Waiting, key).worth >= order.tier("review")[0]


def test_an_adjudicator_may_settle_what_they_are_one_side_of_and_it_is_counted(
    clients: Clients, catalogue: Catalogue, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("the plane", verdict="review")
    assert following(clients["Judge"])[0] == key
    decide("Judge", key, text="the plain")
    decide("First", key, text="the planes")
    assert decide("Judge", key, text="the plain").status_code == 200
    assert holds(catalogue, key) == ("the plain", False)
    with catalogue.session() as session:
        found = agreement(read_pairs(session))
    assert (found.settled, found.settled_by_either, found.exact) == (1, 1, 0.0)
    # What is settled stays so when a reviewer takes their own back, and comes to nobody again.
    undo(clients["First"])
    undo(clients["Judge"])
    decide("Second", key, text="the planes")
    assert decide("Judge", key, text="the plane sails").status_code == 200
    undo(clients["Second"])
    assert [following(client)[0] for client in clients.values()] == [None] * 3


def test_an_adjudicator_who_has_not_seen_the_second_opinion_does_not_settle_it(
    clients: Clients, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("the plane", verdict="review")
    decide("First", key, text="the plain")
    before = opened(clients["Judge"], key)
    clients["Judge"].post("/api/v1/release", json={"leases": [before["lease"]]})
    decide("Second", key, text="the planes")
    reply = decide("Judge", key, text="the plane", version=before["version"])
    assert (reply.status_code, reply.json()["theirs"]["reviewer"]) == (409, "Second")


def test_bounds_that_an_adjudicator_moves_settle_it_too(
    clients: Clients, catalogue: Catalogue, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("the plane", 1000, 3000, verdict="review")
    decide("First", key, text="the plain")
    decide("Second", key, text="the planes")
    assert decide("Judge", key, "accept", start_ms=900, end_ms=3000).status_code == 200
    assert holds(catalogue, "files:tone@900-3000") == ("the plane", False)
    assert [following(client)[0] for client in clients.values()] == [None] * 3
    assert undo(clients["Judge"])["segment_id"] == key
    assert following(clients["Judge"], conflicts="1")[0] == key


def test_a_second_opinion_may_be_to_cut_the_segment_and_undo_brings_it_back_to_the_queue(
    clients: Clients, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("one two", 0, 4000, verdict="review")
    decide("First", key, "accept")
    cut = {"segment_id": key, "at_ms": 1500, "texts": ["one", "two"], "client_id": "the cut."}
    parts = clients["Second"].post("/api/v1/split", json=cut).json()["items"]
    assert clients["Second"].post("/api/v1/split", json=cut).json()["items"] == parts
    assert undo(clients["Second"])["segment_id"] == key
    assert following(clients["Second"]) == (key, 1, 0)
    assert clients["Second"].post("/api/v1/split", json=cut).status_code == 409


def test_undoing_a_return_lets_hold_again_what_it_had_replaced(
    clients: Clients, catalogue: Catalogue, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("the plane", verdict="review")
    decide("First", key, text="the plain")
    undo(clients["First"])
    decide("First", key, text="the planes")
    address = f"/api/v1/segments/{key}"
    earlier, later = (made_by(catalogue, key, text) for text in ("the plain", "the planes"))
    for chosen in (earlier, later):  # a return to a return, too
        reply = clients["Judge"].post(f"{address}/revert", json={"decision_id": chosen})
        assert reply.status_code == 200
    assert holds(catalogue, key) == ("the planes", False)
    for text in ("the plain", "the planes"):
        undo(clients["Judge"])
        assert holds(catalogue, key) == (text, False)
    with catalogue.session() as session:
        assert session.get_one(Decision, later).undone_by is None


def test_undoing_a_return_gives_nobody_two_opinions(
    clients: Clients, catalogue: Catalogue, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("the plane", verdict="review")
    decide("First", key, text="the plain")
    chosen = {"decision_id": made_by(catalogue, key, "the plain")}
    assert clients["Judge"].post(f"/api/v1/segments/{key}/revert", json=chosen).is_success
    assert decide("First", key, text="the planes").is_success
    undo(clients["Judge"])
    assert holds(catalogue, key) == ("the planes", False)


def test_undo_passes_over_what_somebody_else_has_cut_since(
    clients: Clients, add_segment: AddSegment, decide: Decide
) -> None:
    before = add_segment("before", 4000, 6000, verdict="review")
    key = add_segment("one two", 0, 4000, verdict="review")
    for one in (before, key):
        assert decide("First", one, "accept").is_success
    cut = {"segment_id": key, "at_ms": 1500, "texts": ["one", "two"], "client_id": "the cut."}
    assert clients["Second"].post("/api/v1/split", json=cut).is_success
    assert undo(clients["First"])["segment_id"] == before
    reply = clients["First"].post("/api/v1/undo")
    assert (reply.status_code, reply.json()["detail"]) == (422, "there is nothing to undo")
    assert undo(clients["Second"])["segment_id"] == key
    assert undo(clients["First"])["segment_id"] == key


def test_bounds_that_another_has_moved_on_since_are_not_put_back(
    clients: Clients, catalogue: Catalogue, add_segment: AddSegment, decide: Decide
) -> None:
    key = add_segment("one", 1000, 3000, verdict="review")
    decide("First", key, "accept", start_ms=900, end_ms=3000)
    assert decide("Second", "files:tone@900-3000", "accept", start_ms=800, end_ms=3000).is_success
    reply = clients["First"].post("/api/v1/undo")
    assert (reply.status_code, "cut anew" in reply.json()["detail"]) == (409, True)
    assert [one.id for one in read_all(catalogue, "")] == ["files:tone@800-3000"]


def test_the_decision_of_who_reverts_keeps_the_bounds_that_it_takes_over(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    old = add_segment("one", 1000, 3000)
    body = {"segment_id": old, "transcript_id": 1, "action": "accept"}
    moved = body | {"client_id": "the bounds", "start_ms": 900, "end_ms": 3100}
    assert client.post("/api/v1/decide", json=moved).status_code == 200
    address = "/api/v1/segments/files:tone@900-3100"
    (row,) = client.get(f"{address}/history").json()
    client.post(f"{address}/revert", json={"decision_id": row["id"]})
    assert client.post("/api/v1/undo").json()["item"]["segment_id"] == old
    with catalogue.session() as session:
        assert session.get_one(Decision, row["id"]).undone_by is not None
