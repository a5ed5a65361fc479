"""What of subtitles is speech: each rule in several scripts, and what holds for any track."""

import time
import tomllib
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import UserError
from corpus.subtitles.clean import (
    CREDITS_FILE,
    OWN_CREDITS,
    Cleaned,
    Cue,
    clean_cues,
    credits_for,
    read_own_credits,
)
from corpus.subtitles.reader import read_subtitles


def clean(*texts: str, language: str = "en", own: tuple[str, ...] = ()) -> Cleaned:
    """Cues of these texts, 2 s each, cleaned."""
    cues = [Cue(2000 * i, 2000 * i + 1900, text) for i, text in enumerate(texts)]
    return clean_cues(cues, credits_for(language, own))


def kept(*texts: str, language: str = "en", own: tuple[str, ...] = ()) -> list[str]:
    return [cue.text for cue in clean(*texts, language=language, own=own).cues]


def reasons(*texts: str, language: str = "en") -> list[str]:
    return [change.reason for change in clean(*texts, language=language).changes]


@pytest.mark.parametrize(
    "text",
    [
        "Ahoj, jak se máte?",
        "Rock 'n' roll — that's it…",
        "سلام، می\u200cخواهم بروم؟",
        "ක්\u200dෂ වචනය",
        "今日は音声認識の話です。",
        "สวัสดีครับ",
        "I was born in 1984 (42)",
        "C# and F# are languages",
        "It costs -5 or 3 * 4 * 5",
        "go to example.com/friends",
        "the friend(s) of f(x)",
        "at 12:30, or: later",
        "Note: this is said once",
        "<laughs> R&D, 1 < 2 >= 0",
    ],
)
def test_speech_is_left_alone(text: str) -> None:
    assert kept(text) == [text]
    assert clean(text).changes == []
    assert clean(text).told() is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("♪", "music"),
        ("♪ la la la ♪", "music"),
        ("♫ over the hills\nand far away ♫", "music"),
        ("♪ one line", "music"),
        ("# la la la #", "music"),
        ("🎵 عزف 🎵", "music"),
        ("[applause]", "sound"),
        ("[APPLAUSE AND\nLAUGHTER]", "sound"),
        ("(smích) ... [potlesk]", "sound"),
        ("- [sighs]", "sound"),
        ("*laughs*", "sound"),
        ("（笑い）", "sound"),
        ("【拍手】", "sound"),
        ("［음악］", "sound"),
        ("(تصفيق)", "sound"),
        ("broken \ufffd text", "unreadable characters"),
        ("...", "no words"),
        ("?!", "no words"),
        ("https://example.org/watch?v=1", "credits"),
        ("Follow @somebody_else", "credits"),
        ("man: [inaudible]", "no words"),
        ("Man: [groans]\nwoman: (sighs)", "no words"),
        ("www.example.cz", "credits"),
    ],
)
def test_a_cue_without_speech_is_left_out_with_its_reason(text: str, reason: str) -> None:
    found = clean("before", text, "after")
    assert [cue.text for cue in found.cues] == ["before", "after"]
    last = found.changes[-1]
    assert (last.position, last.reason, last.before, last.after) == (1, reason, text, None)


class TestCredits:
    @pytest.mark.parametrize(
        ("language", "text"),
        [
            ("en", "Subtitles by the Amara.org community"),
            ("en", "(Transcribed by Teacher)"),
            ("cs", "Titulky: Reviewer Nováková"),
            ("cs", "PŘELOŽIL: Colleague"),
            ("cs", "Translated by Colleague"),  # English ones are everywhere
            ("de", "Untertitel im Auftrag des ZDF, 2017"),
            ("es", "Subtítulos por la comunidad"),
            ("fr", "Sous-titrage Société Radio-Canada"),
            ("pl", "Tłumaczenie: Teacher"),
            ("ru", "Субтитры сделал Иван"),
            ("uk", "Субтитрував Іван"),
            ("nb-NO", "Tekst: Kari Nordmann"),
            ("ar", "المترجم: Nada\nالمدقّق: wafy"),
            ("fa", "ترجمه از مریم"),
            ("he", "תרגום: דוד"),
            ("ja", "字幕：山田太郎"),
            ("zh-Hans", "字幕由志愿者提供"),
            ("ko", "자막: 김철수"),
            ("hi", "अनुवाद: राम"),
            ("th", "แปลโดย สมชาย"),
            ("tr", "Çeviri: Ayşe"),
        ],
    )
    def test_those_who_made_the_subtitles_are_not_speech(self, language: str, text: str) -> None:
        assert kept(text, "speech", language=language) == ["speech"]
        assert reasons("speech", text, language=language) == ["credits"]

    def test_lists_of_other_languages_do_not_count(self) -> None:
        assert kept("tekst: tak to je napsáno", language="cs") != []

    def test_a_beginning_of_a_word_is_not_the_phrase(self) -> None:
        assert kept("Přeložilas to dobře", language="cs") == ["Přeložilas to dobře"]

    def test_in_the_middle_of_a_talk_a_phrase_is_speech(self) -> None:
        talk = [f"sentence number {n}" for n in range(10)]
        said = "translated by the ribosome"
        assert said in kept(*talk, said, *talk)
        assert said not in kept(*talk, said)
        assert kept(*talk, "visit opensubtitles today", *talk) == [*talk, *talk]

    def test_a_workspace_adds_its_own(self, tmp_path: Path) -> None:
        file = tmp_path / OWN_CREDITS
        assert read_own_credits(file) == ()
        file.write_text("# ours\n\nTiteli wot\n*našej redakciji  # anywhere\n*\n", "utf-8-sig")
        own = read_own_credits(file)
        assert own == ("Titeli wot", "*našej redakciji")
        talk = [f"sentence number {n}" for n in range(10)]
        texts = ["TITELI WOT Reviewer", *talk, "w Našej redakciji", *talk]
        assert kept(*texts, language="hsb", own=own) == talk + talk

    def test_signs_before_a_phrase_do_not_matter(self) -> None:
        own = credits_for("cs", ("© Česká televize", "*[titulky vyrobila", "♪"))
        for text in ("© Česká televize", "Česká televize", "[Titulky vyrobila firma]"):
            assert own.match(text, at_an_end=True), text
        assert not own.match("Dobrý den.", at_an_end=True)

    def test_a_list_that_is_no_text_is_told_in_a_line(self, tmp_path: Path) -> None:
        (tmp_path / OWN_CREDITS).write_bytes(b"p\xf8elo\xbeil\n")
        with pytest.raises(UserError, match=r"credits\.txt: cannot be read .* UTF-8") as error:
            read_own_credits(tmp_path / OWN_CREDITS)
        assert "\n" not in str(error.value)

    def test_every_phrase_of_the_lists_works_in_any_case(self) -> None:
        lists = tomllib.loads(CREDITS_FILE.read_text(encoding="utf-8"))
        for language, phrases in lists.items():
            for phrase in phrases:
                for text in (phrase.strip("*"), f"- {phrase.strip('*').upper()} Reviewer"):
                    assert kept(text, language=language) == [], (language, phrase)


class TestTakenFromATextWithSpeech:
    @pytest.mark.parametrize(
        ("text", "speech", "reason"),
        [
            ("Hello [laughs] there", "Hello there", "bracketed"),
            ("Hello [laughs], there", "Hello, there", "bracketed"),
            ("[DOOR SLAMS]\nWho is it?", "Who is it?", "bracketed"),
            ("[Guard]: Hello", "Hello", "bracketed"),
            ("今日（きょう）は晴れ", "今日は晴れ", "bracketed"),
            ("♪ la la ♪ Hello", "Hello", "music beside speech"),
            ("♪ la la\nHello there", "Hello there", "music beside speech"),
            (">> Hello", "Hello", ">>"),
            (">>> Hello", "Hello", ">>"),
            (">> Barrett:\nHello", "Hello", ">>"),
            ("- Hello", "Hello", "speaker dash"),
            ("–¿Quién es?", "¿Quién es?", "speaker dash"),
            ("GUARD: Hello", "Hello", "speaker label"),
            ("DR. O'NEIL-SMITH: Hello", "Hello", "speaker label"),
            ("ПЕТР: Привет", "Привет", "speaker label"),
        ],
    )
    def test_is_what_nobody_says(self, text: str, speech: str, reason: str) -> None:
        assert kept(text, "and so it goes on") == [speech, "and so it goes on"]
        assert reasons(text, "and so it goes on")[0] == reason

    def test_a_name_in_small_letters_is_a_label_when_it_recurs(self) -> None:
        assert kept("Jan: Yes", "Jan: No", "so it was") == ["Jan: Yes", "Jan: No", "so it was"]
        assert kept("Jan: Yes", "Jan: No", "Jan: Maybe") == ["Yes", "No", "Maybe"]

    def test_scripts_without_capitals_have_labels_too(self) -> None:
        hindi = ["राम: नमस्ते", "राम: कैसे हो", "राम: ठीक है"]
        assert kept(*hindi, language="hi") == ["नमस्ते", "कैसे हो", "ठीक है"]
        chinese = ["主持人：大家好", "主持人：请坐", "主持人：谢谢"]
        assert kept(*chinese, language="zh") == ["大家好", "请坐", "谢谢"]
        georgian = ["ნინო: კი", "ნინო: არა", "ნინო: კარგი"]
        assert kept(*georgian, language="ka") == ["კი", "არა", "კარგი"]

    def test_in_a_track_all_in_capitals_they_tell_nothing(self) -> None:
        assert kept("THIS IS IT: WE GO", "AND SO WE DO") == ["THIS IS IT: WE GO", "AND SO WE DO"]

    def test_a_clause_before_a_colon_is_no_name(self) -> None:
        said = ["This is what he always said: go"] * 3
        assert kept(*said)[:2] == said[:2]


class TestDialogue:
    @pytest.mark.parametrize(
        "text",
        [
            "- Yes?\n- No.",
            "Yes?\n- No.",
            "-Yes?\n-No.",
            "– Yes?\n– No.",
            ">> Yes?\n>> No.",
            "NURSE: Yes?\nBOB: No.",
        ],
    )
    def test_a_cue_of_two_speakers_is_marked_and_keeps_both_texts(self, text: str) -> None:
        dialogue, other = clean(text, "so it is").cues
        assert (dialogue.text, dialogue.is_dialogue) == ("Yes? No.", True)
        assert not other.is_dialogue
        assert "1 × more than one speaker in a cue" in (clean(text).told() or "")

    def test_one_speaker_is_no_dialogue(self) -> None:
        for text in ("- Yes\nindeed", ">> Yes\nindeed", "NURSE: Yes\nindeed", "Yes - indeed"):
            assert not clean(text, "small letters").cues[0].is_dialogue


def test_a_cue_behind_one_that_was_left_out_is_marked() -> None:
    cues = clean("♪ la ♪", "one", "two", "[applause]", "three", "four").cues
    assert [(cue.text, cue.after_break) for cue in cues] == [
        ("one", True),
        ("two", False),
        ("three", True),
        ("four", False),
    ]


class TestContinuation:
    @pytest.mark.parametrize(
        ("before", "after", "joined"),
        [
            ("we went...", "...home", "we went home"),
            ("we went…", "…Home", "we went Home"),
            ("we went -", "home", "we went home"),
            ("we went –", "home", "we went home"),
            ("wir gingen...", "nach Hause", "wir gingen nach Hause"),
            ("我们走……", "……回家", "我们走 回家"),
        ],
    )
    def test_marks_between_the_halves_of_a_sentence_go(
        self, before: str, after: str, joined: str
    ) -> None:
        assert " ".join(kept(before, after)) == joined
        assert set(reasons(before, after)) == {"continuation mark"}

    @pytest.mark.parametrize(
        ("before", "after"),
        [("I wonder...", "We went home"), ("I wonder.", "...we went"), ("we went…", "5 times")],
    )
    def test_other_marks_stay(self, before: str, after: str) -> None:
        assert kept(before, after) == [before, after]


class TestRepeats:
    def test_a_text_may_recur_as_often_as_the_logarithm_of_the_track(self) -> None:
        speech = [f"sentence number {n}" for n in range(54)]
        slogan = "Like this video and subscribe"
        texts = kept(*[slogan] * 10, *speech)
        assert texts.count(slogan) == 6
        assert texts[6:] == speech
        assert reasons(*[slogan] * 10, *speech) == ["repeated text"] * 4

    def test_however_it_is_punctuated(self) -> None:
        assert (
            len(kept("Thanks for watching!", "thanks for watching", "Thanks, for watching…")) == 2
        )

    def test_short_answers_recur_without_end(self) -> None:
        assert len(kept(*["Yes."] * 50)) == 50


def test_one_line_counts_what_was_done_by_reason() -> None:
    found = clean("♪", "♪", "[x]", "- Yes?\n- No.", "Hello [laughs] there", language="cs")
    assert found.told() == (
        "cues left out: 2 × music, 1 × sound; texts changed: 1 × speaker dash, 1 × bracketed; "
        "1 × more than one speaker in a cue"
    )


# What holds for any track.

pieces = st.one_of(
    st.text(max_size=12),
    st.sampled_from([*"♪#[]()（）*…：-", "...", ">>", "JAN", "Jan", "ahoj", "12", "می", "ក្", "ა"]),
    st.sampled_from(["www.", "@you", "\ufffd"]),
    st.sampled_from(["- ", "\n", ": ", " ", "\u200c"]),
)
cue_texts = st.lists(st.lists(pieces, min_size=1, max_size=8).map("".join), max_size=12)


@settings(deadline=None)
@given(cue_texts, st.sampled_from(["en", "cs", "hi", "zh"]))
def test_cues_are_kept_in_place_or_left_out_with_a_reason(texts: list[str], language: str) -> None:
    found = clean(*texts, language=language)
    left_out = [change.position for change in found.changes if change.after is None]
    assert len(set(left_out)) == len(left_out)
    positions = [cue.start_ms // 2000 for cue in found.cues]
    assert sorted(positions + left_out) == list(range(len(texts)))
    assert positions == sorted(positions)
    changed = {change.position for change in found.changes}
    for cue, position in zip(found.cues, positions, strict=True):
        assert cue.end_ms == 2000 * position + 1900
        assert any(character.isalnum() for character in cue.text)
        assert cue.text == " ".join(cue.text.split())
        if position not in changed:
            assert cue.text == " ".join(texts[position].split())


@settings(deadline=None)
@given(cue_texts)
def test_no_letter_is_made_up(texts: list[str]) -> None:
    for cue in clean(*texts).cues:
        before = iter("".join(texts[cue.start_ms // 2000].split()))
        assert all(character in before for character in cue.text.replace(" ", ""))


words = st.text(st.characters(categories=["Ll", "Lo", "Mn", "Mc"]), min_size=1, max_size=12)


@settings(deadline=None)
@given(st.lists(st.lists(words, min_size=4, max_size=8).map(" ".join), max_size=8, unique=True))
def test_plain_words_of_any_script_are_speech(texts: list[str]) -> None:
    texts = [text for text in texts if any(unicodedata.category(c)[0] == "L" for c in text)]
    assert set(kept(*texts)) >= {t for t in texts if texts.count(t) == 1 and t[0].isalnum()}


def test_real_tracks_lose_little(shared_data: Path) -> None:
    """Talks and films with human subtitles: nearly every cue is speech."""
    cues = left_out = 0
    for path in sorted((shared_data / "subtitles").rglob("*")):
        if not path.is_file():
            continue
        track = read_subtitles(path.read_bytes())
        read = [Cue(item.start.ordinal, item.end.ordinal, item.text) for item in track.items]
        found = clean_cues(read, credits_for(path.name.partition("__")[0]))
        dropped = sum(change.after is None for change in found.changes)
        assert len(found.cues) + dropped == len(read), path
        cues, left_out = cues + len(read), left_out + dropped
    assert cues > 60_000
    assert left_out < 0.03 * cues


@pytest.mark.parametrize(
    "trap", ["[" * 20_000, "(a" * 20_000, "♪" * 9_000 + "a" * 9_000, "." * 20_000 + "a"]
)
def test_no_text_takes_long(trap: str) -> None:
    start = time.process_time()
    clean(trap, f"{trap}: a", f"-{trap}", "a")
    assert time.process_time() - start < 2.0
