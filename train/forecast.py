"""What a run will be, before it starts: how full its windows are, of what, how long and how large.

Time and memory are estimates from the model's shape; `train autobatch` measures them.
"""

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from corpus.pack import WINDOW_SECONDS
from train import model as models
from train.config import STAGES, FitConfig, Plan
from train.data import Data, open_data
from train.lora import RATE_FACTOR
from train.loss import CHUNK_ROWS
from train.stream import Draw

FRAMES, POSITIONS = 3000, 1500
"""Of the encoder's input and output, for 30 s."""

UTILISATION = 0.4
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "RTX 4090": 165e12}
"""Dense bf16 operations a second by the makers' data sheets, of which 40 % is what good training
code reaches (Chowdhery et al. 2022, table 3, tell 46 %)."""

LAYER_ACTIVATIONS = 34
"""Bytes a layer keeps for the way back, per position and unit of width, in 16 bits and without the
attention's matrix (Korthikanti et al. 2022, section 4.1)."""


@dataclass(frozen=True)
class Forecast:
    """What a configuration comes to.

    Attributes:
        fill: speech in the windows, 0 to 1 of 30 s.
        tokens: mean number of decoder positions of a window.
        padded_tokens: the same with the padding to the lengths of micro-batches.
        hours: of speech by dataset, gone through once.
        weights: how often each dataset is gone through in an epoch.
        licences: hours by source and licence, as often as an epoch goes through them.
        gpu_hours: estimated time on one GPU, by its name.
        memory: bytes in one process by what they are for, estimated.
    """

    windows: int
    fill: float
    tokens: float
    padded_tokens: float
    hours: dict[str, float]
    weights: dict[str, float]
    licences: list[tuple[str, str, float]]
    dropped: dict[str, int]
    plan: dict[str, Any]
    gpu_hours: dict[str, float]
    memory: dict[str, float]


def forecast(config: FitConfig, *, world: int = 1) -> Forecast:
    """Plan a run on `world` GPUs without starting it.

    Raises:
        UserError: as `open_data`, or the batch cannot be divided.
    """
    whisper = models.load(config.model)
    data = open_data(config, whisper)
    draws = list(data.stream.epoch(0))
    plan = config.plan(
        epoch_windows=len(draws),
        learning_rate=models.default_learning_rate(whisper.model)
        * (RATE_FACTOR if config.lora else 1.0),
        world=world,
        on_gpu=True,
    )
    lengths = [
        request.length
        for batch in data.stream.batches(
            0,
            max(1, len(draws) // plan.batch_size),
            batch_size=plan.batch_size,
            micro_batch=plan.micro_batch,
            rank=0,
            world=world,
        )
        for request in batch
    ]
    padded = sum(lengths) / len(lengths)
    shape = whisper.model.config
    work = _operations(shape, padded, config) * plan.steps * plan.batch_size
    return Forecast(
        windows=len(draws),
        fill=sum(draw.window.seconds for draw in draws) / (WINDOW_SECONDS * len(draws)),
        tokens=sum(map(_tokens, draws)) / len(draws),
        padded_tokens=padded,
        hours={
            name: material.seconds / 3600
            for name, material in zip(config.datasets, data.materials, strict=True)
        },
        weights=dict(zip(config.datasets, data.stream.weights, strict=True)),
        licences=_licences(data),
        dropped=data.dropped,
        plan=dataclasses.asdict(plan),
        gpu_hours={name: work / (UTILISATION * peak) / 3600 for name, peak in PEAK_FLOPS.items()},
        memory=_memory(whisper.model, config, plan, max(lengths), world),
    )


def _tokens(draw: Draw) -> int:
    return draw.window.tokens(draw.choices)


def _licences(data: Data) -> list[tuple[str, str, float]]:
    hours: defaultdict[tuple[str, str], float] = defaultdict(float)
    for material, weight in zip(data.materials, data.stream.weights, strict=True):
        for key, seconds in material.licences.items():
            hours[key] += weight * seconds / 3600
    return [(*key, value) for key, value in sorted(hours.items())]


def _operations(shape: Any, tokens: float, config: FitConfig) -> float:
    """Floating-point operations of one window: forward, and twice as many back."""
    width, labels = shape.d_model, tokens
    encoder = 2 * 3 * (FRAMES * shape.num_mel_bins * width + POSITIONS * width**2)
    encoder += shape.encoder_layers * (
        POSITIONS * (8 * width**2 + 4 * width * shape.encoder_ffn_dim) + 4 * POSITIONS**2 * width
    )
    decoder = shape.decoder_layers * (
        tokens * (12 * width**2 + 4 * width * shape.decoder_ffn_dim)
        + 4 * POSITIONS * width**2
        + 4 * tokens * (tokens + POSITIONS) * width
    )
    vocabulary = 2 * labels * width * shape.vocab_size
    passes = 4 if config.gradient_checkpointing else 3
    frozen = "encoder" in config.freeze
    return (1 if frozen else passes) * encoder + passes * decoder + 3 * vocabulary


def _memory(model: Any, config: FitConfig, plan: Plan, tokens: int, world: int) -> dict[str, float]:
    """Bytes in one process on a GPU, in mixed precision."""
    shape = model.config
    weights = sum(weight.numel() for weight in model.parameters())
    trained = weights
    if config.lora:
        trained = (
            config.lora * 2 * shape.d_model * 6 * (shape.encoder_layers + 2 * shape.decoder_layers)
        )
    elif "encoder" in config.freeze:
        trained -= sum(weight.numel() for weight in model.model.encoder.parameters())
    stage = 0 if config.deepspeed == "none" else STAGES.get(config.deepspeed, 2)
    # DeepSpeed keeps weights and gradients in 16 bits and one copy in 32; plain torch all in 32.
    weight_bytes, state_bytes = (4, 8) if stage == 0 else (2, 12)
    state = 0.0 if config.deepspeed == "zero2-offload" else trained * state_bytes
    kept = shape.encoder_layers * POSITIONS + shape.decoder_layers * (1.5 * tokens + POSITIONS / 4)
    per_position = LAYER_ACTIVATIONS * shape.d_model
    activations = kept * per_position
    if config.gradient_checkpointing:
        largest = max(POSITIONS, tokens)
        activations = kept * 2 * shape.d_model + largest * per_position
    return {
        "weights": weights * weight_bytes / (world if stage == 3 else 1),
        "gradients": trained * weight_bytes / (world if stage >= 2 else 1),
        "optimiser": state / (world if stage >= 1 else 1),
        "activations": plan.micro_batch * activations,
        "loss": 12.0 * CHUNK_ROWS * shape.vocab_size + 4.0 * shape.vocab_size * shape.d_model,
    }


def total(memory: dict[str, float]) -> float:
    """All of it, in GiB."""
    return sum(memory.values()) / 2**30
