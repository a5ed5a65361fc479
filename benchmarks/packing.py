"""How full 30 s windows get, and how fast they are planned.

The peers pack by next-fit in dataset order and close the open window at the end of each batch of
rows: 64 rows in the scripts of the Whisper fine-tuning event, 500 in Distil-Whisper's
pseudo-labelling. The limit is the sum of all clips divided by 30 s, which no packer can beat and
only a lucky corpus can reach. Token limits play no part here: the peers know none.
"""

import argparse
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from benchmarks import Figure
from corpus.errors import UserError
from corpus.pack import WINDOW_SECONDS, Fill, Piece, fill, pack

EVENT_BATCH = 64  # rows
DISTIL_BATCH = 500  # rows
REPEATS = 3  # the fastest counts: the others shared the processor


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
    return figures


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


def sample_durations(count: int = 100_000, seed: int = 0) -> list[float]:
    """Lognormal seconds of mean 5.0 between 1 and 15, the shape of Common Voice's clips."""
    rng = random.Random(seed)
    return [min(15.0, max(1.0, rng.lognormvariate(1.55, 0.35))) for _ in range(count)]


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
    fastest = math.inf
    for _ in range(REPEATS):
        start = time.perf_counter()
        windows = list(plan())
        fastest = min(fastest, time.perf_counter() - start)
    return fill(windows), fastest
