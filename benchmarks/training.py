"""Fine-tuning against the recipe of the Whisper fine-tuning event, on the same model and clips.

The recipe as it is used with today's libraries: a clip in each window of 30 s, features by
`WhisperFeatureExtractor` in `map`, transformers' `Seq2SeqTrainer` with the model's own loss. The
clips are of Common Voice's length (lognormal, mean 5 s) and say nothing; the model is the
demonstration's. Both see as many windows in a step, without DeepSpeed, in fp32, on one thread. The
time is the CPU's, since other programs make the clock's longer, and of the median step; for the
peer it leaves out `map`.

The loss is measured for eight targets of 448 tokens, two fifths of them with loss, and Whisper's
vocabulary and width, in processes of its own; naive is `lm_head` and `cross_entropy` over all.
"""

import argparse
import itertools
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks import Figure
from corpus.audio import SAMPLE_RATE
from corpus.dataset import LabelledSegment, Row, read_split, window_row, write_dataset
from corpus.pack import WINDOW_SECONDS
from train import model as models
from train.config import FitConfig
from train.data import open_data
from train.engine import Engine, Inputs, joined_processes, new_engine
from train.loss import sum_of_cross_entropy
from train.rows import read_flac
from train.trainer import Run, prepare

MODEL = Path(__file__).parents[1] / "demo" / "model"
WORDS = ["the", "old", "house", "green", "river"]
MEDIAN_SECONDS, SPREAD = 4.7, 0.35
TRAINED_FROM = 2
"""Steps after which both are warm."""


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
    """Add --clips, --steps and --batch-size."""
    parser.add_argument("--clips", type=int, default=240, help="clips to train on")
    parser.add_argument("--steps", type=int, default=10, help="steps of each")
    parser.add_argument("--batch-size", type=int, default=8, help="windows in a step")


def measure(options: argparse.Namespace) -> list[Figure]:
    """Train both, and measure the loss and the features by themselves."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Path(scratch) / "dataset"
        _write_clips(dataset, options.clips)
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


def _write_clips(folder: Path, count: int) -> None:
    chance, noise = random.Random(0), np.random.default_rng(0)

    def rows() -> Iterator[Row]:
        for number in range(count):
            seconds = min(20.0, chance.lognormvariate(np.log(MEDIAN_SECONDS), SPREAD))
            pcm = noise.normal(0, 1000, round(seconds * SAMPLE_RATE)).astype(np.int16)
            text = " ".join(chance.choices(WORDS, k=round(seconds * 2.5)))
            known = (None, "noise", f"clip-{number}", "CC0-1.0", "release", True)
            yield window_row(f"{number}", [LabelledSegment(pcm, text, *known)], language="en")

    write_dataset(folder, {"train": rows()}, readme="", attribution="", manifest={})


class Clocked:
    """An engine that notes the CPU time at which each step begins."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.description = engine, engine.description
        self.starts: list[float] = []

    def step(self, micro_batches: Iterable[Inputs], tokens: float) -> tuple[torch.Tensor, float]:
        """See `Engine.step`."""
        self.starts.append(time.process_time())
        return self.engine.step(micro_batches, tokens)

    def save(self, folder: Path) -> None:
        """See `Engine.save`."""
        self.engine.save(folder)

    def load(self, folder: Path) -> None:
        """See `Engine.load`."""
        self.engine.load(folder)

    def whole_model(self) -> dict[str, torch.Tensor] | None:
        """See `Engine.whole_model`."""
        return self.engine.whole_model()


def _train_ours(dataset: Path, folder: Path, options: argparse.Namespace) -> Trained:
    def run(workers: int) -> tuple[Clocked, list[dict[str, Any]]]:
        output = folder / str(workers)
        config = FitConfig(
            (str(dataset),),
            str(MODEL),
            str(output),
            deepspeed="none",
            steps=options.steps,
            batch_size=options.batch_size,
            micro_batch=options.batch_size,
            eval_every=0,
            save_every=0,
            workers=workers,
        )
        whisper = models.load(str(MODEL))
        data = open_data(config, whisper)
        with joined_processes(config.deepspeed) as processes:
            plan = config.plan(
                epoch_windows=data.stream.count(1), learning_rate=1e-5, world=1, on_gpu=False
            )
            loss = prepare(whisper, config, sources=len(data.reader.sources))
            engine = Clocked(new_engine(loss, config, plan, processes))
            training = Run(config, plan, output, whisper, engine, processes, data, None)
            training.start()
            training.train()
        lines = (output / "metrics.jsonl").read_text().splitlines()
        return engine, [json.loads(line) for line in lines][TRAINED_FROM:]

    engine, _ = run(workers=0)  # all of the work in the process whose time is taken
    _, lines = run(workers=1)
    return Trained(
        step=_median_step(engine.starts),
        speech=options.batch_size * WINDOW_SECONDS * statistics.mean(it["fill"] for it in lines),
        waiting=statistics.median(it["data_wait_share"] for it in lines),
    )


def _median_step(times: Sequence[float]) -> float:
    warm = itertools.pairwise(times[TRAINED_FROM - 1 :])
    return statistics.median(after - before for before, after in warm)


def _train_event(dataset: Path, output: Path, options: argparse.Namespace) -> Trained:
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    whisper = models.load(str(MODEL))
    tokenizer = whisper.tokenizer
    tokenizer.set_prefix_tokens(language="en", task="transcribe")
    tokenizer.pad_token = tokenizer.eos_token
    start = whisper.vocabulary.start

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        audio = read_flac(row["audio"]["bytes"]).astype(np.float32) / 32768
        features = whisper.feature_extractor(audio, sampling_rate=SAMPLE_RATE)
        return {
            "input_features": features.input_features[0],
            "labels": tokenizer(row["text"]).input_ids,
        }

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = whisper.feature_extractor.pad(
            [{"input_features": item["input_features"]} for item in items], return_tensors="pt"
        )
        padded = tokenizer.pad(
            [{"input_ids": item["labels"]} for item in items], return_tensors="pt"
        )
        labels = padded["input_ids"].masked_fill(padded.attention_mask.ne(1), -100)
        batch["labels"] = labels[:, 1:] if (labels[:, 0] == start).all() else labels
        return dict(batch)

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.process_time())

    rows = read_split(dataset, "train")
    seconds = statistics.mean(rows["duration"])
    Seq2SeqTrainer(
        model=whisper.model,
        args=Seq2SeqTrainingArguments(
            str(output),
            per_device_train_batch_size=options.batch_size,
            max_steps=options.steps,
            learning_rate=1e-5,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=rows.map(prepare, remove_columns=rows.column_names),
        data_collator=collate,
        callbacks=[Clock()],
    ).train()
    return Trained(_median_step(ends), options.batch_size * seconds, waiting=0.0)


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
