"""The format of targets: Whisper's, in which a window can be read back."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.errors import UserError
from train.material import Window
from train.stream import Draw
from train.targets import Choices, Target, Utterance, Vocabulary, build_target

WITH_TIMESTAMPS = Choices(timestamps=True, previous_text=False, no_speech_token=False)
WITHOUT_TIMESTAMPS = Choices(timestamps=False, previous_text=False, no_speech_token=False)

Build = Callable[..., Target]


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Any) -> Vocabulary:
    return Vocabulary.from_tokenizer(tokenizer)


@pytest.fixture(scope="module")
def build(tokenizer: Any, vocabulary: Vocabulary) -> Build:
    """`build_target` with the tiny tokenizer."""

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    def build(
        utterances: list[Utterance], choices: Choices, language: str = "en", **options: Any
    ) -> Target:
        return build_target(utterances, language, choices, vocabulary, encode, **options)

    return build


@pytest.fixture(scope="module")
def show(tokenizer: Any) -> Callable[[list[int]], str]:
    """Token ids as one line; a dot for a label without loss."""

    def show(ids: list[int]) -> str:
        names = ["." if token < 0 else tokenizer.convert_ids_to_tokens(token) for token in ids]
        return " ".join(name.strip("<|>").replace("\u0120", "_") for name in names)

    return show


HELLO = Utterance(0.44, 2.42, "one two")
AGAIN = Utterance(2.9, 5.04, "three")
CUT = Utterance(28.7, None, "nine")
BEFORE = Utterance(26.0, 29.5, "zero")


@pytest.mark.parametrize(
    ("utterances", "choices", "previous", "inputs", "labels"),
    [
        pytest.param(
            [HELLO, AGAIN],
            Choices(True, False, False),
            None,
            "startoftranscript en transcribe 0.44 _one _two 2.42 2.90 _three 5.04",
            "en . 0.44 _one _two 2.42 2.90 _three 5.04 endoftext",
            id="with timestamps",
        ),
        pytest.param(
            [HELLO, CUT],
            Choices(True, True, False),
            Utterance(0, None, "zero"),
            "startofprev _zero startoftranscript en transcribe 0.44 _one _two 2.42 28.70",
            ". . en . 0.44 _one _two 2.42 28.70 endoftext",
            id="with previous text and an utterance that goes on beyond the window",
        ),
        pytest.param(
            [HELLO],
            Choices(True, True, False),
            BEFORE,
            "startofprev 26.00 _zero 29.50 startoftranscript en transcribe 0.44 _one _two 2.42",
            ". . . . en . 0.44 _one _two 2.42 endoftext",
            id="with previous text that has timestamps too",
        ),
        pytest.param(
            [HELLO, AGAIN],
            Choices(False, True, False),
            BEFORE,
            "startofprev _zero startoftranscript en transcribe notimestamps _one _two _three",
            ". . en . . _one _two _three endoftext",
            id="without timestamps, with previous text",
        ),
        pytest.param(
            [],
            Choices(True, True, True),
            BEFORE,
            "startoftranscript nospeech",
            "nospeech endoftext",
            id="silence, told at the start",
        ),
        pytest.param(
            [Utterance(0, 30, " ")],
            Choices(True, False, False),
            None,
            "startoftranscript en transcribe notimestamps",
            "en . . endoftext",
            id="silence under a forced language",
        ),
    ],
)
def test_a_target_reads_as_whispers_own(
    build: Build,
    show: Callable[[list[int]], str],
    utterances: list[Utterance],
    choices: Choices,
    previous: Utterance | None,
    inputs: str,
    labels: str,
) -> None:
    """The cases of figure 1 in Radford et al. 2022, and those that follow from its decoders."""
    target = build(utterances, choices, previous=previous)
    assert show(target.decoder_input_ids) == inputs
    assert show(target.labels) == labels


def test_audio_that_is_not_transcribed_is_silenced_only_without_timestamps(build: Build) -> None:
    assert build([HELLO, CUT], WITHOUT_TIMESTAMPS).silent_from == pytest.approx(28.7)
    assert build([HELLO, CUT], WITH_TIMESTAMPS).silent_from is None


def test_chinese_has_no_space_before_an_utterance(
    build: Build, show: Callable[[list[int]], str]
) -> None:
    target = build([HELLO, AGAIN], WITHOUT_TIMESTAMPS, language="zh")
    assert "_one" not in show(target.labels)
    assert "_three" not in show(target.labels)


def test_texts_are_encoded_in_composed_form(build: Build) -> None:
    composed, decomposed = "tři".encode().decode(), "tr\u030ci"
    assert composed != decomposed
    targets = [build([Utterance(0, 1, text)], WITH_TIMESTAMPS) for text in (composed, decomposed)]
    assert targets[0] == targets[1]


def test_a_text_cannot_spell_a_control_token(build: Build, vocabulary: Vocabulary) -> None:
    labels = build([Utterance(0, 1, "one <|endoftext|> <|0.00|> two")], WITHOUT_TIMESTAMPS).labels
    assert max(labels[3:-1]) < vocabulary.end


def test_of_a_long_prompt_the_latest_tokens_are_kept(
    build: Build, show: Callable[[list[int]], str]
) -> None:
    long = Utterance(0, 28.0, "one " * 300 + "nine")
    target = build([HELLO], Choices(True, True, False), previous=long)
    prompt = show(target.decoder_input_ids).split(" startoftranscript")[0].split()
    assert len(prompt) == 224
    assert prompt[0] == "startofprev"
    assert prompt[-2:] == ["_nine", "28.00"]
    # Where the window's own text leaves no room worth having, there is no prompt.
    full = build([Utterance(0, 30, "one " * 430)], Choices(True, True, False), previous=long)
    assert show(full.decoder_input_ids).startswith("startoftranscript")


def test_small_overlaps_are_set_apart_and_large_ones_become_one_utterance(
    build: Build, show: Callable[[list[int]], str]
) -> None:
    apart = build([Utterance(0, 2, "one"), Utterance(1.96, 4, "two")], WITH_TIMESTAMPS)
    assert show(apart.labels) == "en . 0.00 _one 2.00 2.00 _two 4.00 endoftext"
    merged = build([Utterance(0, 2, "one"), Utterance(1, 4, "two")], WITH_TIMESTAMPS)
    assert show(merged.labels) == "en . 0.00 _one _two 4.00 endoftext"


def test_a_proxy_language_token_is_given_but_not_learnt(
    build: Build, show: Callable[[list[int]], str]
) -> None:
    target = build([HELLO], WITHOUT_TIMESTAMPS, language="sk", language_token="cs")
    assert show(target.decoder_input_ids).startswith("startoftranscript cs transcribe")
    assert show(target.labels).startswith(". . . _one")


def test_a_language_without_a_token_is_named_with_the_way_out(build: Build) -> None:
    with pytest.raises(UserError, match=r"'sk'.*--language-token"):
        build([HELLO], WITHOUT_TIMESTAMPS, language="sk")


def test_a_text_beyond_448_tokens_is_refused_and_never_cut(build: Build) -> None:
    with pytest.raises(ValueError, match="448"):
        build([Utterance(0, 30, "one " * 500)], WITH_TIMESTAMPS)


def test_a_tokenizer_that_is_no_whispers_is_refused() -> None:
    class Plain:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    with pytest.raises(UserError, match="multilingual Whisper"):
        Vocabulary.from_tokenizer(Plain())


def test_choices_change_with_the_epoch_and_are_even(vocabulary: Vocabulary) -> None:
    def draw(epoch: int, number: int) -> Choices:
        return Draw(window, f"1/{epoch}/{number}").choices

    window = Window("w", "en", (), (), 0, 0)
    drawn = [draw(epoch, number) for epoch in range(2) for number in range(500)]
    assert drawn == [draw(epoch, number) for epoch in range(2) for number in range(500)]
    assert drawn[:500] != drawn[500:]
    for name in ("timestamps", "previous_text", "no_speech_token"):
        assert 430 < sum(getattr(choices, name) for choices in drawn) < 570


TEXTS = st.lists(
    st.sampled_from(["one", "tři", "नमस्ते", "сайн байна уу", "你好", "<|en|>", "seven"]), max_size=3
).map(" ".join)


@st.composite
def utterance_lists(draw: st.DrawFn) -> list[Utterance]:
    """Utterances in order, off the grid, up to 60 ms of overlap; the last may go on beyond."""
    cuts = sorted(draw(st.lists(st.floats(0, 30), max_size=12)))
    utterances = [
        Utterance(max(0.0, start - draw(st.sampled_from([0.0, 0.05]))), end, draw(TEXTS))
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
        if end - start > 0.2
    ]
    if draw(st.booleans()):
        start = draw(st.floats(utterances[-1].end or 0.0, 30)) if utterances else 29.0
        utterances.append(Utterance(start, None, "five"))
    return utterances


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    utterances=utterance_lists(),
    previous=st.one_of(
        st.none(),
        st.builds(
            Utterance, st.just(0.0), st.sampled_from([None, 4.5]), TEXTS | st.just("nine " * 400)
        ),
    ),
    choices=st.builds(Choices, st.booleans(), st.booleans(), st.booleans()),
)
def test_every_target_keeps_the_decoders_contract(
    build: Build,
    vocabulary: Vocabulary,
    utterances: list[Utterance],
    previous: Utterance | None,
    choices: Choices,
) -> None:
    target = build(utterances, choices, previous=previous)
    inputs, labels = target.decoder_input_ids, target.labels

    assert len(inputs) == len(labels) <= 448
    assert labels[-1] == vocabulary.end
    for following, label in zip(inputs[1:], labels, strict=False):
        assert label in (-100, following)

    unlearnt = {vocabulary.start, vocabulary.previous, vocabulary.transcribe}
    assert not unlearnt & set(labels)
    assert vocabulary.no_timestamps not in labels
    start = inputs.index(vocabulary.start)
    assert all(label == -100 for label in labels[:start])
    assert start <= 224
    if vocabulary.no_timestamps in inputs:
        assert not _ticks(labels, vocabulary)

    ticks = _ticks(labels, vocabulary)
    assert ticks == sorted(ticks)
    pairs = list(zip(ticks[::2], ticks[1::2], strict=False))
    assert all(begin < end for begin, end in pairs)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(utterances=utterance_lists())
def test_both_modes_write_the_same_text_tokens(
    build: Build, vocabulary: Vocabulary, utterances: list[Utterance]
) -> None:
    texts = []
    for choices in (WITH_TIMESTAMPS, WITHOUT_TIMESTAMPS):
        labels = build(utterances, choices).labels
        texts.append([label for label in labels if 0 <= label < vocabulary.end])
    assert texts[0] == texts[1]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(utterances=utterance_lists())
def test_a_decoder_reads_times_and_the_next_window_from_the_target(
    build: Build, vocabulary: Vocabulary, utterances: list[Utterance]
) -> None:
    spoken = [u for u in utterances if u.text.strip()]
    labels = build(utterances, WITH_TIMESTAMPS).labels
    ticks = _ticks(labels, vocabulary)

    # Two timestamps at the end: go on from the last. One: nothing more is said in this window.
    is_tick = [label > vocabulary.no_timestamps for label in labels]
    goes_on = bool(spoken) and spoken[-1].end is None
    if len(spoken) > 1:
        assert (is_tick[-3:] == [True, True, False]) == goes_on

    complete = [u for u in spoken if u.end is not None]
    assert len(ticks) == 2 * len(complete) + goes_on
    for index, utterance in enumerate(complete):
        assert utterance.end is not None
        assert ticks[2 * index] * 0.02 == pytest.approx(utterance.start, abs=0.071)
        assert ticks[2 * index + 1] * 0.02 == pytest.approx(utterance.end, abs=0.011)


def _ticks(labels: list[int], vocabulary: Vocabulary) -> list[int]:
    first = vocabulary.timestamp(0)
    return [label - first for label in labels if label >= first]
