"""Fingerprints: the same speech is known after compression, another recording is not."""

from pathlib import Path

import av
import numpy as np
import pytest

from corpus.audio import SAMPLE_RATE, decode
from corpus.fingerprint import FingerprintIndex, fingerprint
from demo.voices import BASE_VOICES, speak

SENTENCES = (
    "call room number five",
    "mother saw seven red boats",
    "the weather was fine on monday",
    "she never told us about it",
)
CLIPS = [(f"{text}/{v}", text, voice) for text in SENTENCES for v, voice in enumerate(BASE_VOICES)]


@pytest.fixture(scope="module")
def clips():
    return {name: speak(text, voice) for name, text, voice in CLIPS[::3]}


@pytest.fixture(scope="module")
def index(clips):
    return FingerprintIndex((name, fingerprint(pcm)) for name, pcm in clips.items())


def compressed(pcm: np.ndarray, path: Path, codec: str, kilobits: int) -> np.ndarray:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        stream.bit_rate = 1000 * kilobits
        resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=48_000)
        frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        for resampled in resampler.resample(frame):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return decode(path)


@pytest.mark.parametrize(("codec", "kilobits"), [("libmp3lame", 32), ("libopus", 24)])
def test_what_was_compressed_is_known_again(clips, index, tmp_path, codec, kilobits):
    suffix = {"libmp3lame": "mp3", "libopus": "ogg"}[codec]
    for name, pcm in clips.items():
        copy = compressed(pcm, tmp_path / f"copy.{suffix}", codec, kilobits)
        assert index.find(fingerprint(copy)) == name


def test_what_is_softer_later_or_cut_is_known_again(clips, index):
    for name, pcm in list(clips.items())[:8]:
        late = np.concatenate([np.zeros(7777, np.int16), pcm])
        for changed in (pcm // 4, late, pcm[pcm.size // 5 :]):
            assert index.find(fingerprint(changed)) == name


def test_other_speech_is_not_though_it_is_the_same_voice(clips, index):
    others = [speak("please call nine two six", voice) for voice in BASE_VOICES]
    assert len(others) > 20
    assert [index.find(fingerprint(pcm)) for pcm in others] == [None] * len(others)


@pytest.mark.parametrize("pcm", [np.zeros(40_000, np.int16), np.zeros(10, np.int16)])
def test_silence_is_like_nothing(index, pcm):
    assert index.find(fingerprint(pcm)) is None
    assert FingerprintIndex([("silence", fingerprint(pcm))]).find(fingerprint(pcm)) is None


def test_an_empty_index_knows_nothing(clips):
    assert FingerprintIndex([]).find(fingerprint(next(iter(clips.values())))) is None


def test_a_long_recording_is_known_by_its_first_minute():
    rng = np.random.default_rng(0)
    pcm = (rng.normal(size=90 * SAMPLE_RATE) * 3000).astype(np.int16)
    assert fingerprint(pcm).size == fingerprint(pcm[: 60 * SAMPLE_RATE]).size
