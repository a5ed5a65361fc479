"""Lays short segments end to end into windows of at most 30 s and 448 decoder tokens.

Whisper's encoder always works on 30 s, so a clip of 5 s trained alone spends five sixths of the
encoder on padding. `pack` keeps a pool of pending pieces; a window starts with the oldest of them
and then takes, again and again, the largest that still fits. One pass over a stream, memory for
one pool, and within a point of the fill of first-fit-decreasing over the whole corpus, which in
turn would put clips of like length together and join the same pairs in every epoch.

A piece has two sizes, seconds and tokens: in scripts that cost Whisper two or three tokens a
character the decoder's 448 positions are full long before the 30 s are.
"""

from __future__ import annotations

import math
import random
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WINDOW_SECONDS = 30.0  # the encoder's input (Radford et al. 2022, section 2.2)
GRID_SECONDS = 0.02  # the step of Whisper's timestamp tokens
STEPS_PER_SECOND = 50  # 1 / GRID_SECONDS, exact where GRID_SECONDS is not
MAX_TOKENS = 448  # the decoder's positions
SPECIAL_TOKENS = 5  # start, language, task, no-timestamps, end; one more than with timestamps
TIMESTAMP_TOKENS = 2  # a segment's start and end


@dataclass(frozen=True)
class Piece:
    """What the packer has to know of a segment.

    Attributes:
        id: the segment's id.
        seconds: length of its audio, more than 0.
        tokens: number of tokens of its text alone: no timestamps, no special tokens.
        language: pieces of two languages never share a window, since a window has one
            language token.
        speaker: who speaks, where it is known.
    """

    id: str
    seconds: float
    tokens: int
    language: str
    speaker: str | None = None


@dataclass(frozen=True)
class Fill:
    """How full some windows are.

    Attributes:
        windows: number of windows.
        pieces: number of pieces in them.
        seconds: speech in them, without padding.
        fill: seconds / (windows x window length), 0 to 1.
        low_fill: the fill that 95 % of the windows reach or exceed.
        pieces_per_window: mean number of pieces in a window.
    """

    windows: int
    pieces: int
    seconds: float
    fill: float
    low_fill: float
    pieces_per_window: float


class _Pending(NamedTuple):
    """A piece in the pool."""

    size: float  # 1 = a full window, in the dimension where the piece is largest
    ticket: float  # its place in the queue
    steps: int
    tokens: int
    piece: Piece


def _largest_first(pending: _Pending) -> tuple[float, float]:
    return -pending.size, pending.ticket


def grid_steps(seconds: float) -> int:
    """The number of 0.02 s steps that cover `seconds`.

    Rounds up, so that whatever follows in the window starts where a timestamp token can say.
    A rest below a microstep (far less than a sample) is arithmetic noise and does not count.
    """
    return math.ceil(round(seconds * STEPS_PER_SECOND, 6))


def token_bound(text: str) -> int:
    """A number of tokens that no byte-level BPE tokenizer exceeds for `text`.

    Each token covers at least one byte of UTF-8; one more byte is the space that joins the text
    to what precedes it. The bound is safe and loose: English takes about a quarter of it.
    """
    return len(text.encode()) + 1


def pack(
    pieces: Iterable[Piece],
    *,
    seed: int,
    max_seconds: float = WINDOW_SECONDS,
    max_tokens: int = MAX_TOKENS,
    pool: int = 256,
) -> Iterator[tuple[Piece, ...]]:
    """Yield windows: tuples of pieces of one language, in the order they are to be laid out.

    Every piece comes out exactly once. Equal input and seed give equal windows. The seed moves
    pieces within the pool and within their window; whoever holds the whole list and wants
    neighbours from all over it shuffles it first.

    Args:
        pieces: read once, `pool` ahead at most for each language.
        seed: of the shuffling.
        max_seconds: a window's length, each piece being rounded up to the 0.02 s grid.
        max_tokens: a window's labels, with its special tokens and two timestamps a piece.
        pool: how many pieces of a language wait at a time.

    Raises:
        ValueError: a piece has no length, or is too long for a window of its own.
    """
    room_steps = math.floor(round(max_seconds * STEPS_PER_SECOND, 6))
    room_tokens = max_tokens - SPECIAL_TOKENS
    rng = random.Random(seed)
    pools: dict[str, list[_Pending]] = {}

    for arrival, piece in enumerate(pieces):
        steps, tokens = _sizes(piece, max_seconds, room_steps, room_tokens)
        size = max(steps / room_steps, tokens / room_tokens)
        ticket = arrival + rng.random() * pool
        waiting = pools.setdefault(piece.language, [])
        insort(waiting, _Pending(size, ticket, steps, tokens, piece), key=_largest_first)
        if len(waiting) >= pool:
            yield _take_window(waiting, room_steps, room_tokens, rng)
    for waiting in pools.values():
        while waiting:
            yield _take_window(waiting, room_steps, room_tokens, rng)


def fill(windows: Iterable[Sequence[Piece]], *, max_seconds: float = WINDOW_SECONDS) -> Fill:
    """Statistics of `windows`; all zero where there are none."""
    seconds, pieces = [], 0
    for window in windows:
        seconds.append(sum(piece.seconds for piece in window))
        pieces += len(window)
    if not seconds:
        return Fill(0, 0, 0.0, 0.0, 0.0, 0.0)
    low = sorted(seconds)[len(seconds) // 20]
    return Fill(
        windows=len(seconds),
        pieces=pieces,
        seconds=sum(seconds),
        fill=sum(seconds) / (max_seconds * len(seconds)),
        low_fill=low / max_seconds,
        pieces_per_window=pieces / len(seconds),
    )


def _sizes(piece: Piece, max_seconds: float, room_steps: int, room_tokens: int) -> tuple[int, int]:
    """A piece's grid steps and tokens in a window, or ValueError where it can have none."""
    if not piece.seconds > 0:
        raise ValueError(f"{piece.id}: a piece of {piece.seconds} s cannot be packed")
    if piece.seconds > max_seconds or (steps := grid_steps(piece.seconds)) > room_steps:
        raise ValueError(f"{piece.id}: {piece.seconds} s is longer than {max_seconds} s")
    tokens = piece.tokens + TIMESTAMP_TOKENS
    if tokens > room_tokens:
        raise ValueError(
            f"{piece.id}: {piece.tokens} tokens are more than the "
            f"{room_tokens - TIMESTAMP_TOKENS} that fit beside timestamps and special tokens"
        )
    return steps, tokens


def _take_window(
    waiting: list[_Pending], room_steps: int, room_tokens: int, rng: random.Random
) -> tuple[Piece, ...]:
    """Remove one window's pieces from `waiting`, which is sorted largest first.

    What does not fit now will not fit later either, for the room only shrinks: so one pass from
    the largest to the smallest is the same as looking for the largest that fits each time.
    """
    oldest = min(waiting, key=lambda pending: pending.ticket)
    taken, left = [oldest], []
    room_steps -= oldest.steps
    room_tokens -= oldest.tokens
    for pending in waiting:
        if pending is oldest:
            continue
        if pending.steps <= room_steps and pending.tokens <= room_tokens:
            taken.append(pending)
            room_steps -= pending.steps
            room_tokens -= pending.tokens
        else:
            left.append(pending)
    waiting[:] = left
    # Largest first would teach the model that short utterances come last.
    taken.sort(key=lambda _: rng.random())
    return tuple(pending.piece for pending in taken)
