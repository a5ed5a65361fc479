"""Keep, review or drop: each rule, and what a change of thresholds changes."""

import json
import tomllib
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update

from corpus.catalogue import Catalogue, Decision, Score, Segment, Transcript, Verdict
from corpus.errors import UserError
from corpus.evidence import Evidence
from corpus.explain import explain, forecast
from corpus.score import Text, phrases_for
from corpus.thresholds import DROP, KEEP, PRESETS_FILE, REVIEW, Thresholds, read_thresholds
from corpus.verdict import (
    FLAGS,
    GROUNDS,
    Judgement,
    Rules,
    applied_thresholds,
    apply_verdicts,
    heed_decisions,
    judge,
    reason_kind,
)
from corpus.verdict import score as measure
from corpus.workspace import Workspace

from .conftest import AddRecording, Corpus

THRESHOLDS = read_thresholds("default")
PRESETS = ["default", "strict", "lenient", "relative", "trusting"]
SURE = {"avg_logprob": -0.2, "no_speech_prob": 0.1, "compression_ratio": 1.2}
TEXT = "mother saw seven red boats"
LONG = "mother saw seven red boats and then they went home to read about rivers and stones"


def evidence(
    *transcripts: tuple[str, str] | tuple[str, str, dict[str, float]],
    language: str = "en",
    seconds: float = 2.0,
    decided: tuple[str, str | None, int | None] | None = None,
    note: str | None = None,
    validated: bool = True,
) -> Evidence:
    """A segment with (kind, text, scores) transcripts, each of another origin, counted from 1."""
    texts = [
        Text(number, kind, f"origin {number}", text, scores[0] if scores else {})
        for number, (kind, text, *scores) in enumerate(transcripts, start=1)
    ]
    known = ("talk@0-2000", "talk", seconds, language, "UC1", note, texts, decided)
    return Evidence(*known, validated=validated)


def judged(
    *transcripts: Any, thresholds: Thresholds = THRESHOLDS, code: str = "en", **wish: Any
) -> Judgement:
    segment = evidence(*transcripts, **{"language": code, **wish})
    return judge(segment, measure(segment, code, phrases_for(code)), thresholds, code)


def verdict(*transcripts: Any, **wish: Any) -> str:
    return judged(*transcripts, **wish).verdict


def kinds(*transcripts: Any, **wish: Any) -> list[str]:
    return [reason_kind(reason) for reason in judged(*transcripts, **wish).reasons]


class TestReasons:
    def test_each_is_of_a_kind_of_the_closed_list(self) -> None:
        assert not GROUNDS.keys() & FLAGS.keys()
        assert reason_kind("wrong text: CER 0.90") == "wrong text"
        assert reason_kind("subtitle and model differ by CER 0.20") == "other"

    def test_the_worst_of_what_is_found_decides_and_stands_first(self) -> None:
        found = judged(("subtitle", TEXT), ("pseudo", "other words", SURE), seconds=0.5)
        assert [finding.verdict for finding in found.findings] == [DROP, REVIEW]
        assert found.verdict == DROP


class TestReviewers:
    @pytest.mark.parametrize("action", ["accept", "correct"])
    def test_their_word_is_final(self, action: str) -> None:
        found = judged(("pseudo", "", SURE), decided=(action, None, 9))
        assert (found.verdict, found.transcript_id) == (KEEP, 9)
        assert found.reasons == [f"reviewed: {action}ed"]

    def test_a_rejection_drops_with_its_reason(self) -> None:
        found = judged(("release", TEXT), decided=("reject", "music_or_noise", None))
        assert (found.verdict, found.transcript_id) == (DROP, None)
        assert found.reasons == ["rejected: music_or_noise"]

    def test_two_models_that_agree_do_not_overrule_it(self) -> None:
        same = ("pseudo", "what both hear", SURE)
        found = judged(same, same, decided=("correct", None, 9))
        assert (found.verdict, found.transcript_id) == (KEEP, 9)
        assert verdict(same, same, decided=("reject", "other", None)) == DROP


class TestSubtitles:
    @pytest.mark.parametrize(
        ("heard", "expected", "kind"),
        [
            (TEXT, KEEP, "subtitle"),
            ("Mother saw seven red boats!", KEEP, "subtitle"),
            ("mother saw seven red coats", KEEP, "subtitle"),
            ("mother saw seven red", REVIEW, "differs"),
            ("brother says nothing at all", DROP, "wrong text"),
            ("thank you for watching", DROP, "no speech"),
            ("", DROP, "no speech"),
        ],
    )
    def test_they_are_believed_as_far_as_the_model_agrees(
        self, heard: str, expected: str, kind: str
    ) -> None:
        found = judged(("subtitle", TEXT), ("pseudo", heard, SURE))
        assert (found.verdict, found.transcript_id) == (expected, 1)
        assert reason_kind(found.reasons[0]) == kind

    @pytest.mark.parametrize("word", [KEEP, REVIEW, DROP])
    def test_unchecked_ones_are_what_the_thresholds_say(self, word: str) -> None:
        found = judged(("subtitle", TEXT), thresholds=replace(THRESHOLDS, unchecked=word))
        assert found.verdict == word
        assert found.reasons == ["unchecked: no model has listened to it"]

    def test_the_newest_model_is_asked(self) -> None:
        old, new = ("pseudo", "something else", SURE), ("pseudo", TEXT, SURE)
        assert verdict(("subtitle", TEXT), old, new) == KEEP
        assert verdict(("subtitle", TEXT), new, old) == DROP

    @pytest.mark.parametrize(
        ("label", "heard", "kind"),
        [
            (LONG, f"oh well {LONG}", "missing start"),
            (LONG, f"{LONG} oh well", "missing end"),
            (f"oh well {LONG}", LONG, "unheard start"),
            (f"{LONG} oh well", LONG, "unheard end"),
            (LONG, LONG.replace("they", "all of them together"), "missing words"),
        ],
    )
    def test_what_a_good_cer_hides_goes_to_a_person(
        self, label: str, heard: str, kind: str
    ) -> None:
        wide = replace(THRESHOLDS, max_cer=0.3, review_cer=0.5)
        found = judged(("subtitle", label), ("pseudo", heard, SURE), seconds=8.0, thresholds=wide)
        assert found.verdict == REVIEW
        assert [reason_kind(reason) for reason in found.reasons] == [kind, "subtitle"]

    def test_a_short_one_whose_first_words_are_lost_goes_to_a_person_and_is_not_dropped(
        self,
    ) -> None:
        heard = ("pseudo", f"please call {TEXT}", SURE)
        found = judged(("subtitle", TEXT), heard)
        assert found.verdict == REVIEW
        assert "missing start" in map(reason_kind, found.reasons)
        assert verdict(("subtitle", "boats"), heard) == DROP

    def test_a_model_that_goes_round_says_nothing_about_a_subtitle(self) -> None:
        for heard in (
            ("pseudo", "red red red red red red", SURE),
            ("pseudo", "many words of a long loop", {**SURE, "compression_ratio": 5.0}),
        ):
            for preset in ("strict", "default", "lenient"):
                thresholds = read_thresholds(preset)
                found = judged(("subtitle", TEXT), heard, thresholds=thresholds)
                assert found.verdict == thresholds.unchecked
                assert reason_kind(found.reasons[0]) == "unchecked"

    def test_words_that_lie_badly_on_the_sound_go_to_a_person(self) -> None:
        improbable = {**SURE, "align_prob_median": 0.2}
        nearly = ("pseudo", TEXT.replace("boats", "boat"), improbable)
        assert kinds(("subtitle", TEXT), nearly) == ["weak alignment", "subtitle"]
        assert kinds(("subtitle", TEXT.upper()), ("pseudo", TEXT, improbable)) == ["subtitle"]

    def test_a_number_in_digits_is_no_difference_but_another_number_is(self) -> None:
        label = ("subtitle", "mother saw 25 red boats")
        spelled = judged(label, ("pseudo", "mother saw twenty-five red boats", SURE))
        assert (spelled.verdict, spelled.reasons[-1]) == (
            KEEP,
            "numbers: 1 in digits by one of the two",
        )
        strict = read_thresholds("strict")
        heard = ("pseudo", "mother saw 91 red boats", SURE)
        assert verdict(label, heard, thresholds=strict) == REVIEW

    def test_a_translation_is_told_by_its_script_and_a_foreign_word_is_none(self) -> None:
        heard = ("pseudo", "maminka viděla sedm červených lodí", SURE)
        found = judged(("subtitle", "мама видела семь красных кораблей"), heard, code="cs")
        assert (found.verdict, reason_kind(found.reasons[0])) == (DROP, "other language")
        mixed = "मैंने office में काम किया"
        assert verdict(("subtitle", mixed), ("pseudo", mixed, SURE), code="hi") == KEEP
        english = "all of this is english"
        assert verdict(("subtitle", english), ("pseudo", english, SURE), code="hi") == REVIEW

    def test_an_unlikely_language_explains_a_difference_and_makes_none(self) -> None:
        scores = {**SURE, "language_prob": 0.1}
        assert kinds(("subtitle", TEXT), ("pseudo", TEXT, scores)) == ["subtitle"]
        assert kinds(("subtitle", TEXT), ("pseudo", "brother says nothing", scores)) == [
            "other language",
            "wrong text",
        ]


class TestSilence:
    def test_is_kept_where_the_model_hears_nothing(self) -> None:
        nothing = ("subtitle", "")
        for heard in (
            ("pseudo", "", {}),
            ("pseudo", "Thank you.", {**SURE, "no_speech_prob": 0.9}),
            ("pseudo", "mumble", {"no_speech_prob": 0.9}),
        ):
            found = judged(nothing, heard, seconds=20.0)
            assert (found.verdict, found.transcript_id) == (KEEP, 1)
            assert reason_kind(found.reasons[0]) == "silence"

    def test_goes_to_a_person_where_the_model_hears_speech(self) -> None:
        found = judged(("subtitle", ""), ("pseudo", TEXT, SURE))
        assert found.reasons == [f"untranscribed speech: the model hears “{TEXT}”"]
        assert (found.verdict, found.transcript_id) == (REVIEW, 2)  # what is heard is shown

    def test_unheard_is_unchecked(self) -> None:
        assert kinds(("subtitle", "")) == ["unchecked"]


class TestSubtitlesThatLookMachineMade:
    SUSPECT = "suspect_auto: 0.0 commas in 1,000 words, 0.0 sentence ends in 1,000 words"
    MACHINE = "machine: its key is en-orig; 3 × cue without text"

    def test_people_decide_however_well_a_model_agrees(self) -> None:
        found = judged(("subtitle", TEXT), ("pseudo", TEXT, SURE), note=self.SUSPECT)
        assert (found.verdict, found.transcript_id) == (REVIEW, 1)
        assert found.reasons[0] == (
            "machine subtitles: 0.0 commas in 1,000 words, 0.0 sentence ends in 1,000 words"
        )

    @pytest.mark.parametrize("preset", PRESETS)
    def test_no_preset_keeps_one(self, preset: str) -> None:
        for note in (self.SUSPECT, self.MACHINE):
            thresholds = read_thresholds(preset)
            assert verdict(("subtitle", TEXT), note=note, thresholds=thresholds) != KEEP

    def test_a_bad_one_is_not_brought_back(self) -> None:
        other = ("pseudo", "thank you for watching", SURE)
        assert verdict(("subtitle", TEXT), other, note=self.SUSPECT) == DROP

    def test_a_reviewer_may_keep_it(self) -> None:
        decided = ("accept", None, 9)
        assert verdict(("subtitle", TEXT), decided=decided, note=self.SUSPECT) == KEEP

    def test_a_surely_machine_made_one_counts_for_less_than_the_models_own(self) -> None:
        found = judged(("subtitle", TEXT), ("pseudo", "other words", SURE), note=self.MACHINE)
        assert (found.verdict, found.transcript_id) == (KEEP, 2)
        assert found.reasons == [
            "pseudo: mean log-probability -0.20",
            "left aside: machine subtitles (its key is en-orig)",
        ]

    def test_other_notes_change_nothing(self) -> None:
        same = ("pseudo", TEXT, SURE)
        assert verdict(("subtitle", TEXT), same, note="2 × cue without text") == KEEP


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
            ({**SURE, "language_prob": 0.3}, REVIEW),
            ({}, REVIEW),
        ],
    )
    def test_they_are_believed_as_far_as_the_model_was_sure(
        self, scores: dict[str, float], expected: str
    ) -> None:
        assert verdict(("pseudo", TEXT, scores)) == expected

    @pytest.mark.parametrize(
        ("text", "kind", "expected"),
        [
            ("", "no speech", DROP),
            ("…", "no speech", DROP),
            ("no no no no", "repeated phrase", REVIEW),
            ("Subtitles by the Amara.org community", "credits", DROP),
            ("Thank you for watching!", "known phrase", REVIEW),
            ("thank you thank you", "known phrase", REVIEW),
            ("she said thank you for watching", "pseudo", KEEP),
            ("мама видела лодки", "other language", REVIEW),
            ("mother saw aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa boats", "long word", REVIEW),
        ],
    )
    def test_what_models_make_up_is_told_by_its_text(
        self, text: str, kind: str, expected: str
    ) -> None:
        found = judged(("pseudo", text, SURE))
        assert (found.verdict, reason_kind(found.reasons[0])) == (expected, kind)

    def test_one_that_another_model_hears_too_is_kept_where_confidence_alone_would_not(
        self,
    ) -> None:
        unsure = {"avg_logprob": -0.8}
        first, second = ("pseudo", TEXT, unsure), ("pseudo", TEXT.upper(), unsure)
        found = judged(first, second)
        assert (found.verdict, found.transcript_id) == (KEEP, 2)
        assert found.reasons[0].startswith("models agree: CER 0.00")
        assert verdict(first, ("pseudo", "she saw eleven red goats", unsure)) == REVIEW
        assert verdict(first, ("pseudo", TEXT, {"avg_logprob": -1.2})) == DROP
        assert verdict(first, second, thresholds=read_thresholds("trusting")) == REVIEW

    def test_the_same_model_twice_is_no_second_opinion(self) -> None:
        once = evidence(("pseudo", TEXT, {"avg_logprob": -0.8}))
        twice = replace(once, texts=[once.texts[0], replace(once.texts[0], id=2)])
        assert measure(twice, "en", phrases_for("en")).agreement is None  # type: ignore[union-attr]


class TestEveryText:
    def test_what_listeners_have_not_agreed_on_is_checked_like_a_subtitle(self) -> None:
        wish = {"validated": False}
        assert kinds(("release", TEXT), **wish) == ["unchecked"]
        assert verdict(("release", TEXT), ("pseudo", TEXT, SURE), **wish) == KEEP
        assert verdict(("release", LONG), ("pseudo", "other words", SURE), **wish) == DROP

    def test_a_release_is_trusted(self) -> None:
        found = judged(("release", TEXT))
        assert (found.verdict, found.reasons) == (KEEP, ["release: origin 1"])
        assert found.transcript_id == 1

    @pytest.mark.parametrize(("seconds", "kind"), [(0.5, "too fast"), (29.0, "too slow")])
    def test_nobody_speaks_that_fast_or_slowly(self, seconds: float, kind: str) -> None:
        found = judged(("release", TEXT), seconds=seconds)
        assert (found.verdict, reason_kind(found.reasons[0])) == (REVIEW, kind)

    def test_pace_does_not_bring_back_what_is_dropped(self) -> None:
        heard = ("pseudo", "nothing of the kind", SURE)
        assert verdict(("subtitle", TEXT), heard, seconds=0.5) == DROP

    def test_another_language_is_dropped_and_another_region_is_not(self) -> None:
        found = judged(("release", TEXT), language="de")
        assert (found.verdict, found.reasons) == (
            DROP,
            ["other language: the recording is in de"],
        )
        assert verdict(("release", TEXT), language="en-GB") == KEEP

    def test_without_any_transcript_there_is_nothing_to_decide(self) -> None:
        assert (verdict(), kinds()) == (REVIEW, ["no transcript"])


class TestThresholds:
    def test_every_value_is_explained_and_every_preset_can_be_read(self) -> None:
        text = PRESETS_FILE.read_text(encoding="utf-8")
        assert list(tomllib.loads(text)) == PRESETS
        for preset in PRESETS:
            assert isinstance(read_thresholds(preset), Thresholds)
        comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
        assert all(field.name in comments for field in fields(Thresholds))

    def test_presets_are_ordered_as_their_names_say(self) -> None:
        strict, default, lenient = map(read_thresholds, ("strict", "default", "lenient"))
        for name in ("max_cer", "review_cer", "max_edge_cer", "max_ins_rate", "max_disagreement"):
            assert getattr(strict, name) < getattr(default, name) < getattr(lenient, name)
        assert strict.min_logprob > default.min_logprob > lenient.min_logprob

    def test_a_version_changes_with_any_value(self) -> None:
        for name, value in asdict(THRESHOLDS).items():
            changed = replace(THRESHOLDS, **{name: "keep" if name == "unchecked" else value + 0.01})
            assert changed.version("default") != THRESHOLDS.version("default")
        assert THRESHOLDS.version("default").startswith("default@")

    def test_an_own_preset_needs_only_what_differs(self, tmp_path: Path) -> None:
        own = tmp_path / "own.toml"
        own.write_text("[mine]\nmax_cer = 0.2\n", encoding="utf-8")
        assert read_thresholds("mine", own) == replace(THRESHOLDS, max_cer=0.2)
        own.write_text("[default]\nmin_logprob = -0.1\n[mine]\nmax_cer = 0.2\n")
        assert read_thresholds("mine", own) == replace(THRESHOLDS, max_cer=0.2, min_logprob=-0.1)

    @pytest.mark.parametrize(
        ("own", "told"),
        [
            ("[other]\nmax_cer = 0.1", "no preset 'mine' .* there are: other"),
            ("[mine]\nmax_wer = 1.0", "no threshold max_wer; there are: max_cer"),
            ('[mine]\nmax_cer = "low"', r"\[mine\] max_cer is a number, not 'low'"),
            ('[mine]\nunchecked = "maybe"', "unchecked is keep, review or drop, not 'maybe'"),
            ("[mine]\nkeep_cer_quantile = 75", "keep_cer_quantile is from 0 to 1, not 75"),
            ("[mine", "thresholds cannot be read"),
        ],
    )
    def test_a_mistake_in_an_own_file_is_told(self, tmp_path: Path, own: str, told: str) -> None:
        file = tmp_path / "own.toml"
        file.write_text(own, encoding="utf-8")
        with pytest.raises(UserError, match=told) as error:
            read_thresholds("mine", file)
        assert "\n" not in str(error.value)


class TestRelativeThresholds:
    RELATIVE = read_thresholds("relative")

    def test_the_best_of_a_channel_are_kept_and_outliers_dropped(self) -> None:
        cers = [0.3 + 0.001 * i for i in range(100)]
        limits = self.RELATIVE.relative_to(cers, [])
        assert limits.max_cer == pytest.approx(0.3743, abs=0.001)
        assert limits.review_cer == pytest.approx(0.3495 + 1.5 * 0.0495, abs=0.001)
        assert limits.min_logprob == self.RELATIVE.min_logprob

    def test_pseudo_labels_go_by_the_channels_log_probabilities(self) -> None:
        limits = self.RELATIVE.relative_to([], [-0.01 * i for i in range(101)])
        assert limits.min_logprob == pytest.approx(-0.5)
        assert limits.review_logprob == pytest.approx(-0.9)

    def test_no_channel_is_so_bad_that_everything_goes(self) -> None:
        limits = self.RELATIVE.relative_to([2.0] * 50, [-3.0] * 50)
        assert (limits.max_cer, limits.review_cer) == (0.8, 1.0)
        assert limits.min_logprob == self.RELATIVE.min_logprob

    def test_a_few_scores_have_no_quartiles(self) -> None:
        assert self.RELATIVE.relative_to([0.1] * 29, [-0.1] * 29) == self.RELATIVE

    def test_the_other_presets_do_not_move(self) -> None:
        assert not THRESHOLDS.are_relative
        assert THRESHOLDS.relative_to([0.9] * 50, [-2.0] * 50) == THRESHOLDS

    def test_each_channel_goes_by_its_own_and_a_small_one_by_all(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        def words(count: int) -> str:
            return f"{LONG} with trees on them"[: 100 - count] + "x" * count

        def add(name: str, cers: list[int]) -> list[str]:
            keys = add_recording(
                name,
                [{"text": words(0), "kind": "subtitle", "seconds": 8.0} for _ in cers],
                channel_id=name,
            )
            with catalogue.session() as session:
                for key, cer in zip(keys, cers, strict=True):
                    session.add(
                        Transcript(
                            segment_id=key,
                            kind="pseudo",
                            origin="m",
                            text=words(cer),
                            scores=[Score(name="avg_logprob", value=-1.0)],
                        )
                    )
            return keys

        easy = add("easy", [5] * 36 + [20] * 4)
        hard = add("hard", [*range(40, 76), 20, 20, 20, 20])
        small = add("small", [20])
        apply_verdicts(catalogue, "relative", self.RELATIVE, "en")
        with catalogue.session() as session:
            found = {v.segment_id: v.verdict for v in session.scalars(select(Verdict))}
        assert [found[key] for key in easy] == [KEEP] * 36 + [DROP] * 4
        assert [found[key] for key in hard[-4:]] == [KEEP] * 4
        assert found[hard[35]] == REVIEW
        assert found[small[0]] == KEEP
        rules = Rules(catalogue, self.RELATIVE, "en")
        told = explain(catalogue, rules, easy[0])["thresholds"]
        assert told["max_cer"] == pytest.approx(0.05)


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
        monkeypatch.setattr("corpus.evidence.BATCH_ROWS", 3)
        add_recording("talk", [{"text": TEXT} for _ in range(10)])
        assert apply_verdicts(catalogue, "default", THRESHOLDS, "en")[KEEP] == 10
        with catalogue.session() as session:
            assert len(session.scalars(select(Verdict)).all()) == 10

    def test_scores_are_stored_with_the_label_and_follow_the_newest_model(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        (key,) = add_recording("talk", [{"text": TEXT, "kind": "subtitle"}])

        def hear(origin: str, text: str) -> dict[str, float]:
            with catalogue.session() as session:
                session.add(Transcript(segment_id=key, kind="pseudo", origin=origin, text=text))
            apply_verdicts(catalogue, "default", THRESHOLDS, "en")
            with catalogue.session() as session:
                subtitle = session.get_one(Segment, key).transcripts[0]
                return {score.name: score.value for score in subtitle.scores}

        found = hear("old", "saw seven red boats")
        assert found["cer"] == found["del_rate"] == pytest.approx(7 / 26)
        assert (found["wer"], found["cer_tail"]) == (pytest.approx(1 / 5), 0.0)
        assert found["chars_per_second"] == pytest.approx(13.0)
        found = hear("new", TEXT)
        assert (found["cer"], found["wer"]) == (0.0, 0.0)
        assert found["agreement"] == pytest.approx(7 / 19)

    def test_a_decision_made_meanwhile_is_not_overruled(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        (key,) = add_recording("talk", [{"text": TEXT, "kind": "pseudo", "scores": SURE}])
        with catalogue.session() as session:
            session.add(Decision(segment_id=key, reviewer="First", action="skip"))
            session.add(
                Decision(segment_id=key, reviewer="First", action="reject", reason="private")
            )
            session.add(Decision(segment_id=key, reviewer="First", action="skip"))
        assert apply_verdicts(catalogue, "lenient", read_thresholds("lenient"), "en")[DROP] == 1

    def test_people_who_differ_are_believed_once_an_adjudicator_has_settled_it(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        keys = add_recording("talk", [{"text": TEXT, "kind": "pseudo", "scores": SURE}] * 5)

        def decide(key: str, reviewer: str, text: str | None, **wish: object) -> None:
            with catalogue.session() as session:
                made = Decision(segment_id=key, reviewer=reviewer, action="reject", **wish)
                if text is not None:
                    typed = Transcript(segment_id=key, kind="review", origin=reviewer, text=text)
                    session.add(typed)
                    session.flush()
                    made.action, made.transcript_id = "correct", typed.id
                session.add(made)

        for key, first, second in zip(
            keys,
            ("one thing", "One thing!", None, "one thing", None),
            ("another", "one thing", "one thing", None, None),
            strict=True,
        ):
            decide(key, "First", first)
            decide(key, "Second", second)
        found = apply_verdicts(catalogue, "default", THRESHOLDS, "en")
        assert found == {KEEP: 1, REVIEW: 3, DROP: 1}
        with catalogue.session() as session:
            disputed = session.get_one(Verdict, keys[0])
            assert [reason_kind(reason) for reason in disputed.reasons] == ["reviewers disagree"]
            assert session.get_one(Transcript, disputed.transcript_id).kind == "pseudo"

        decide(keys[0], "Judge", "a third thing", adjudicates=True)
        decide(keys[2], "Judge", None, adjudicates=True)
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        decide(keys[0], "Third", "brought from elsewhere", made_at=long_ago)
        decide(keys[1], "Third", "one, thing", made_at=long_ago)
        found = apply_verdicts(catalogue, "default", THRESHOLDS, "en")
        assert found == {KEEP: 2, REVIEW: 1, DROP: 2}
        with catalogue.session() as session:
            texts = [
                session.get_one(Transcript, session.get_one(Verdict, key).transcript_id).text
                for key in keys[:2]
            ]
        assert texts == ["a third thing", "one thing"]

    def test_what_people_decide_after_a_verdict_is_heeded_by_the_same_thresholds(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        sure = {"text": TEXT, "kind": "pseudo", "scores": SURE}
        one, other, _ = add_recording("talk", [sure] * 3)
        assert heed_decisions(catalogue, "en") == 0  # there is nothing to be late
        apply_verdicts(catalogue, "strict", read_thresholds("strict"), "en")
        assert heed_decisions(catalogue, "en") == 0

        def decide(key: str, action: str, **wish: object) -> None:
            with catalogue.session() as session:
                session.add(Decision(segment_id=key, reviewer="First", action=action, **wish))

        def verdicts() -> list[tuple[str, str]]:
            with catalogue.session() as session:
                rows = session.scalars(select(Verdict).order_by(Verdict.segment_id))
                return [(row.verdict, reason_kind(row.reasons[0])) for row in rows]

        before = verdicts()
        decide(one, "reject", reason="private")
        decide(other, "skip")
        assert heed_decisions(catalogue, "en") == 1
        assert heed_decisions(catalogue, "en") == 0
        assert verdicts() == [(DROP, "rejected"), *before[1:]]
        with catalogue.session() as session:
            session.execute(update(Decision).values(undone_by=99))
        assert heed_decisions(catalogue, "en") == 1
        assert verdicts() == before
        with catalogue.session() as session:
            typed = Transcript(segment_id=other, kind="review", origin="First", text="typed")
            session.add(typed)
            session.flush()
            key = typed.id
        decide(other, "correct", transcript_id=key)
        assert heed_decisions(catalogue, "en") == 1
        assert verdicts() == [before[0], (KEEP, "reviewed"), before[2]]

        own = replace(read_thresholds("strict"), max_cer=0.01)
        apply_verdicts(catalogue, "strict", own, "en")
        assert heed_decisions(catalogue, "en") == 0
        decide(one, "reject", reason="private")
        with pytest.raises(UserError, match="own thresholds"):
            heed_decisions(catalogue, "en")

    def test_a_segment_that_was_cut_anew_keeps_no_thresholds_alive(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        cut, _ = add_recording("talk", [{"seconds": 3.0, "text": "one"}, {"seconds": 3.0}])
        apply_verdicts(catalogue, "default", read_thresholds("default"), "en")
        with catalogue.session() as session:
            session.get_one(Segment, cut).superseded = True
        strict = read_thresholds("strict")
        apply_verdicts(catalogue, "strict", strict, "en")
        assert applied_thresholds(catalogue) == {strict.version("strict")}

    def test_no_segments_are_no_verdicts(self, catalogue: Catalogue) -> None:
        assert sum(apply_verdicts(catalogue, "default", THRESHOLDS, "en").values()) == 0


class TestWhatIf:
    @pytest.mark.sqlite
    def test_it_changes_nothing_and_says_what_applying_does(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording(
            "talk",
            [
                {
                    "text": TEXT,
                    "kind": "pseudo",
                    "seconds": 2.0 + 0.1 * i,
                    "scores": {"avg_logprob": -0.1 * i},
                }
                for i in range(20)
            ],
        )
        apply_verdicts(catalogue, "default", THRESHOLDS, "en")

        def everything() -> list[Any]:
            with catalogue.engine.connect() as connection:
                dump = connection.connection.driver_connection.iterdump()  # type: ignore[union-attr]
                return list(dump)

        def hours() -> dict[str, float]:
            with catalogue.session() as session:
                rows = session.execute(
                    select(Verdict.verdict, Segment.end_ms - Segment.start_ms).join(
                        Segment, Segment.id == Verdict.segment_id
                    )
                ).all()
            return {w: sum(ms for v, ms in rows if v == w) / 1000 for w in (KEEP, REVIEW, DROP)}

        lenient = read_thresholds("lenient")
        before = everything()
        told = forecast(catalogue, Rules(catalogue, lenient, "en"))
        assert everything() == before
        assert told.now == {**hours(), "none": 0.0}
        apply_verdicts(catalogue, "lenient", lenient, "en")
        assert told.then == hours()
        gained = sum(row["seconds"] for row in told.moved if row["to"] == KEEP)
        assert gained == pytest.approx(told.then[KEEP] - told.now[KEEP])
        assert {(row["from"], row["to"], row["reason"]) for row in told.moved} == {
            (REVIEW, KEEP, "pseudo"),
            (DROP, REVIEW, "unsure"),
        }
        assert forecast(catalogue, Rules(catalogue, lenient, "en")).moved == []

    def test_before_the_first_verdict_everything_is_without(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [{"text": TEXT, "seconds": 3.0}])
        told = forecast(catalogue, Rules(catalogue, THRESHOLDS, "en"))
        assert (told.now["none"], told.then[KEEP]) == (3.0, 3.0)


class TestExplain:
    def test_a_segment_is_told_with_its_texts_scores_limits_and_what_decides(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        (key,) = add_recording("talk", [{"text": TEXT, "kind": "subtitle"}])
        with catalogue.session() as session:
            session.add(
                Transcript(
                    segment_id=key,
                    kind="pseudo",
                    origin="small@1234",
                    text="mother saw seven red coals",
                    scores=[Score(name="avg_logprob", value=-0.3)],
                )
            )
        told = explain(catalogue, Rules(catalogue, read_thresholds("strict"), "en"), key)
        assert (told["verdict"], told["stored_verdict"]) == (REVIEW, None)
        assert told["findings"][0]["reason"].startswith("differs: CER 0.08")
        assert [(t["kind"], t["is_label"], t["scores"]) for t in told["transcripts"]] == [
            ("subtitle", True, {}),
            ("pseudo", False, {"avg_logprob": -0.3}),
        ]
        assert told["scores"]["cer"] == pytest.approx(2 / 26)
        assert told["scores"]["wer_whisper"] == pytest.approx(1 / 5)
        assert told["thresholds"]["max_cer"] == 0.05

    def test_a_recording_is_told_in_counts(
        self, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [{"text": TEXT}, {"text": TEXT}, {"text": TEXT, "seconds": 60.0}])
        add_recording("talk 2", [{"text": TEXT}])
        told = explain(catalogue, Rules(catalogue, THRESHOLDS, "en"), "talk")
        assert told["verdicts"][KEEP] == {"segments": 2, "seconds": 4.0}
        assert told["verdicts"][REVIEW] == {"segments": 1, "seconds": 60.0}
        assert [(row["reason"], row["segments"]) for row in told["findings"]] == [
            ("release", 3),
            ("too slow", 1),
        ]

    def test_what_is_not_there_is_told(self, catalogue: Catalogue) -> None:
        with pytest.raises(UserError, match="no segment or recording nothing"):
            explain(catalogue, Rules(catalogue, THRESHOLDS, "en"), "nothing")


class TestCommandLine:
    def test_what_if_and_explain_write_nothing(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        add_recording: AddRecording,
        corpus: Corpus,
    ) -> None:
        scores = {"avg_logprob": -0.7}
        (key,) = add_recording("talk", [{"text": TEXT, "kind": "pseudo", "scores": scores}])
        at = ("--workspace", workspace.root)
        told = json.loads(corpus("verdict", "--what-if", "lenient", "--json", *at).out)
        assert (told["now"]["none"], told["then"]["keep"]) == (2.0, 2.0)
        shown = corpus("verdict", "--what-if", "lenient", *at)
        assert "nothing was changed" in shown.err
        assert "pseudo" in shown.out
        told = json.loads(corpus("verdict", "--explain", key, "--json", *at).out)
        assert (told["verdict"], told["stored_verdict"]) == ("review", None)
        assert "mean log-probability -0.70" in corpus("verdict", "--explain", key, *at).out
        assert "unsure" in corpus("verdict", "--explain", "talk", *at).out
        with catalogue.session() as session:
            assert session.scalars(select(Verdict)).all() == []

    @pytest.mark.parametrize("other", [("--preset", "strict"), ("--explain", "talk")])
    def test_what_if_goes_alone(
        self, workspace: Workspace, corpus: Corpus, other: tuple[str, str]
    ) -> None:
        at = ("--workspace", workspace.root)
        found = corpus("verdict", "--what-if", "lenient", *other, *at)
        assert found.code == 1
        assert "--what-if names a preset of its own" in found.err
