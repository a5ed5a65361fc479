"""What a text keeps, what a comparison sees, and the two error rates."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.text import base_language, clean_transcript, error_rates, normalise

MARKED = {
    "Hindi": "क्या हिन्दी में लिखते हैं",
    "Tamil": "தமிழ் எழுத்துக்கள்",
    "Thai": "ภาษาไทยเป็นภาษาที่ง่าย",
    "Arabic": "اَلْعَرَبِيَّةُ",
}

WRITTEN = MARKED | {"Georgian": "დედა ენა არის ძალიან ლამაზი", "Chinese": "我们今天去河边看船"}

# Where normal forms go wrong: marks, joiners, Hangul, ligatures, full width, apostrophes, controls.
AWKWARD = st.text(
    st.sampled_from(
        "aeéßſǰΐİıKﬁＡ½'’ʼ-_ \t\n\u00a0\u00ad\u0301\u0308\u0345\u0323\u200b\u200c\u200d"
        "\u1100\uac01\u1161\u0e33\u093f\u0915"
    )
)


def marks(text: str) -> list[str]:
    return [c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c)[0] == "M"]


class TestNormalise:
    @given(st.text() | AWKWARD)
    def test_a_second_time_changes_nothing(self, text: str) -> None:
        once = normalise(text)
        assert normalise(once) == once

    @pytest.mark.parametrize("text", MARKED.values(), ids=MARKED.keys())
    def test_combining_marks_stay(self, text: str) -> None:
        assert marks(text)
        assert marks(normalise(text)) == marks(text)

    @pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN.keys())
    def test_no_word_of_a_script_is_lost_or_equals_a_changed_one(self, text: str) -> None:
        words = text.split()
        assert len(normalise(text).split()) == len(words)
        kept = normalise(text)
        assert error_rates([kept], [kept]).wer == 0.0
        for i, character in enumerate(text):
            if character != " ":
                other = words[-1][0] if character != words[-1][0] else words[-1][1]
                changed = text[:i] + other + text[i + 1 :]
                assert error_rates([kept], [normalise(changed)]).wer > 0.0, changed

    @given(st.sampled_from(sorted(MARKED.values())), st.data())
    def test_a_missing_mark_is_an_error(self, text: str, data: st.DataObject) -> None:
        text = unicodedata.normalize("NFKC", text)
        places = [i for i, c in enumerate(text) if unicodedata.category(c)[0] == "M"]
        place = data.draw(st.sampled_from(places))
        changed = text[:place] + text[place + 1 :]
        assert error_rates([normalise(text)], [normalise(changed)]).cer > 0

    def test_a_changed_vowel_sign_is_one_wrong_character(self) -> None:
        rates = error_rates([normalise("किताब")], [normalise("कुताब")])
        assert rates.cer == pytest.approx(1 / 5)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Don't!", "dont"),
            ("rock ’n’ roll", "Rock n Roll"),
            ("STRASSE", "straße"),
            ("well-known", "well known"),
            ("¿Qué?", "que\u0301"),
            ("п’ять", "п'ять"),
            ("１２３", "123"),
            ("می\u200cخواهم", "میخواهم"),
            ("“so” … they said —", "so they said"),
        ],
    )
    def test_case_punctuation_and_form_do_not_count(self, one: str, other: str) -> None:
        assert normalise(one) == normalise(other)

    @pytest.mark.parametrize(
        ("one", "other"), [("resume", "résumé"), ("five six", "fivesix"), ("5", "6")]
    )
    def test_letters_accents_and_spaces_do(self, one: str, other: str) -> None:
        assert normalise(one) != normalise(other)


class TestCleanTranscript:
    @given(st.text() | AWKWARD)
    def test_the_result_is_composed_on_one_line_and_stays_as_it_is(self, text: str) -> None:
        clean = clean_transcript(text)
        assert unicodedata.is_normalized("NFC", clean)
        assert clean == " ".join(clean.split())
        assert clean_transcript(clean) == clean

    @pytest.mark.parametrize("text", ["می\u200cخواهم", "ක්\u200dර", "র\u200d্যাব"])
    def test_the_joiners_of_persian_sinhala_and_bengali_stay(self, text: str) -> None:
        assert clean_transcript(text) == text

    def test_invisible_controls_go_and_all_white_space_is_one_space(self) -> None:
        assert clean_transcript("\ufeffso\u200b\u00ad \t\r\nit\u00a0is\u202e\x07 ") == "so it is"

    def test_what_is_written_is_not_rewritten(self) -> None:
        assert clean_transcript("½ ﬁve «น้ำ» Ⅳ") == "½ ﬁve «น้ำ» Ⅳ"


class TestErrorRates:
    def test_they_equal_a_case_worked_out_by_hand(self) -> None:
        # one of "the", one for "cat", and "now" too much; 7 words, 3 errors
        rates = error_rates(["the cat sat on the mat", "yes"], ["the hat sat on mat", "yes now"])
        assert (rates.substitutions, rates.deletions, rates.insertions) == (1, 1, 1)
        assert rates.words == 7
        assert rates.wer == pytest.approx(3 / 7)
        # c->h, "the " without its four characters, " now" with its four: 9 of 22 + 3
        assert rates.characters == 25
        assert rates.cer == pytest.approx(9 / 25)

    def test_a_long_text_weighs_more_than_a_short_one(self) -> None:
        rates = error_rates(["a b c d e f g h i", "x"], ["a b c d e f g h i", "y"])
        assert rates.wer == pytest.approx(0.1)

    def test_words_where_nothing_was_said_are_insertions(self) -> None:
        rates = error_rates(["", "one two"], ["thank you", "one two"])
        assert (rates.insertions, rates.words, rates.wer) == (2, 2, 1.0)

    def test_silence_where_something_was_said_is_all_deletions(self) -> None:
        rates = error_rates(["one two"], [""])
        assert (rates.deletions, rates.wer, rates.cer) == (2, 1.0, 1.0)

    def test_without_a_single_word_there_is_no_rate(self) -> None:
        with pytest.raises(ValueError, match="no reference has a word"):
            error_rates(["", " "], ["a", "b"])

    def test_lists_of_two_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="2 references but 1"):
            error_rates(["a", "b"], ["a"])


@pytest.mark.parametrize(
    ("code", "base"),
    [
        *(("pt-BR", "pt"), ("zh_Hant", "zh"), ("CS", "cs"), ("hsb", "hsb")),
        *(("nb_NO", "no"), ("iw", "he"), ("cmn_hans_cn", "zh")),
    ],
)
def test_the_language_of_a_code_is_its_first_part_as_whisper_names_it(code: str, base: str) -> None:
    assert base_language(code) == base
