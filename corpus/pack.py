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
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, NamedTuple

WINDOW_SECONDS = 30.0  # the encoder's input (Radford et al. 2022, section 2.2)
GRID_SECONDS = 0.02  # the step of Whisper's timestamp tokens
STEPS_PER_SECOND = 50  # 1 / GRID_SECONDS, exact where GRID_SECONDS is not
MAX_TOKENS = 448  # the decoder's positions
SPECIAL_TOKENS = 5  # start, language, task, no-timestamps, end; one more than with timestamps
TIMESTAMP_TOKENS = 2  # a segment's start and end
POOL = 256  # pieces
SINGLE_SHARE = 0.02  # of windows: one piece, however short, as many are outside of training
FULL = 0.925  # a window that one speaker fills so far is left to that speaker


class Piece(NamedTuple):
    """What the packer has to know of a segment, or of a run of them that stays together.

    Attributes:
        id: whatever the caller knows it by, such as the segment's id.
        seconds: length of its audio, more than 0.
        tokens: number of tokens of its text alone: no special tokens and no timestamps, save those
            between the segments of a run.
        language: pieces of two languages never share a window, since a window has one
            language token.
        speaker: who speaks, where it is known.
    """

    id: Any
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
    A rest below half a microstep (far less than a sample) is arithmetic noise and does not count.
    """
    return math.ceil(seconds * STEPS_PER_SECOND - 5e-7)


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
    pool: int = POOL,
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
    room = _Room(max_seconds, max_tokens)
    gap = grid_steps(gap_seconds)
    return _windows(pieces, random.Random(seed), room, pool, single_share, gap)


def _windows(
    pieces: Iterable[Piece],
    rng: random.Random,
    room: _Room,
    pool: int,
    single_share: float,
    gap: int,
) -> Iterator[tuple[Piece, ...]]:
    drawn = rng.random
    pools: dict[str, _Pool] = {}

    def take(waiting: _Pool) -> tuple[Piece, ...]:
        alone = single_share > 0 and drawn() < single_share
        taken = waiting.take_window(gap, alone=alone)
        # Largest first would teach the model that short utterances come last.
        taken.sort(key=lambda _: drawn())
        return tuple([pending[-1] for pending in taken])

    for arrival, piece in enumerate(pieces):
        steps, tokens = _sizes(piece, room)
        waiting = pools.get(piece.language)
        if waiting is None:
            waiting = pools[piece.language] = _Pool(room)
        waiting.add((arrival + drawn() * pool, arrival, steps, tokens, piece))
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
    of_speaker = random.Random()  # seeded again and again: a new one costs as much as ten pieces
    room, gap = _Room(WINDOW_SECONDS, MAX_TOKENS), grid_steps(gap_seconds)
    rest: list[Piece] = []
    for speaker, some in groupby(pieces, key=attrgetter("speaker")):
        group = list(some)
        if speaker is None or all(size < full for size in accumulate(map(_size, group))):
            rest += group
            continue
        rng.shuffle(group)
        of_speaker.seed(rng.getrandbits(32))
        for window in _windows(group, of_speaker, room, POOL, 0.0, gap):
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
    seconds = sum([piece.seconds for piece in window]) + gap_seconds * (len(window) - 1)
    tokens = sum([piece.tokens for piece in window]) + TIMESTAMP_TOKENS * len(window)
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


class _Room:
    """What a window holds: seconds, their steps of the grid, tokens beside the special ones."""

    def __init__(self, seconds: float, tokens: int) -> None:
        self.seconds = seconds
        self.steps = math.floor(round(seconds * STEPS_PER_SECOND, 6))
        self.tokens = tokens - SPECIAL_TOKENS


_Pending = tuple[float, int, int, int, Piece]
"""A piece in the pool: ticket, arrival, steps, tokens, piece. The oldest has the lowest ticket."""


def _sizes(piece: Piece, room: _Room) -> tuple[int, int]:
    """A piece's grid steps and tokens in a window, or ValueError where it can have none."""
    seconds = piece.seconds
    if not seconds > 0:
        raise ValueError(f"{piece.id}: a piece of {seconds} s cannot be packed")
    if seconds > room.seconds or (steps := grid_steps(seconds)) > room.steps:
        raise ValueError(f"{piece.id}: {seconds} s is longer than {room.seconds} s")
    tokens = piece.tokens + TIMESTAMP_TOKENS
    if tokens > room.tokens:
        raise ValueError(
            f"{piece.id}: {piece.tokens} tokens are more than the "
            f"{room.tokens - TIMESTAMP_TOKENS} that fit beside timestamps and special tokens"
        )
    return steps, tokens


class _Pool:
    """The pending pieces of one language, sorted so that bisection finds the largest that fits.

    A piece's size is the part of a window that it takes of whichever runs out first, time or
    tokens. It stands on the side of that one, largest first, so what is too large stands before
    the place that bisection finds, and what follows is too large, if at all, in the other.

    Beside each side lie its sizes, negative so that they rise: whole numbers are bisected several
    times faster than tuples.
    """

    def __init__(self, room: _Room) -> None:
        self.room = room
        self.by_steps: list[int] = []
        self.long: list[_Pending] = []
        self.by_tokens: list[int] = []
        self.wordy: list[_Pending] = []
        self.tickets: list[_Pending] = []
        self.taken: set[int] = set()  # arrivals that are gone but still among the tickets
        self.count = 0

    def add(self, pending: _Pending) -> None:
        sizes, side, size = self._side(pending)
        at = bisect_left(sizes, size)
        if at < len(sizes) and sizes[at] == size:  # of equal ones the oldest comes first
            at = bisect_left(side, pending, at, bisect_right(sizes, size, at))
        sizes.insert(at, size)
        side.insert(at, pending)
        heappush(self.tickets, pending)
        self.count += 1

    def take_window(self, gap: int, *, alone: bool) -> list[_Pending]:
        """Remove the pieces of one window: the oldest, then the largest that fits each time."""
        oldest = heappop(self.tickets)
        while oldest[1] in self.taken:
            self.taken.remove(oldest[1])
            oldest = heappop(self.tickets)
        sizes, side, size = self._side(oldest)
        at = side.index(oldest, bisect_left(sizes, size))
        window: list[_Pending] = []
        steps_left, tokens_left = room_steps, room_tokens = self.room.steps, self.room.tokens
        by_steps, long, by_tokens, wordy = self.by_steps, self.long, self.by_tokens, self.wordy
        while True:
            del sizes[at]
            pending = side.pop(at)
            window.append(pending)
            if alone:
                break
            _, _, steps, tokens, _ = pending
            steps_left -= steps + gap
            tokens_left -= tokens
            at_long = bisect_left(by_steps, -steps_left)
            while at_long < len(long) and long[at_long][3] > tokens_left:
                at_long += 1
            at_wordy = bisect_left(by_tokens, -tokens_left)
            while at_wordy < len(wordy) and wordy[at_wordy][2] > steps_left:
                at_wordy += 1
            if at_long < len(long) and (
                at_wordy == len(wordy)
                or by_steps[at_long] * room_tokens <= by_tokens[at_wordy] * room_steps
            ):
                sizes, side, at = by_steps, long, at_long
            elif at_wordy < len(wordy):
                sizes, side, at = by_tokens, wordy, at_wordy
            else:
                break
        self.taken.update([pending[1] for pending in window[1:]])
        self.count -= len(window)
        return window

    def _side(self, pending: _Pending) -> tuple[list[int], list[_Pending], int]:
        """Where a piece stands: the sizes there, the pieces, and its own size."""
        _, _, steps, tokens, _ = pending
        if steps * self.room.tokens >= tokens * self.room.steps:
            return self.by_steps, self.long, -steps
        return self.by_tokens, self.wordy, -tokens
