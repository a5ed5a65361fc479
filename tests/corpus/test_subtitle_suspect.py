"""Tracks that pass for human: what gives a machine away, and what does not."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.subtitles.clean import Cue
from corpus.subtitles.reader import read_subtitles
from corpus.subtitles.suspect import judge_track, noted_suspicion

WRITTEN = {
    "en": "Well, this is what I saw, and so did you. Did Teacher see it, too?",
    "cs": "Tak, tohle jsem viděl já, a ty taky. Viděla to Teacher, nebo ne?",
    "ru": "Вот, это видел я, и ты тоже. А Анна это видела, или нет?",
    "ar": "نعم، هذا ما رأيته، وأنت أيضا. هل رأت آنا ذلك، أم لا؟",
    "hi": "हाँ, मैंने यह देखा, और तुमने भी। क्या अन्ना ने देखा, या नहीं?",
    "ka": "დიახ, მე ეს ვნახე, შენც. ანამაც ნახა, თუ არა?",
    "am": "አዎ፣ ይህን አየሁ፣ አንተም። አና አየችው፣ ወይስ አላየችም?",
}
BARE = {
    language: "".join(c for c in text.lower() if c not in ",.?،؟।፣።")
    for language, text in WRITTEN.items()
}
SPACELESS = {
    "th": "วันนี้เราจะมาพูดคุยกันเรื่องการรู้จำเสียงพูด",
    "km": "ថ្ងៃនេះយើងនឹងនិយាយអំពីការសម្គាល់សំឡេង",
    "my": "ဒီနေ့ အသံမှတ်သားခြင်းအကြောင်း ပြောပါမယ်",
    "bo": "དེ་རིང་ང་ཚོས་སྐད་ཆའི་སྐོར་བཤད་ཀྱི་ཡིན",
    "ja": "今日は音声認識の仕組みについて お話しします",
    "zh": "今天我们来谈谈语音识别 它是如何工作的",
}


def track(text: str, *, count: int = 60, step_ms: int = 2317, gap_ms: int = 130) -> list[Cue]:
    return [Cue(i * step_ms, (i + 1) * step_ms - gap_ms, text) for i in range(count)]


def machine_like(cues: Sequence[Cue], rolling: float = 0.0) -> set[str]:
    found = judge_track(cues, rolling=rolling)
    return {feature.name for feature in found.features if feature.is_machine_like}


@pytest.mark.parametrize("language", WRITTEN)
def test_what_people_write_is_human(language: str) -> None:
    found = judge_track(track(WRITTEN[language]))
    assert found.origin == "human"
    assert found.note() is None
    assert {"commas", "sentence_ends"} <= {feature.name for feature in found.features}


@pytest.mark.parametrize("language", ["en", "cs", "ru"])
def test_bare_words_in_small_letters_are_a_machines(language: str) -> None:
    assert machine_like(track(BARE[language])) == {"commas", "sentence_ends", "capitals"}
    assert judge_track(track(BARE[language])).origin == "machine"


@pytest.mark.parametrize("language", ["ar", "hi", "ka", "am"])
def test_a_script_without_capitals_is_not_judged_by_them(language: str) -> None:
    assert machine_like(track(BARE[language])) == {"commas", "sentence_ends"}
    assert judge_track(track(BARE[language])).origin == "suspect_auto"


@pytest.mark.parametrize("language", SPACELESS)
def test_scripts_that_need_no_punctuation_are_judged_by_their_times_alone(language: str) -> None:
    text = SPACELESS[language]
    found = judge_track(track(text, count=300))
    assert found.origin == "human"
    assert {feature.name for feature in found.features} == {"rolling", "end_to_end"}
    timed = track(text, count=300, step_ms=2310, gap_ms=0)
    assert judge_track(timed, rolling=0.9).origin == "suspect_auto"


class TestTimes:
    def test_cues_end_to_end_in_hundredths_are_one_sign(self) -> None:
        assert machine_like(track(WRITTEN["en"], step_ms=2310, gap_ms=0)) == {"end_to_end"}
        assert judge_track(track(WRITTEN["en"], step_ms=2310, gap_ms=0)).origin == "human"

    @pytest.mark.parametrize(("step_ms", "gap_ms"), [(2317, 0), (2310, 130), (2000, 0)])
    def test_neither_alone_nor_whole_seconds_are_any(self, step_ms: int, gap_ms: int) -> None:
        assert machine_like(track(WRITTEN["en"], step_ms=step_ms, gap_ms=gap_ms)) == set()

    def test_rolling_captions_are_one_sign(self) -> None:
        assert machine_like(track(WRITTEN["en"]), rolling=0.3) == {"rolling"}
        assert machine_like(track(WRITTEN["en"]), rolling=0.29) == set()


class TestCapitals:
    def test_a_track_all_in_capitals_is_one_sign(self) -> None:
        assert machine_like(track(WRITTEN["en"].upper())) == {"capitals"}
        assert judge_track(track(WRITTEN["en"].upper())).origin == "human"


def test_a_short_track_is_not_judged_by_what_it_lacks() -> None:
    assert judge_track(track(BARE["en"], count=10)).origin == "human"


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"key": "en-orig"}, "its key is en-orig"),
        ({"name": "English (auto-generated)"}, "its name is English (auto-generated)"),
        ({"name": "auto"}, "its name is auto"),
        ({"url": "https://host/api/timedtext?v=x&kind=asr"}, "its address says automatic"),
        ({"url": "https://host/api/timedtext?v=x&tlang=cs"}, "its address says translated"),
    ],
)
def test_what_the_site_declares_decides(declared: dict[str, str], told: str) -> None:
    found = judge_track(track(WRITTEN["en"]), **declared)
    assert found.origin == "machine"
    assert found.note() == f"machine: {told}"


def test_a_name_that_only_contains_the_word_declares_nothing() -> None:
    names = {"name": "Automobiles for everyone", "key": "en", "url": "https://host/auto?lang=en"}
    assert judge_track(track(WRITTEN["en"]), **names).origin == "human"


def test_a_note_says_why_and_is_read_back() -> None:
    note = judge_track(track(BARE["hi"])).note()
    assert note == "suspect_auto: 0.0 commas in 1,000 words, 0.0 sentence ends in 1,000 words"
    assert noted_suspicion(f"{note}; 3 × cue without text") == (
        "suspect_auto",
        "0.0 commas in 1,000 words, 0.0 sentence ends in 1,000 words",
    )


@pytest.mark.parametrize("note", [None, "", "3 × cue without text", "only automatic captions"])
def test_other_notes_name_no_suspicion(note: str | None) -> None:
    assert noted_suspicion(note) == ("human", "")


@given(st.lists(st.tuples(st.integers(0, 9999), st.text(max_size=30)), max_size=30))
def test_any_track_has_an_origin_that_its_note_tells(pieces: list[tuple[int, str]]) -> None:
    cues = [Cue(i * 10_000 + n, i * 10_000 + 10_000, text) for i, (n, text) in enumerate(pieces)]
    found = judge_track(cues)
    assert noted_suspicion(found.note())[0] == found.origin


def test_no_real_human_track_is_suspected(shared_data: Path) -> None:
    """Talks, films and short clips in ten languages, among them cues set by YouTube's aligner,
    which abut as often as a machine's, and one track all in capitals."""
    judged = 0
    for path in (shared_data / "subtitles").rglob("*"):
        if path.is_file():
            found = read_subtitles(path.read_bytes())
            cues = [Cue(item.start.ordinal, item.end.ordinal, item.text) for item in found.items]
            judged += len(cues) > 100
            assert judge_track(cues, rolling=found.rolling).note() is None, path
    assert judged > 70
