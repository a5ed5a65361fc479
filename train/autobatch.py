"""Finds the micro-batch that fits and is fastest, by taking real steps on this machine.

The windows are the worst there can be: 30 s of noise and 448 tokens, all with loss.
"""

import dataclasses
import gc
import resource
import time
from dataclasses import dataclass

import torch

from corpus import console
from corpus.pack import MAX_TOKENS
from train import model as models
from train.config import FitConfig
from train.engine import Inputs, Processes, joined_processes, new_engine
from train.material import WINDOW_SAMPLES
from train.trainer import prepare

MEMORY_SHARE = 0.9
"""Of the GPU's memory: what is allocated varies a little from step to step."""


@dataclass(frozen=True)
class Trial:
    """One size that was tried.

    Attributes:
        seconds: for a window, in a step of one micro-batch; None where it did not fit.
        gigabytes: the peak, in GiB: of the GPU's memory, or else of this process so far.
    """

    micro_batch: int
    seconds: float | None
    gigabytes: float | None


def autobatch(config: FitConfig) -> list[Trial]:
    """Try the divisors of the batch size from 1 on, up to the first that does not fit.

    Runs in one process; several divide the optimiser's state and have more room each.
    """
    with joined_processes(config.deepspeed) as processes:
        trials: list[Trial] = []
        sizes = [n for n in range(1, config.batch_size + 1) if config.batch_size % n == 0]
        for size in console.progress(sizes, desc="micro-batch", unit="size"):
            trials.append(_try(config, size, processes))
            if trials[-1].seconds is None:
                break
        return trials


def best(trials: list[Trial]) -> Trial | None:
    """The fastest of those that fit."""
    return min((t for t in trials if t.seconds), key=lambda t: t.seconds or 0.0, default=None)


def _try(config: FitConfig, size: int, processes: Processes) -> Trial:
    one_batch = dataclasses.replace(config, steps=2, batch_size=size, micro_batch=size)
    plan = one_batch.plan(epoch_windows=size, learning_rate=1e-9, world=1, on_gpu=processes.on_gpu)
    whisper = models.load(config.model)
    if processes.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        loss = prepare(whisper, one_batch, sources=1).to(processes.device)
        engine = new_engine(loss, one_batch, plan, processes)
        inputs = worst_case(whisper, size, processes)
        tokens = float(inputs[2].numel())
        engine.step([inputs], tokens)  # the first allocates, and compiles
        began = time.perf_counter()
        engine.step([inputs], tokens)
        seconds = (time.perf_counter() - began) / size
    except torch.cuda.OutOfMemoryError:
        return Trial(size, None, None)
    finally:
        loss = engine = inputs = whisper = None  # type: ignore[assignment]
        gc.collect()
        if processes.on_gpu:
            torch.cuda.empty_cache()
    used, room = _memory(processes)
    if used > MEMORY_SHARE * room:
        return Trial(size, None, used)
    return Trial(size, seconds, used)


def worst_case(whisper: models.Whisper, size: int, processes: Processes) -> Inputs:
    """Arguments of the loss for `size` windows of noise with as many labels as there can be."""
    device, model = processes.device, whisper.model
    generator = torch.Generator().manual_seed(0)
    pcm = torch.randint(-3000, 3000, (size, WINDOW_SAMPLES), generator=generator).to(torch.int16)
    features = models.LogMel(whisper.feature_extractor).to(device)(pcm.to(device))
    tokens = torch.randint(0, whisper.vocabulary.end, (size, MAX_TOKENS), generator=generator)
    layers = model.config.encoder_layers + model.config.decoder_layers
    return (
        features.to(model.dtype),
        tokens.to(device),
        tokens.to(device),
        torch.zeros_like(tokens).to(device),
        torch.ones(size, layers, dtype=torch.bool, device=device),
    )


def _memory(processes: Processes) -> tuple[float, float]:
    """What was used at most and what there is, in GiB."""
    if processes.on_gpu:
        _, there_is = torch.cuda.mem_get_info()
        return torch.cuda.max_memory_allocated() / 2**30, there_is / 2**30
    # Linux tells kibibytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, float("inf")
