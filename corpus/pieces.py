"""Small pieces of sound, by pydub: silence trimmed, level set, edges faded.

pydub holds a whole sound in memory and counts in milliseconds, so it gets pieces of at most a
window, and of those only the samples that change. PCM is int16 [samples] at 16 kHz throughout.
"""

import warnings
from typing import Any

import numpy as np

from corpus.audio import SAMPLE_RATE, Pcm

FADE_MS = 5
"""Long enough that a joint does not click, short enough to leave every phone alone."""

SILENCE_BELOW_PEAK_DB = 45.0
"""What lies this far under a piece's loudest 10 ms is silence: breath and room lie above."""

KEPT_BEFORE_MS, KEPT_AFTER_MS = 100, 300
"""Silence that is left around speech: weak first and last sounds are in it."""

HEADROOM_DB = 1.0
"""Below full scale, so that no player's resampling clips."""


def speech_bounds(pcm: Pcm) -> tuple[int, int]:
    """Start and end (ms) of a piece without the silence at its ends; all of it where all is."""
    from pydub.silence import detect_leading_silence

    length = pcm.size * 1000 // SAMPLE_RATE
    sound = _segment(pcm)
    loudest = max((chunk.dBFS for chunk in sound[::10]), default=float("-inf"))
    if loudest == float("-inf"):
        return 0, length
    threshold = loudest - SILENCE_BELOW_PEAK_DB
    before, after = (
        detect_leading_silence(side, silence_threshold=threshold)
        for side in (sound, sound.reverse())
    )
    return max(0, before - KEPT_BEFORE_MS), min(length, length - after + KEPT_AFTER_MS)


def levelled(pcm: Pcm) -> Pcm:
    """A piece with its loudest sample brought to `HEADROOM_DB` below full scale."""
    from pydub.effects import normalize

    return _samples(normalize(_segment(pcm), headroom=HEADROOM_DB)) if pcm.size else pcm


def faded(pcm: Pcm, *, into: bool, out: bool) -> Pcm:
    """A piece with its first and/or last 5 ms faded; shorter than both fades, as it is."""
    edge = FADE_MS * SAMPLE_RATE // 1000
    if not (into or out) or pcm.size < 2 * edge:
        return pcm
    pcm = pcm.copy()
    # A longer piece would come back cut to a whole number of milliseconds.
    if into:
        pcm[:edge] = _samples(_segment(pcm[:edge]).fade_in(FADE_MS))
    if out:
        pcm[-edge:] = _samples(_segment(pcm[-edge:]).fade_out(FADE_MS))
    return pcm


def _segment(pcm: Pcm) -> Any:
    with warnings.catch_warnings():
        # pydub looks for ffmpeg when imported; PCM needs none.
        warnings.simplefilter("ignore")
        from pydub import AudioSegment
    return AudioSegment(data=pcm.tobytes(), sample_width=2, frame_rate=SAMPLE_RATE, channels=1)


def _samples(sound: Any) -> Pcm:
    return np.frombuffer(sound.raw_data, np.int16)
