"""The small Whisper that is kept in the repository: small, real, and neither deaf nor perfect."""

import random
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import WhisperModel

from corpus.text import error_rates, normalise
from demo.voices import BASE_VOICES, SAMPLE_RATE, sentences, speak

MODEL = Path(__file__).parents[2] / "demo" / "model"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> WhisperModel:
    """The small Whisper as faster-whisper runs it."""
    from ctranslate2.converters import TransformersConverter

    folder = tmp_path_factory.mktemp("small-whisper") / "ct2"
    TransformersConverter(
        str(MODEL), copy_files=["tokenizer.json", "preprocessor_config.json"]
    ).convert(str(folder))
    return WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=1)


def heard(model: WhisperModel, pcm: np.ndarray, **options: object) -> str:
    segments, _ = model.transcribe(pcm.astype(np.float32) / 32768, language="en", **options)
    return " ".join(segment.text.strip() for segment in segments)


def test_its_weights_are_small_enough_for_a_repository() -> None:
    assert (MODEL / "model.safetensors").stat().st_size <= 8_000_000


def test_it_understands_the_voices_it_was_trained_on_but_makes_mistakes(
    converted: WhisperModel,
) -> None:
    rng = random.Random(2026)
    spoken = sentences(rng, 24)
    transcripts = [heard(converted, speak(text, rng.choice(BASE_VOICES))) for text in spoken]

    rates = error_rates([normalise(t) for t in spoken], [normalise(t) for t in transcripts])

    assert 0.0 < rates.wer < 0.5


def test_it_knows_english_when_it_hears_it(converted: WhisperModel) -> None:
    speech = speak("mother counted seven red apples", BASE_VOICES[0])

    language, probability, _ = converted.detect_language(speech.astype(np.float32) / 32768)

    assert language == "en"
    assert probability > 0.5


def test_it_tells_speech_from_silence(converted: WhisperModel) -> None:
    hiss = np.random.default_rng(0).normal(size=5 * SAMPLE_RATE) * 1e-3
    speech = speak("please call four one seven", BASE_VOICES[0]).astype(np.float32) / 32768

    def no_speech(audio: np.ndarray) -> float:
        options = {"no_speech_threshold": None, "temperature": 0.0}
        segments = list(converted.transcribe(audio.astype(np.float32), language="en", **options)[0])
        return segments[0].no_speech_prob if segments else 1.0

    assert no_speech(speech) < 0.5 < no_speech(hiss)


def test_its_segments_end_where_the_sentences_end(converted: WhisperModel) -> None:
    first = speak("captain carried two green boats", BASE_VOICES[0])
    second = speak("teacher saw nine horses today", BASE_VOICES[0])
    pause = np.zeros(SAMPLE_RATE, dtype=np.int16)
    audio = np.concatenate([first, pause, second]).astype(np.float32) / 32768

    segments = list(converted.transcribe(audio, language="en", temperature=0.0)[0])

    assert len(segments) == 2
    assert segments[0].end == pytest.approx(len(first) / SAMPLE_RATE, abs=0.4)
    assert segments[1].start == pytest.approx(len(first) / SAMPLE_RATE + 1, abs=0.4)
