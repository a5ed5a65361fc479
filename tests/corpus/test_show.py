"""What `corpus show` tells of one recording, segment, or video that was not taken."""

import json
from typing import Any

import pytest

from corpus.catalogue import Catalogue, Cue, Decision, Model, Recording, Score, Segment, Transcript
from corpus.errors import UserError
from corpus.show import print_shown, show
from corpus.workspace import Workspace
from demo.video_site import VideoSite

from .conftest import AddRecording, Corpus, fetch_arguments

NOTE = "suspect_auto: no commas, no capitals; cues left out: 3 × credits"


@pytest.fixture
def talk(catalogue: Catalogue, add_recording: AddRecording) -> list[str]:
    """A recording with everything that can be known of one; the ids of its segments."""
    ids = add_recording(
        "youtube:talk",
        [
            {"text": "red boats", "kind": "subtitle", "scores": {"cer": 0.1}, "verdict": "review"},
            {"seconds": 1.5},
        ],
        source="youtube",
        url="https://video.example/watch?v=talk",
        channel="A channel",
        channel_id="UCtalk",
        licence_raw="Creative Commons Attribution licence (reuse allowed)",
        licence="CC-BY-3.0",
        subtitle_path="media/youtube/talk.en.srt",
        subtitle_note=NOTE,
        timing={"shift_ms": 120},
    )
    with catalogue.session() as session:
        recording = session.get_one(Recording, "youtube:talk")
        recording.licence_evidence = {"where": "the video's page", "reader": "yt-dlp"}
        recording.cues = [
            Cue(position=i, start_ms=i * 500, end_ms=i * 500 + 400, text="red") for i in range(3)
        ]
        segment = session.get_one(Segment, ids[0])
        assert segment.verdict is not None
        segment.verdict.reasons = ["subtitles look machine-made (no commas)"]
        segment.transcripts.append(
            Transcript(
                kind="pseudo",
                origin="small@1",
                text="read boats",
                words=[[0, 400, "read", 0.9]],
                scores=[Score(name="avg_logprob", value=-0.25)],
            )
        )
        segment.decisions.append(Decision(reviewer="First", action="reject", reason="cut_off"))
        session.add(Model(origin="small@1", sha256="ab" * 32, lineage={"base": "whisper-small"}))
        session.add(Model(origin="other@2", lineage={}))
        catalogue.record_failure(
            session, stage="label", item=ids[1], kind="bad_media", message="torn", transient=True
        )
    return ids


def test_a_recording_is_told_with_its_provenance_and_all_of_its_segments(
    catalogue: Catalogue, talk: list[str]
) -> None:
    found = show(catalogue, "youtube:talk")
    recording = found["recording"]
    assert recording["url"] == "https://video.example/watch?v=talk"
    assert recording["licence_raw"].startswith("Creative Commons")
    assert recording["licence_evidence"]["where"] == "the video's page"
    assert recording["attribution"] == "youtube:talk"
    assert (recording["subtitle_note"], recording["subtitles"]) == (NOTE, "suspect_auto")
    assert (recording["cues"], recording["timing"]) == (3, {"shift_ms": 120})
    columns = {column.key for column in Recording.__table__.columns}
    assert columns <= set(recording)
    first, second = found["segments"]
    assert [first["id"], second["id"]] == talk
    assert [(t["kind"], t["text"], t["scores"]) for t in first["transcripts"]] == [
        ("subtitle", "red boats", {"cer": 0.1}),
        ("pseudo", "read boats", {"avg_logprob": -0.25}),
    ]
    assert first["transcripts"][1]["words"] == [[0, 400, "read", 0.9]]
    assert first["verdict"]["verdict"] == "review"
    assert first["verdict"]["reasons"] == ["subtitles look machine-made (no commas)"]
    assert first["decisions"][0]["reason"] == "cut_off"
    assert (second["transcripts"], second["verdict"]) == ([], None)
    assert [model["origin"] for model in found["models"]] == ["small@1"]
    assert [failure["message"] for failure in found["failures"]] == ["torn"]
    assert recording["added_at"].endswith("+00:00")
    json.dumps(found)


def test_a_segment_is_told_with_its_recording_and_without_the_others(
    catalogue: Catalogue, talk: list[str]
) -> None:
    found = show(catalogue, talk[0])
    assert found["recording"]["id"] == "youtube:talk"
    assert [segment["id"] for segment in found["segments"]] == talk[:1]
    assert found["failures"] == []
    assert len(show(catalogue, talk[1])["failures"]) == 1


def test_the_failures_of_a_longer_id_are_not_told(
    catalogue: Catalogue, add_recording: AddRecording
) -> None:
    add_recording("file:1_", [{}])
    for item in ("file:1_@0-2000", "file:1x@0-2000", "file:1_2"):
        with catalogue.session() as session:
            catalogue.record_failure(
                session, stage="label", item=item, kind="bad_media", message="m", transient=True
            )
    found = show(catalogue, "file:1_")
    assert [failure["item"] for failure in found["failures"]] == ["file:1_@0-2000"]


def test_the_terminal_shows_it_all_without_markup_or_escapes(
    catalogue: Catalogue, talk: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with catalogue.session() as session:
        recording = session.get_one(Recording, "youtube:talk")
        recording.title = "[bold]Rivers[/bold] \x1b[31mred\x1b[0m"
        session.get_one(Segment, talk[0]).transcripts[0].text = "\x1b]0;owned\x07boats"
    print_shown(show(catalogue, "youtube:talk"))
    told = " ".join(capsys.readouterr().out.split())
    assert "\x1b" not in told
    assert "[bold]Rivers[/bold]" in told
    for part in ("suspect_auto", "licence_evidence: where", "CC-BY-3.0", "cut_off", "bad_media"):
        assert part in told


def test_what_is_not_known_is_a_line_that_says_so(catalogue: Catalogue) -> None:
    with pytest.raises(UserError, match="nothing is known of youtube:x"):
        show(catalogue, "youtube:x")


def test_videos_that_were_refused_or_removed_are_told_with_the_reason(
    corpus: Corpus, workspace: Workspace, site: VideoSite
) -> None:
    at = ("--workspace", workspace.root)
    assert corpus(*fetch_arguments(site, workspace.root)).code == 0

    def shown(id: str) -> Any:
        outcome = corpus("show", id, "--json", *at)
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)

    refused = shown("youtube:standard000")
    assert (refused["recording"], refused["segments"], refused["tombstones"]) == (None, [], [])
    assert [failure["kind"] for failure in refused["failures"]] == ["not_cc"]
    bare = shown("youtube:bare0000000")["recording"]
    assert (bare["subtitle_note"], bare["cues"]) == ("only automatic captions", 0)
    assert corpus("remove", "youtube:first000000", "--yes", *at).code == 0
    removed = shown("youtube:first000000")
    assert [stone["item"] for stone in removed["tombstones"]] == ["youtube:first000000"]
    assert "Removed" in corpus("show", "youtube:first000000", *at).out
    status = json.loads(corpus("status", "--json", *at).out)
    assert status["subtitles"] == {"as they came": 1, "only automatic captions": 1}
