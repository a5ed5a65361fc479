"""The training loop: read, step, log, evaluate, save; killed at any point, it carries on.

RUN/run.json          resolved configuration, versions, state of the run, results
RUN/metrics.jsonl     one line per step and per evaluation
RUN/checkpoints/      the last two, each complete
RUN/weights/          the models of the last five, for `train average`
RUN/best-STEP/        the model that did best on dev so far
RUN/model/            the result: the best on dev, or the last where there is no dev split
"""

import contextlib
import dataclasses
import fcntl
import json
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from corpus.errors import UserError
from train import checkpoint
from train import model as models
from train.config import FitConfig, Plan
from train.data import Batch, Material, Reader, Stream, collect, open_split
from train.engine import Engine, Processes, joined_processes, new_engine
from train.evaluate import score
from train.predict import Prediction, transcribe

FREE_TO_CHANGE = {"output", "eval_every", "save_every", "workers"}
"""Fields of the configuration that may differ when a run carries on: they do not change it."""

EXTENDED = {"steps", "epochs", "warmup"}
"""Those that --resume may change."""

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
    folders = [Path(folder) for folder in config.datasets]
    rows = open_split(folders, "train")
    with_dev = [folder for folder in folders if any(folder.glob("dev-*.parquet"))]
    dev = open_split(with_dev, "dev") if with_dev else None
    material = collect(
        rows.remove_columns("audio"),
        whisper.vocabulary,
        whisper.encode,
        repack=config.repack,
        language_token=config.language_token,
    )
    if not material.whole and not material.clips:
        raise UserError(f"nothing to train on in {', '.join(config.datasets)}")
    stream = Stream(material, config.seed)
    plan = config.plan(
        epoch_windows=0 if config.steps else stream.count(config.epochs),
        learning_rate=models.default_learning_rate(whisper.model),
        world=processes.world,
        on_gpu=processes.on_gpu,
    )
    if previous:
        _check_same(previous, config, plan, processes, resume=resume)

    whisper.model.to(processes.device)
    loss = models.WhisperLoss(whisper.model)
    engine = new_engine(loss, config.deepspeed, plan, processes)
    run = Run(config, plan, run_folder, whisper, engine, processes, dev)
    run.start(material)
    reader = Reader(
        rows,
        whisper.vocabulary,
        whisper.encode,
        seed=config.seed,
        language_token=config.language_token,
    )
    run.train(stream, reader)
    return run.finish()


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
    asked = {**dataclasses.asdict(config), "datasets": list(config.datasets)}
    return all(
        value is None or name in FREE_TO_CHANGE or then.get(name) == value
        for name, value in asked.items()
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
        dev: Any,
    ) -> None:
        self.config, self.plan, self.folder, self.whisper = config, plan, folder, whisper
        self.engine, self.processes, self.dev = engine, processes, dev
        self.log_mel = models.LogMel(whisper.feature_extractor).to(processes.device)
        self.step = 0
        self.best: dict[str, Any] | None = None
        self.record: dict[str, Any] = {}

    def start(self, material: Material) -> None:
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
            "dropped": dict(material.dropped),
        }
        if self.processes.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.write_json(self.folder / "run.json", self.record)
            self._forget_after(self.step)
        told = {
            "engine": f"{self.engine.description} on {self.record['device']}",
            "data": f"{len(material.whole)} windows as built, {len(material.clips)} segments to "
            f"pack; left out: {dict(material.dropped) or 'none'}",
            "plan": f"{self.plan.steps} steps of {self.plan.batch_size} windows, learning rate "
            f"{self.plan.learning_rate:g}",
        }
        for name, text in told.items():
            self._say(f"{name}: {text}")
        if found is not None:
            self._say(f"carrying on after step {self.step} of {self.plan.steps}")

    def train(self, stream: Stream, reader: Reader) -> None:
        """All remaining steps."""
        from torch.utils.data import DataLoader
        from tqdm import tqdm

        plan, processes = self.plan, self.processes
        order = stream.batches(
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
            while self.step < plan.steps:
                metrics = self._one_step(batches)
                bar.update()
                bar.set_postfix(
                    loss=f"{metrics['loss']:.3f}", rate=f"{metrics['learning_rate']:.2e}"
                )
                last = self.step == plan.steps
                if last or (plan.eval_every and self.step % plan.eval_every == 0):
                    self._evaluate()
                if last or (plan.save_every and self.step % plan.save_every == 0):
                    self._save()

    def _one_step(self, batches: Iterator[Batch]) -> dict[str, float]:
        began = time.perf_counter()
        micro_batches = [next(batches) for _ in range(self.plan.accumulate)]
        waited = time.perf_counter() - began
        tokens, seconds = self.processes.sum(
            sum(batch.tokens for batch in micro_batches),
            sum(batch.seconds for batch in micro_batches),
        )
        device = self.processes.device
        inputs = [
            (
                self.log_mel(batch.pcm.to(device, non_blocking=True)).to(self.whisper.model.dtype),
                batch.decoder_input_ids.to(device, non_blocking=True),
                batch.labels.to(device, non_blocking=True),
            )
            for batch in micro_batches
        ]
        loss_sum, norm = self.engine.step(inputs, tokens)
        (loss_sum,) = self.processes.sum(loss_sum)
        elapsed = time.perf_counter() - began
        metrics = {
            "step": self.step + 1,
            "loss": loss_sum / tokens,
            "learning_rate": self.plan.rate(self.step),
            "gradient_norm": norm,
            "seconds": elapsed,
            "seconds_waiting_for_data": waited,
            "audio_seconds_per_second": seconds / elapsed,
        }
        self.step += 1
        self._log(metrics)
        return metrics

    def _evaluate(self) -> None:
        """Word error rate of free-running decoding on dev; each process takes a share of rows."""
        if self.dev is None:
            return
        began = time.perf_counter()
        share = range(self.processes.rank, len(self.dev), self.processes.world)
        self.whisper.model.eval()
        mine: list[Prediction] = list(
            transcribe(
                self.whisper, self.dev.select(share), language_token=self.config.language_token
            )
        )
        self.whisper.model.train()
        predictions = [p for part in self.processes.gather(mine) for p in part]
        rates = score(predictions)["normalised"]
        metrics = {"dev_wer": rates["wer"], "dev_cer": rates["cer"]}
        self._log({"step": self.step, **metrics, "seconds": time.perf_counter() - began})
        self._say(f"step {self.step}: dev WER {rates['wer']:.2%}, CER {rates['cer']:.2%}")
        if self.best is None or rates["wer"] < self.best["dev_wer"]:
            self.best = {"step": self.step, **metrics}
            if self.processes.first:
                target = self.folder / f"best-{self.step:08d}"
                models.save(self.whisper, target)
                for old in self.folder.glob("best-*"):
                    if old != target:
                        shutil.rmtree(old)

    def _save(self) -> None:
        def save_part(folder: Path) -> None:
            self.engine.save(folder)
            torch.save(_random_state(self.processes), folder / f"random-{self.processes.rank}.pt")

        state = {"step": self.step, "best": self.best}
        checkpoint.write(self.folder / "checkpoints", self.step, save_part, state, self.processes)
        if self.processes.first:
            weights = self.folder / "weights"
            models.save(self.whisper, weights / f"step-{self.step:08d}")
            for old in sorted(weights.glob("step-*"))[:-WEIGHTS_KEPT]:
                shutil.rmtree(old)

    def _load(self, found: Path) -> None:
        state = checkpoint.read_state(found)
        self.step, self.best = state["step"], state["best"]
        self.engine.load(found)
        random_state = torch.load(found / f"random-{self.processes.rank}.pt", weights_only=True)
        torch.set_rng_state(random_state["cpu"])
        if self.processes.on_gpu:
            torch.cuda.set_rng_state(random_state["gpu"], self.processes.device)

    def finish(self) -> dict[str, Any]:
        """Put the result in RUN/model and mark the run as finished."""
        self.record |= {"status": "finished", "steps": self.step, "best": self.best}
        if self.processes.first:
            model = self.folder / "model"
            for best in self.folder.glob("best-*"):
                models.replace_folder(best, model)
            if self.best is None or not model.exists():
                models.save(self.whisper, model)
            checkpoint.write_json(self.folder / "run.json", self.record)
        self.processes.wait()
        return self.record

    def _say(self, message: str) -> None:
        from tqdm import tqdm

        if self.processes.first:
            tqdm.write(message, file=sys.stderr)  # does not break the progress bar

    def _log(self, metrics: dict[str, float]) -> None:
        if self.processes.first:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(metrics) + "\n")

    def _forget_after(self, step: int) -> None:
        """Drop the metrics of steps that will be done again."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        # A kill may have cut the last line short.
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        checkpoint.write_text(path, "".join(f"{line}\n" for line in kept))


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    if any(not found.name.startswith(".") for found in folder.glob("*")):
        raise UserError(f"{folder} exists and is no run of ours; choose another --output")
    return {}


def _settings(config: FitConfig, plan: Plan) -> dict[str, Any]:
    """The resolved configuration as JSON has it."""
    return dict(json.loads(json.dumps(dataclasses.asdict(config) | dataclasses.asdict(plan))))


def _check_same(
    previous: dict[str, Any], config: FitConfig, plan: Plan, processes: Processes, *, resume: bool
) -> None:
    """A run carries on as what it was: any other configuration would be another run."""
    free = FREE_TO_CHANGE | (EXTENDED if resume else set())
    then = previous["config"] | {"processes": previous["processes"]}
    now = _settings(config, plan) | {"processes": processes.world}
    for name, value in then.items():
        if name not in free and value != now[name]:
            raise UserError(
                f"{config.output} was started with {name} = {value}, not {now[name]}; "
                "repeat the command as it was, or choose another --output"
            )


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
