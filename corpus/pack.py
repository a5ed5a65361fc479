"""Lays short segments end to end into windows of at most 30 s and 448 decoder tokens.

Whisper's encoder always works on 30 s, so a clip of 5 s trained alone spends five sixths of the
encoder on padding. `pack` keeps a pool of pending pieces; a window starts with the oldest of them
and then takes, again and again, the largest that still fits. One pass over a stream, memory for
one pool, and within a point of the fill of first-fit-decreasing over the whole corpus, which in
turn would put clips of like length together and join the same pairs in every epoch.

A piece has two sizes, seconds and tokens: in scripts that cost Whisper two or three tokens a
character the decoder's 448 positions are full long before the 30 s are.

`pack_by_speaker` makes windows of one speaker as far as that is cheap. Those that a speaker alone
cannot fill are made of several: windows that never mix would be an eighth emptier.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

WINDOW_SECONDS = 30.0  # the encoder's input (Radford et al. 2022, section 2.2)
GRID_SECONDS = 0.02  # the step of Whisper's timestamp tokens
STEPS_PER_SECOND = 50  # 1 / GRID_SECONDS, exact where GRID_SECONDS is not
MAX_TOKENS = 448  # the decoder's positions
SPECIAL_TOKENS = 5  # start, language, task, no-timestamps, end; one more than with timestamps
TIMESTAMP_TOKENS = 2  # a segment's start and end
FULL = 0.925  # a window that one speaker fills so far is left to that speaker


class Piece(NamedTuple):
    """What the packer has to know of a segment, or of a run of them that stays together.

    Attributes:
        id: the segment's id, or whatever the caller knows it by.
        seconds: length of its audio, more than 0.
        tokens: number of tokens of its text alone: no special tokens and no timestamps, save those
            between the segments of a run.
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
    single_share: float = 0.0,
    gap_seconds: float = 0.0,
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
        single_share: share of the windows that hold one piece, however short, as a model meets
            utterances outside of training.
        gap_seconds: silence between two pieces, rounded up to the grid.

    Raises:
        ValueError: a piece has no length, or is too long for a window of its own.
    """
    room = _Room(math.floor(round(max_seconds * STEPS_PER_SECOND, 6)), max_tokens - SPECIAL_TOKENS)
    gap = grid_steps(gap_seconds)
    rng = random.Random(seed)
    pools: dict[str, _Pool] = {}

    def take(waiting: _Pool) -> tuple[Piece, ...]:
        alone = single_share > 0 and rng.random() < single_share
        taken = waiting.take_window(gap, alone=alone)
        # Largest first would teach the model that short utterances come last.
        taken.sort(key=lambda _: rng.random())
        return tuple(pending.piece for pending in taken)

    for arrival, piece in enumerate(pieces):
        steps, tokens = _sizes(piece, max_seconds, room)
        waiting = pools.get(piece.language)
        if waiting is None:
            waiting = pools[piece.language] = _Pool(room)
        waiting.add(_Pending(arrival + rng.random() * pool, arrival, steps, tokens, piece))
        if waiting.count >= pool:
            yield take(waiting)
    for waiting in pools.values():
        while waiting.count:
            yield take(waiting)


def pack_by_speaker(
    pieces: Iterable[Piece],
    *,
    seed: int,
    full: float = FULL,
    single_share: float = 0.0,
    gap_seconds: float = 0.0,
) -> Iterator[tuple[Piece, ...]]:
    """Windows of one speaker where they are `full` (0 to 1) of seconds or tokens, else of several.

    What a speaker cannot fill a window with is topped up by others who could not either. Pieces
    without a speaker are strangers to each other. One speaker's pieces and what is left of the
    others' are held at a time; every piece comes out exactly once, and equal input and seed give
    equal windows.

    Args:
        pieces: those of a speaker one after the other.

    Raises:
        ValueError: as `pack` does.
    """
    rng = random.Random(seed)
    rest: list[Piece] = []
    for speaker, some in groupby(pieces, key=attrgetter("speaker")):
        group = list(some)
        if speaker is None or sum(map(_size, group)) < full:
            rest += group
            continue
        rng.shuffle(group)
        for window in pack(group, seed=rng.getrandbits(32), gap_seconds=gap_seconds):
            if single_share > 0 and rng.random() < single_share:
                yield window[:1]
                rest += window[1:]
            elif _fullness(window, gap_seconds) >= full:
                yield window
            else:
                rest += window
    rng.shuffle(rest)
    yield from pack(
        rest, seed=rng.getrandbits(32), single_share=single_share, gap_seconds=gap_seconds
    )


def _size(piece: Piece) -> float:
    return piece.seconds / WINDOW_SECONDS + piece.tokens / MAX_TOKENS


def _fullness(window: Sequence[Piece], gap_seconds: float) -> float:
    """How much of a window is taken, of seconds or of tokens, whichever is more."""
    seconds = sum(piece.seconds for piece in window) + gap_seconds * (len(window) - 1)
    tokens = sum(piece.tokens + TIMESTAMP_TOKENS for piece in window)
    return max(seconds / WINDOW_SECONDS, tokens / (MAX_TOKENS - SPECIAL_TOKENS))


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


class _Room(NamedTuple):
    """What a window holds."""

    steps: int
    tokens: int


class _Pending(NamedTuple):
    """A piece in the pool; the oldest has the lowest ticket."""

    ticket: float
    arrival: int
    steps: int
    tokens: int
    piece: Piece


def _sizes(piece: Piece, max_seconds: float, room: _Room) -> tuple[int, int]:
    """A piece's grid steps and tokens in a window, or ValueError where it can have none."""
    seconds = piece.seconds
    if not seconds > 0:
        raise ValueError(f"{piece.id}: a piece of {seconds} s cannot be packed")
    if seconds > max_seconds or (steps := grid_steps(seconds)) > room.steps:
        raise ValueError(f"{piece.id}: {seconds} s is longer than {max_seconds} s")
    tokens = piece.tokens + TIMESTAMP_TOKENS
    if tokens > room.tokens:
        raise ValueError(
            f"{piece.id}: {piece.tokens} tokens are more than the "
            f"{room.tokens - TIMESTAMP_TOKENS} that fit beside timestamps and special tokens"
        )
    return steps, tokens


class _Shelf:
    """Pending pieces sorted so that the largest that fits is found by bisection.

    A piece's size is the part of a window that it takes of whichever runs out first, time or
    tokens. It stands on the side of that one, largest first, so what is too large stands before
    the place that bisection finds, and what follows is too large, if at all, in the other.
    """

    def __init__(self, room: _Room) -> None:
        self.room = room
        self.by_steps: list[tuple[int, _Pending]] = []
        self.by_tokens: list[tuple[int, _Pending]] = []

    def _place(self, pending: _Pending) -> tuple[list[tuple[int, _Pending]], tuple[int, _Pending]]:
        if pending.steps * self.room.tokens >= pending.tokens * self.room.steps:
            return self.by_steps, (-pending.steps, pending)
        return self.by_tokens, (-pending.tokens, pending)

    def add(self, pending: _Pending) -> None:
        side, entry = self._place(pending)
        insort(side, entry)

    def remove(self, pending: _Pending) -> None:
        side, entry = self._place(pending)
        del side[bisect_left(side, entry)]

    def largest(self, steps: int, tokens: int) -> _Pending | None:
        """The largest piece that fits into these steps and tokens."""
        long = wordy = None
        side = self.by_steps
        for index in range(bisect_left(side, (-steps,)), len(side)):
            if side[index][1].tokens <= tokens:
                long = side[index][1]
                break
        side = self.by_tokens
        for index in range(bisect_left(side, (-tokens,)), len(side)):
            if side[index][1].steps <= steps:
                wordy = side[index][1]
                break
        if long is None or wordy is None:
            return long or wordy
        return long if long.steps * self.room.tokens >= wordy.tokens * self.room.steps else wordy


class _Pool:
    """The pending pieces of one language."""

    def __init__(self, room: _Room) -> None:
        self.room = room
        self.shelf = _Shelf(room)
        self.tickets: list[_Pending] = []
        self.taken: set[int] = set()  # arrivals that are gone but still among the tickets
        self.count = 0

    def add(self, pending: _Pending) -> None:
        self.count += 1
        heappush(self.tickets, pending)
        self.shelf.add(pending)

    def take_window(self, gap: int, *, alone: bool) -> list[_Pending]:
        """Remove the pieces of one window: the oldest, then the largest that fits each time."""
        while self.tickets[0].arrival in self.taken:
            self.taken.remove(heappop(self.tickets).arrival)
        found: _Pending | None = heappop(self.tickets)
        window: list[_Pending] = []
        steps, tokens = self.room
        while found is not None:
            self.shelf.remove(found)
            window.append(found)
            steps -= found.steps + gap
            tokens -= found.tokens
            found = None if alone else self.shelf.largest(steps, tokens)
        self.taken.update(pending.arrival for pending in window[1:])
        self.count -= len(window)
        return window
