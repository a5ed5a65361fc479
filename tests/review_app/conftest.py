"""A catalogue with segments to review, and a client of the app."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from corpus import audio
from corpus.catalogue import Catalogue, Recording, Score, Segment, Transcript, Verdict, segment_id
from corpus.workspace import Workspace
from review_app.app import create_app
from review_app.auth import Access

SECONDS_OF_TONE = 20

AddSegment = Callable[..., str]


@pytest.fixture
def add_segment(workspace: Workspace, catalogue: Catalogue) -> AddSegment:
    """Add a pseudo-labelled segment of one recording to the catalogue; returns its id."""
    media = workspace.media / "tone.flac"
    media.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(SECONDS_OF_TONE * audio.SAMPLE_RATE) / audio.SAMPLE_RATE
    swelling = np.abs(np.sin(times * 2.1)) * np.abs(np.sin(times * 7.3))
    media.write_bytes(
        audio.encode_flac((12_000 * swelling * np.sin(2 * np.pi * 220 * times)).astype(np.int16))
    )
    with catalogue.session() as session:
        session.add(
            Recording(
                id="files:tone",
                source="files",
                title="A lecture on rivers",
                url="https://video.example/watch?v=tone",
                language="en",
                licence="CC-BY-3.0",
                licence_evidence={},
                attribution="A lecturer",
                redistributable=True,
                media_path="media/tone.flac",
                duration_ms=SECONDS_OF_TONE * 1000,
            )
        )

    def add(
        text: str | None,
        start_ms: int = 0,
        end_ms: int = 2000,
        *,
        logprob: float = -0.4,
        verdict: str | None = None,
        reasons: tuple[str, ...] = (),
        subtitle: str | None = None,
        words: list[list[Any]] | None = None,
    ) -> str:
        key = segment_id("files:tone", start_ms, end_ms)
        with catalogue.session() as session:
            segment = Segment(id=key, recording_id="files:tone", start_ms=start_ms, end_ms=end_ms)
            session.add(segment)
            if subtitle is not None:
                segment.transcripts.append(
                    Transcript(kind="subtitle", origin="files:tone.srt", text=subtitle)
                )
            if text is not None:
                score = Score(name="avg_logprob", value=logprob)
                segment.transcripts.append(
                    Transcript(
                        kind="pseudo", origin="small@1234", text=text, words=words, scores=[score]
                    )
                )
            if verdict is not None:
                segment.verdict = Verdict(
                    verdict=verdict, reasons=list(reasons), thresholds="default@0"
                )
        return key

    return add


@pytest.fixture
def client(workspace: Workspace, catalogue: Catalogue) -> Iterator[TestClient]:
    """The review app of the reviewer First, as a client on the same machine sees it."""
    app = create_app(workspace, Access(local="First"))
    headers = {"X-Requested-With": "test"}
    with TestClient(app, base_url="http://127.0.0.1:7860", headers=headers) as client:
        yield client


@pytest.fixture
def app(workspace: Workspace, catalogue: Catalogue) -> FastAPI:
    """The review app of the reviewer First."""
    return create_app(workspace, Access(local="First"))


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A tab whose user sees no dialog, no error, and whose every request stays on this machine."""
    context = chromium.new_context()
    page = context.new_page()
    requests: list[str] = []
    surprises: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: surprises.append(str(error)))
    page.on("dialog", lambda dialog: (surprises.append(dialog.message), dialog.dismiss()))
    page.on(
        "console",
        lambda message: (
            surprises.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    yield page
    context.close()
    assert surprises == []
    assert requests
    local = ("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")
    assert [url for url in requests if not url.startswith(local)] == []
