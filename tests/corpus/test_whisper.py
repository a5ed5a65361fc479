"""What the model hears, on real speech of known words at known times."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.labelling import random_whisper
from corpus.audio import SAMPLE_RATE, Pcm
from corpus.errors import UserError
from corpus.models import find_model
from corpus.whisper import FALLBACKS, Heard, Whisper, Window
from corpus.workspace import init_workspace
from demo.voices import BASE_VOICES, DEMO_VOICES, Span, recorded, sentences, speak, utter

from .conftest import MODEL, SENTENCES

pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason="demo/model, the small Whisper, absent")


@pytest.fixture(scope="module")
def whisper(converted: Path) -> Whisper:
    """The small Whisper, loaded once."""
    return Whisper(str(converted), "en", device="cpu")


@pytest.fixture(scope="module")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Whisper:
    """A network that writes one word to the end of its context."""
    folder = random_whisper(tmp_path_factory.mktemp("looping") / "source", (64, 3, 1), [300] * 440)
    space = init_workspace(tmp_path_factory.mktemp("looping") / "workspace", "en")
    return Whisper(find_model(space, str(folder)).path, "en", device="cpu")


def window(whisper: Whisper, pcm: Pcm, text: str | None = None) -> Window:
    return Window(whisper.features(pcm), pcm.size / SAMPLE_RATE, text)


def listen(whisper: Whisper, *pcm: Pcm) -> list[Heard]:
    return whisper([window(whisper, one) for one in pcm])


def silence(seconds: float) -> Pcm:
    noise = np.random.default_rng(0).normal(scale=10, size=round(seconds * SAMPLE_RATE))
    return noise.astype(np.int16)


def test_speech_is_heard_in_the_language_that_it_is_in(whisper: Whisper) -> None:
    for sentence, heard in zip(
        SENTENCES, listen(whisper, *(speak(s, BASE_VOICES[0]) for s in SENTENCES)), strict=True
    ):
        assert heard.text == sentence
        assert [word.text for word in heard.words] == sentence.split()
        assert heard.avg_logprob > -0.1
        assert heard.no_speech_prob < 0.1
        assert heard.language_prob > 0.9
        assert heard.fallback == 0
        assert heard.given_words is None


def test_silence_is_likely_to_be_no_speech(whisper: Whisper) -> None:
    quiet, spoken = listen(whisper, silence(4.0), speak(SENTENCES[0], BASE_VOICES[0]))
    assert quiet.no_speech_prob > 0.3 > 0.01 > spoken.no_speech_prob


def test_the_language_asked_for_is_judged_not_the_likeliest(converted: Path) -> None:
    pcm = speak(SENTENCES[0], BASE_VOICES[0])
    (heard,) = listen(Whisper(str(converted), "cs", device="cpu"), pcm)
    assert heard.language_prob < 0.01


def test_a_window_in_a_batch_is_heard_as_it_is_alone(whisper: Whisper) -> None:
    voices = [*BASE_VOICES[:4], *DEMO_VOICES[:3]]
    rng = random.Random(1)
    spoken = [speak(text, rng.choice(voices)) for text in sentences(rng, 10)]
    windows = [window(whisper, pcm, "call number five") for pcm in spoken]
    together = whisper(windows)
    for one, alone in zip(together, (whisper([w])[0] for w in windows), strict=True):
        assert one.text == alone.text
        assert one.fallback == alone.fallback
        for field in ("avg_logprob", "no_speech_prob", "language_prob"):
            assert getattr(one, field) == pytest.approx(getattr(alone, field), abs=1e-5)
        for words in ("words", "given_words"):
            for word, same in zip(getattr(one, words), getattr(alone, words), strict=True):
                assert word[:3] == same[:3]
                assert word.probability == pytest.approx(same.probability, abs=1e-5)


def test_the_spectrogram_is_that_of_audio_filled_up_with_silence(whisper: Whisper) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    speech = speak(SENTENCES[0], BASE_VOICES[0])
    for pcm in (speech, speech[:16_003], silence(30.0), silence(0.005), np.zeros(800, np.int16)):
        whole = np.zeros(480_000, np.float32)
        whole[: pcm.size] = pcm / 32768
        expected = FeatureExtractor()(whole)[:, :3000]
        np.testing.assert_allclose(whisper.features(pcm), expected, atol=1e-5)


def placed(seed: int, count: int) -> list[tuple[Pcm, list[Span]]]:
    """Sentences as a microphone hears them, up to 1.5 s after the start, with their words."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    found = []
    for text in sentences(rng, count):
        spoken = utter(text, rng.choice(BASE_VOICES))
        before, after = silence(rng.uniform(0.0, 1.5)), silence(rng.uniform(0.2, 1.0))
        lead = before.size / SAMPLE_RATE
        pcm = recorded(np.concatenate([before, spoken.pcm, after]), noise)
        found.append((pcm, [Span(w.text, w.start + lead, w.end + lead) for w in spoken.words]))
    return found


def errors(words: Any, truth: list[Span]) -> list[float]:
    """Seconds that each boundary between two words is off."""
    return [abs(word.start - span.start) for word, span in zip(words[1:], truth[1:], strict=True)]


def test_words_are_timed_where_they_are_spoken(whisper: Whisper) -> None:
    material = placed(3, 24)
    windows = [
        window(whisper, pcm, " ".join(span.text for span in truth)) for pcm, truth in material
    ]
    inner, first, last = [], [], []
    for heard, (_, truth) in zip(whisper(windows), material, strict=True):
        assert heard.given_words is not None
        inner += errors(heard.given_words, truth)
        first.append(abs(heard.given_words[0].start - truth[0].start))
        last.append(abs(heard.given_words[-1].end - truth[-1].end))
    assert np.median(inner) < 0.02
    assert np.quantile(inner, 0.95) < 0.1
    assert np.median(first) < 0.1
    assert np.median(last) < 0.15


def test_a_text_that_is_not_said_gets_a_low_probability(whisper: Whisper) -> None:
    pcm = speak("mother saw seven green boats", BASE_VOICES[0])
    right, wrong = whisper(
        [
            window(whisper, pcm, text)
            for text in ("mother saw seven green boats", "please call room number three")
        ]
    )
    assert right.given_words is not None
    assert wrong.given_words is not None
    assert np.median([word.probability for word in right.given_words]) > 0.9
    assert np.median([word.probability for word in wrong.given_words]) < 0.3


def test_a_loop_gives_way_to_the_likeliest_text_that_is_none(
    looping: Whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of its 42 words this model cannot but make a text that compresses well.
    monkeypatch.setattr("corpus.whisper.MAX_COMPRESSION_RATIO", 5.0)
    windows = [window(looping, pcm) for pcm in (speak(SENTENCES[0], BASE_VOICES[0]), silence(3.0))]
    for heard, one in zip(looping(windows), windows, strict=True):
        assert heard.fallback == len(FALLBACKS)
        assert 0 < heard.compression_ratio < 5.0
        # Judged by the model as it is, to which what it was kept from saying is far likelier.
        assert heard.avg_logprob < -5
        assert looping([one])[0].text == heard.text


@pytest.mark.parametrize(
    ("limit", "value"), [("MIN_LOGPROB", 0.0), ("MAX_COMPRESSION_RATIO", 0.01)]
)
def test_where_no_way_of_decoding_is_good_enough_the_likeliest_text_is_taken(
    whisper: Whisper, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    pcm = [speak(s, BASE_VOICES[0]) for s in SENTENCES]
    plain = listen(whisper, *pcm)
    monkeypatch.setattr(f"corpus.whisper.{limit}", value)
    for before, after in zip(plain, listen(whisper, *pcm), strict=True):
        assert after.text == before.text
        assert after.avg_logprob >= before.avg_logprob


@pytest.mark.parametrize("text", ["", " ", "...", "<|endoftext|>", "x" * 3000, "\u0928\u092e"])
def test_any_text_may_be_given(whisper: Whisper, text: str) -> None:
    pcm = speak(SENTENCES[0], BASE_VOICES[0])
    heard, other = whisper([window(whisper, pcm, text), window(whisper, pcm)])
    assert heard.text == other.text == SENTENCES[0]
    assert other.given_words is None


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.1, 30.0])
def test_any_length_of_audio_may_be_given(whisper: Whisper, seconds: float) -> None:
    (heard,) = whisper([window(whisper, silence(seconds), "one")])
    for word in [*heard.words, *(heard.given_words or [])]:
        assert 0 <= word.start <= word.end <= seconds


def test_punctuation_belongs_to_its_word(whisper: Whisper) -> None:
    pcm = speak("call number five", BASE_VOICES[0])
    (heard,) = whisper([window(whisper, pcm, "\u201ccall\u201d number, (five)!")])
    assert heard.given_words is not None
    assert [word.text for word in heard.given_words] == ["\u201ccall\u201d", "number,", "(five)!"]


def test_a_model_without_alignment_heads_still_transcribes(converted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(converted, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["alignment_heads"]
    (folder / "config.json").write_text(json.dumps(config))
    whisper = Whisper(str(folder), "en", device="cpu")
    assert not whisper.can_align
    (heard,) = whisper([window(whisper, speak(SENTENCES[0], BASE_VOICES[0]), SENTENCES[0])])
    assert heard.text == SENTENCES[0]
    assert heard.words == []
    assert heard.given_words is None


@pytest.mark.parametrize("name", ["suppress_ids", "suppress_ids_begin"])
def test_a_model_that_suppresses_what_it_does_not_have_is_refused_before_it_can_do_harm(
    converted: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(converted, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    size = len(json.loads((folder / "vocabulary.json").read_text()))
    (folder / "config.json").write_text(json.dumps(config | {name: [220, size]}))
    with pytest.raises(UserError, match=f"suppresses token {size}, and the model has {size}"):
        Whisper(str(folder), "en", device="cpu")


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        Whisper(str(tmp_path), "en")


def test_a_language_that_the_model_does_not_know_is_told(converted: Path) -> None:
    with pytest.raises(UserError, match="--language-token"):
        Whisper(str(converted), "hsb")
