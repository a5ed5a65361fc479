"""How texts are written: told with counts and examples, and never changed in silence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.conventions import (
    differences,
    odd_letters,
    odd_notes,
    removed_characters,
    removed_notes,
    script,
    strip_tags,
    survey,
)
from corpus.text import clean_transcript

CZECH = ["Dobrý den, jak se máte?", "Přišel jsem ti oznámit dobrou zprávu."] * 300


@pytest.mark.parametrize(
    ("written", "text", "tags"),
    [
        ("So [disfluency] I went.", "So I went.", ("disfluency",)),
        ("[Noise] Hello [laugh]", "Hello", ("noise", "laugh")),
        ("I saw [unclear].", "I saw.", ("unclear",)),
        ("one[noise]two", "one two", ("noise",)),
        ("[noise]", "", ("noise",)),
        ("no tags,  two spaces", "no tags,  two spaces", ()),
        ("see [3] and [a very long remark that nobody would take for a tag]", None, ()),
    ],
)
def test_tags_are_taken_off_and_nothing_else(written, text, tags):
    assert strip_tags(written) == (written if text is None else text, tags)


@given(st.text())
def test_a_text_without_brackets_is_left_as_it_is(text):
    assert strip_tags(text.replace("[", "")) == (text.replace("[", ""), ())


def test_letters_of_another_script_are_odd_and_shown_with_their_lines():
    mixed = [*CZECH, "Cena je 5 €, а то je moc.", "Tamto – «ok»."]
    assert odd_letters(survey(mixed)) == {"а": 1, "о": 1, "т": 1}
    (note,) = odd_notes(survey(mixed))
    assert "3 of " in note
    assert "а (U+0430) 1" in note
    assert "«Cena je 5 €, а то je moc.»" in note


def test_rare_letters_of_the_same_script_are_odd_in_a_large_corpus_only():
    rare = "Wałęsa przyszedł."
    assert odd_letters(survey([*CZECH[:20], rare])) == {}
    assert set(odd_letters(survey([*CZECH * 10, rare]))) == {"w", "y", "ł", "ę"}


def test_a_language_with_several_scripts_or_thousands_of_letters_has_no_odd_ones():
    japanese = ["彼はコーヒーを飲みながら新聞を読んでいる。"] * 50
    assert odd_letters(survey(japanese)) == {}
    han = [
        "".join(chr(0x4E00 + n) for n in range(start, start + 40)) for start in range(0, 8000, 40)
    ]
    assert odd_letters(survey([*han, *han[:100] * 50])) == {}


def test_the_script_of_a_letter_is_known():
    assert [script(letter) for letter in "aж字ɛ"] == ["LATIN", "CYRILLIC", "CJK", "LATIN"]


def test_mixed_apostrophes_and_tags_are_told():
    notes = odd_notes(survey(["it's", "it\u2019s", "it\u2019s 'quoted' [noise] [noise]"]))
    assert notes == [
        "apostrophes are written in different ways: ’ (U+2019) 2, ' 1",
        "texts have tags, which a model learns to write: [noise] 2",
    ]


def test_sources_that_write_alike_have_no_differences():
    assert differences(survey(CZECH), survey(CZECH[:10])) == []
    assert differences(survey([]), survey(CZECH)) == []


def test_what_a_source_writes_otherwise_than_the_rest_is_told():
    bare = [text.lower().strip(".?") for text in CZECH]
    assert differences(survey(bare), survey(CZECH)) == [
        "0% of its lines end in punctuation, elsewhere in this workspace 100%",
        "0% of its lines have capitals, elsewhere in this workspace 100%",
    ]
    assert differences(survey(["don't 5"]), survey(["don\u2019t"])) == [
        "100% of its lines have digits, elsewhere in this workspace 0%",
        "its apostrophe is ', elsewhere ’ (U+2019)",
    ]


def test_scripts_without_capitals_are_not_measured_by_them():
    assert "have capitals" not in survey(["قوتابییەکی نوێ", "پێویستم بە کاری"]).shares()


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_the_removed_characters_are_those_that_cleaning_takes_out(texts):
    removed = removed_characters(texts)
    for character in removed:
        assert clean_transcript(f"a{character}b") == "ab"
    if not removed:
        for text in texts:
            spaced = "".join(" " if c.isspace() else c for c in text)
            assert len(clean_transcript(text)) <= len(spaced)


def test_removed_characters_are_told_by_their_code_points():
    assert removed_notes(["a\u200eb\u200ec", "d\ufeffe", "plain"]) == [
        "invisible characters were taken out: (U+200E) 2, (U+FEFF) 1"
    ]
    assert removed_notes(CZECH) == []


def test_real_lists_show_what_is_really_odd_in_them(shared_data):
    def sentences(name, column):
        lines = (shared_data / "cv_meta" / name).read_text(encoding="utf-8").split("\n")
        return [line.rstrip("\r").split("\t")[column] for line in lines[1:] if line]

    chinese = odd_letters(survey(sentences("sentences/zh-TW_other.tsv", 2)))
    assert "ㄧ" in chinese  # the phonetic sign for i, written where 一 is meant
    assert odd_letters(survey(sentences("sentences/ko_train.tsv", 3))) == {}
    assert set(odd_letters(survey(sentences("id/train.tsv", 3)))) >= {"ł", "ō"}
