"""What takes an optimiser step: DeepSpeed, or plain torch behind the same protocol.

An engine gets the micro-batches of a step and the number of labels in the *global* batch. It makes
the gradient of the mean loss over those labels, so a step is the same however it is divided among
micro-batches and processes, and the same for both engines.
"""

import argparse
import contextlib
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from corpus.errors import UserError
from train.config import MAX_GRADIENT_NORM, FitConfig, Plan, deepspeed_config
from train.loss import WhisperLoss
from train.optimiser import new_optimizer, place_steps, set_rates

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Arguments of `WhisperLoss`."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together, and this one's place among them."""

    rank: int
    world: int
    device: torch.device

    @property
    def on_gpu(self) -> bool:
        """Whether this process has a GPU."""
        return self.device.type == "cuda"

    def precision(self, asked: str | None) -> str:
        """What to compute in: what was asked for, else bf16 where the GPU has it, else fp32.

        Raises:
            UserError: fp16 without a GPU.
        """
        if asked == "fp16" and not self.on_gpu:
            raise UserError("precision fp16 needs a GPU; on a CPU use fp32 or bf16")
        has_bf16 = self.on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        return asked or ("bf16" if has_bf16 else "fp32")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Whether this is the first process on its machine."""
        return os.environ.get("LOCAL_RANK", "0") == "0"

    def sum(self, *values: float) -> list[float]:
        """Each value summed over the processes."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks, on all processes."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            torch.distributed.barrier()


@contextlib.contextmanager
def joined_processes(deepspeed: str) -> Iterator[Processes]:
    """Meet the other processes, as torchrun or the deepspeed launcher started them.

    The process group ends with the block: the threads of one that is left to the interpreter's
    end can crash it there, and a finished training would look failed to its launcher.

    Raises:
        UserError: several processes without DeepSpeed.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if deepspeed == "none":
        if world > 1:
            raise UserError("--deepspeed none runs in one process; for several use zero2")
        yield Processes(0, 1, device)
        return

    # Without these DeepSpeed looks for MPI.
    for name, value in {"RANK": rank, "LOCAL_RANK": local_rank, "WORLD_SIZE": world}.items():
        os.environ.setdefault(name, str(value))
    if world == 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "0")  # any free port: nobody else has to find it
    comm = _import_deepspeed(on_gpu).comm
    comm.init_distributed("nccl" if on_gpu else "gloo", verbose=False)
    try:
        yield Processes(rank, world, device)
    finally:
        comm.destroy_process_group()


def _import_deepspeed(on_gpu: bool) -> Any:
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|deepspeed)\.")
    try:
        import deepspeed
        import deepspeed.ops
        from deepspeed.utils import logger
    except ImportError as error:
        raise UserError(
            f"DeepSpeed cannot be imported ({error}); install it or use --deepspeed none"
        ) from error
    logger.setLevel("WARNING")
    if not on_gpu:
        # Set, not read: at the first reading a compiler is asked what it could build for DeepSpeed,
        # and the linker tells of each library that is not there. Training uses none of it.
        deepspeed.ops.__compatible_ops__ = {}
    return deepspeed


class Engine(Protocol):
    """Takes optimiser steps and keeps their state."""

    description: str

    def step(self, micro_batches: Iterable[Inputs], tokens: float) -> tuple[Tensor, float]:
        """One step on the mean loss over `tokens` labels, which all processes' batches have.

        Returns:
            the cross-entropy of this process's labels, summed by source (see `WhisperLoss`), and
            the global gradient norm before clipping.
        """

    def save(self, folder: Path) -> None:
        """Write the state, each process its part, into an existing folder."""

    def load(self, folder: Path, saved_by: int) -> None:
        """Read back the state that `saved_by` processes have saved.

        Raises:
            UserError: it is damaged, or cannot be taken up by another number of processes.
        """

    def whole_model(self) -> dict[str, Tensor] | None:
        """The weights of a model that is divided among the processes; None where it is whole.

        All processes call this, and get all weights.
        """


def new_engine(loss: WhisperLoss, config: FitConfig, plan: Plan, processes: Processes) -> Engine:
    """The engine asked for by --deepspeed, around a loss on this process's device."""
    precision = processes.precision(config.precision)
    optimizer, schedule = new_optimizer(loss, config, plan, fused=processes.on_gpu)
    if config.deepspeed == "none":
        return TorchEngine(loss, optimizer, schedule, plan, precision)
    settings = deepspeed_config(
        config.deepspeed, plan, on_gpu=processes.on_gpu, precision=precision
    )
    return DeepSpeedEngine(loss, optimizer, schedule, plan, settings, processes)


class TorchEngine:
    """One process, no DeepSpeed: the reference that the other engine has to equal."""

    def __init__(
        self, loss: WhisperLoss, optimizer: Any, schedule: Any, plan: Plan, precision: str
    ) -> None:
        self.loss, self.optimizer, self.schedule, self.plan = loss, optimizer, schedule, plan
        self.autocast = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self.scaler = torch.amp.GradScaler(enabled=precision == "fp16")
        self.description = f"plain torch, 1 process, {precision}"

    def step(self, micro_batches: Iterable[Inputs], tokens: float) -> tuple[Tensor, float]:
        """See `Engine.step`."""
        sums = []
        for inputs in micro_batches:
            mixed = self.autocast is not None
            with torch.autocast(inputs[0].device.type, self.autocast, enabled=mixed):
                loss_sum, by_source = self.loss(*inputs)
            self.scaler.scale(loss_sum / tokens).backward()
            sums.append(by_source)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.loss.parameters(), MAX_GRADIENT_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.optimizer.zero_grad()
        return torch.stack(sums).sum(0), norm.item()

    def save(self, folder: Path) -> None:
        """See `Engine.save`."""
        torch.save({name: part.state_dict() for name, part in self._parts()}, folder / "torch.pt")

    def load(self, folder: Path, saved_by: int) -> None:
        """See `Engine.load`."""
        state = torch.load(folder / "torch.pt", map_location="cpu", weights_only=True)
        for name, part in self._parts():
            part.load_state_dict(state[name])
        set_rates(self.optimizer, self.plan, self.schedule.last_epoch)

    def _parts(self) -> list[tuple[str, Any]]:
        return [
            ("model", self.loss),
            ("optimizer", self.optimizer),
            ("schedule", self.schedule),
            ("scaler", self.scaler),
        ]

    def whole_model(self) -> dict[str, Tensor] | None:
        """See `Engine.whole_model`."""
        return None


class DeepSpeedEngine:
    """DeepSpeed with ZeRO: optimiser state (1) and gradients (2) divided among the processes."""

    def __init__(
        self,
        loss: WhisperLoss,
        optimizer: Any,
        schedule: Any,
        plan: Plan,
        settings: dict[str, Any],
        processes: Processes,
    ) -> None:
        deepspeed = _import_deepspeed(processes.on_gpu)
        self.gathered = deepspeed.zero.GatheredParameters
        self.engine, *_ = deepspeed.initialize(
            model=loss, optimizer=optimizer, lr_scheduler=schedule, config=settings
        )
        self.optimizer, self.schedule, self.plan = optimizer, schedule, plan
        self.processes = processes
        self.sharded = self.engine.zero_optimization_stage() == 3
        # DeepSpeed averages over processes and accumulation steps; what we give it is a share of
        # the global mean, to be summed.
        self.shares = processes.world * settings["gradient_accumulation_steps"]
        precision = next((p for p in ("bf16", "fp16") if settings[p]["enabled"]), "fp32")
        self.description = (
            f"{type(self.engine).__name__}, ZeRO stage {self.engine.zero_optimization_stage()}, "
            f"world size {processes.world}, {precision}"
        )

    def step(self, micro_batches: Iterable[Inputs], tokens: float) -> tuple[Tensor, float]:
        """See `Engine.step`."""
        sums = []
        for inputs in micro_batches:
            loss_sum, by_source = self.engine(*inputs)
            self.engine.backward(loss_sum * (self.shares / tokens))
            self.engine.step()  # updates the weights after the last micro-batch
            sums.append(by_source)
        return torch.stack(sums).sum(0), float(self.engine.get_global_grad_norm() or 0.0)

    def save(self, folder: Path) -> None:
        """See `Engine.save`."""
        self.engine.save_checkpoint(str(folder), tag="engine")

    def load(self, folder: Path, saved_by: int) -> None:
        """See `Engine.load`."""
        if saved_by == self.processes.world:
            found, _ = self.engine.load_checkpoint(str(folder), tag="engine")
        else:
            found = self._load_divided_anew(folder, saved_by)
        if found is None:
            raise UserError(f"{folder} is damaged; remove it to carry on from the one before")
        set_rates(self.optimizer, self.plan, self.schedule.last_epoch)

    def _load_divided_anew(self, folder: Path, saved_by: int) -> str | None:
        """Load what more or fewer processes have saved, by DeepSpeed's universal checkpoint.

        Returns:
            what DeepSpeed has found; None if that is nothing.
        """
        if self.sharded:
            # DeepSpeed 0.19 would let all groups of weights share one count of Adam's steps.
            raise UserError(
                f"{folder} was saved by {saved_by} processes, and at ZeRO stage 3 only as many can "
                f"carry on; start {saved_by}, or make a model of it by `train export RUN --to "
                "safetensors` and train that"
            )
        from deepspeed.checkpoint import ds_to_universal

        whole = folder / "whole"
        if self.processes.first:
            shutil.rmtree(whole, ignore_errors=True)  # of one that was killed
            with contextlib.redirect_stdout(None):
                ds_to_universal.main(
                    argparse.Namespace(
                        input_folder=str(folder / "engine"),
                        output_folder=str(whole),
                        num_extract_workers=1,
                        num_merge_workers=1,
                        keep_temp_folder=False,
                        strict=True,
                        inject_missing_state=True,
                    )
                )
        self.processes.wait()
        self.engine._config.load_universal_checkpoint = True
        found: str | None = self.engine.load_checkpoint(str(folder), tag=whole.name)[0]
        self.engine._config.load_universal_checkpoint = False
        place_steps(self.optimizer)
        self.processes.wait()
        if self.processes.first:
            shutil.rmtree(whole)
        return found

    def whole_model(self) -> dict[str, Tensor] | None:
        """See `Engine.whole_model`."""
        if not self.sharded:
            return None
        model = self.engine.module.whisper
        state = {}
        # One at a time: all together would be the memory that sharding saves.
        for name, weight in model.named_parameters():
            with self.gathered([weight]):
                state[name] = weight.detach().cpu().clone()
        return state | {name: buffer.detach().cpu() for name, buffer in model.named_buffers()}
