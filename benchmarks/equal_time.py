"""Word error rate for equal time: packed training against the recipe of the fine-tuning event.

The small Whisper is adapted to real people who say digits, as in `digits`, and with the same CPU
time by two recipes: `train fit` on windows packed by `corpus build`, and the event's (`_recipes`),
to which the same clips come one by one. Learning rate and its schedule are the same for both and
end with the time; how many steps that is tells a short run of each. Decoding is no part of the
time: it comes afterwards, freely running, of all takes 0 to 4 by the weights of each fifth.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import Figure
from benchmarks._recipes import MODEL, fit_event, fit_packed, median_step
from benchmarks.digits import build_digits
from corpus.audio import SAMPLE_RATE
from corpus.dataset import LabelledSegment, Row, read_split, window_row, write_dataset
from train import model as models
from train.evaluate import score
from train.predict import transcribe
from train.rows import read_flac

POINTS = 5
"""Of the curve, after the start; `train fit` keeps the weights of the last five."""

TRIED = 8
"""Steps by which the time of one is told."""

Recipe = Callable[..., list[float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add FOLDER, --seconds, --batch-size and --learning-rate."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the dataset's recordings")
    parser.add_argument("--seconds", type=float, default=240.0, help="of CPU for each")
    parser.add_argument("--batch-size", type=int, default=8, help="windows of 30 s in a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)


def measure(options: argparse.Namespace) -> list[Figure]:
    """Train by both recipes, then decode by all weights."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        packed = build_digits(options.folder, Path(scratch) / "digits")
        clips = Path(scratch) / "clips"
        _write_clips(packed, clips)
        test = read_split(packed, "test")
        before = word_error_rate(MODEL, test)
        curves = {}
        for name, recipe in {
            "packed": partial(fit_packed, packed),
            "event": partial(fit_event, clips),
        }.items():
            output = Path(scratch) / name
            times = _train(recipe, output, options)
            weights = sorted((output / "weights").iterdir())
            rates = [word_error_rate(folder, test) for folder in weights]
            curves[name] = [(0.0, before), *zip(times, rates, strict=True)]
    ours, theirs = curves["packed"], curves["event"]
    return [
        *(
            Figure(
                f"WER after {100 * point // POINTS} % of the time", wer, "errors per word",
                "event's recipe", beside,
            )
            for point, ((_, wer), (_, beside)) in enumerate(zip(ours, theirs, strict=True))
        ),
        Figure("CPU time", ours[-1][0], "s", "event's recipe", theirs[-1][0]),
    ]  # fmt: skip


def _write_clips(packed: Path, folder: Path) -> None:
    """The clips of packed windows one by one, to the same samples."""

    def rows() -> Iterator[Row]:
        for row in read_split(packed, "train"):
            pcm = read_flac(row["audio"]["bytes"])
            for number, segment in enumerate(row["segments"]):
                start, end = (round(segment[at] * SAMPLE_RATE) for at in ("start", "end"))
                known = (segment["speaker"], segment["source"], segment["segment_id"])
                clip = LabelledSegment(
                    pcm[start:end], segment["text"], *known, "unknown", "release", False
                )
                yield window_row(f"{row['id']}-{number}", [clip], language=row["language"])

    write_dataset(folder, {"train": rows()}, readme="", attribution="", manifest={})


def _train(recipe: Recipe, output: Path, options: argparse.Namespace) -> list[float]:
    """Train for the time that is asked for; CPU seconds at each point of the curve."""
    alike = {"batch_size": options.batch_size, "learning_rate": options.learning_rate}
    tried = recipe(output.with_name(f"{output.name}-tried"), steps=TRIED, **alike)
    each = max(1, round(options.seconds / median_step(tried) / POINTS))
    clock = recipe(output, steps=POINTS * each, save_every=each, **alike)
    return clock[each - 1 :: each]


def word_error_rate(model: Path, rows: Any) -> float:
    """Of freely running greedy decoding, without timestamps, texts normalised."""
    predictions = list(transcribe(models.load(str(model)), rows))
    rate: float = score(predictions)["normalised"]["wer"]
    return rate
