"""Synthetic voices: the same every time, unlike one another, and timed."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from demo.voices import BASE_VOICES, DEMO_VOICES, DIGITS, Voice, recorded, sentences, speak, utter

ROOT = Path(__file__).parents[2]
TEXT = "teacher counted seven red boats"


@pytest.mark.parametrize("voice", [BASE_VOICES[0], DEMO_VOICES[0]], ids=lambda voice: voice.name)
def test_a_voice_says_the_same_samples_whatever_was_said_before(voice: Voice) -> None:
    first = speak(TEXT, voice)
    speak("another sentence", BASE_VOICES[3])
    again = speak(TEXT, voice)

    assert first.dtype == np.int16
    np.testing.assert_array_equal(first, again)


def test_breath_sounds_alike_whatever_the_clock_says() -> None:
    breathy = Voice("breathy", "en-us", "f3")
    first = speak(TEXT, breathy)
    time.sleep(1.1)  # espeak-ng would draw its noise by the second
    np.testing.assert_array_equal(first, speak(TEXT, breathy))


def test_the_demo_is_spoken_alike_in_every_process() -> None:
    script = (
        "import hashlib; from demo.voices import DEMO_VOICES, speak; "
        f"pcm = b''.join(speak({TEXT!r}, voice).tobytes() for voice in DEMO_VOICES); "
        "print(hashlib.sha256(pcm).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(4)
    }
    assert len(said) == 1


def test_speech_is_at_16_khz_and_lasts_as_long_as_the_rate_says() -> None:
    slow, fast = (speak(TEXT, Voice("a", "en-us", "m1", rate=rate)) for rate in (100, 200))

    assert 1.0 < len(fast) / 16_000 < len(slow) / 16_000 < 5.0


def test_no_two_voices_sound_the_same() -> None:
    said = {speak("one two", voice).tobytes() for voice in [*BASE_VOICES, *DEMO_VOICES]}

    assert len(said) == len(BASE_VOICES) + len(DEMO_VOICES)


def test_the_demo_speaks_with_an_accent_that_the_small_model_never_heard() -> None:
    assert not {v.accent for v in BASE_VOICES} & {v.accent for v in DEMO_VOICES}


def test_words_and_phonemes_lie_within_the_utterance_in_order() -> None:
    for text in sentences(random.Random(1), 50):
        spoken = utter(text, BASE_VOICES[1])

        assert spoken.text == text
        for spans in (spoken.words, spoken.phonemes):
            edges = [at for span in spans for at in (span.start, span.end)]
            assert edges == sorted(edges)
            assert edges[0] >= 0
            assert edges[-1] <= spoken.seconds + 0.01


def test_an_accent_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no voice xx-nowhere"):
        speak("one", Voice("a", "xx-nowhere", "m1"))


def test_sentences_are_drawn_from_the_seed_and_hold_two_to_eight_words_and_every_digit() -> None:
    drawn = sentences(random.Random(7), 500)
    words = {word for text in drawn for word in text.split()}

    assert drawn == sentences(random.Random(7), 500)
    assert {len(text.split()) for text in drawn} <= set(range(2, 9))
    assert words >= set(DIGITS)
    assert 35 <= len(words) <= 45


def test_a_recording_is_noisier_than_the_speech_and_in_time_with_it() -> None:
    clean = speak(TEXT, BASE_VOICES[0])
    noisy = recorded(clean, np.random.default_rng(0))

    assert noisy.dtype == np.int16
    assert len(noisy) == len(clean)
    lags = np.arange(-160, 161)
    inner = clean[160:-160].astype(float)
    likeness = [
        np.dot(inner, noisy[160 + lag : len(noisy) - 160 + lag].astype(float)) for lag in lags
    ]
    assert lags[int(np.argmax(likeness))] == 0
