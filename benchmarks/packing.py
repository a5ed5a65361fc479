"""How full 30 s windows get, and how fast they are planned.

The peers pack by next-fit in dataset order and close the open window at the end of each batch of
rows: 64 rows in the scripts of the Whisper fine-tuning event, 500 in Distil-Whisper's
pseudo-labelling. The limit is the sum of all clips divided by 30 s, which no packer can beat and
only a lucky corpus can reach. Token limits play no part beside them: the peers know none.

Three more cases are made up: speakers, who get windows of their own; long clips, as FLEURS has
them; and a script that costs Whisper 30 tokens a second, as Georgian does, where the limit is the
decoder's 448.
"""

import argparse
import math
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from benchmarks import Figure
from benchmarks._common import fastest
from corpus.errors import UserError
from corpus.pack import (
    MAX_TOKENS,
    SPECIAL_TOKENS,
    TIMESTAMP_TOKENS,
    WINDOW_SECONDS,
    Fill,
    Piece,
    fill,
    pack,
    pack_by_speaker,
)

EVENT_BATCH = 64  # rows
DISTIL_BATCH = 500  # rows
FILL_GOAL, SPEAKER_GOAL = 98.0, 85.0  # percent, of windows and of speech in one speaker's windows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--durations",
        type=Path,
        metavar="FILE",
        help="clip lengths in seconds, one per line, in dataset order (default: 100,000 drawn "
        "lognormally like Common Voice's)",
    )


def measure(options: argparse.Namespace) -> list[Figure]:
    seconds = read_durations(options.durations) if options.durations else sample_durations()
    pieces = [Piece(str(index), length, 0, "") for index, length in enumerate(seconds)]
    ours, our_time = _timed(partial(pack, pieces, seed=0))
    least = math.ceil(sum(seconds) / WINDOW_SECONDS)
    limit = f"limit of {len(pieces):,} clips"
    figures = [
        Figure("fill", 100 * ours.fill, "%", limit, 100 * sum(seconds) / (least * WINDOW_SECONDS)),
        Figure("windows", ours.windows, "", limit, least),
        Figure("clips per window", ours.pieces_per_window, "", limit, len(pieces) / least),
    ]
    for batch in (EVENT_BATCH, DISTIL_BATCH):
        theirs, their_time = _timed(partial(next_fit, pieces, batch))
        peer = f"next-fit, batches of {batch}"
        figures += [
            Figure("fill", 100 * ours.fill, "%", peer, 100 * theirs.fill),
            Figure("windows", ours.windows, "", peer, theirs.windows),
            Figure("clips per window", ours.pieces_per_window, "", peer, theirs.pieces_per_window),
            Figure("planning", our_time, "s", peer, their_time),
        ]
    spoken = with_speakers(seconds)
    windows = list(pack_by_speaker(spoken, seed=0))
    alone = sum(p.seconds for w in windows if len({p.speaker for p in w}) == 1 for p in w)
    figures += [
        Figure("fill, speaker-first", 100 * fill(windows).fill, "%", "goal", FILL_GOAL),
        Figure("speech with one speaker", 100 * alone / sum(seconds), "%", "goal", SPEAKER_GOAL),
    ]
    if not options.durations:
        long = [Piece(str(i), s, 0, "") for i, s in enumerate(sample_durations(scale=2.4, most=30))]
        bound = 100 * sum(p.seconds for p in long) / WINDOW_SECONDS
        least = math.ceil(bound / 100)
        figures.append(
            Figure(
                "fill, long clips", 100 * fill(pack(long, seed=0)).fill, "%", "limit", bound / least
            )
        )
        heavy = [Piece(str(i), s, round(s * 29.6), "") for i, s in enumerate(seconds) if s < 14.7]
        tokens = sum(p.tokens + TIMESTAMP_TOKENS for p in heavy)
        least = math.ceil(tokens / (MAX_TOKENS - SPECIAL_TOKENS))
        found = fill(pack(heavy, seed=0))
        figures.append(Figure("windows, 30 tokens a second", found.windows, "", "limit", least))
    return figures


def with_speakers(seconds: Iterable[float], seed: int = 0) -> Iterator[Piece]:
    """Clips of these lengths, speaker after speaker; clips per speaker are lognormal."""
    rng = random.Random(seed)
    left, speaker = 0, -1
    for index, length in enumerate(seconds):
        if not left:
            left, speaker = max(1, round(rng.lognormvariate(2.41, 1.27))), speaker + 1
        left -= 1
        yield Piece(str(index), length, 0, "", str(speaker))


def next_fit(pieces: Iterable[Piece], batch: int) -> Iterator[tuple[Piece, ...]]:
    """Windows in order; a piece that does not fit closes the open one, as a batch's end does."""
    iterator = iter(pieces)
    while rows := list(islice(iterator, batch)):
        window: list[Piece] = []
        seconds = 0.0
        for piece in rows:
            if window and seconds + piece.seconds > WINDOW_SECONDS:
                yield tuple(window)
                window, seconds = [], 0.0
            window.append(piece)
            seconds += piece.seconds
        yield tuple(window)


def sample_durations(
    count: int = 100_000, seed: int = 0, *, scale: float = 1.55, most: float = 15.0
) -> list[float]:
    """Lognormal seconds between 1 and `most`; by default of mean 5.0, as Common Voice's clips."""
    rng = random.Random(seed)
    return [min(most, max(1.0, rng.lognormvariate(scale, 0.35))) for _ in range(count)]


def read_durations(path: Path) -> list[float]:
    """The seconds in a file, one number a line.

    Raises:
        UserError: the file cannot be read, or a line is no length that a window can hold.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read; give a text file of seconds") from error
    seconds = []
    for number, line in enumerate(lines, start=1):
        try:
            length = float(line)
        except ValueError:
            length = math.nan
        if not 0 < length <= WINDOW_SECONDS:
            raise UserError(f"{path}, line {number}: {line!r} is no number of seconds up to 30")
        seconds.append(length)
    if not seconds:
        raise UserError(f"{path}: no line; give a text file of seconds")
    return seconds


def _timed(plan: Callable[[], Iterable[tuple[Piece, ...]]]) -> tuple[Fill, float]:
    """How full the windows of a plan are, and the seconds it took to make it."""
    windows, seconds = fastest(lambda: list(plan()))
    return fill(windows), seconds
