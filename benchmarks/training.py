"""Fine-tuning against the recipe of the Whisper fine-tuning event, on the same model and clips.

The clips are of Common Voice's length, or of those in a file, and say nothing; the model is the
demonstration's. Both see as many windows in a step, in fp32, on one thread; see `_recipes`. Time is
that of the median step.

The loss is measured for eight targets of 448 tokens, two fifths of them with loss, and Whisper's
vocabulary and width, in processes of its own; naive is `lm_head` and `cross_entropy` over all.
"""

import argparse
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks import Figure
from benchmarks._recipes import MODEL, WARM_AFTER, fit_event, fit_packed, median_step
from benchmarks.packing import read_durations, sample_durations
from corpus.audio import SAMPLE_RATE
from corpus.dataset import LabelledSegment, Row, read_split, window_row, write_dataset
from corpus.pack import WINDOW_SECONDS
from train import model as models
from train.config import FitConfig
from train.data import open_data
from train.loss import sum_of_cross_entropy

WORDS = ["the", "old", "house", "green", "river"]


@dataclass(frozen=True)
class Trained:
    """The CPU time of a step and the speech in it, in seconds; the share of time without data."""

    step: float
    speech: float
    waiting: float

    @property
    def pace(self) -> float:
        """Seconds of speech trained on in a second."""
        return self.speech / self.step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --clips, --durations, --steps and --batch-size."""
    parser.add_argument("--clips", type=int, default=1200, help="clips to train on")
    parser.add_argument(
        "--durations",
        type=Path,
        metavar="FILE",
        help="lengths to draw from: a text file of seconds, one number a line; without it they are "
        "lognormal, of mean 5.0",
    )
    parser.add_argument("--steps", type=int, default=10, help="steps of each")
    parser.add_argument("--batch-size", type=int, default=8, help="windows in a step")


def measure(options: argparse.Namespace) -> list[Figure]:
    """Train both, and measure the loss and the features by themselves."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Path(scratch) / "dataset"
        _write_clips(dataset, _lengths(options))
        ours = _train_ours(dataset, Path(scratch) / "run", options)
        theirs = _train_event(dataset, Path(scratch) / "event", options)
        reading = _reading(dataset)
    loss, naive = (_peak_memory(kind) for kind in (_chunked_loss, _naive_loss))
    log_mel, extractor = _features()
    event = "event's recipe"
    return [
        Figure("speech a second of CPU", ours.pace, "s/s", event, theirs.pace),
        Figure("steps a second of CPU", 1 / ours.step, "1/s", event, 1 / theirs.step),
        Figure("share of time waiting for data", ours.waiting, "", "goal", 0.02),
        Figure("reading a window, CPU", reading, "ms", "goal", 15.0),
        Figure("memory of the loss", loss, "MiB", "naive loss", naive),
        Figure("log-mel of 8 windows, CPU", log_mel, "ms", "feature extractor", extractor),
    ]


def _lengths(options: argparse.Namespace) -> list[float]:
    if options.durations is None:
        return sample_durations(options.clips)
    return random.Random(0).choices(read_durations(options.durations), k=options.clips)


def _write_clips(folder: Path, lengths: list[float]) -> None:
    chance, noise = random.Random(0), np.random.default_rng(0)

    def rows() -> Iterator[Row]:
        for number, seconds in enumerate(lengths):
            pcm = noise.normal(0, 1000, round(seconds * SAMPLE_RATE)).astype(np.int16)
            text = " ".join(chance.choices(WORDS, k=round(seconds * 2.5)))
            known = (None, "noise", f"clip-{number}", "CC0-1.0", "release", True)
            yield window_row(f"{number}", [LabelledSegment(pcm, text, *known)], language="en")

    write_dataset(folder, {"train": rows()}, readme="", attribution="", manifest={})


def _train_ours(dataset: Path, folder: Path, options: argparse.Namespace) -> Trained:
    # By a worker, the share of time without data; without one, all of the work in one process.
    fit_packed(dataset, folder / "waiting", workers=1, **_alike(options))
    clock = fit_packed(dataset, folder / "timed", **_alike(options))
    lines = (folder / "waiting" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines][WARM_AFTER:]
    return Trained(
        step=median_step(clock),
        speech=options.batch_size * WINDOW_SECONDS * statistics.mean(it["fill"] for it in steps),
        waiting=statistics.median(it["data_wait_share"] for it in steps),
    )


def _train_event(dataset: Path, output: Path, options: argparse.Namespace) -> Trained:
    clock = fit_event(dataset, output, **_alike(options))
    seconds = statistics.mean(read_split(dataset, "train")["duration"])
    return Trained(median_step(clock), options.batch_size * seconds, waiting=0.0)


def _alike(options: argparse.Namespace) -> dict[str, Any]:
    return {"steps": options.steps, "batch_size": options.batch_size, "learning_rate": 1e-5}


def _reading(dataset: Path) -> float:
    """Milliseconds of CPU for reading a packed window, target and all."""
    data = open_data(FitConfig((str(dataset),), str(MODEL), "-"), models.load(str(MODEL)))
    requests = list(data.stream.requests(0))
    began = time.process_time()
    for request in requests:
        data.reader[request]
    return 1000 * (time.process_time() - began) / len(requests)


def _features() -> tuple[float, float]:
    """Milliseconds of CPU for the features of eight windows: ours and transformers'."""
    from transformers import WhisperFeatureExtractor

    pcm = np.random.default_rng(0).normal(0, 1000, (8, 480_000)).astype(np.int16)
    extractor = WhisperFeatureExtractor()
    log_mel = models.LogMel(extractor)

    def peer() -> Any:
        audio = list(pcm.astype(np.float32) / 32768)
        return extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt")

    return _fastest(lambda: log_mel(torch.from_numpy(pcm))), _fastest(peer)


def _fastest(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1000 * min(times)


def _loss_inputs() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    hidden = torch.randn(8, 448, 384, requires_grad=True)
    weight = torch.randn(51_865, 384, requires_grad=True)
    labels = torch.randint(0, 51_865, (8, 448))
    return hidden, weight, labels.masked_fill(torch.rand(8, 448) > 0.4, -100)


def _chunked_loss(hidden: Any, weight: Any, labels: Any) -> None:
    counts = labels != -100
    sum_of_cross_entropy(hidden[counts], weight, labels[counts])[0].backward()


def _naive_loss(hidden: Any, weight: Any, labels: Any) -> None:
    logits = (hidden @ weight.T).flatten(0, 1)
    functional.cross_entropy(logits, labels.flatten(), reduction="sum").backward()


def _peak_memory(work: Callable[..., None]) -> float:
    """MiB that a process needs for `work` beyond its inputs and their gradients."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_report_peak, args=(work, results))
    process.start()
    peak: float = results.get()
    process.join()
    return peak


def _report_peak(work: Callable[..., None], results: Any) -> None:
    hidden, weight, labels = _loss_inputs()
    hidden.grad, weight.grad = torch.zeros_like(hidden), torch.zeros_like(weight)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before = _memory("VmRSS")
    work(hidden, weight, labels)
    results.put(_memory("VmHWM") - before)


def _memory(name: str) -> float:
    """A figure of this process from /proc, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kibibytes) / 1024
