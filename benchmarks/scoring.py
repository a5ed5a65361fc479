"""How long scores take for a pair of texts, and verdicts for the segments of a catalogue.

The texts are made here. A usual pair is a subtitle and what a model makes of it, a word lost and a
word changed; the worst is two texts that have nothing to do with each other. The catalogue holds
for each segment a subtitle and a pseudo-label with its scores.
"""

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer

from benchmarks import Figure
from benchmarks._common import insert_rows
from corpus import score
from corpus.catalogue import Catalogue, Recording, Score, Segment, Transcript, segment_id
from corpus.errors import UserError
from corpus.explain import forecast
from corpus.text import normalise
from corpus.thresholds import read_thresholds
from corpus.verdict import Rules, apply_verdicts
from corpus.workspace import init_workspace

WANTED_US = 100.0  # for the comparison of two texts
WANTED_SEGMENT_US = 600.0  # a minute for 100,000: who waits longer tries no other thresholds
REPEATS = 3  # the fastest counts: the others shared the processor
CALLS = 200
WORDS_IN_TEXT = 34  # some 200 characters, 12 s of speech
SEGMENT_MS = 12_000
SEGMENTS_IN_RECORDING = 200

TALK = (
    "dobrý den vítejte dnes řekneme jak funguje začátku jednou potom pořad město řeka most starý "
    "kamenný lidé chodí každý večer domů práce dlouhý krátký vítr zima léto obloha kniha příběh"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--segments", type=int, default=100_000, help="of the catalogue")


def measure(options: argparse.Namespace) -> list[Figure]:
    if options.segments < 1:
        raise UserError(f"--segments is {options.segments}; give at least 1")
    return [*_pairs(), *_verdicts(options.segments)]


def sample_pair(seed: int) -> tuple[str, str]:
    """A subtitle, and what a model hears: the second word is lost, the last is another."""
    words = random.Random(seed).choices(TALK.split(), k=WORDS_IN_TEXT)
    return " ".join(words).capitalize() + ".", " ".join([words[0], *words[2:-1], "nic"])


def _pairs() -> list[Figure]:
    """Microseconds of one core for two texts."""
    label, heard = sample_pair(0)
    one, two, other = (normalise(text) for text in (label, heard, sample_pair(1)[0]))
    texts = score.Text(1, "subtitle", "", label, {}), score.Text(2, "pseudo", "", heard, {})
    phrases = score.phrases_for("cs")

    def peer() -> None:
        jiwer.process_words(one, two)
        jiwer.process_characters(one, two)

    theirs = _microseconds(peer)
    usual = _microseconds(lambda: score.compare(one, two))
    worst = _microseconds(lambda: score.compare(one, other))
    whole = _microseconds(lambda: score.measure(*texts, None, 12.0, "cs", phrases))
    return [
        Figure("comparing a usual pair", usual, "µs", "jiwer, WER and CER", theirs),
        Figure("comparing a usual pair", usual, "µs", "wanted", WANTED_US),
        Figure("comparing the worst pair", worst, "µs", "wanted", WANTED_US),
        Figure("all scores of a segment", whole, "µs", "jiwer, WER and CER", theirs),
    ]


def _microseconds(work: Callable[[], object]) -> float:
    fastest = math.inf
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(CALLS):
            work()
        fastest = min(fastest, time.process_time() - start)
    return 1e6 * fastest / CALLS


def _verdicts(segments: int) -> list[Figure]:
    """Time of one core for what a person does with thresholds, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = init_workspace(Path(folder) / "workspace", "cs")
        catalogue = Catalogue(workspace.catalogue_url)
        _fill(catalogue, segments)
        presets = {name: read_thresholds(name) for name in ("default", "strict", "relative")}

        def apply(name: str) -> None:
            apply_verdicts(catalogue, name, presets[name], "cs")

        steps: dict[str, Callable[[], object]] = {
            "the first verdicts, with their scores": lambda: apply("default"),
            "the same once more": lambda: apply("default"),
            "what if it were strict": lambda: forecast(
                catalogue, Rules(catalogue, presets["strict"], "cs")
            ),
            "strict": lambda: apply("strict"),
            "relative": lambda: apply("relative"),
        }
        figures = []
        for name, step in steps.items():
            start = time.process_time()
            step()
            each = 1e6 * (time.process_time() - start) / segments
            figures.append(Figure(name, each, "µs a segment", "wanted", WANTED_SEGMENT_US))
        return figures


def _fill(catalogue: Catalogue, segments: int) -> None:
    """Write made-up rows, thousands in a statement."""
    rows: dict[type[Any], list[dict[str, Any]]] = {
        table: [] for table in (Recording, Segment, Transcript, Score)
    }
    heard = {"avg_logprob": -0.4, "no_speech_prob": 0.1, "compression_ratio": 1.4}
    for number in range(segments):
        talk, position = divmod(number, SEGMENTS_IN_RECORDING)
        recording, start = f"youtube:{talk:011}", position * SEGMENT_MS
        if position == 0:
            rows[Recording].append(_recording(recording, talk))
        key = segment_id(recording, start, start + SEGMENT_MS)
        rows[Segment].append(
            {
                "id": key,
                "recording_id": recording,
                "start_ms": start,
                "end_ms": start + SEGMENT_MS,
            }
        )
        texts = sample_pair(number)
        for offset, (kind, text) in enumerate(zip(("subtitle", "pseudo"), texts, strict=True)):
            rows[Transcript].append(
                {
                    "id": 2 * number + offset + 1,
                    "segment_id": key,
                    "kind": kind,
                    "origin": "made up",
                    "text": text,
                }
            )
        rows[Score] += [
            {"transcript_id": 2 * number + 2, "name": name, "value": value}
            for name, value in heard.items()
        ]
    insert_rows(catalogue, rows)


def _recording(key: str, talk: int) -> dict[str, Any]:
    return {
        "id": key,
        "source": "youtube",
        "channel_id": f"UC{talk // 10}",
        "language": "cs",
        "licence": "CC-BY-3.0",
        "licence_evidence": {},
        "attribution": key,
        "redistributable": True,
        "media_path": f"media/{talk}.flac",
        "duration_ms": SEGMENTS_IN_RECORDING * SEGMENT_MS,
    }
