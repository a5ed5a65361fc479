"""The HTTP interface, as a browser, a script and another web page meet it."""

import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from corpus import audio, pieces
from corpus.catalogue import Catalogue, Decision, Segment
from corpus.evidence import read_all
from corpus.workspace import Workspace
from review_app import decisions, leases
from review_app.api import byte_range
from review_app.app import running
from review_app.guard import MAX_BODY_BYTES

from .conftest import AddSegment


def decision(item: dict[str, Any], action: str = "accept", **wish: object) -> dict[str, Any]:
    """A request that decides about a shown item."""
    return {
        "segment_id": item["segment_id"],
        "transcript_id": item["transcript_id"],
        "action": action,
        "client_id": f"test-{item['segment_id']}",
    } | wish


def count_decisions(catalogue: Catalogue) -> int:
    with catalogue.session() as session:
        return session.scalar(select(func.count(Decision.id))) or 0


def test_a_reviewer_works_through_the_queue(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one = add_segment(
        "the plane", 0, 4000, verdict="review", reasons=("CER 0.2",), subtitle="the plain"
    )
    two = add_segment("the delta", 4000, 6000)
    reply = client.get("/api/v1/next").json()
    assert reply["waiting"] == 2
    item = reply["item"]
    assert (item["segment_id"], item["text"], item["seconds"]) == (one, "the plane", 4.0)
    assert item["reasons"] == ["CER 0.2"]
    assert item["others"] == [{"kind": "subtitle", "origin": "files:tone.srt", "text": "the plain"}]

    reply = client.post("/api/v1/decide", json=decision(item, "correct", text="the plain")).json()
    assert (reply["action"], reply["waiting"], reply["item"]["segment_id"]) == ("correct", 1, two)
    reply = client.post("/api/v1/decide", json=decision(reply["item"])).json()
    assert (reply["item"], reply["waiting"]) == (None, 0)
    with catalogue.session() as session:
        assert [made.reviewer for made in session.scalars(select(Decision))] == [
            "First",
            "First",
        ]
        assert session.get_one(Segment, one).transcripts[-1].text == "the plain"


def test_segments_that_the_browser_holds_are_not_handed_out_again(
    client: TestClient, add_segment: AddSegment
) -> None:
    one, two = add_segment("one", 0, 4000), add_segment("two", 4000, 6000)
    assert client.get("/api/v1/next", params={"exclude": one}).json()["item"]["segment_id"] == two
    assert client.get("/api/v1/next", params={"exclude": [one, two]}).json()["item"] is None


def test_a_link_to_a_segment_tells_who_else_has_it(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one, two = add_segment("one", 0, 4000), add_segment("two", 4000, 6000)
    with catalogue.session() as session:
        leases.take(session, one, "Second", time.time())
    item = client.get(f"/api/v1/segments/{one}").json()["item"]
    assert (item["held_by"], item["lease"]) == ("Second", None)
    assert client.post("/api/v1/decide", json=decision(item)).status_code == 409
    item = client.get(f"/api/v1/segments/{two}").json()["item"]
    assert (item["held_by"], item["before"], item["after"]) == (None, "one", None)
    assert (item["start_ms"], item["context_before_ms"], item["context_after_ms"]) == (
        4000,
        2000,
        2000,
    )
    renewed = client.post("/api/v1/renew", json={"leases": [item["lease"], "another's"]}).json()
    assert renewed == {"leases": [item["lease"]]}
    assert client.get("/api/v1/segments/files:tone@1-2").status_code == 404


def test_sound_comes_with_what_lies_around_it_where_that_is_wanted(
    client: TestClient, workspace: Workspace, add_segment: AddSegment
) -> None:
    add_segment("text", 1500, 4250)
    item = client.get("/api/v1/next").json()["item"]
    sound = audio.decode(client.get(item["audio"], params={"context": 1}).content)
    expected = audio.read_span(workspace.media / "tone.flac", 0, 6250)
    assert np.array_equal(sound, pieces.levelled(expected))


def test_filters_narrow_the_queue(client: TestClient, add_segment: AddSegment) -> None:
    one = add_segment("the PLANE", 0, 4000, verdict="review")
    add_segment("100% sure", 4000, 6000, verdict="keep")
    matching: list[tuple[dict[str, str], bool]] = [
        ({"source": "files", "language": "en"}, True),
        ({"q": "plane", "verdict": "review"}, True),
        ({"q": "plane", "verdict": "keep"}, False),
        ({"q": "the_"}, False),
        ({"channel": "nobody's"}, False),
        ({"speaker": "nobody"}, False),
        ({"mine": "1"}, False),
    ]
    for filters, found in matching:
        item = client.get("/api/v1/next", params=filters).json()["item"]
        assert (filters, item and item["segment_id"]) == (filters, one if found else None)


def test_undo_opens_the_last_decision_again_and_keeps_both_in_the_history(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one = add_segment("one", 0, 4000)
    add_segment("two", 4000, 6000)
    item = client.get("/api/v1/next").json()["item"]
    client.post("/api/v1/decide", json=decision(item, "correct", text="won"))
    again = client.post("/api/v1/undo").json()["item"]
    assert (again["segment_id"], again["text"]) == (one, "one")
    assert again["version"] > item["version"]
    history = client.get(f"/api/v1/segments/{one}/history").json()
    assert [(row["action"], row["after"], row["undone"]) for row in history] == [
        ("correct", "won", True),
        ("undo", None, False),
    ]
    outdated = decision(item, "accept", version=item["version"], client_id="outdated")
    assert client.post("/api/v1/decide", json=outdated).status_code == 409
    fresh = decision(again, "accept", version=again["version"], client_id="fresh-one")
    assert client.post("/api/v1/decide", json=fresh).json()["waiting"] == 1
    assert client.post("/api/v1/undo").status_code == 200
    assert client.post("/api/v1/undo").status_code == 422
    assert count_decisions(catalogue) == 4


def test_an_earlier_decision_can_be_made_to_hold_again(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("one")
    item = client.get("/api/v1/next").json()["item"]
    client.post("/api/v1/decide", json=decision(item, "correct", text="won"))
    client.post("/api/v1/undo")
    rejected = decision(item, "reject", reason="no_speech", client_id="rejected")
    client.post("/api/v1/decide", json=rejected)
    address = f"/api/v1/segments/{key}"
    rows = client.get(f"{address}/history").json()
    reply = client.post(f"{address}/revert", json={"decision_id": rows[0]["id"]})
    assert [(row["action"], row["after"], row["undone"]) for row in reply.json()] == [
        ("correct", "won", True),
        ("undo", None, False),
        ("reject", None, True),
        ("correct", "won", False),
    ]
    (evidence,) = read_all(catalogue, "")
    assert evidence.decided is not None
    assert evidence.decided[0] == "correct"
    assert client.post(f"{address}/revert", json={"decision_id": 999}).status_code == 422


def test_a_repeated_request_decides_once(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    add_segment("once")
    request = decision(client.get("/api/v1/next").json()["item"])
    replies = [client.post("/api/v1/decide", json=request) for _ in range(2)]
    assert replies[0].json() == replies[1].json()
    assert count_decisions(catalogue) == 1


def test_a_segment_that_somebody_decided_meanwhile_answers_409(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("once")
    item = client.get("/api/v1/next").json()["item"]
    client.post("/api/v1/release", json={"leases": [item["lease"]]})
    with catalogue.session() as session:
        decisions.decide(
            session,
            reviewer="Second",
            segment_id=key,
            transcript_id=item["transcript_id"],
            action="accept",
            client_id="of-second",
        )
    reply = client.post("/api/v1/decide", json=decision(item, "correct", text="typed"))
    assert reply.status_code == 409
    assert "Second has already decided" in reply.json()["detail"]
    assert reply.json()["yours"] == {"action": "correct", "text": "typed", "reason": None}
    assert (reply.json()["theirs"]["reviewer"], reply.json()["theirs"]["after"]) == (
        "Second",
        "once",
    )
    assert count_decisions(catalogue) == 1


def test_a_wrong_decision_is_refused_and_stores_nothing(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    add_segment("text")
    item = client.get("/api/v1/next").json()["item"]
    wrong: list[tuple[dict[str, object], int]] = [
        ({"segment_id": "files:tone@1-2"}, 404),
        ({"transcript_id": 999}, 409),
        ({"action": "reject"}, 422),
        ({"action": "reject", "reason": "boring"}, 422),
        ({"action": "correct", "text": " "}, 422),
        ({"action": "correct", "text": "x" * 10_001}, 422),
        ({"action": "delete"}, 422),
        ({"client_id": ""}, 422),
        ({"action": "skip", "exclude": ["x"] * 101}, 422),
    ]
    for wish, status in wrong:
        reply = client.post("/api/v1/decide", json=decision(item, **wish))
        assert (wish, reply.status_code) == (wish, status)
    assert count_decisions(catalogue) == 0


def test_the_sound_of_a_segment_is_its_span_of_the_recording(
    client: TestClient, workspace: Workspace, add_segment: AddSegment
) -> None:
    add_segment("text", 1500, 4250)
    item = client.get("/api/v1/next").json()["item"]
    reply = client.get(item["audio"])
    assert reply.headers["content-type"] == "audio/flac"
    expected = pieces.levelled(audio.read_span(workspace.media / "tone.flac", 1500, 4250))
    assert np.array_equal(audio.decode(reply.content), expected)

    part = client.get(item["audio"], headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, reply.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(reply.content)}"
    assert client.get(item["audio"], headers={"Range": "bytes=99999999-"}).status_code == 416


@given(
    content=st.binary(min_size=1, max_size=50),
    first=st.integers(0, 60),
    length=st.integers(1, 60),
)
def test_a_range_is_that_part_of_the_content(content: bytes, first: int, length: int) -> None:
    expected = content[first : first + length]
    reply = byte_range(content, f"bytes={first}-{first + length - 1}")
    assert (reply.status_code, bytes(reply.body)) == ((206, expected) if expected else (416, b""))
    assert bytes(byte_range(content, f"bytes={first}-").body) == content[first:]
    assert bytes(byte_range(content, f"bytes=-{length}").body) == content[-length:]
    assert bytes(byte_range(content, "bytes=0-1,4-5").body) == content


def test_a_missing_media_file_is_told_and_does_not_stop_the_queue(
    client: TestClient, workspace: Workspace, add_segment: AddSegment
) -> None:
    add_segment("text")
    (workspace.media / "tone.flac").unlink()
    item = client.get("/api/v1/next").json()["item"]
    reply = client.get(item["audio"])
    assert reply.status_code == 404
    assert "the media file is gone" in reply.json()["detail"]


def test_only_ids_of_segments_give_sound(client: TestClient, add_segment: AddSegment) -> None:
    add_segment("text")
    paths = [
        "..%2f..%2fcorpus.toml",
        "%2e%2e/%2e%2e/corpus.toml",
        "..%5c..%5ccorpus.toml",
        "%2fetc%2fpasswd",
        "media/tone.flac",
        "files:tone",
        "' OR 1=1 --",
    ]
    for path in paths:
        assert (path, client.get(f"/media/{path}").status_code) == (path, 404)


def test_only_the_apps_own_page_can_decide(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    add_segment("text")
    body = decision(client.get("/api/v1/next").json()["item"])
    foreign: list[tuple[dict[str, str | None], int]] = [
        ({"Host": "rebound.example:7860"}, 400),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"X-Requested-With": None}, 403),
        ({"Content-Type": "text/plain"}, 422),
        ({"Transfer-Encoding": "chunked"}, 411),
        ({"Content-Length": str(MAX_BODY_BYTES + 1)}, 413),
    ]
    own: dict[str, str | None] = {"Origin": "http://127.0.0.1:7860"}
    for headers, status in [*foreign, (own, 200)]:
        request = client.build_request("POST", "/api/v1/decide", json=body)
        for name, value in headers.items():
            if value is None:
                del request.headers[name]
            else:
                request.headers[name] = value
        assert (headers, client.send(request).status_code) == (headers, status)
        assert count_decisions(catalogue) == (status == 200)


def test_pages_of_others_cannot_read_or_frame_anything(
    client: TestClient, add_segment: AddSegment
) -> None:
    add_segment("text")
    for path in ("/", "/api/v1/next", "/player/player.js"):
        for origin in ("https://elsewhere.example", "http://127.0.0.1:9999", "null"):
            reply = client.get(path, headers={"Origin": origin})
            assert reply.status_code == 403
            assert "access-control-allow-origin" not in reply.headers
        reply = client.get(path)
        assert reply.status_code == 200
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]


def test_the_page_holds_no_transcript(client: TestClient, add_segment: AddSegment) -> None:
    add_segment("${alert(1)} <img src=x onerror=alert(2)>")
    assert "alert(" not in client.get("/").text
    assert "alert(" not in client.get("/config").text


def test_templates_of_the_page_hold_no_placeholders() -> None:
    template = Path(decisions.__file__).with_name("player") / "player.html"
    text = template.read_text(encoding="utf-8")
    assert "${" not in text
    assert "{{" not in text


def test_the_server_runs_on_a_free_port_until_it_is_left(
    client: TestClient, add_segment: AddSegment
) -> None:
    key = add_segment("text")
    app = client.app
    assert isinstance(app, FastAPI)
    with running(app) as url:
        headers = {"X-Requested-With": "script"}
        item = httpx.get(f"{url}/api/v1/next", headers=headers).json()["item"]
        assert item["segment_id"] == key
        reply = httpx.post(f"{url}/api/v1/decide", headers=headers, json=decision(item))
        assert reply.json()["item"] is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
