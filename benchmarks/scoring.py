"""How long scores take, a pair of texts at a time, and verdicts, a hundred thousand at a time.

The texts are made here. A pair is a subtitle and what a model makes of it: a word lost, a word
changed; the worst is one that has nothing to do with it. The catalogue holds for each segment a
subtitle and a pseudo-label with its scores, in recordings of some two hundred segments.
"""

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jiwer
from sqlalchemy import insert

from benchmarks import Figure
from corpus.catalogue import Catalogue, Recording, Score, Segment, Transcript, segment_id
from corpus.errors import UserError
from corpus.score import Text, compare, measure, phrases_for
from corpus.text import normalise
from corpus.thresholds import read_thresholds
from corpus.verdict import Rules, apply_verdicts
from corpus.workspace import init_workspace

WANTED_US = 100.0  # for a comparison of two texts
WANTED_S = 60.0  # for a verdict on everything: longer than this nobody tries a threshold
REPEATS = 3  # the fastest counts: the others shared the processor
CALLS = 200
PER_RECORDING = 200
SEGMENT_MS = 12_000

WORDS = (
    "dobrý den vítejte dnes řekneme jak funguje začátku jednou potom pořad město řeka most starý "
    "kamenný lidé chodí každý večer domů práce dlouhý krátký vítr zima léto obloha kniha příběh"
).split()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--segments", type=int, default=100_000, metavar="N")


def measure_pairs() -> list[Figure]:
    """Microseconds for a pair of texts of some 200 characters."""
    label = _sentence(random.Random(0))
    heard = _heard(label, random.Random(1))
    other = _sentence(random.Random(2))[: len(label)]
    one, two, three = (normalise(text) for text in (label, heard, other))
    texts = [Text(n, "", "", text, {}) for n, text in enumerate((label, heard))]
    phrases = phrases_for("cs")

    def of_jiwer() -> None:
        jiwer.process_words(one, two)
        jiwer.process_characters(one, two)

    beside = 1e6 * _seconds(of_jiwer)
    similar = 1e6 * _seconds(lambda: compare(one, two))
    worst = 1e6 * _seconds(lambda: compare(one, three))
    whole = 1e6 * _seconds(lambda: measure(texts[0], texts[1], None, 12.0, "cs", phrases))
    return [
        Figure("CER with edges, a usual pair", similar, "µs", "jiwer, WER and CER", beside),
        Figure("CER with edges, a usual pair", similar, "µs", "wanted", WANTED_US),
        Figure("CER with edges, the worst pair", worst, "µs", "wanted", WANTED_US),
        Figure("all scores, normalising included", whole, "µs", "jiwer, WER and CER", beside),
    ]


def measure(options: argparse.Namespace) -> list[Figure]: ...
