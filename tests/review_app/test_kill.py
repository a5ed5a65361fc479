"""A server that is killed while people decide: what it has acknowledged is there, once."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from sqlalchemy import select

from corpus.catalogue import STANDS, Catalogue, Decision
from corpus.workspace import Workspace

from .conftest import AddSegment

COMMAND = [sys.executable, "-m", "review_app", "--port", "0", "--json", "--workspace"]

CLIENTS = 20


def start(workspace: Workspace) -> tuple[subprocess.Popen[str], str]:
    """A server and its address."""
    server = subprocess.Popen(
        [*COMMAND, str(workspace.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    return server, json.loads("".join(server.stdout.readline() for _ in range(4)))["url"]


def test_acknowledged_decisions_survive_a_kill_and_are_there_once(
    workspace: Workspace, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    keys = [add_segment(f"text {n}", n * 100, n * 100 + 100) for n in range(200)]
    acknowledged: list[str] = []
    sent: list[dict[str, object]] = []

    def work(url: str, mine: list[str]) -> None:
        with httpx.Client(base_url=url, headers={"X-Requested-With": "test"}) as client:
            for key in mine:
                try:
                    item = client.get(f"/api/v1/segments/{key}").json()["item"]
                    body = {
                        "segment_id": key,
                        "transcript_id": item["transcript_id"],
                        "action": "accept",
                        "client_id": f"client {key}",
                    }
                    sent.append(body)
                    if client.post("/api/v1/decide", json=body).status_code == 200:
                        acknowledged.append(key)
                except httpx.TransportError:
                    return

    server, url = start(workspace)
    with ThreadPoolExecutor(CLIENTS) as threads:
        for number in range(CLIENTS):
            threads.submit(work, url, keys[number::CLIENTS])
        while len(acknowledged) < 40:
            assert server.poll() is None
            time.sleep(0.01)
        server.kill()
    server.communicate()
    assert 40 <= len(acknowledged) < len(keys)
    with catalogue.session() as session:
        decided = session.scalars(select(Decision.segment_id).filter(STANDS)).all()
    assert len(decided) == len(set(decided))
    assert set(acknowledged) <= set(decided)

    server, url = start(workspace)
    try:
        for body in sent:  # as the browsers do that were given no answer
            reply = httpx.post(
                f"{url}/api/v1/decide", json=body, headers={"X-Requested-With": "test"}, timeout=30
            )
            assert reply.status_code == 200
    finally:
        server.kill()
        server.communicate()
    with catalogue.session() as session:
        decided = session.scalars(select(Decision.segment_id).filter(STANDS)).all()
    assert sorted(decided) == sorted({str(body["segment_id"]) for body in sent})
