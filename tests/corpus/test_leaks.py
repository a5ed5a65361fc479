"""Leaks: what is held out is known again in train, by text, words, speaker, recording or audio."""

from hypothesis import given
from hypothesis import strategies as st

from corpus.leaks import AUDIO, RECORDING, SPEAKER, TEXT, WORDS, Known, counts, find_leaks

LONG = "the old mill by the river has not been running since the war ended"


def known(name, text="", *, recording=None, speaker=None, audio=None):
    return Known(name, recording or f"of {name}", speaker, audio, text)


OTHERS = [known(f"other{i}", f"quite another sentence about thing number {i}") for i in range(9)]


def leaks_of(train, held_out):
    return {
        leak.segment: (leak.why, leak.held_out)
        for leak in find_leaks([*train, *OTHERS], [held_out]).leaks
    }


def test_each_kind_is_found_and_told_with_what_it_shares():
    held = known("held", LONG, recording="talk", speaker="jana", audio="hash")
    train = [
        known("a", "something else", recording="talk"),
        known("b", "something else", audio="hash"),
        known("c", "something else", speaker="jana"),
        known("d", LONG.upper() + "!"),
        known("e", "as I said, the river has not been running since the war, or so"),
        known("f", "as I said, the river has not been dry since the war"),
        known("g", "something else", speaker="petr", audio="other"),
    ]
    assert leaks_of(train, held) == {
        name: (why, "held")
        for name, why in zip("abcde", (RECORDING, AUDIO, SPEAKER, TEXT, WORDS), strict=True)
    }


def test_a_segment_is_listed_once_however_much_it_shares():
    held = known("held", LONG, speaker="jana", audio="hash")
    found = find_leaks([*OTHERS, known("a", LONG, speaker="jana", audio="hash")], [held])
    assert counts(found.leaks) == {AUDIO: 1}


def test_case_punctuation_apostrophes_and_the_form_of_marks_do_not_matter():
    held = known("held", "Don\u2019t open the cafe\u0301 \u2014 please!")
    assert leaks_of([known("a", "don't open the CAF\u00c9, please")], held)


def test_words_that_differ_by_a_mark_are_different():
    held = known("held", "\u0915\u0940 \u0915\u093f \u0915\u0941 \u0915\u0942")
    assert not leaks_of([known("a", "\u0915\u093f \u0915\u0940 \u0915\u0942 \u0915\u0941")], held)


def test_what_anybody_says_is_no_leak():
    for text in ("yes", "Thank you.", "two five nine", "好的", ""):
        assert not leaks_of([known("a", text)], known("held", text)), text


def test_short_texts_count_where_they_are_long_all_the_same():
    for text in ("international cooperation", "one two three four", "我明天早上坐火车去北京"):
        assert leaks_of([known("a", text)], known("held", text)), text


def test_scripts_without_spaces_are_compared_by_letters():
    held = "今天的天气非常好所以我们决定一起去公园散步然后吃晚饭"
    train = [
        known("a", "他说" + held[2:24] + "真的"),
        known("b", "昨天的天气不好所以他们决定留在家里看书然后早点睡觉休息"),
    ]
    assert leaks_of(train, known("held", held)) == {"a": (WORDS, "held")}


def test_a_corpus_of_one_list_of_sentences_keeps_them_and_tells():
    sentences = [f"this is sentence number {i} of the list" for i in range(10)]
    train = [known(f"{s}/{v}", s, speaker=v) for s in sentences for v in "abc"]
    held = [known(f"{s}/d", s, speaker="d", audio=s) for s in sentences]
    found = find_leaks([*train, known("copy", "x", audio=sentences[0])], held)
    assert [leak.segment for leak in found.leaks] == ["copy"]
    (line,) = found.shared
    assert "97% of train has the sentences of dev and test; kept" in line


def test_a_corpus_of_one_voice_keeps_it_and_tells():
    train = [known(str(i), f"{i} and so on, whatever it is", speaker="one") for i in range(9)]
    found = find_leaks(train, [known("held", LONG, speaker="one")])
    assert found.leaks == []
    assert "100% of train has the speakers" in found.shared[0]


words = st.lists(st.sampled_from("abcdefgh"), max_size=24).map(
    lambda letters: " ".join(letter * 3 for letter in letters)
)


@given(st.lists(words, max_size=8), st.lists(words, max_size=4))
def test_no_run_of_eight_words_is_in_train_and_held_out(train, held_out):
    def runs(text):
        units = text.split()
        return {tuple(units[i : i + 8]) for i in range(len(units) - 7)}

    items = [known(str(i), text) for i, text in enumerate(train)]
    # Enough others that the sentences are not shared by design.
    others = [known(f"o{i}", "zz") for i in range(len(items) + 1)]
    found = find_leaks([*items, *others], [known(f"h{i}", t) for i, t in enumerate(held_out)])
    leaked = {leak.segment for leak in found.leaks}
    held_runs = {run for text in held_out for run in runs(text)}
    held_texts = {text for text in held_out if len(text.split()) >= 4}
    for item in items:
        is_leak = bool(runs(item.text) & held_runs) or item.text in held_texts
        # Sixteen letters count too, of fewer words: these have nine at most.
        assert (item.id in leaked) == is_leak
