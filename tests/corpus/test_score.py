"""Scores of a transcript, and what they tell of a recording with planted faults."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from corpus.audio import SAMPLE_RATE, Pcm
from corpus.catalogue import Catalogue, Recording, Segment, Transcript, Verdict, segment_id
from corpus.score import (
    EDGE_CHARACTERS,
    compare,
    find_long_word,
    find_loop,
    phrases_for,
    script_share,
)
from corpus.text import error_rates, normalise, whisper_normalise
from corpus.verdict import FLAGS, reason_kind
from corpus.workspace import Workspace
from demo.voices import BASE_VOICES, speak

from .conftest import Corpus

MODEL = Path(__file__).parents[2] / "demo" / "model"

SAMPLES = {
    "hi": ("मैं आज सुबह बाज़ार गया और फल लाया", "मैं आज सुबह बाज़ार गई और फल लाया"),
    "th": ("วันนี้ฉันไปตลาดและซื้อผลไม้", "วันนี้ฉันไปตลาดและซื้อผลไม่"),
    "ta": ("நான் இன்று சந்தைக்குச் சென்றேன்", "நான் இன்று சந்தைக்குச் சென்றான்"),
    "ar": ("ذَهَبْتُ إِلَى السُّوقِ صَبَاحًا", "ذَهَبْتَ إِلَى السُّوقِ صَبَاحًا"),
    "ka": ("დღეს დილით ბაზარში წავედი", "დღეს დილით ბაზარში წავედა"),
    "zh": ("我今天早上去市场买了水果", "我今天早上去市场卖了水果"),
}
"""For each language a text, and the same with one vowel sign, letter or character changed."""


class TestScripts:
    @pytest.mark.parametrize("code", SAMPLES)
    def test_every_word_goes_through_normalisation(self, code: str) -> None:
        text, changed = SAMPLES[code]
        assert normalise(text).split() == unicodedata.normalize("NFKC", text).split()
        assert error_rates([normalise(text)], [normalise(text)]).wer == 0.0
        assert error_rates([normalise(text)], [normalise(changed)]).wer > 0.0
        assert compare(normalise(text), normalise(changed)).cer > 0.0

    def test_whispers_own_normaliser_is_offered_for_comparison_and_loses_the_marks(self) -> None:
        assert whisper_normalise("नमस्ते दुनिया") == "नमस त द न य"
        assert whisper_normalise("Hello, World!") == "hello world"

    @pytest.mark.parametrize("code", SAMPLES)
    def test_a_text_is_in_its_languages_script_and_in_no_others(self, code: str) -> None:
        text = normalise(SAMPLES[code][0])
        assert script_share(text, code) == 1.0
        assert script_share(text, "cs") == 0.0

    def test_a_foreign_name_is_one_word_however_long(self) -> None:
        assert script_share("मैंने office में काम किया", "hi") == pytest.approx(4 / 5)
        assert script_share("我用iphone手机", "zh") == pytest.approx(4 / 5)

    def test_of_several_scripts_each_is_the_languages(self) -> None:
        assert script_share("カーで学校へ行く", "ja") == 1.0
        assert script_share("добар дан", "sr") == script_share("dobar dan", "sr") == 1.0

    def test_where_there_is_nothing_to_tell_there_is_no_share(self) -> None:
        assert script_share("123", "cs") is None
        assert script_share("anything", "xx") is None


TEXTS = st.text(st.sampled_from("ab c5"), max_size=40).map(normalise)


class TestComparison:
    @given(TEXTS, TEXTS)
    def test_its_rates_are_those_of_the_corpus_wide_measure(self, one: str, two: str) -> None:
        if not one or any(c.isdigit() for c in one + two):
            return
        rates, found = error_rates([one], [two]), compare(one, two)
        assert (found.cer, found.wer) == (pytest.approx(rates.cer), pytest.approx(rates.wer))

    @given(TEXTS, TEXTS)
    def test_the_parts_are_within_the_whole(self, one: str, two: str) -> None:
        found = compare(one, two)
        assert found.ins_rate + found.del_rate <= found.cer + 1e-9
        edges = (found.cer_head + found.cer_tail) * EDGE_CHARACTERS
        if one and two and not found.numbers:  # a folded number may be longer than what it was
            assert edges <= found.cer * len(one) + 1e-6

    @given(TEXTS)
    def test_a_text_does_not_differ_from_itself(self, text: str) -> None:
        found = compare(text, text)
        assert (found.cer, found.wer, found.cer_head, found.cer_tail) == (0.0, 0.0, 0.0, 0.0)

    def test_a_lost_first_word_is_counted_once_and_at_the_head(self) -> None:
        text = "and then the two of them went away again"
        found = compare(f"so {text}", text)
        assert found.cer_head == pytest.approx(3 / EDGE_CHARACTERS)
        assert (found.cer_tail, found.ins_rate, found.core_cer) == (0.0, 0.0, 0.0)
        assert found.del_rate == found.cer == pytest.approx(3 / 43)
        assert found.head_missing == -3

    def test_a_word_too_many_at_the_end_is_an_insertion_at_the_tail(self) -> None:
        text = "and then the two of them went away again"
        found = compare(text, f"{text} yes")
        assert (found.cer_head, found.tail_missing) == (0.0, 4)
        assert found.cer_tail == pytest.approx(4 / EDGE_CHARACTERS)

    def test_an_error_in_the_middle_is_at_neither_end(self) -> None:
        found = compare("one two three four five six seven", "one two three fxxr five six seven")
        assert (found.cer_head, found.cer_tail) == (0.0, 0.0)
        assert found.cer > 0

    def test_of_nothing_and_something_all_is_wrong(self) -> None:
        assert compare("", "word").cer == compare("word", "").cer == 1.0
        assert compare("", "").cer == 0.0


class TestNumbers:
    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ("we have 25 boats", "we have twenty five boats"),
            ("rok 1995 skončil", "rok tisíc devět set devadesát pět skončil"),
            ("it was the 5th", "it was the fifth"),
            ("我有5本书", "我有五本书"),
            ("1,000 words", "1000 words"),
            ("١٢ كتابا", "12 كتابا"),
            ("१२ किताबें", "बारह किताबें"),
        ],
    )
    def test_written_in_digits_or_not_is_no_difference(self, one: str, two: str) -> None:
        assert compare(normalise(one), normalise(two)).cer == 0.0
        assert compare(normalise(two), normalise(one)).cer == 0.0

    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ("we have 25 boats", "we have 26 boats"),
            ("we have five boats", "we have nine boats"),
            ("we have 5 boats", "we have boats"),
            ("at 5", "at home with all of my brothers and sisters"),
            ("so 5 of the big red old boats", "so it was big"),
        ],
    )
    def test_another_number_or_none_is_one(self, one: str, two: str) -> None:
        assert compare(one, two).cer > 0.0

    def test_wrong_words_beside_a_number_still_count(self) -> None:
        found = compare("in 1995 wars", "in nineteen ninety five was")
        assert found.numbers == 1
        assert found.wer == pytest.approx(1 / 3)


class TestLoops:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("no no no no", "“no” 4 times in a row"),
            ("so call me now call me now call me now call me now", "“call me now” 4 times"),
            ("ok yes ok yes ok", "2 different words of 5"),
            ("ขอบคุณขอบคุณขอบคุณขอบคุณ", "“ขอบคุณ” 4 times in a row"),
        ],
    )
    def test_a_phrase_again_and_again_is_one(self, text: str, told: str) -> None:
        assert (find_loop(text) or "").startswith(told)

    @pytest.mark.parametrize(
        "text", ["no no no", "the cat and the dog and the bird", "", "哈哈哈", *SAMPLES["th"]]
    )
    def test_what_people_repeat_is_none(self, text: str) -> None:
        assert find_loop(normalise(text)) is None

    @given(st.lists(st.sampled_from("ab"), min_size=1, max_size=4), st.integers(4, 7))
    def test_up_to_four_words_four_times_in_a_row_are_always_found(
        self, phrase: list[str], times: int
    ) -> None:
        assert find_loop(" ".join(["x", *phrase * times, "y"])) is not None

    def test_compounds_may_be_longer_than_words(self) -> None:
        word = "rechtsschutzversicherungsgesell"
        assert find_long_word(f"die {word}", "de") is None
        assert find_long_word(f"the {word}", "en") == word
        assert find_long_word("ก" * 60, "th") is None


class TestPhrases:
    def test_only_the_whole_text_counts(self) -> None:
        phrases = phrases_for("cs")
        for text in ("thank you for watching", "děkuji za pozornost", "bye bye bye"):
            assert phrases.is_hallucination(text)
        for text in ("", "thank you john", "he said thank you for watching"):
            assert not phrases.is_hallucination(text)

    def test_credits_are_those_of_subtitles(self) -> None:
        phrases = phrases_for("cs")
        assert phrases.is_credit("Titulky: Jana")
        assert phrases.is_credit("Subtitles by the Amara.org community")
        speech = (
            "Translated by the ribosome, it folds into a protein that the cell then sends away."
        )
        assert not phrases.is_credit(speech)

    def test_a_workspace_adds_its_own(self, tmp_path: Path) -> None:
        tmp_path.joinpath("hallucinations.txt").write_text("# ours\nMangé, mangé!\n", "utf-8")
        tmp_path.joinpath("credits.txt").write_text("Tit kreyòl\n", "utf-8")
        phrases = phrases_for("ht", tmp_path)
        assert phrases.is_hallucination(normalise("mangé mangé"))
        assert phrases.is_credit("Tit kreyòl: Jan")
        assert not phrases_for("ht").is_hallucination(normalise("mangé mangé"))


def music(seconds: float) -> Pcm:
    """Chords that change twice a second."""
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    beat = np.sign(np.sin(4 * np.pi * times))
    tones = sum(np.sin(2 * np.pi * f * (1 + 0.1 * beat) * times) for f in (220, 277, 330))
    return np.asarray(4000 * tones).astype(np.int16)


class TestPlantedFaults:
    """A recording that a real model listens to; what its subtitles say is wrong in known ways."""

    SPOKEN = "mother saw seven red boats"
    LONGER = "father bought five green apples at the market"
    PLANTED = (
        # what is said, what the subtitle says, the flags that belong to it
        (SPOKEN, "Mother saw seven red boats.", set()),
        (LONGER, "Father bought 5 green apples at the market!", set()),
        (SPOKEN, "the captain carried yellow candles", {"wrong text"}),
        (LONGER, "bought five green apples at the market", {"missing start", "differs"}),
        (SPOKEN, "saw seven saw seven saw seven saw seven saw seven", {"repeated phrase"}),
        (None, "Subtitles by the Amara.org community", {"credits"}),
        (SPOKEN, "мама видела семь красных лодок", {"other language"}),
        (SPOKEN, "", {"untranscribed speech"}),
        ("", "", set()),
        (SPOKEN, "mother saw seven red boats", set()),
    )

    def test_each_gets_the_flag_that_belongs_to_it_and_the_clean_ones_none(
        self, workspace: Workspace, catalogue: Catalogue, corpus: Corpus
    ) -> None:
        keys = self.plant(workspace, catalogue)
        at = ("--workspace", workspace.root)
        assert corpus("label", "--model", MODEL, "--device", "cpu", *at).code == 0
        assert corpus("verdict", *at).code == 0
        with catalogue.session() as session:
            verdicts = {v.segment_id: v for v in session.scalars(select(Verdict))}
        for key, (said, written, expected) in zip(keys, self.PLANTED, strict=True):
            found = {reason_kind(reason) for reason in verdicts[key].reasons} & FLAGS.keys()
            first = reason_kind(verdicts[key].reasons[0])
            told = f"{said!r} under {written!r}: {verdicts[key].reasons}"
            assert (verdicts[key].verdict == "keep") == (not expected), told
            assert expected <= found if expected else not found, told
            assert not expected or first in expected, told

        told = json.loads(corpus("verdict", "--explain", keys[2], "--json", *at).out)
        assert told["findings"][0]["reason"].startswith("wrong text: CER")
        assert [text["kind"] for text in told["transcripts"]] == ["subtitle", "pseudo"]
        told = corpus("verdict", "--explain", keys[2], *at).out
        assert "the captain carried yellow candles" in told
        assert self.SPOKEN in told

    def plant(self, workspace: Workspace, catalogue: Catalogue) -> list[str]:
        """Store the recording with its segments and subtitles; the segments' ids."""
        pause = np.zeros(SAMPLE_RATE // 3, np.int16)
        pieces, segments, position = [], [], 0
        for said, written, _ in self.PLANTED:
            sound = music(4.0) if said is None else speak(said, BASE_VOICES[4]) if said else pause
            piece = np.concatenate([pause, sound, pause])
            start, end = (1000 * p // SAMPLE_RATE for p in (position, position + piece.size))
            text = Transcript(kind="subtitle", origin="talk.srt", text=written)
            key = segment_id("talk", start, end)
            segments.append(Segment(id=key, start_ms=start, end_ms=end, transcripts=[text]))
            pieces.append(piece)
            position += piece.size
        workspace.media.mkdir(exist_ok=True)
        soundfile.write(workspace.media / "talk.flac", np.concatenate(pieces), SAMPLE_RATE)
        with catalogue.session() as session:
            session.add(
                Recording(
                    id="talk",
                    source="files",
                    language="en",
                    licence="own",
                    licence_evidence={},
                    attribution="talk",
                    redistributable=True,
                    media_path="media/talk.flac",
                    duration_ms=1000 * position // SAMPLE_RATE,
                    segmented_with="test",
                    segments=segments,
                )
            )
        return [segment.id for segment in segments]
