"""What a fine-tuning is made of: from a TOML file, the command line and the sizes of the data."""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from corpus.errors import UserError
from corpus.files import short_name

STAGES = {"zero1": 1, "zero2": 2, "zero2-offload": 2, "zero3": 3}

MAX_GRADIENT_NORM = 1.0
"""As in Whisper's pre-training (Radford et al. 2022, appendix F)."""

POSITIVE = (
    "steps", "epochs", "batch_size", "micro_batch", "learning_rate", "temperature",
    "layer_decay", "encoder_rate",
)  # fmt: skip
NOT_NEGATIVE = ("warmup", "eval_every", "save_every", "workers", "lora", "patience")
SHARES = (
    "stochastic_depth", "bpe_dropout", "label_smoothing", "dropout", "ema",
    "speed", "noise", "gain", "telephone",
)  # fmt: skip

PRECISIONS = ("bf16", "fp16", "fp32")

RECIPES: dict[str, dict[str, Any]] = {
    "large-v2": {"spec_augment": True, "stochastic_depth": 0.1, "bpe_dropout": 0.1},
}
"""Settings that belong together. large-v2: what Whisper's second large model was trained with
beyond the first (Radford et al. 2022, table 18)."""

ENGINE_KEYS = frozenset(
    {
        "activation_checkpointing", "bf16", "comms_logger", "communication_data_type",
        "dump_state", "flops_profiler", "fp16", "gradient_clipping", "memory_breakdown",
        "prescale_gradients", "seq_parallel_communication_data_type", "steps_per_print",
        "wall_clock_breakdown", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
        "zero_optimization",
    }
)  # fmt: skip
"""Top-level keys taken from a DeepSpeed file; DeepSpeed itself ignores misspelt ones in silence."""

BUCKET_ELEMENTS = 50_000_000
"""Gradients reduced at once. The bucket must not follow the model's width, as "auto" settings do:
thousands of tiny messages then take longer than the training itself."""


@dataclass(frozen=True)
class FitConfig:
    """One fine-tuning. Fields that are None are filled in by `plan`.

    Attributes:
        datasets: folders made by `corpus build`, or data sets of others; they are mixed.
        model: folder or name on the Hub of the model to start from.
        output: folder of the run.
        deepspeed: zero1, zero2, zero2-offload, zero3, none, or a DeepSpeed configuration file.
        steps: optimiser steps; by default what `epochs` come to.
        batch_size: windows of 30 s in one step, over all processes.
        micro_batch: windows that one process takes through the model at a time.
        learning_rate: the peak; by default a fortieth of the pre-training's.
        warmup: steps until the peak; by default a tenth. The rate then falls linearly to zero.
        eval_every, save_every: steps; 0 means only at the end. By default a tenth.
        repack: pack segments into new windows each epoch.
        language_token: the language whose token to use for one that the model has none for.
        workers: processes that read audio; by default 4 with a GPU, none without.
        language: of data sets of others that do not tell theirs.
        weights: how often each dataset is gone through in an epoch.
        temperature: without weights, shares grow as hours ** (1 / temperature), see `train.stream`.
        streaming: read Parquet where it lies, without a copy in the cache of `datasets`.
        spec_augment: blank a band of time and of pitch of each window.
        stochastic_depth: probability of skipping the deepest layers.
        bpe_dropout: probability of leaving out a merge of the tokenizer.
        label_smoothing: part of each label that is spread over the vocabulary.
        dropout: in the residual branches of encoder and decoder.
        precision: bf16, fp16 or fp32; by default bf16 on a GPU that has it.
        layer_decay, encoder_rate: see `train.optimiser`.
        freeze: parts that are not trained: encoder, conv, decoder, decoder_positions.
        lora: rank of the matrices trained in place of the weights; 0 for the weights themselves.
        gradient_checkpointing: compute activations twice, keep few of them.
        compile: compile each layer, on a GPU.
        ema: how much of the weights' moving average is kept in a step; 0 for none.
        patience: evaluations without a better dev WER after which to stop; 0 for no limit.
        speed: probability that speech is played up to a tenth faster or slower.
        noise, gain, telephone: probability of each disturbance of a window.
    """

    datasets: tuple[str, ...]
    model: str
    output: str
    deepspeed: str = "zero2"
    steps: int | None = None
    epochs: float = 3.0
    batch_size: int = 16
    micro_batch: int | None = None
    learning_rate: float | None = None
    warmup: int | None = None
    seed: int = 0
    eval_every: int | None = None
    save_every: int | None = None
    repack: bool = True
    language_token: str | None = None
    workers: int | None = None
    language: str | None = None
    weights: tuple[float, ...] | None = None
    temperature: float = 1.0
    streaming: bool = False
    spec_augment: bool = False
    stochastic_depth: float = 0.0
    bpe_dropout: float = 0.0
    label_smoothing: float = 0.0
    dropout: float = 0.0
    precision: str | None = None
    layer_decay: float = 1.0
    encoder_rate: float = 1.0
    freeze: tuple[str, ...] = ()
    lora: int = 0
    gradient_checkpointing: bool = False
    compile: bool = False
    ema: float = 0.0
    patience: int = 0
    speed: float = 0.0
    noise: float = 0.0
    gain: float = 0.0
    telephone: float = 0.0

    def __post_init__(self) -> None:
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"{name} is {value}: it must be more than 0")
        if self.weights and min(self.weights) <= 0:
            raise UserError("a weight must be more than 0; leave the dataset out instead")
        if self.weights and self.temperature != 1.0:
            raise UserError("give weights or a temperature, not both")
        if self.precision not in (None, *PRECISIONS):
            raise UserError(f"precision is {self.precision}: there are {', '.join(PRECISIONS)}")
        if self.lora and self.freeze:
            raise UserError("lora freezes all weights by itself; leave freeze out")
        if self.ema and _divides_weights(self.deepspeed):
            raise UserError("ema needs the weights whole in each process; use zero2")
        for name in SHARES:
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UserError(f"{name} is {value}: it must be from 0 to less than 1")
        for name in NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UserError(f"{name} is {value}: it cannot be negative")

    def plan(self, *, epoch_windows: int, learning_rate: float, world: int, on_gpu: bool) -> "Plan":
        """Fill in what depends on the data, the model and the machine.

        Args:
            epoch_windows: windows in an epoch.
            learning_rate: the model's default.
            world: number of processes.

        Raises:
            UserError: the batch cannot be divided among the processes.
        """
        steps = self.steps or max(1, math.ceil(self.epochs * epoch_windows / self.batch_size))
        share, rest = divmod(self.batch_size, world)
        if rest:
            raise UserError(
                f"--batch-size {self.batch_size} cannot be divided among {world} processes; "
                f"try {world * max(1, round(self.batch_size / world))}"
            )
        micro_batch = self.micro_batch or max(b for b in range(1, 9) if share % b == 0)
        if share % micro_batch:
            raise UserError(
                f"--micro-batch {micro_batch} does not divide the {share} windows that each "
                f"process has of --batch-size {self.batch_size}"
            )
        tenth = max(1, round(steps / 10))
        return Plan(
            steps=steps,
            passes=steps * self.batch_size / epoch_windows,
            batch_size=self.batch_size,
            micro_batch=micro_batch,
            accumulate=share // micro_batch,
            learning_rate=self.learning_rate or learning_rate,
            warmup=tenth if self.warmup is None else self.warmup,
            eval_every=tenth if self.eval_every is None else self.eval_every,
            save_every=tenth if self.save_every is None else self.save_every,
            workers=(4 if on_gpu else 0) if self.workers is None else self.workers,
        )


@dataclass(frozen=True)
class Plan:
    """What a `FitConfig` comes to for its data, model and processes.

    Attributes:
        passes: epochs that the steps come to.
        accumulate: micro-batches that each process has in a step.
    """

    steps: int
    passes: float
    batch_size: int
    micro_batch: int
    accumulate: int
    learning_rate: float
    warmup: int
    eval_every: int
    save_every: int
    workers: int

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0: linear warm-up, then linear decay to zero."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / (self.warmup + 1)
        return self.learning_rate * (self.steps - step) / max(1, self.steps - self.warmup)


def read_config(
    file: Path | None,
    options: Mapping[str, Any],
    *,
    recipe: str | None = None,
    changes: Sequence[str] = (),
) -> FitConfig:
    """A configuration from a recipe, a TOML file, and the command line; what comes later wins.

    Args:
        options: by field; None and empty lists are not given.
        recipe: one of `RECIPES`.
        changes: KEY=VALUE for any field, the value as in TOML; quotes may be left out.

    Raises:
        UserError: no such file, an unknown key, a value of the wrong type, or no dataset or model.
    """
    values: dict[str, Any] = {}
    if recipe is not None:
        if recipe not in RECIPES:
            raise UserError(f"--recipe {recipe}: there is only {', '.join(RECIPES)}")
        values |= RECIPES[recipe]
    if file is not None:
        try:
            given = tomllib.loads(file.read_text())
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{file} is not TOML, lines of KEY = VALUE: {error}") from error
        values |= {key: _checked(key, value, str(file)) for key, value in given.items()}
    values |= {key: value for key, value in options.items() if value not in (None, [], ())}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"--set {change}: write it as KEY=VALUE")
        values[key] = _checked(key, _toml_value(text), f"--set {change}")
    if not values.get("datasets"):
        raise UserError("no dataset given; name the folder that `corpus build` made")
    if not values.get("model"):
        raise UserError("no model given; add --model, for example --model openai/whisper-small")
    values["datasets"] = tuple(str(folder) for folder in values["datasets"])
    values.setdefault("output", str(default_output(values["datasets"][0], values["model"])))
    return FitConfig(**values)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(key: str, value: Any, where: str) -> Any:
    """A value that is of its field's type, as the field holds it."""
    types = get_type_hints(FitConfig)
    if key not in types:
        meant = difflib.get_close_matches(key, types, n=1, cutoff=0.7)
        hint = f"did you mean {meant[0]}?" if meant else f"known are {', '.join(types)}"
        raise UserError(f"{where}: unknown key {key!r}; {hint}")
    kinds = get_args(types[key]) if get_origin(types[key]) is UnionType else (types[key],)
    for kind in kinds:
        if get_origin(kind) is tuple and isinstance(value, list):
            item = get_args(kind)[0]
            if all(_is_a(part, item) for part in value):
                return tuple(value)
        elif _is_a(value, kind):
            return value
    names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise UserError(f"{where}: {key} = {value!r} is not of type {names}")


def _is_a(value: object, kind: Any) -> bool:
    """Whether a value is of a type as TOML has them, where any integer is a number."""
    return type(value) is kind or (kind is float and type(value) is int)


def default_output(dataset: str, model: str) -> Path:
    """WS/runs/NAME-MODEL for WS/datasets/NAME, else runs/NAME-MODEL here."""
    folder = Path(dataset).resolve()
    runs = folder.parent.parent / "runs" if folder.parent.name == "datasets" else Path("runs")
    return runs / f"{folder.name}-{short_name(model)}"


def absolute(name: str) -> str:
    """The path of what lies on this machine, whatever folder a command runs in; else the name."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def deepspeed_config(choice: str, plan: Plan, *, on_gpu: bool, precision: str) -> dict[str, Any]:
    """The configuration given to `deepspeed.initialize`, all of it explicit.

    There is no optimizer and no scheduler block: torch's own are passed in, which needs no compiler
    and no wasted first steps (DeepSpeed's schedulers run two at a rate of zero).

    Args:
        choice: zero1, zero2, zero2-offload, zero3, or the JSON file with which a user adds to or
            changes this.

    Raises:
        UserError: a user's file is unreadable, or sets what the command line sets.
    """
    made: dict[str, Any] = {
        "gradient_clipping": MAX_GRADIENT_NORM,
        "steps_per_print": 1_000_000_000,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "zero_allow_untested_optimizer": True,
        # With offload_optimizer too, torch's AdamW: DeepSpeed's needs a compiler.
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {
            "stage": STAGES.get(choice, 2),
            "overlap_comm": on_gpu,
            "contiguous_gradients": True,
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "allgather_bucket_size": BUCKET_ELEMENTS,
        },
    }
    if choice == "zero2-offload":
        made["zero_optimization"]["offload_optimizer"] = {"device": "cpu", "pin_memory": on_gpu}
    if choice == "zero3":
        # By default it would gather weights in pieces that follow the model's width.
        made["zero_optimization"]["stage3_prefetch_bucket_size"] = BUCKET_ELEMENTS
    if choice not in STAGES:
        given = _read_json(Path(choice))
        for key, value in given.items():
            if key not in ENGINE_KEYS:
                raise UserError(
                    f"{choice}: {key!r} cannot be set here; batch sizes, learning rate "
                    f"and optimiser are options of `train fit`, the rest is {sorted(ENGINE_KEYS)}"
                )
            made[key] = made[key] | value if isinstance(made.get(key), dict) else value
    return made | {
        "train_micro_batch_size_per_gpu": plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulate,
    }


def _divides_weights(choice: str) -> bool:
    """Whether a --deepspeed is ZeRO stage 3, by its name or in the JSON file."""
    if choice == "none" or choice in STAGES:
        return STAGES.get(choice) == 3
    zero = _read_json(Path(choice)).get("zero_optimization")
    return isinstance(zero, dict) and zero.get("stage") == 3


def _read_json(file: Path) -> dict[str, Any]:
    try:
        given = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"--deepspeed {file}: give {', '.join(STAGES)}, none or a JSON file ({error})"
        ) from error
    if not isinstance(given, dict):
        raise UserError(f"--deepspeed {file}: the file must hold one JSON object")
    return given
