"""The sound of one segment as the browser takes it: a small FLAC file and its waveform.

Both come from the decoded recording on request and are kept in memory for a while; nothing is
written to disk.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from corpus import audio, pieces

PEAKS = 480
"""Bars of the waveform; about two pixels each on the widest screen."""


@dataclass(frozen=True)
class Clip:
    """FLAC bytes (16 kHz mono), and the loudest sample of each bar from 0 to 100."""

    flac: bytes
    peaks: list[int]


@lru_cache(maxsize=32)  # 30 s of FLAC are about 0.5 MB
def cut(path: Path, start_ms: int, end_ms: int) -> Clip:
    """Cut a segment out of its recording.

    Raises:
        MediaError: the recording's file is missing or is no audio.
    """
    pcm = pieces.levelled(audio.read_span(path, start_ms, end_ms))  # as loud as every other
    return Clip(audio.encode_flac(pcm), waveform_peaks(pcm))


def waveform_peaks(pcm: audio.Pcm) -> list[int]:
    """The peak of each of `PEAKS` stretches of int16 PCM [samples], in percent of the loudest."""
    loudness = np.abs(pcm.astype(np.int32))
    edges = np.linspace(0, loudness.size, min(PEAKS, loudness.size) + 1).astype(int)[:-1]
    if not edges.size:
        return []
    peaks = np.maximum.reduceat(loudness, edges)
    return [int(peak) for peak in np.rint(100 * peaks / max(1, peaks.max()))]
