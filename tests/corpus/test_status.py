"""What `corpus status` counts."""

import pytest

from corpus.catalogue import Catalogue, Transcript
from corpus.status import print_status, status

from .conftest import AddRecording


def test_an_empty_catalogue_counts_nothing(catalogue: Catalogue) -> None:
    found = status(catalogue)
    assert (found["recordings"], found["segments"], found["decisions"]) == (0, 0, 0)
    assert (found["sources"], found["verdicts"], found["failures"]) == ({}, [], [])


def test_hours_are_told_by_source_and_by_verdict_and_label(
    catalogue: Catalogue, add_recording: AddRecording
) -> None:
    add_recording(
        "one",
        [
            {"seconds": 18.0, "text": "a", "kind": "subtitle", "verdict": "keep"},
            {"seconds": 18.0, "text": "b", "kind": "pseudo", "verdict": "keep"},
            {"seconds": 9.0, "text": "c", "kind": "pseudo", "verdict": "keep"},
            {"seconds": 27.0, "verdict": "drop"},
        ],
        source="youtube",
    )
    add_recording("two", [{"seconds": 36.0}])
    found = status(catalogue)
    assert found["recordings"] == 2
    assert found["sources"] == {
        "files": {"recordings": 1, "hours": 0.01},
        "youtube": {"recordings": 1, "hours": 0.02},
    }
    assert (found["segments"], found["transcripts"], found["unsegmented"]) == (5, 3, 0)
    assert found["verdicts"] == [
        {"verdict": "drop", "label_kind": None, "segments": 1, "hours": 0.0075},
        {"verdict": "keep", "label_kind": "pseudo", "segments": 2, "hours": 0.0075},
        {"verdict": "keep", "label_kind": "subtitle", "segments": 1, "hours": 0.005},
    ]


def test_the_tables_show_the_reasons_and_whether_they_are_tried_again(
    catalogue: Catalogue, add_recording: AddRecording, capsys: pytest.CaptureFixture[str]
) -> None:
    add_recording("one", [{"seconds": 36.0, "text": "a", "verdict": "keep"}], segmented_with=None)
    for item, kind, transient in (("a", "not_cc", False), ("b", "live", True), ("c", "live", True)):
        with catalogue.session() as session:
            catalogue.record_failure(
                session,
                stage="fetch",
                item=item,
                kind=kind,
                message="why",
                transient=transient,
            )
    print_status(status(catalogue))
    captured = capsys.readouterr()
    lines = {
        tuple(cell.strip() for cell in line.strip("│").split("│"))
        for line in captured.out.split("\n")
    }
    assert {("fetch", "live", "2", "yes"), ("fetch", "not_cc", "1", "no")} <= lines
    assert ("keep", "release", "1", "0.01") in lines
    assert "1 recordings wait for `corpus segment`" in captured.err


def test_labels_are_counted_by_model_and_so_is_what_has_none(
    catalogue: Catalogue, add_recording: AddRecording, capsys: pytest.CaptureFixture[str]
) -> None:
    pseudo = {"text": "a", "kind": "pseudo"}
    first, *_ = add_recording(
        "one", [pseudo, pseudo, {"text": "b", "kind": "subtitle"}, {"text": "c"}, {}]
    )
    with catalogue.session() as session:
        session.add(Transcript(segment_id=first, kind="pseudo", origin="large@2", text="a"))
    found = status(catalogue)
    assert found["labelled"] == {"large@2": 1, "test": 2}
    assert found["unlabelled"] == 2
    print_status(found)
    lines = [line.split() for line in capsys.readouterr().out.replace("│", " ").split("\n")]
    assert ["large@2", "1"] in lines
    assert ["neither", "a", "model", "nor", "a", "release", "2"] in lines


def test_subtitles_are_counted_by_what_is_known_of_them(
    catalogue: Catalogue, add_recording: AddRecording
) -> None:
    for name, path, note in (
        ("a", "a.srt", None),
        ("b", "b.srt", "cues left out: 3 × credits"),
        ("c", "c.srt", "suspect_auto: no commas; cues left out: 3 × credits"),
        ("d", "d.srt", "machine: its key is cs-orig"),
        ("e", None, "only automatic captions"),
        ("f", None, "only automatic captions"),
        ("g", None, None),
        ("h", "h.srt", "suspectXauto: is no such mark"),
    ):
        add_recording(name, [{"seconds": 0.1}], subtitle_path=path, subtitle_note=note)
    assert status(catalogue)["subtitles"] == {
        "as they came": 1,
        "cleaned": 2,
        "machine": 1,
        "none": 1,
        "only automatic captions": 2,
        "suspect_auto": 1,
    }
