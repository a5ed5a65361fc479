"""Synthetic speech for the demonstration: espeak-ng voices that read a small grammar of English.

The library and its data come with the package `espeakng-loader`. A sentence takes about 6 ms to
speak, and the same text and voice give the same samples. It sounds robotic; what the demonstration
needs of it is only that every word, every pause and every speaker is known, and that nothing has to
be downloaded.
"""

import _ctypes
import ctypes
import itertools
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import espeakng_loader
import numpy as np
import soxr

SAMPLE_RATE = 16_000  # Hz

# Constants of espeak-ng's speak_lib.h
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback, in the calling thread
_RATE, _PITCH = 1, 3  # espeakRATE (words per minute), espeakPITCH (0-99)
_POSITION_CHARACTER, _CHARS_UTF8 = 1, 1
_PHONEME_EVENTS = 1  # espeakINITIALIZE_PHONEME_EVENTS
_END_OF_LIST, _WORD, _PHONEME = 0, 1, 7  # espeak_EVENT_TYPE


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker."""

    name: str
    accent: str  # an espeak-ng language, such as "en-us"
    variant: str  # an espeak-ng voice variant, such as "f3": the size and tone of the vocal tract
    rate: int = 160  # words per minute
    pitch: int = 50  # 0-99


@dataclass(frozen=True)
class Span:
    """A word or a phoneme and where it is heard, in seconds from the start of the utterance."""

    text: str
    start: float
    end: float


def _voices(accents: list[str], variants: list[str], seed: int) -> list[Voice]:
    """Every accent in every variant, each with a rate and a pitch of its own."""
    rng = random.Random(seed)
    return [
        Voice(f"{accent}+{variant}", accent, variant, rng.randint(130, 180), rng.randint(30, 70))
        for accent in accents
        for variant in variants
    ]


BASE_VOICES = _voices(
    ["en-us", "en", "en-gb-x-rp", "en-gb-x-gbclan"],
    ["m1", "m2", "m3", "m7", "f1", "f2", "f4", "Annie"],
    seed=1,
)
"""The speakers whose speech the small Whisper was trained on."""

DEMO_VOICES = _voices(["af"], ["m4", "m5", "m6", "m8", "linda", "belinda"], seed=2)
"""The demonstration's speakers, whom the small Whisper has never heard: they read the same words
by the spelling and the sounds of Afrikaans, and it misses about half of them."""


# -- the grammar --

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PEOPLE = ["mother", "father", "teacher", "captain"]
VERBS = ["saw", "bought", "counted", "carried", "painted"]
COLOURS = ["red", "green", "yellow", "little"]
THINGS = ["boats", "apples", "horses", "letters", "candles"]
PLACES = [["in", "the", "garden"], ["by", "the", "river"], ["at", "the", "market"]]
DAYS = ["today", "yesterday"]


def _numbers(rng: random.Random) -> list[str]:
    return rng.choices(DIGITS, k=rng.randint(2, 7))


def _call(rng: random.Random) -> list[str]:
    order = rng.choice(
        [["call", "number"], ["call", "room"], ["please", "call"], ["room", "number"]]
    )
    return order + rng.choices(DIGITS, k=rng.randint(1, 4))


def _event(rng: random.Random) -> list[str]:
    things = [rng.choice(DIGITS), *rng.sample(COLOURS, rng.randint(0, 1)), rng.choice(THINGS)]
    when = rng.sample(DAYS, rng.randint(0, 1))
    where = rng.choice(PLACES) if not when and rng.random() < 0.5 else []
    return [rng.choice(PEOPLE), rng.choice(VERBS), *things, *where, *when]


def _pair(rng: random.Random) -> list[str]:
    first, second = rng.sample(PEOPLE, 2)
    return [
        first,
        "and",
        second,
        rng.choice(VERBS),
        "the",
        *rng.sample(COLOURS, 1),
        rng.choice(THINGS),
    ]


def sentences(rng: random.Random, n: int) -> list[str]:
    """`n` sentences of two to eight words, over a vocabulary of 42 words that holds the ten
    digits."""
    forms: list[Callable[[random.Random], list[str]]] = [_numbers, _call, _event, _pair]
    return [" ".join(rng.choices(forms, [2, 1, 2, 1])[0](rng)) for _ in range(n)]


# -- speech --


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_ubyte * 8),  # of a phoneme its name, ended by a zero byte
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Utterance:
    """What a voice said: int16 [samples] at 16 kHz, and the words and phonemes in it."""

    pcm: np.ndarray
    words: list[Span]
    phonemes: list[Span]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def seconds(self) -> float:
        return len(self.pcm) / SAMPLE_RATE


def speak(text: str, voice: Voice) -> np.ndarray:
    """The text in this voice: int16 [samples] at 16 kHz, with some 20 ms of silence at each end.

    Raises ValueError for an accent that espeak-ng does not have.
    """
    return utter(text, voice).pcm


def utter(text: str, voice: Voice) -> Utterance:
    """`speak`, and where each word and phoneme of the text is heard."""
    with _one_at_a_time:
        pcm, rate, words, phonemes = _synthesise(text, voice)
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 200)
    first, last = max(0, loud[0] - rate // 50), min(len(pcm), loud[-1] + rate // 50)
    begin, end = first / rate, last / rate
    # Words that are spoken as one, such as "in the", have one event, shared out by characters.
    words[len(text) + 1] = end
    times = (
        np.interp(range(len(text) + 2), sorted(words), [words[i] for i in sorted(words)]) - begin
    )
    phonemes.append(("", end))
    return Utterance(
        soxr.resample(pcm[first:last], rate, SAMPLE_RATE),
        [
            Span(word.group(), max(0.0, float(times[word.start()])), float(times[word.end() + 1]))
            for word in re.finditer(r"\S+", text)
        ],
        [
            Span(name, max(0.0, start - begin), max(0.0, min(stop, end) - begin))
            for (name, start), (_, stop) in itertools.pairwise(phonemes)
        ],
    )


def _synthesise(
    text: str, voice: Voice
) -> tuple[np.ndarray, int, dict[int, float], list[tuple[str, float]]]:
    """The samples, their rate (Hz), and the starts (s) of words, by character, and of phonemes.

    espeak-ng keeps its oscillators' phases and its noise generator in static variables, so what it
    says depends on what it said before. A library that is loaded anew for each utterance says the
    same thing every time.
    """
    chunks: list[np.ndarray] = []
    words: dict[int, float] = {}
    phonemes: list[tuple[str, float]] = []

    @_Callback
    def collect(samples, count, events):  # type: ignore[no-untyped-def]
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in itertools.takewhile(
            lambda event: event.type != _END_OF_LIST, _forever(events)
        ):
            seconds = event.audio_position / 1000
            if event.type == _WORD:
                words[event.text_position - 1] = seconds
            elif event.type == _PHONEME:
                phonemes.append((bytes(event.id).split(b"\0")[0].decode().strip("',:_"), seconds))
        return 0

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        data = str(espeakng_loader.get_data_path()).encode()
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS)
        library.espeak_ng_SetRandSeed(0)  # else noise is drawn by the clock
        library.espeak_SetSynthCallback(collect)
        if library.espeak_SetVoiceByName(f"{voice.accent}+{voice.variant}".encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice.accent}+{voice.variant}")
        library.espeak_SetParameter(_RATE, voice.rate, 0)
        library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        line = text.encode() + b"\0"
        library.espeak_Synth(line, len(line), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
        library.espeak_Synchronize()
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)
    return np.concatenate(chunks), rate, words, phonemes


def _forever(events: Any) -> Iterator[Any]:
    return (events[i] for i in itertools.count())


def recorded(pcm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The speech as a microphone heard it: int16 [samples], in time with the original.

    A draw of loudness, a short echo of the room, the 3.4 kHz of a telephone, and noise at 15 to 50
    dB below the speech.
    """
    signal = pcm.astype(np.float64)
    if rng.random() < 0.2:
        delays = np.arange(int(0.08 * SAMPLE_RATE))
        echo = rng.normal(size=len(delays)) * np.exp(
            -delays / (rng.uniform(0.01, 0.03) * SAMPLE_RATE)
        )
        echo *= rng.uniform(0.05, 0.3) / np.sqrt(np.sum(echo**2))
        echo[0] = 1.0
        size = 1 << (len(pcm) + len(echo)).bit_length()
        signal = np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(echo, size), size)[: len(pcm)]
    power = np.mean(signal**2) + 1.0
    noise = rng.normal(size=len(pcm)) * np.sqrt(power * 10 ** (-rng.uniform(15, 50) / 10))
    if rng.random() < 0.5:  # a low rumble in place of a hiss
        noise = np.convolve(noise, np.full(8, 8**-0.5), mode="same")
    signal = signal + noise
    if rng.random() < 0.2:
        spectrum = np.fft.rfft(signal)
        spectrum[int(len(spectrum) * rng.uniform(3400, 4000) / (SAMPLE_RATE / 2)) :] = 0
        signal = np.fft.irfft(spectrum, len(pcm))
    gain = rng.uniform(0.1, 0.9) * 32767 / max(1.0, np.abs(signal).max())
    return (signal * gain).astype(np.int16)
