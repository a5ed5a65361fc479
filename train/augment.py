"""What is done to the sound of a window in training, each draw from the window's own chance.

Nothing here moves sound without the timestamps: speed is drawn where windows are planned and
scales the times of what is said, noise, gain and the telephone line keep every sample in its place,
and SpecAugment goes without its time warp.
"""

import random
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from corpus.audio import SAMPLE_RATE

MAX_SPEED_CHANGE = 0.1
"""Speech is played 0.9 to 1.1 times as fast (Ko et al. 2015), pitch and all."""

NOISE_DECIBELS = (10.0, 40.0)
"""Speech over noise. The noise is between white and brown, as rooms and microphones are."""

GAIN_DECIBELS = (-15.0, 5.0)

SILENCE_DECIBELS = (-75.0, -35.0)
"""Noise where nobody speaks, below full scale: from a studio to a street behind a window."""

TELEPHONE_RATE = 8000
MU = 255
"""A telephone line: 8 kHz and 8-bit mu-law (ITU-T G.711)."""

MAX_MASKED_FRAMES = 100
MAX_MASKED_MELS = 27 / 80
"""SpecAugment's policy LibriSpeech Basic (Park et al. 2019, table 1): T = 100 frames of 10 ms and
F = 27 of 80 mels, one mask each; of 128 mels the same share."""


class Masks(NamedTuple):
    """Frames and mels of one window that are blanked, each from (incl.) to (excl.)."""

    frame: int = 0
    frame_stop: int = 0
    mel: int = 0
    mel_stop: int = 0


def draw_masks(chance: random.Random, frames: int, mels: int) -> Masks:
    """SpecAugment's masks of a window with `frames` frames of sound, the padding not counted."""
    width = chance.randint(0, min(MAX_MASKED_FRAMES, frames))
    frame = chance.randint(0, frames - width)
    height = chance.randint(0, round(MAX_MASKED_MELS * mels))
    mel = chance.randint(0, mels - height)
    return Masks(frame, frame + width, mel, mel + height)


def blank(features: Tensor, masks: Tensor) -> Tensor:
    """Set what is masked to 0, which is about the mean of Whisper's log-mel.

    Args:
        features: float [B, mels, frames].
        masks: int64 [B, 4], rows as in `Masks`.
    """
    frames = torch.arange(features.shape[2], device=features.device)
    mels = torch.arange(features.shape[1], device=features.device)
    in_time = (frames >= masks[:, 0, None]) & (frames < masks[:, 1, None])
    in_pitch = (mels >= masks[:, 2, None]) & (mels < masks[:, 3, None])
    return features.masked_fill(in_time[:, None, :] | in_pitch[:, :, None], 0.0)


def draw_speed(chance: random.Random, probability: float) -> float:
    """How many times as fast a piece of speech is to be played; often 1."""
    if chance.random() >= probability:
        return 1.0
    # The resampler knows any ratio; hundredths are enough variety.
    return round(1.0 + chance.uniform(-MAX_SPEED_CHANGE, MAX_SPEED_CHANGE), 2)


def change_speed(pcm: np.ndarray, speed: float, samples: int) -> np.ndarray:
    """int16 [n] -> int16 [samples], n / speed long but for rounding."""
    import soxr

    played = soxr.resample(pcm, SAMPLE_RATE * speed, SAMPLE_RATE)[:samples]
    return np.pad(played, (0, samples - played.size))


def disturb(
    pcm: np.ndarray, chance: random.Random, *, noise: float, gain: float, phone: float
) -> np.ndarray:
    """Each kind of disturbance with its probability; int16 [samples] -> int16 [samples]."""
    drawn = [chance.random() < probability for probability in (noise, phone, gain)]
    if not pcm.size:
        return pcm
    if drawn[0]:
        pcm = add_noise(pcm, chance)
    if drawn[1]:
        pcm = telephone(pcm)
    return change_gain(pcm, chance) if drawn[2] else pcm


def add_noise(pcm: np.ndarray, chance: random.Random) -> np.ndarray:
    """Add steady noise, int16 [samples] -> int16 [samples]."""
    noise = _noise(pcm.size, chance)
    return _int16(pcm + noise * (_level(pcm) / 10 ** (chance.uniform(*NOISE_DECIBELS) / 20)))


def silence(samples: int, chance: random.Random) -> np.ndarray:
    """What a microphone takes where nobody speaks: int16 [samples], half of the time all zeros."""
    if chance.random() < 0.5:
        return np.zeros(samples, np.int16)
    noise = _noise(samples, chance)
    return _int16(noise * (32768 * 10 ** (chance.uniform(*SILENCE_DECIBELS) / 20)))


def _noise(samples: int, chance: random.Random) -> np.ndarray:
    """Steady noise of a colour that is drawn, its root mean square 1: float [samples]."""
    colour = chance.uniform(0.0, 0.95)
    white = np.random.default_rng(chance.getrandbits(64)).standard_normal(samples, np.float32)
    # A first-order low-pass, by the spectrum: a loop over samples would be slow.
    spectrum = np.fft.rfft(white)
    turn = np.exp(-1j * np.linspace(0.0, np.pi, spectrum.size))
    noise = np.fft.irfft(spectrum / (1.0 - colour * turn), samples)
    return noise / max(_level(noise), 1e-9)


def change_gain(pcm: np.ndarray, chance: random.Random) -> np.ndarray:
    """Make it softer or louder, as loud as fits at most; int16 [samples] -> int16 [samples]."""
    factor = 10 ** (chance.uniform(*GAIN_DECIBELS) / 20)
    peak = np.abs(pcm.astype(np.int32)).max(initial=1)
    return _int16(pcm * min(factor, 32767 / peak))


def telephone(pcm: np.ndarray) -> np.ndarray:
    """What a telephone line leaves, int16 [samples] -> int16 [samples]."""
    import soxr

    narrow = soxr.resample(pcm.astype(np.float32) / 32768, SAMPLE_RATE, TELEPHONE_RATE)
    squeezed = np.sign(narrow) * np.log1p(MU * np.abs(narrow).clip(max=1.0)) / np.log1p(MU)
    steps = np.round(squeezed * 127) / 127
    line = np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(MU)) / MU
    wide = soxr.resample(line, TELEPHONE_RATE, SAMPLE_RATE)[: pcm.size]
    return _int16(np.pad(wide, (0, pcm.size - wide.size)) * 32768)


def _level(samples: np.ndarray) -> float:
    """Root mean square over what is not digital silence."""
    sounding = samples[samples != 0].astype(np.float64)
    return float(np.sqrt(np.mean(sounding**2))) if sounding.size else 0.0


def _int16(samples: np.ndarray) -> np.ndarray:
    return np.round(samples).clip(-32768, 32767).astype(np.int16)
