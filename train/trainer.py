"""The training loop: read, step, log, evaluate, save; killed at any point, it carries on.

RUN/run.json          resolved configuration, versions, state of the run, results
RUN/metrics.jsonl     one line per step and per evaluation
RUN/tensorboard/      the same as curves
RUN/checkpoints/      the last two, each complete
RUN/weights/          the models of the last five, for `train average`
RUN/best-STEP/        the model that did best on dev so far
RUN/model/            the result: the best on dev, or the last where there is no dev split
"""

import contextlib
import dataclasses
import fcntl
import json
import math
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from corpus import console
from corpus.errors import UserError
from corpus.files import short_name
from corpus.pack import WINDOW_SECONDS
from train import checkpoint, lora
from train import model as models
from train.augment import blank
from train.config import FitConfig, Plan, absolute
from train.data import Data, open_data, open_dev, take_over
from train.ema import Average
from train.engine import Engine, Inputs, Processes, joined_processes, new_engine
from train.evaluate import macro_wer, score
from train.logs import Log
from train.loss import WhisperLoss
from train.material import Window
from train.optimiser import freeze
from train.predict import Prediction, transcribe
from train.reader import Batch
from train.targets import IGNORED

FREE_TO_CHANGE = {"output", "eval_every", "save_every", "workers"}
"""Fields of the configuration that may differ when a run carries on: they do not change it."""

MANY_EPOCHS = 10

EXTENDED = {"steps", "epochs", "passes", "warmup"}
"""Those that --resume may change."""

DIVISION = {"micro_batch", "accumulate"}
"""Those that another number of processes changes, and steps do not depend on."""

WEIGHTS_KEPT = 5
"""Models for `train average`; without the optimiser's state each is a third of a checkpoint."""


def fit(config: FitConfig, *, resume: bool = False) -> dict[str, Any]:
    """Fine-tune as `config` says, carrying on from the run's last checkpoint where there is one.

    Args:
        resume: carry on even though the run is finished, as with more steps.

    Returns:
        the content of RUN/run.json.

    Raises:
        UserError: the run was started or finished with another configuration, another process is
            at it, the data cannot be used with the model, or there is nothing to train on.
    """
    run_folder = Path(config.output)
    previous = _read_run(run_folder)
    if previous.get("status") == "finished" and not resume:
        if _asks_for(config, previous):
            return previous
        raise UserError(
            f"{run_folder} holds a finished run; choose another --output, "
            "or give --resume and more --steps to train it on"
        )
    with (
        joined_processes(config.deepspeed) as processes,
        _locked(run_folder) if processes.first else contextlib.nullcontext(),
    ):
        return _fit(config, run_folder, previous, processes, resume=resume)


def _fit(
    config: FitConfig,
    run_folder: Path,
    previous: dict[str, Any],
    processes: Processes,
    *,
    resume: bool,
) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    whisper = models.load(config.model)
    # Once; and where machines have a cache each, once on each of them.
    for turn in (processes.first, processes.first_here):
        if turn:
            take_over(config)
        processes.wait()
    data = open_data(config, whisper)
    dev = open_dev(config)
    plan = config.plan(
        epoch_windows=data.stream.count(1),
        learning_rate=models.default_learning_rate(whisper.model)
        * (lora.RATE_FACTOR if config.lora else 1.0),
        world=processes.world,
        on_gpu=processes.on_gpu,
    )
    if previous:
        _check_same(previous, config, plan, processes, resume=resume)

    loss = prepare(whisper, config, sources=len(data.reader.sources)).to(processes.device)
    engine = new_engine(loss, config, plan, processes)
    run = Run(config, plan, run_folder, whisper, engine, processes, data, dev)
    run.start()
    if plan.passes > MANY_EPOCHS:
        run.say(
            f"warning: {plan.passes:.1f} passes over the data; beyond {MANY_EPOCHS} a model learns "
            "it by heart: give fewer --steps, or more data"
        )
    run.train()
    return run.finish()


def prepare(whisper: models.Whisper, config: FitConfig, *, sources: int) -> WhisperLoss:
    """A model made ready to be trained as a configuration says, in its loss."""
    model = whisper.model
    models.set_dropout(model, config.dropout)
    freeze(model, config.freeze)
    if config.lora:
        lora.add_lora(model, config.lora)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss = WhisperLoss(
        model,
        sources=sources,
        label_smoothing=config.label_smoothing,
        stochastic_depth=config.stochastic_depth,
    )
    if config.compile:
        models.compile_layers(model)
    return loss


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from the run; the kernel unlocks it when this one dies.

    Raises:
        UserError: another process trains it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is training {folder}; choose another --output"
            ) from None
        yield


def _asks_for(config: FitConfig, finished: dict[str, Any]) -> bool:
    """Whether a configuration asks for nothing else than what a finished run has done."""
    then = finished["config"]
    return all(
        value is None or name in FREE_TO_CHANGE or _alike(name, then.get(name), value)
        for name, value in _as_json(config).items()
    )


class Run:
    """A run in progress."""

    def __init__(
        self,
        config: FitConfig,
        plan: Plan,
        folder: Path,
        whisper: models.Whisper,
        engine: Engine,
        processes: Processes,
        data: Data,
        dev: Any,
    ) -> None:
        self.config, self.plan, self.folder, self.whisper = config, plan, folder, whisper
        self.engine, self.processes, self.data, self.dev = engine, processes, data, dev
        self.log_mel = models.LogMel(whisper.feature_extractor).to(processes.device)
        self.average = Average(whisper.model, config.ema) if config.ema else None
        self.step = 0
        self.stale = 0
        """Evaluations since the best."""
        self.best: dict[str, Any] | None = None
        self.record: dict[str, Any] = {}
        self.log: Log | None = None

    def start(self) -> None:
        """Load the last checkpoint, if any, and write down what this run is."""
        found = checkpoint.latest(self.folder / "checkpoints")
        if found is not None:
            self._load(found)
        self.record = {
            "status": "running",
            "config": _settings(self.config, self.plan),
            "engine": self.engine.description,
            "processes": self.processes.world,
            "device": _device_name(self.processes.device),
            "versions": _versions(),
            "dropped": self.data.dropped,
        }
        if self.processes.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.write_json(self.folder / "run.json", self.record)
            self.log = Log(self.folder, self.record["config"], self.step)
        told = {
            "engine": f"{self.engine.description} on {self.record['device']}",
            "data": _describe(self.data),
            "plan": f"{self.plan.steps} steps of {self.plan.batch_size} windows, learning rate "
            f"{self.plan.learning_rate:g}",
        }
        for name, text in told.items():
            self.say(f"{name}: {text}")
        if found is not None:
            self.say(f"carrying on after step {self.step} of {self.plan.steps}")

    def train(self) -> None:
        """All remaining steps."""
        from torch.utils.data import DataLoader
        from tqdm import tqdm

        plan, processes, reader = self.plan, self.processes, self.data.reader
        order = self.data.batches(
            self.step,
            plan.steps,
            batch_size=plan.batch_size,
            micro_batch=plan.micro_batch,
            rank=processes.rank,
            world=processes.world,
        )
        batches = iter(
            DataLoader(
                reader,  # type: ignore[arg-type]
                batch_sampler=order,
                collate_fn=reader.collate,
                num_workers=plan.workers,
                pin_memory=processes.on_gpu,
                # Its own: it would take a number from the one that dropout draws from, and take
                # another when a run carries on.
                generator=torch.Generator(),
            )
        )
        bar = tqdm(
            total=plan.steps,
            initial=self.step,
            desc="train",
            unit="step",
            mininterval=0.1 if sys.stderr.isatty() else 5.0,
            disable=not processes.first,
        )
        self.whisper.model.train()
        with bar:
            while self.step < plan.steps and not self._is_over():
                metrics = self._one_step(batches)
                bar.update()
                bar.set_postfix(
                    loss=f"{metrics['loss']:.3f}",
                    rate=f"{metrics['learning_rate']:.2e}",
                    wait=f"{metrics['data_wait_share']:.0%}",
                )
                last = self.step == plan.steps
                if last or (plan.eval_every and self.step % plan.eval_every == 0):
                    self._evaluate()
                if last or (plan.save_every and self.step % plan.save_every == 0):
                    self._save()

    def _is_over(self) -> bool:
        """Whether dev has not got better for too long."""
        over = 0 < self.config.patience <= self.stale
        if over:
            self.say(f"stopped: no better dev WER in {self.stale} evaluations")
        return over

    def _one_step(self, batches: Iterator[Batch]) -> dict[str, Any]:
        began = time.perf_counter()
        micro_batches = [next(batches) for _ in range(self.plan.accumulate)]
        waited = time.perf_counter() - began
        tokens, seconds = self.processes.sum(
            sum(batch.tokens for batch in micro_batches),
            sum(batch.seconds for batch in micro_batches),
        )
        sums, norm = self.engine.step(map(self._inputs, micro_batches), tokens)
        learnt = torch.cat([batch.sources[batch.labels != IGNORED] for batch in micro_batches])
        counts = torch.bincount(learnt, minlength=len(sums))
        totals = self.processes.sum(*sums.tolist(), *counts.tolist())
        losses, labels = totals[: len(sums)], totals[len(sums) :]
        mean_loss = sum(losses) / tokens
        self._check_finite(mean_loss, norm)
        elapsed = time.perf_counter() - began
        metrics = {
            "step": self.step + 1,
            "loss": mean_loss,
            "learning_rate": self.plan.rate(self.step),
            "gradient_norm": norm,
            "seconds": elapsed,
            "data_wait_share": waited / elapsed,
            "audio_hours_per_hour": seconds / elapsed,
            "tokens_per_second": tokens / elapsed,
            "fill": seconds / (WINDOW_SECONDS * self.plan.batch_size),
            "loss_by_source": {
                source: loss / count
                for source, loss, count in zip(
                    self.data.reader.sources, losses, labels, strict=True
                )
                if source and count
            },
        }
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        self._log(metrics)
        return metrics

    def _check_finite(self, loss: float, norm: float) -> None:
        """End a run that has diverged before its checkpoints make room for ruined ones.

        Raises:
            UserError: the loss is no number, or the gradient's norm, after which no weight is. (In
                fp16 a norm may be infinite: such a step is left out, and the scale is lowered.)
        """
        fp16 = self.processes.precision(self.config.precision) == "fp16"
        if not math.isfinite(loss) or not (fp16 or math.isfinite(norm)):
            raise UserError(
                f"step {self.step + 1}: loss {loss:g}, gradient norm {norm:g}, so training has "
                f"diverged; start anew under another --output with a --learning-rate below "
                f"{self.plan.learning_rate:g}"
            )

    def _inputs(self, batch: Batch) -> Inputs:
        """A micro-batch on the device, its spectrogram made there."""

        def move(tensor: Any) -> Any:
            return tensor.to(self.processes.device, non_blocking=True)

        features = self.log_mel(move(batch.pcm))
        if self.config.spec_augment:
            features = blank(features, move(batch.masks))
        return (
            features.to(self.whisper.model.dtype),
            move(batch.decoder_input_ids),
            move(batch.labels),
            move(batch.sources),
            move(batch.kept),
        )

    def _evaluate(self) -> None:
        """Word error rate of free-running decoding on dev; each process takes a share of rows."""
        if self.dev is None:
            return
        began = time.perf_counter()
        share = range(self.processes.rank, len(self.dev), self.processes.world)
        with self._result() as (whisper, state):
            whisper.model.eval()
            made = transcribe(
                whisper, self.dev.select(share), language_token=self.config.language_token
            )
            if self.processes.first:
                made = console.progress(made, total=len(share), desc="dev", unit="row")
            mine: list[Prediction] = list(made)
            self.whisper.model.train()
            predictions = [p for part in self.processes.gather(mine) for p in part]
            rates = score(predictions)["normalised"]
            metrics = {
                "dev_wer": rates["wer"],
                "dev_cer": rates["cer"],
                "dev_macro_wer": macro_wer(predictions),
            }
            self._log({"step": self.step, **metrics, "seconds": time.perf_counter() - began})
            self.say(f"step {self.step}: dev WER {rates['wer']:.2%}, CER {rates['cer']:.2%}")
            before = self.best["dev_macro_wer"] if self.best else float("inf")
            self.stale = 0 if metrics["dev_macro_wer"] < before else self.stale + 1
            # Of equals the last: it has learnt more of what WER does not see, such as timestamps.
            if metrics["dev_macro_wer"] <= before:
                self.best = {"step": self.step, **metrics}
                if self.processes.first:
                    target = self.folder / f"best-{self.step:08d}"
                    models.save(self.whisper, target, state)
                    for old in self.folder.glob("best-*"):
                        if old != target:
                            shutil.rmtree(old)

    @contextlib.contextmanager
    def _result(self) -> Iterator[tuple[models.Whisper, dict[str, Any] | None]]:
        """A whole model with what would be the result now, and its weights if they are elsewhere.

        Decoding never meets a model that is divided among the processes: each of its steps would
        gather all weights anew.
        """
        # Decoding meets a new length at each token: layers would be compiled for all of them.
        stance = torch.compiler.set_stance("force_eager" if self.config.compile else "default")
        with stance, self.average.in_place() if self.average else contextlib.nullcontext():
            state = self.engine.whole_model()
            if state is None:
                yield self.whisper, None
            else:
                yield models.copy_with(self.whisper, state, self.processes.device), state

    def _save(self) -> None:
        def save_part(folder: Path) -> None:
            self.engine.save(folder)
            torch.save(_random_state(self.processes), folder / f"random-{self.processes.rank}.pt")
            if self.average and self.processes.first:
                torch.save(self.average.state(), folder / "average.pt")

        state = {
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "processes": self.processes.world,
        }
        checkpoint.write(self.folder / "checkpoints", self.step, save_part, state, self.processes)
        whole = self.engine.whole_model()
        if self.processes.first:
            weights = self.folder / "weights"
            models.save(self.whisper, weights / f"step-{self.step:08d}", whole)
            for old in sorted(weights.glob("step-*"))[:-WEIGHTS_KEPT]:
                shutil.rmtree(old)

    def _load(self, found: Path) -> None:
        state = checkpoint.read_state(found)
        self.step, self.best, self.stale = state["step"], state["best"], state["stale"]
        self.engine.load(found, state["processes"])
        if self.average is not None:
            # Saved on the first process's GPU, which has no room for one of each process.
            average = torch.load(found / "average.pt", map_location="cpu", weights_only=True)
            self.average.load(average)
        if state["processes"] != self.processes.world:
            return  # what dropout draws is a process's own
        random_state = torch.load(found / f"random-{self.processes.rank}.pt", weights_only=True)
        torch.set_rng_state(random_state["cpu"])
        if self.processes.on_gpu:
            torch.cuda.set_rng_state(random_state["gpu"], self.processes.device)

    def finish(self) -> dict[str, Any]:
        """Put the result in RUN/model and mark the run as finished."""
        self.record |= {"status": "finished", "steps": self.step, "best": self.best}
        model = self.folder / "model"
        with self._result() as (_, state):
            if self.processes.first:
                for best in self.folder.glob("best-*"):
                    models.replace_folder(best, model)
                if self.best is None or not model.exists():
                    models.save(self.whisper, model, state)
                checkpoint.write_json(self.folder / "run.json", self.record)
        if self.log is not None:
            self.log.close()
        self.processes.wait()
        return self.record

    def say(self, message: str) -> None:
        """Tell the person at the terminal, past the progress bar."""
        from tqdm import tqdm

        if self.processes.first:
            tqdm.write(message, file=sys.stderr)  # does not break the progress bar

    def _log(self, metrics: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(metrics)


def _describe(data: Data) -> str:
    """What is trained on, in a line."""
    items = [item for material in data.materials for item in material.items]
    whole = sum(isinstance(item, Window) for item in items)
    return (
        f"{whole} windows as built, {len(items) - whole} segments to pack; "
        f"left out: {data.dropped or 'none'}"
    )


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    if folder.is_file() or any(not found.name.startswith(".") for found in folder.glob("*")):
        raise UserError(f"{folder} exists and is no run of ours; choose another --output")
    return {}


def _settings(config: FitConfig, plan: Plan) -> dict[str, Any]:
    """The resolved configuration as JSON has it."""
    return _as_json(config) | dataclasses.asdict(plan)


def _as_json(config: FitConfig) -> dict[str, Any]:
    """A configuration that says the same in whatever folder it is read."""
    located = dataclasses.replace(
        config, datasets=tuple(map(absolute, config.datasets)), model=absolute(config.model)
    )
    return dict(json.loads(json.dumps(dataclasses.asdict(located))))


def _check_same(
    previous: dict[str, Any], config: FitConfig, plan: Plan, processes: Processes, *, resume: bool
) -> None:
    """A run carries on as what it was: any other configuration would be another run."""
    free = FREE_TO_CHANGE | (EXTENDED if resume else set())
    if previous["processes"] != processes.world:
        free |= DIVISION
    now = _settings(config, plan)
    for name, value in previous["config"].items():
        if name not in free and not _alike(name, value, now[name]):
            raise UserError(
                f"{config.output} was started with {name} = {value}, not {now[name]}; "
                "repeat the command as it was, or choose another --output"
            )


def _alike(name: str, then: Any, now: Any) -> bool:
    """Whether a setting is as it was; a folder that has moved since is still the same."""
    if name == "datasets":
        return len(then) == len(now) and all(map(_is_same_folder, then, now))
    return _is_same_folder(then, now) if name == "model" else bool(then == now)


def _is_same_folder(then: str, now: str) -> bool:
    moved = Path(then).is_absolute() and not Path(then).exists()
    return then == now or (moved and short_name(then) == short_name(now))


def _random_state(processes: Processes) -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    if processes.on_gpu:
        state["gpu"] = torch.cuda.get_rng_state(processes.device)
    return state


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _versions() -> dict[str, str]:
    names = ("whisper-harvest", "torch", "transformers", "deepspeed")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
