"""What takes an optimiser step: DeepSpeed, or plain torch behind the same protocol.

An engine gets the micro-batches of a step and the number of labels in the *global* batch. It makes
the gradient of the mean loss over those labels, so a step is the same however it is divided among
micro-batches and processes, and the same for both engines.
"""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from corpus.errors import UserError
from train.config import MAX_GRADIENT_NORM, Plan, deepspeed_config

BETAS, EPSILON = (0.9, 0.98), 1e-6
"""As in Whisper's pre-training (Radford et al. 2022, appendix F)."""

WEIGHT_DECAY = 0.01

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

    @property
    def bf16(self) -> bool:
        """Whether to compute in bfloat16; fp32 otherwise."""
        return self.on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

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
            raise UserError("--deepspeed none runs in one process; for several use zero1 or zero2")
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
        # Inference uses this extension; training would only wait for a compiler to build it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
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

    def load(self, folder: Path) -> None:
        """Read the state back; the number of processes must be the same."""


def new_engine(loss: nn.Module, deepspeed: str, plan: Plan, processes: Processes) -> Engine:
    """The engine asked for by --deepspeed, around a `WhisperLoss` on this process's device."""
    optimizer = torch.optim.AdamW(
        _parameter_groups(loss),
        lr=1.0,  # times what the schedule says
        betas=BETAS,
        eps=EPSILON,
        fused=processes.on_gpu,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, plan.rate)
    if deepspeed == "none":
        return TorchEngine(loss, optimizer, schedule, bf16=processes.bf16)
    settings = deepspeed_config(deepspeed, plan, on_gpu=processes.on_gpu, bf16=processes.bf16)
    return DeepSpeedEngine(loss, optimizer, schedule, settings, processes)


def _parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _set_rates(optimizer: Any, schedule: Any) -> None:
    """After loading, go by the schedule as it is now: a run may carry on with more steps."""
    for group, rate in zip(optimizer.param_groups, schedule.lr_lambdas, strict=True):
        group["lr"] = rate(schedule.last_epoch)


class TorchEngine:
    """One process, no DeepSpeed: the reference that the other engine has to equal."""

    def __init__(self, loss: nn.Module, optimizer: Any, schedule: Any, *, bf16: bool) -> None:
        self.loss, self.optimizer, self.schedule, self.bf16 = loss, optimizer, schedule, bf16
        self.description = f"plain torch, 1 process, {'bf16' if bf16 else 'fp32'}"

    def step(self, micro_batches: Iterable[Inputs], tokens: float) -> tuple[Tensor, float]:
        """See `Engine.step`."""
        sums = []
        for inputs in micro_batches:
            with torch.autocast(inputs[0].device.type, torch.bfloat16, enabled=self.bf16):
                loss_sum, by_source = self.loss(*inputs)
            (loss_sum / tokens).backward()
            sums.append(by_source)
        norm = nn.utils.clip_grad_norm_(self.loss.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return torch.stack(sums).sum(0), norm.item()

    def save(self, folder: Path) -> None:
        """See `Engine.save`."""
        parts = {"model": self.loss, "optimizer": self.optimizer, "schedule": self.schedule}
        torch.save({name: part.state_dict() for name, part in parts.items()}, folder / "torch.pt")

    def load(self, folder: Path) -> None:
        """See `Engine.load`."""
        state = torch.load(folder / "torch.pt", weights_only=True)
        self.loss.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        _set_rates(self.optimizer, self.schedule)


class DeepSpeedEngine:
    """DeepSpeed with ZeRO: optimiser state (1) and gradients (2) divided among the processes."""

    def __init__(
        self,
        loss: nn.Module,
        optimizer: Any,
        schedule: Any,
        settings: dict[str, Any],
        processes: Processes,
    ) -> None:
        deepspeed = _import_deepspeed(processes.on_gpu)
        self.engine, *_ = deepspeed.initialize(
            model=loss, optimizer=optimizer, lr_scheduler=schedule, config=settings
        )
        self.optimizer, self.schedule = optimizer, schedule
        # DeepSpeed averages over processes and accumulation steps; what we give it is a share of
        # the global mean, to be summed.
        self.shares = processes.world * settings["gradient_accumulation_steps"]
        precision = "bf16" if self.engine.bfloat16_enabled() else "fp32"
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

    def load(self, folder: Path) -> None:
        """See `Engine.load`."""
        loaded, _ = self.engine.load_checkpoint(str(folder), tag="engine")
        if loaded is None:
            raise UserError(f"{folder} is damaged; remove it to carry on from the one before")
        _set_rates(self.optimizer, self.schedule)
