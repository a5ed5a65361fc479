"""The numbers of `corpus report`, against catalogues that were counted by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete

from corpus.catalogue import Catalogue, Decision, Score, Segment, Transcript, Verdict
from corpus.report import numbers
from corpus.report.numbers import Scale, histogram, reason_kind, report
from corpus.report.tables import histogram_table, tables
from corpus.workspace import Workspace

from .conftest import AddRecording, Corpus

Judge = Callable[..., None]


@pytest.fixture
def judge(catalogue: Catalogue) -> Judge:
    """Give a segment a verdict with reasons."""

    def judge(segment_id: str, verdict: str, *reasons: str) -> None:
        with catalogue.session() as session:
            segment = session.get_one(Segment, segment_id)
            kept = segment.transcripts[0].id if segment.transcripts else None
            segment.verdict = Verdict(
                verdict=verdict, reasons=list(reasons), transcript_id=kept, thresholds="t@0"
            )

    return judge


def hear(catalogue: Catalogue, segment_id: str, text: str, **scores: float) -> None:
    """Add a pseudo-label with scores to a segment."""
    with catalogue.session() as session:
        session.add(
            Transcript(
                segment_id=segment_id,
                kind="pseudo",
                origin="small@1",
                text=text,
                scores=[Score(name=name, value=value) for name, value in scores.items()],
            )
        )


def hours(**by_verdict: float) -> dict[str, Any]:
    """The four hours of a row, from seconds."""
    seconds = {name: by_verdict.get(name, 0.0) for name in ("keep", "review", "drop", "none")}
    return {name: pytest.approx(value / 3600) for name, value in seconds.items()}


def test_an_empty_catalogue_gives_zeros_and_no_tables(
    workspace: Workspace, catalogue: Catalogue
) -> None:
    found = report(workspace, catalogue)
    assert set(found["totals"].values()) == {0}
    assert tables(found) == []
    assert [h["values"] for h in found["histograms"].values()] == [0, 0, 0, 0]
    assert all(found[name] == [] for name in ("losses", "channels", "samples", "runs"))


def test_hours_are_told_by_verdict_for_sources_labels_licences_and_languages(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    add_recording(
        "one",
        [
            {"seconds": 18.0, "text": "a", "kind": "subtitle", "verdict": "keep"},
            {"seconds": 9.0, "text": "b", "kind": "pseudo", "verdict": "review"},
            {"seconds": 27.0, "verdict": "drop"},
            {"seconds": 6.0, "text": "c"},
        ],
        source="youtube",
        licence="CC-BY-3.0",
        language="cs",
    )
    add_recording("two", [{"seconds": 36.0, "text": "d", "verdict": "keep"}])
    add_recording("three", [{"seconds": 1.0}], source="youtube", language="de")
    found = report(workspace, catalogue)
    assert found["totals"]["recordings"] == 3
    assert found["totals"]["hours"] == pytest.approx(97 / 3600)
    assert found["totals"]["speech_hours"] == pytest.approx(97 / 3600)
    assert (found["totals"]["segments"], found["totals"]["labelled_segments"]) == (6, 4)
    assert found["totals"]["labelled_hours"] == pytest.approx(69 / 3600)
    of_one = hours(keep=18, review=9, drop=27, none=6)
    both = hours(keep=18, review=9, drop=27, none=7)
    alone = hours(keep=36)
    assert found["sources"] == [
        {
            "source": "youtube",
            "recordings": 2,
            "hours": pytest.approx(61 / 3600),
            "segments": 5,
            **both,
        },
        {
            "source": "files",
            "recordings": 1,
            "hours": pytest.approx(36 / 3600),
            "segments": 1,
            **alone,
        },
    ]
    assert found["label_kinds"] == [
        {"label_kind": "release", "segments": 1, **alone},
        {"label_kind": "none", "segments": 3, **hours(drop=27, none=7)},
        {"label_kind": "subtitle", "segments": 1, **hours(keep=18)},
        {"label_kind": "pseudo", "segments": 1, **hours(review=9)},
    ]
    assert found["licences"] == [
        {"licence": "CC-BY-3.0", "segments": 4, **of_one},
        {"licence": "CC0-1.0", "segments": 2, **hours(keep=36, none=1)},
    ]
    assert [row["language"] for row in found["languages"]] == ["cs", "en", "de"]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("subtitle and model differ: CER 0.31", "subtitle and model differ"),
        ("low_confidence: mean log-probability -1.20", "low_confidence"),
        ("31.0 characters per second", "characters per second"),
        ("subtitle and model differ by CER 0.31", "subtitle and model differ by CER"),
        ("mean log-probability -0.72", "mean log-probability"),
        ("spoken language is de", "spoken language is de"),
        ("", ""),
    ],
)
def test_reasons_are_grouped_by_what_is_before_the_colon_or_without_numbers(
    reason: str, kind: str
) -> None:
    assert reason_kind(reason) == kind


def test_losses_are_hours_by_verdict_and_reason_and_what_lies_outside_segments(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording, judge: Judge
) -> None:
    first, second, third, fourth = add_recording(
        "one",
        [
            {"seconds": 10.0, "text": "a"},
            {"seconds": 5.0, "text": "b", "gap": 4000},
            {"seconds": 7.0, "text": "c"},
            {"seconds": 9.0, "text": "d"},
        ],
    )
    judge(first, "drop", "cer: 0.61", "pace: 40.1 characters per second")
    judge(second, "drop", "cer: 0.93")
    judge(third, "review", "cer: 0.22")
    judge(fourth, "keep", "cer: 0.02")
    add_recording("two", [{"seconds": 3.0}], segmented_with=None)
    with catalogue.session() as session:
        session.execute(delete(Segment).filter_by(recording_id="two"))
    assert report(workspace, catalogue)["losses"] == [
        {"verdict": "drop", "reason": "cer", "segments": 2, "hours": pytest.approx(15 / 3600)},
        {"verdict": "drop", "reason": "pace", "segments": 1, "hours": pytest.approx(10 / 3600)},
        {"verdict": "review", "reason": "cer", "segments": 1, "hours": pytest.approx(7 / 3600)},
        {
            "verdict": "none",
            "reason": "outside all segments",
            "segments": 0,
            "hours": pytest.approx(4 / 3600),
        },
        {
            "verdict": "none",
            "reason": "not cut into segments yet",
            "segments": 0,
            "hours": pytest.approx(3 / 3600),
        },
    ]


@given(
    st.lists(st.floats(-50, 50), max_size=40),
    st.floats(-5, 5),
    st.floats(0.01, 3),
    st.integers(2, 30),
)
def test_a_histogram_counts_every_value_in_the_bin_that_holds_it(
    values: list[float], low: float, step: float, bins: int
) -> None:
    found = histogram(values, Scale(low, step, bins, "", ""))
    assert sum(found["counts"]) == found["values"] == len(values)
    assert (len(found["counts"]), len(found["edges"])) == (bins, bins + 1)
    below = sum(value < low + step - 1e-6 for value in values)
    assert found["counts"][0] >= below
    beyond = sum(value > low + step * (bins - 1) + 1e-6 for value in values)
    assert found["counts"][-1] >= beyond
    assert (found["median"] is None) == (not values)


def test_a_value_on_an_edge_begins_a_bin_and_the_outer_bins_are_open() -> None:
    scale = Scale(0.0, 0.05, 21, "Subtitle against model", "CER")
    found = histogram([0.15, 0.1499, -1.0, 3.0, 0.3, 0.35], scale)
    rows = dict(histogram_table("cer", found).rows)
    assert {label: count for label, count in rows.items() if count} == {
        "below 0.05": 1,
        "0.1 to 0.15": 1,
        "0.15 to 0.2": 1,
        "0.3 to 0.35": 1,
        "0.35 to 0.4": 1,
        "1 and more": 1,
    }
    assert found["median"] == pytest.approx(0.225)


def test_cer_is_the_score_where_there_is_one_and_computed_where_there_is_none(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    scored, unscored, *_ = add_recording(
        "one",
        [
            {"text": "red boats", "kind": "subtitle", "scores": {"cer": 0.75}},
            {"text": "blue boats", "kind": "subtitle"},
            {"text": "nobody heard it", "kind": "subtitle"},
            {"text": "no subtitle", "kind": "release", "scores": {"cer": 0.9}},
        ],
    )
    hear(catalogue, scored, "red boats")
    hear(catalogue, unscored, "something older")
    hear(catalogue, unscored, "blue goats")
    found = report(workspace, catalogue)["histograms"]["cer"]
    assert (found["values"], found["of"]) == (2, 2)
    assert found["median"] == pytest.approx((0.75 + 0.1) / 2)  # one letter of ten is another


def test_a_segment_that_was_cut_anew_does_not_count(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    labels = [{"text": "red boats", "kind": "subtitle"}, {"text": "blue boats", "kind": "subtitle"}]
    for segment in add_recording("one", labels):
        hear(catalogue, segment, "red boats")
    with catalogue.session() as session:
        session.get_one(Segment, segment).superseded = True
    found = report(workspace, catalogue)["histograms"]["cer"]
    assert (found["values"], found["of"], found["median"]) == (1, 1, 0.0)


def test_of_many_segments_an_even_choice_is_computed_and_told(
    workspace: Workspace,
    catalogue: Catalogue,
    add_recording: AddRecording,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numbers, "CER_SAMPLE", 10)
    wishes = [{"text": "a b c d e", "kind": "subtitle", "seconds": 0.1} for _ in range(30)]
    for number, segment in enumerate(add_recording("one", wishes)):
        hear(catalogue, segment, "a b c d e" if number < 15 else "v w x y z")
    found = report(workspace, catalogue)["histograms"]["cer"]
    assert (found["values"], found["of"]) == (10, 30)
    assert found == report(workspace, catalogue)["histograms"]["cer"]
    assert 2 <= found["counts"][0] <= 8  # both halves are in it
    assert "evenly spread among 30" in histogram_table("cer", found).note


def test_lengths_pace_and_certainty_are_counted(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording, judge: Judge
) -> None:
    one, two = add_recording(
        "one",
        [
            {"seconds": 2.0, "text": "x" * 30},
            {"seconds": 30.0, "text": "x" * 900, "scores": {"chars_per_second": 29.0}},
        ],
    )
    judge(one, "keep")
    judge(two, "keep")
    hear(catalogue, one, "older", avg_logprob=-1.9)
    hear(catalogue, one, "newer", avg_logprob=-0.25)
    hear(catalogue, two, "bad", avg_logprob=-7.0)
    found = report(workspace, catalogue)["histograms"]

    def filled(name: str) -> dict[str, int]:
        return {label: n for label, n in histogram_table(name, found[name]).rows if n}

    assert filled("duration") == {"2 to 3": 1, "29 and more": 1}
    # As scored, else as written.
    assert filled("chars_per_second") == {
        "14 to 16": 1,
        "28 to 30": 1,
    }
    assert filled("avg_logprob") == {"below -1.9": 1, "-0.3 to -0.2": 1}


def test_channels_come_in_the_order_of_error_times_size(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording, judge: Judge
) -> None:
    def channel(name: str, cer: float, seconds: float, verdict: str, **columns: Any) -> None:
        (id,) = add_recording(
            f"of {name}",
            [
                {
                    "text": "a",
                    "kind": "subtitle",
                    "seconds": seconds,
                    "scores": {"cer": cer, "align_start_shift": -cer},
                }
            ],
            source="youtube",
            channel_id=f"UC{name}",
            channel=f"Channel {name}",
            subtitle_path="x.srt",
            **columns,
        )
        judge(id, verdict, f"cer: {cer}", *(["pace: 40"] if verdict == "drop" else []))

    channel("bad but small", 0.9, 1.0, "drop")
    channel("large and bad", 0.5, 20.0, "drop", subtitle_note="suspect_auto: no commas")
    channel("large and good", 0.01, 25.0, "keep")
    add_recording("silent", [{"seconds": 2.0}])
    found = report(workspace, catalogue)["channels"]
    assert [row["channel_id"] for row in found] == [
        "UClarge and bad",
        "UCbad but small",
        "UClarge and good",
        None,
    ]
    worst, silent = found[0], found[-1]
    assert (worst["median_cer"], worst["median_align_start_shift"]) == (0.5, -0.5)
    assert (worst["kept_share"], worst["suspect_auto"]) == (0.0, 1)
    assert worst["reasons"] == {"cer": 1, "pace": 1}
    assert found[2]["kept_share"] == 1.0
    assert (silent["source"], silent["median_cer"], silent["reasons"]) == ("files", None, {})


def test_reviewers_and_failures_are_counted(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    one, two, three = add_recording("one", [{"seconds": 18.0, "text": t} for t in "abc"])
    with catalogue.session() as session:
        for id, reviewer, action in (
            (one, "First", "accept"),
            (two, "First", "reject"),
            (three, "First", "skip"),
            (three, "Second", "correct"),
        ):
            session.add(Decision(segment_id=id, reviewer=reviewer, action=action))
        for item, kind, transient in (
            ("a", "not_cc", False),
            ("b", "live", True),
            ("c", "live", True),
        ):
            catalogue.record_failure(
                session, stage="fetch", item=item, kind=kind, message="m", transient=transient
            )
    found = report(workspace, catalogue)
    counts = {"accept": 1, "correct": 0, "reject": 1, "skip": 1}
    assert found["reviewers"] == [
        {"reviewer": "First", **counts, "hours": 0.01},
        {
            "reviewer": "Second",
            **{"accept": 0, "correct": 1, "reject": 0, "skip": 0},
            "hours": 0.005,
        },
    ]
    assert found["totals"]["reviewed_segments"] == 3
    assert found["failures"] == [
        {"stage": "fetch", "reason": "live", "retried": True, "items": 2},
        {"stage": "fetch", "reason": "not_cc", "retried": False, "items": 1},
    ]


def test_datasets_and_runs_of_the_workspace_are_told(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording, corpus: Corpus
) -> None:
    for split in ("train", "test"):
        add_recording(
            f"for {split}",
            [{"seconds": 18.0, "text": f"{split} {i}", "verdict": "keep"} for i in range(2)],
            split=split,
            speaker=split,
        )
    add_recording("lost", [{"seconds": 5.0, "text": "x", "verdict": "drop"}])
    at = ("--workspace", workspace.root)
    assert corpus("build", "one", "--dev-hours", 0, "--test-hours", 0, *at).code == 0
    (workspace.datasets / ".half.part").mkdir()
    run = workspace.root / "runs" / "one-small"
    run.mkdir(parents=True)
    dataset = str(workspace.datasets / "one")
    config = {"model": "/there/runs/first/model", "datasets": [dataset], "steps": 40}
    run.joinpath("run.json").write_text(json.dumps({"status": "running", "config": config}))
    run.joinpath("metrics.jsonl").write_text(
        '{"step": 1, "loss": 2.0}\n'
        '{"step": 10, "dev_wer": 0.5, "dev_cer": 0.2, "seconds": 1.0}\n'
        '{"step": 20, "dev_wer": 0.4, "dev_cer": 0.1, "seconds": 1.0}\n'
        '{"step": 30, "dev_wer": 0.45, "dev_c'
    )
    workspace.root.joinpath("runs", "broken").mkdir()
    workspace.root.joinpath("runs", "broken", "run.json").write_text("{")
    found = report(workspace, catalogue)
    (dataset,) = found["datasets"]
    manifest = json.loads((workspace.datasets / "one" / "manifest.json").read_text())
    assert dataset == {
        "name": "one",
        "hours": pytest.approx(0.02, rel=0.01),
        "rows": {"train": manifest["rows"]["train"], "dev": 0, "test": 2},
        "segments": 4,
        "left_out": 1,
    }
    assert found["runs"] == [
        {
            "name": "one-small",
            "status": "running",
            "model": "first",
            "datasets": ["one"],
            "steps": 40,
            "best_step": 20,
            "dev_wer": 0.4,
            "dev_cer": 0.1,
        }
    ]


def test_samples_cover_each_verdict_and_reason_and_are_the_same_each_time(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording, judge: Judge
) -> None:
    ids = add_recording("one", [{"text": f"text {i}", "seconds": 0.1} for i in range(40)])
    for number, id in enumerate(ids):
        kind = ("keep", "accepted"), ("drop", "cer"), ("drop", "pace"), ("review", "cer")
        verdict, reason = kind[min(number // 10, 3) if number else 3]
        judge(id, verdict, f"{reason}: {number}")
    found = report(workspace, catalogue)["samples"]
    groups = [(sample["verdict"], sample["reason"]) for sample in found]
    assert sorted(set(groups)) == [
        ("drop", "cer"),
        ("drop", "pace"),
        ("keep", "accepted"),
        ("review", "cer"),
    ]
    assert all(groups.count(group) == numbers.SAMPLES_PER_REASON for group in groups)
    assert [g[0] for g in groups] == sorted(
        (g[0] for g in groups), key=["keep", "review", "drop"].index
    )
    assert found == report(workspace, catalogue)["samples"]


class TestCommand:
    def test_the_tables_show_the_numbers_of_the_json(
        self, workspace: Workspace, add_recording: AddRecording, corpus: Corpus
    ) -> None:
        add_recording("one", [{"seconds": 36.0, "text": "[b]a[/b]", "verdict": "keep"}])
        at = ("--workspace", workspace.root)
        found = json.loads(corpus("report", "--json", *at).out)
        lines = {
            tuple(cell.strip() for cell in line.strip("│").split("│"))
            for line in corpus("report", *at).out.split("\n")
        }
        assert found["sources"][0]["keep"] == 0.01
        assert ("files", "1", "0.01", "1", "0.01", "0.00", "0.00", "0.00") in lines
        assert ("speech hours", "0.01") in lines

    def test_a_page_is_written_beside_the_json_and_an_older_page_is_replaced(
        self, workspace: Workspace, add_recording: AddRecording, corpus: Corpus, tmp_path: Path
    ) -> None:
        page, at = tmp_path / "page.html", ("--workspace", workspace.root)
        outcome = corpus("report", "--html", page, *at)
        assert (outcome.code, outcome.out) == (0, f"{page} is written; it opens in any browser\n")
        older = page.read_bytes()
        add_recording("one", [{"seconds": 36.0, "text": "a", "verdict": "keep"}])
        found = json.loads(corpus("report", "--html", page, "--json", *at).out)
        assert found["totals"]["recordings"] == 1
        assert page.read_bytes() != older
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["page.html"]

    @pytest.mark.parametrize("content", ["<!DOCTYPE html><p>My thesis</p>", "", "\0binary"])
    def test_a_file_that_is_no_report_is_never_overwritten(
        self, workspace: Workspace, corpus: Corpus, tmp_path: Path, content: str
    ) -> None:
        mine = tmp_path / "mine.html"
        mine.write_text(content)
        outcome = corpus("report", "--html", mine, "--workspace", workspace.root)
        assert outcome.code == 1
        assert "exists and is no report; choose another file" in outcome.err
        assert mine.read_text() == content

    def test_a_folder_is_no_place_for_a_page(
        self, workspace: Workspace, corpus: Corpus, tmp_path: Path
    ) -> None:
        outcome = corpus("report", "--html", tmp_path, "--workspace", workspace.root)
        assert (outcome.code, "is a folder" in outcome.err) == (1, True)

    @pytest.mark.sqlite
    @pytest.mark.parametrize("command", [["status"], ["report"], ["report", "--html", "page.html"]])
    def test_a_catalogue_that_is_gone_is_told_and_not_made_anew(
        self,
        workspace: Workspace,
        corpus: Corpus,
        command: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for _ in range(2):
            outcome = corpus(*command, "--workspace", workspace.root)
            assert outcome.code == 0
            assert "has no catalogue.sqlite, so nothing is known here" in outcome.err
            assert not (workspace.root / "catalogue.sqlite").exists()
