"""Acoustic fingerprints: the same audio is known after it was compressed, cut or given away again.

The method is that of Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (2002): 32
bits for every 12 ms say whether the energy between neighbouring bands rose or fell. Copies differ
in few bits, other audio in half of them. Whole sub-fingerprints that survive lead to the place
where two recordings could be the same, so that nothing is compared that need not be. Music
fingerprinters want ten seconds or more; this knows a sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from corpus.audio import SAMPLE_RATE, Pcm

DECIMATION = 3
FRAME = 2048  # samples at 5,333 Hz: 0.384 s
HOP = 64  # samples at 5,333 Hz: 12 ms
LOW_HZ, HIGH_HZ, BANDS = 300.0, 2000.0, 33

MAX_SECONDS = 60.0
"""Of a recording, from its beginning: enough to know it by."""

MIN_FRAMES = 50
"""Of sound, about a second: less could be anybody's breath."""

MAX_BIT_ERRORS = 0.2
"""Compression at 32 kb/s changes a sixth of the bits. The paper takes 0.35 for three seconds; a
sentence can be shorter, and one voice is like itself."""

QUIET_DB = 40.0
"""Frames this far below the loudest say nothing: digital silence is the same everywhere."""

CANDIDATES = 5
"""Places that most sub-fingerprints lead to; the right one is among the first."""

Fingerprint = np.ndarray[Any, np.dtype[np.uint32]]
"""uint32 [frames]; 0 where it is quiet."""


def fingerprint(pcm: Pcm) -> Fingerprint:
    """The fingerprint of int16 PCM [samples] at 16 kHz; empty where there is less than a frame."""
    pcm = pcm[: round(MAX_SECONDS * SAMPLE_RATE)]
    samples = pcm[: pcm.size // DECIMATION * DECIMATION].reshape(-1, DECIMATION).mean(1)
    if samples.size < FRAME + HOP:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), FRAME)[::HOP]
    window = np.hanning(FRAME).astype(np.float32)
    frequencies = np.geomspace(LOW_HZ, HIGH_HZ, BANDS + 1)
    edges = np.round(frequencies * FRAME * DECIMATION / SAMPLE_RATE).astype(int)
    energy = np.concatenate(
        [  # in blocks: a minute of overlapping frames at once would take 40 MB
            np.add.reduceat(
                np.abs(np.fft.rfft(block * window)[:, : edges[-1]]) ** 2, edges[:-1], axis=1
            )
            for block in np.array_split(frames, len(frames) // 512 + 1)
        ]
    )
    rise = np.diff(np.diff(energy, axis=1), axis=0) > 0
    bits = np.packbits(rise, axis=1).view(">u4").astype(np.uint32).reshape(-1)
    loudness = energy.sum(axis=1)[1:]
    bits[loudness <= loudness.max() * 10 ** (-QUIET_DB / 10)] = 0
    return bits


class FingerprintIndex:
    """Fingerprints to be found again, by name."""

    def __init__(self, known: Iterable[tuple[str, Fingerprint]]) -> None:
        self.known = [(name, bits) for name, bits in known if bits.size]
        sizes = [bits.size for _, bits in self.known]
        bits = np.concatenate([np.zeros(0, np.uint32), *(bits for _, bits in self.known)])
        owner = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        place = np.concatenate(
            [np.zeros(0, np.int32), *(np.arange(size, dtype=np.int32) for size in sizes)]
        )
        order = np.flatnonzero(bits)
        order = order[np.argsort(bits[order], kind="stable")]
        self.bits, self.owner, self.place = bits[order], owner[order], place[order]

    def find(self, bits: Fingerprint) -> str | None:
        """The name of a recording that is, or has in it, or is in, the one with this fingerprint.

        Only what both have and what is loud is compared.
        """
        first = np.searchsorted(self.bits, bits, "left")
        count = np.searchsorted(self.bits, bits, "right") - first
        votes: Counter[tuple[int, int]] = Counter()
        for at in np.flatnonzero((count > 0) & (bits > 0)):
            hits = slice(first[at], first[at] + count[at])
            votes.update(
                zip(self.owner[hits].tolist(), (self.place[hits] - at).tolist(), strict=True)
            )
        for (owner, shift), _ in votes.most_common(CANDIDATES):
            name, other = self.known[owner]
            start, stop = max(0, -shift), min(bits.size, other.size - shift)
            ours, theirs = bits[start:stop], other[start + shift : stop + shift]
            loud = (ours > 0) & (theirs > 0)
            # Two recordings that share a jingle are not the same: most of the shorter must be.
            shorter = min(np.count_nonzero(bits), np.count_nonzero(other))
            if loud.sum() < max(MIN_FRAMES, shorter / 2):
                continue
            errors = np.bitwise_count(ours[loud] ^ theirs[loud]).mean() / 32
            if errors <= MAX_BIT_ERRORS:
                return name
        return None
