"""Keep, review or drop: each rule, and what a change of thresholds changes."""

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from corpus.catalogue import (
    Catalogue,
    Decision,
    Recording,
    Score,
    Segment,
    Transcript,
    Verdict,
)
from corpus.errors import UserError
from corpus.verdict import (
    DROP,
    KEEP,
    PRESETS_FILE,
    REVIEW,
    Thresholds,
    agreement_cer,
    apply_verdicts,
    judge,
    read_thresholds,
)

from .conftest import AddRecording

THRESHOLDS = read_thresholds("default")
SURE = {"avg_logprob": -0.2, "no_speech_prob": 0.1, "compression_ratio": 1.2}
TEXT = "mother saw seven red boats"


def segment(
    *transcripts: tuple[str, str] | tuple[str, str, dict[str, float]],
    language: str = "en",
    seconds: float = 2.0,
    decisions: tuple[str, ...] = (),
) -> Segment:
    """A segment with (kind, text, scores) transcripts; their ids count from 1."""
    return Segment(
        recording=Recording(language=language),
        start_ms=1000,
        end_ms=1000 + round(seconds * 1000),
        transcripts=[
            Transcript(
                id=number,
                kind=kind,
                text=text,
                scores=[Score(name=k, value=v) for k, v in (scores[0] if scores else {}).items()],
            )
            for number, (kind, text, *scores) in enumerate(transcripts, start=1)
        ],
        decisions=[
            Decision(action=action, reason="noise", transcript_id=9 if action != "reject" else None)
            for action in decisions
        ],
    )


def verdict(*args: Any, **wish: Any) -> str:
    return judge(segment(*args, **wish), THRESHOLDS, "en").verdict


class TestReviewers:
    @pytest.mark.parametrize("action", ["accept", "correct"])
    def test_their_word_is_final(self, action: str) -> None:
        found = judge(segment(("pseudo", "", SURE), decisions=(action,)), THRESHOLDS, "en")
        assert (found.verdict, found.transcript_id) == (KEEP, 9)
        assert found.reasons == [f"{action}ed by a reviewer"]

    def test_a_rejection_drops_with_its_reason(self) -> None:
        found = judge(segment(("release", TEXT), decisions=("reject",)), THRESHOLDS, "en")
        assert (found.verdict, found.transcript_id) == (DROP, None)
        assert found.reasons == ["rejected by a reviewer: noise"]

    def test_the_last_decision_counts_and_a_skip_is_none(self) -> None:
        assert verdict(("release", TEXT), decisions=("accept", "reject", "skip")) == DROP
        assert verdict(("release", TEXT), decisions=("reject", "accept")) == KEEP
        assert verdict(("release", TEXT), decisions=("skip",)) == KEEP


class TestSubtitles:
    @pytest.mark.parametrize(
        ("heard", "expected"),
        [
            (TEXT, KEEP),
            ("Mother saw seven red boats!", KEEP),
            ("mother saw seven red coats", KEEP),
            ("mother saw seven red", REVIEW),
            ("thank you for watching", DROP),
            ("", DROP),
        ],
    )
    def test_they_are_believed_as_far_as_the_model_agrees(self, heard: str, expected: str) -> None:
        found = judge(segment(("subtitle", TEXT), ("pseudo", heard, SURE)), THRESHOLDS, "en")
        assert (found.verdict, found.transcript_id) == (expected, 1)
        assert found.reasons[0].startswith("subtitle and model differ by CER")

    @pytest.mark.parametrize("word", [KEEP, REVIEW, DROP])
    def test_unchecked_ones_are_what_the_thresholds_say(self, word: str) -> None:
        found = judge(segment(("subtitle", TEXT)), replace(THRESHOLDS, unchecked=word), "en")
        assert found.verdict == word

    def test_the_newest_model_is_asked(self) -> None:
        old, new = ("pseudo", "something else", SURE), ("pseudo", TEXT, SURE)
        assert verdict(("subtitle", TEXT), old, new) == KEEP
        assert verdict(("subtitle", TEXT), new, old) == DROP


class TestPseudoLabels:
    @pytest.mark.parametrize(
        ("scores", "expected"),
        [
            (SURE, KEEP),
            ({"avg_logprob": -0.5}, KEEP),
            ({"avg_logprob": -0.8}, REVIEW),
            ({"avg_logprob": -1.2}, DROP),
            ({**SURE, "compression_ratio": 2.5}, DROP),
            ({**SURE, "no_speech_prob": 0.9}, KEEP),
            ({"avg_logprob": -1.1, "no_speech_prob": 0.9}, DROP),
            ({}, DROP),
        ],
    )
    def test_they_are_believed_as_far_as_the_model_was_sure(
        self, scores: dict[str, float], expected: str
    ) -> None:
        assert verdict(("pseudo", TEXT, scores)) == expected

    def test_an_empty_one_is_no_speech(self) -> None:
        found = judge(segment(("pseudo", "", SURE)), THRESHOLDS, "en")
        assert (found.verdict, found.reasons[0]) == (DROP, "no speech heard")

    def test_a_loop_is_called_one(self) -> None:
        scores = {**SURE, "compression_ratio": 7.0}
        found = judge(segment(("pseudo", "no no no no", scores)), THRESHOLDS, "en")
        assert found.reasons == ["a loop: compression ratio 7.0"]


class TestEveryText:
    def test_a_release_is_trusted(self) -> None:
        found = judge(segment(("release", TEXT)), THRESHOLDS, "en")
        assert (found.verdict, found.reasons, found.transcript_id) == (KEEP, ["from a release"], 1)

    @pytest.mark.parametrize("seconds", [0.5, 29.0])
    def test_nobody_speaks_that_fast_or_slowly(self, seconds: float) -> None:
        found = judge(segment(("release", TEXT), seconds=seconds), THRESHOLDS, "en")
        assert found.verdict == REVIEW
        assert "characters per second" in found.reasons[-1]

    def test_pace_does_not_bring_back_what_is_dropped(self) -> None:
        heard = ("pseudo", "nothing of the kind", SURE)
        assert verdict(("subtitle", TEXT), heard, seconds=0.5) == DROP

    def test_another_language_is_dropped_and_another_region_is_not(self) -> None:
        found = judge(segment(("release", TEXT), language="de"), THRESHOLDS, "en")
        assert (found.verdict, found.reasons) == (DROP, ["spoken language is de"])
        assert verdict(("release", TEXT), language="en-GB") == KEEP

    def test_without_any_transcript_there_is_nothing_to_decide(self) -> None:
        assert judge(segment(), THRESHOLDS, "en").reasons == ["no transcript yet"]


class TestAgreement:
    def test_it_is_the_error_rate_of_normalised_characters(self) -> None:
        assert agreement_cer("Room five!", "room hive") == pytest.approx(1 / 9)

    def test_of_nothing_and_something_it_is_one(self) -> None:
        assert agreement_cer("...", "word") == agreement_cer("word", "!") == 1.0
        assert agreement_cer("", "...") == 0.0


class TestThresholds:
    def test_every_preset_is_complete_and_every_value_is_explained(self) -> None:
        text = PRESETS_FILE.read_text(encoding="utf-8")
        assert list(tomllib.loads(text)) == ["strict", "default", "lenient", "trusting"]
        for preset in tomllib.loads(text):
            assert isinstance(read_thresholds(preset), Thresholds)
        comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
        assert all(field.name in comments for field in fields(Thresholds))

    def test_presets_are_ordered_as_their_names_say(self) -> None:
        strict, default, lenient = map(read_thresholds, ("strict", "default", "lenient"))
        assert strict.max_cer < default.max_cer < lenient.max_cer
        assert strict.min_logprob > default.min_logprob > lenient.min_logprob

    def test_a_version_changes_with_any_value(self) -> None:
        changed = replace(THRESHOLDS, max_cer=0.16)
        assert THRESHOLDS.version("default").startswith("default@")
        assert changed.version("default") != THRESHOLDS.version("default")

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("[default]", "[other]", "no preset 'default' .* there are: strict, other, lenient"),
            ("max_cer = 0.15\n", "", r"\[default\] needs exactly .* look at: max_cer"),
            ("max_cer = 0.15", "max_cer = 0.15\nmax_wer = 1.0", "look at: max_wer"),
            ("max_cer = 0.15", 'max_cer = "low"', r"max_cer is a number, not 'low'"),
            ('"review"', '"maybe"', "unchecked is keep, review or drop, not 'maybe'"),
            ("[default]", "[default", "thresholds cannot be read"),
        ],
    )
    def test_a_mistake_in_an_own_file_is_told(
        self, tmp_path: Path, old: str, new: str, told: str
    ) -> None:
        own = tmp_path / "own.toml"
        own.write_text(PRESETS_FILE.read_text(encoding="utf-8").replace(old, new, 1))
        with pytest.raises(UserError, match=told) as error:
            read_thresholds("default", own)
        assert "\n" not in str(error.value)


class TestApplyVerdicts:
    def test_changing_the_thresholds_changes_exactly_what_they_decide(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        sure, unsure, lost = add_recording(
            "talk",
            [
                {"text": TEXT, "kind": "pseudo", "scores": {"avg_logprob": value}}
                for value in (-0.1, -0.4, -3.0)
            ],
        )

        def verdicts() -> dict[str, str]:
            with catalogue.session() as session:
                return {v.segment_id: v.verdict for v in session.scalars(select(Verdict))}

        assert apply_verdicts(catalogue, "default", THRESHOLDS, "en") == {
            KEEP: 2,
            REVIEW: 0,
            DROP: 1,
        }
        assert verdicts() == {sure: KEEP, unsure: KEEP, lost: DROP}
        strict = read_thresholds("strict")
        counts = apply_verdicts(catalogue, "strict", strict, "en")
        assert counts == {KEEP: 1, REVIEW: 1, DROP: 1}
        assert verdicts() == {sure: KEEP, unsure: REVIEW, lost: DROP}
        with catalogue.session() as session:
            versions = set(session.scalars(select(Verdict.thresholds)))
        assert versions == {strict.version("strict")}

    def test_a_second_time_writes_nothing(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [{"text": TEXT}, {"text": "nine"}])
        apply_verdicts(catalogue, "default", THRESHOLDS, "en")
        written: list[str] = []

        @event.listens_for(catalogue.engine, "before_cursor_execute")
        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith(("INSERT", "UPDATE", "DELETE")):
                written.append(statement)

        apply_verdicts(catalogue, "default", THRESHOLDS, "en")
        assert written == []

    def test_many_segments_are_judged_in_several_short_transactions(
        self, catalogue: Catalogue, add_recording: AddRecording, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("corpus.verdict.COMMIT_ROWS", 3)
        add_recording("talk", [{"text": TEXT} for _ in range(10)])
        assert apply_verdicts(catalogue, "default", THRESHOLDS, "en")[KEEP] == 10
        with catalogue.session() as session:
            assert len(session.scalars(select(Verdict)).all()) == 10

    def test_no_segments_are_no_verdicts(self, catalogue: Catalogue) -> None:
        assert sum(apply_verdicts(catalogue, "default", THRESHOLDS, "en").values()) == 0
