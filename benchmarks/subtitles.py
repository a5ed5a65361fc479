"""How fast a subtitle file is read and cleaned.

The file is made here: cues as a talk has them, two lines each, some with markup. pysrt reads the
same text; it does not undo markup, so its task is the smaller one.
"""

import argparse
import time
from collections.abc import Callable

import pysrt

from benchmarks import Figure
from benchmarks._common import T, fastest
from corpus.errors import UserError
from corpus.subtitles.clean import Cue, clean_cues, credits_for
from corpus.subtitles.reader import read_subtitles
from corpus.subtitles.suspect import judge_track

WANTED_RATE = 50_000  # cues/s

LINES = (
    "Dobrý den, vítejte u dalšího dílu.",
    "<i>Dnes si řekneme, jak to funguje.</i>",
    "NOVÁK: Tak se na to podíváme,",
    "a pak ještě jednou [smích] od začátku.",
    "- Rozumíte tomu? - Ano, rozumím.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cues", type=int, default=50_000, help="cues of the file")


def measure(options: argparse.Namespace) -> list[Figure]:
    if options.cues < 1:
        raise UserError(f"--cues is {options.cues}; give at least 1")
    text = sample_srt(options.cues)
    data = text.encode()

    def rate(work: Callable[[], T]) -> tuple[T, float]:
        result, seconds = fastest(work, time.process_time)
        return result, options.cues / seconds

    track, ours = rate(lambda: read_subtitles(data))
    _, theirs = rate(lambda: pysrt.from_string(text))
    cues = [Cue(item.start.ordinal, item.end.ordinal, item.text) for item in track.items]
    credits = credits_for("cs")
    _, cleaning = rate(lambda: clean_cues(cues, credits))
    _, judging = rate(lambda: judge_track(cues))
    return [
        Figure("reading", ours, "cues/s", "pysrt", theirs),
        Figure("reading", ours, "cues/s", "wanted", WANTED_RATE),
        Figure("cleaning", cleaning, "cues/s", "reading", ours),
        Figure("judging", judging, "cues/s", "reading", ours),
    ]


def sample_srt(count: int) -> str:
    """A SubRip file of `count` cues of two lines, 2 s each."""

    def stamp(ms: int) -> str:
        return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    return "\n".join(
        f"{i + 1}\n{stamp(2000 * i)} --> {stamp(2000 * i + 1900)}\n"
        f"{LINES[i % len(LINES)]}\nTo byla věta číslo {i}.\n"
        for i in range(count)
    )
