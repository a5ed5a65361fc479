"""An hour of subtitles: cutting it, matching it with what was heard, and timing its words by CTC.

Beside cutting stands filling segments greedily, a cue at a time until 30 s are reached, as most
pipelines do: it is quicker, and ends in the middle of sentences. Matching stands beside difflib,
Python's own. Timing by CTC is of 350 characters in 30 s, beside real time.
"""

import argparse
import difflib
import random

import numpy as np

from benchmarks import Figure
from benchmarks._common import fastest
from corpus.align import Unit, Word, match, units
from corpus.ctc import viterbi
from corpus.segment import LONGEST_MS, Span, merge_cues

CHARACTERS, FRAMES, VOCABULARY = 350, 1500, 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hours", type=float, default=1.0, help="length of the track (default: 1)")


def measure(options: argparse.Namespace) -> list[Figure]:
    cues = sample_cues(options.hours)
    length = cues[-1].end_ms
    (ours, _), our_time = fastest(lambda: merge_cues(cues, duration_ms=length, target_seconds=27))
    greedy, greedy_time = fastest(lambda: fill_greedily(cues))
    said, heard = sample_words(cues)
    pairs, match_time = fastest(lambda: match(said, heard))
    theirs, their_time = fastest(lambda: difflib_pairs(said, heard))
    log_probs, tokens = sample_emissions()
    _, align_time = fastest(lambda: viterbi(log_probs, tokens, 0))
    track = f"of {len(cues):,} cues"
    return [
        Figure(f"cutting {track}", our_time, "s", "greedy", greedy_time),
        Figure("ends of sentences", _sentences(ours), "%", "greedy", _sentences(greedy)),
        Figure("mean length", _seconds(ours), "s", "greedy", _seconds(greedy)),
        Figure(f"matching {len(said):,} words", match_time, "s", "difflib", their_time),
        Figure("words matched", len(pairs), "", "difflib", theirs),
        Figure("CTC path of 30 s", align_time, "s", "real time", 30.0),
    ]


def sample_cues(hours: float, seed: int = 0) -> list[Span]:
    """Cues of 1 to 7 s, a third of them ending a sentence, with pauses mostly after those."""
    rng = random.Random(seed)
    cues, at = [], 0
    while at < hours * 3_600_000:
        ends = rng.random() < 0.35
        length = round(min(7000.0, max(1000.0, rng.lognormvariate(7.9, 0.5))))
        words = " ".join(f"w{int(rng.paretovariate(1))}" for _ in range(max(1, length // 350)))
        cues.append(Span(at, at + length, words + ("." if ends else "")))
        at += length + round(
            rng.choice([300, 600, 900, 2500]) if ends else rng.choice([0, 80, 200])
        )
    return cues


def sample_words(cues: list[Span], seed: int = 0) -> tuple[list[Unit], list[Unit]]:
    """The cues' words, and what a model hears of them: a fifth otherwise, a tenth not at all."""
    rng = random.Random(seed)
    said = units(Word(cue.start_ms, cue.end_ms, cue.text) for cue in cues)
    heard = [
        Word(0, 1, unit.text if rng.random() > 0.2 else f"x{rng.randint(0, 500)}")
        for unit in said
        if rng.random() > 0.1
    ]
    return said, units(heard)


def sample_emissions(seed: int = 0) -> "tuple[np.ndarray, list[int]]":
    """Log-probabilities [frames, vocabulary] of some text of a CTC model."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(FRAMES, VOCABULARY)).astype(np.float32)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return log_probs, rng.integers(1, VOCABULARY, CHARACTERS).tolist()


def fill_greedily(cues: list[Span]) -> list[Span]:
    """Segments that take cue after cue until the next would not fit."""
    segments = [cues[0]]
    for cue in cues[1:]:
        last = segments[-1]
        if cue.end_ms - last.start_ms <= LONGEST_MS:
            segments[-1] = Span(last.start_ms, cue.end_ms, f"{last.text} {cue.text}")
        else:
            segments.append(cue)
    return segments


def difflib_pairs(said: list[Unit], heard: list[Unit]) -> int:
    """How many words Python's own matcher pairs."""
    matcher = difflib.SequenceMatcher(
        None, [unit.text for unit in said], [unit.text for unit in heard], autojunk=False
    )
    return sum(block.size for block in matcher.get_matching_blocks())


def _sentences(segments: list[Span]) -> float:
    return 100 * sum(segment.text.endswith(".") for segment in segments) / len(segments)


def _seconds(segments: list[Span]) -> float:
    return sum(s.end_ms - s.start_ms for s in segments) / len(segments) / 1000
