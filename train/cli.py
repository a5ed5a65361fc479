"""The command line `train`: fit, plan, autobatch and inspect; the others are in cli_evaluate."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from corpus import console
from corpus.console import DebugOption, JsonOption
from corpus.errors import UserError
from train.cli_evaluate import (
    AVERAGE_EXAMPLES,
    COMPARE_EXAMPLES,
    EVALUATE_EXAMPLES,
    EXPORT_EXAMPLES,
    LanguageTokenOption,
    average,
    compare,
    evaluate,
    export,
)
from train.config import read_config

app = console.new_app("Fine-tune Whisper on a dataset, measure it, and export it.")

FIT_EXAMPLES = """Examples:

  train fit ws/datasets/v1 --model openai/whisper-small

  train fit ws/datasets/v1 --model openai/whisper-large-v3 --batch-size 64 --micro-batch 8

  train fit ws/datasets/v1 ws/datasets/cv --config fit.toml --recipe large-v2 --set temperature=2

  torchrun --standalone --nproc-per-node 4 -m train fit ws/datasets/v1 --model openai/whisper-small
"""

PLAN_EXAMPLES = """Examples:

  train plan ws/datasets/v1 ws/datasets/cv --model openai/whisper-small --set temperature=2

  train plan ws/datasets/v1 --model openai/whisper-large-v3 --gpus 4 --set deepspeed=zero2-offload
"""

AUTOBATCH_EXAMPLES = """Examples:

  train autobatch --model openai/whisper-small --set batch_size=64

  train autobatch --model openai/whisper-large-v3 --set gradient_checkpointing=true
"""

INSPECT_EXAMPLES = """Examples:

  train inspect ws/datasets/v1 --model openai/whisper-small -n 20

  train inspect ws/datasets/v1 --model openai/whisper-small --recipe large-v2 --audio listen/
"""

DatasetsArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Folders that `corpus build` made, or data sets of others."),
]
ModelOption = Annotated[
    str | None, typer.Option(help="Model to start from: a folder, a run, or a name on the Hub.")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(help="large-v2: SpecAugment, stochastic depth, BPE dropout, as that model had."),
]
ConfigOption = Annotated[
    Path | None, typer.Option(help="TOML file with any settings; what is given here wins.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; may be repeated."),
]


@app.callback()
def launched(
    local_rank: Annotated[int | None, typer.Option("--local_rank", hidden=True)] = None,
) -> None:
    """Fine-tune Whisper on a dataset, measure it, and export it."""
    # The deepspeed launcher adds --local_rank, and tells the same by LOCAL_RANK.


@app.command(epilog=FIT_EXAMPLES)
def fit(
    datasets: DatasetsArgument = None,
    model: ModelOption = None,
    output: Annotated[
        Path | None, typer.Option(help="The run's folder [default: WORKSPACE/runs/DATASET-MODEL].")
    ] = None,
    deepspeed: Annotated[
        str | None,
        typer.Option(help="zero1, zero2, zero2-offload, zero3, none, or JSON [default: zero2]."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data, if no steps are given [default: 3].")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Windows per step, over all processes [default: 16].")
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(help="Windows a process computes at a time [default: up to 8].")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The peak [default: by the model's size].")
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Steps until the peak [default: a tenth].")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of order, packing and targets.")] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(help="Steps between evaluations; 0: at the end [default: a tenth]."),
    ] = None,
    save_every: Annotated[
        int | None,
        typer.Option(help="Steps between checkpoints; 0: at the end [default: a tenth]."),
    ] = None,
    repack: Annotated[
        bool | None,
        typer.Option("--repack/--no-repack", help="Pack segments anew each epoch [default: yes]."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read audio [default: 4 with a GPU].")
    ] = None,
    language_token: LanguageTokenOption = None,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Train a finished run on, with more --steps.")
    ] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fine-tune a model with DeepSpeed. A killed run carries on when the command is repeated."""
    given: dict[str, Any] = {
        "datasets": datasets,
        "model": model,
        "output": str(output) if output else None,
        "deepspeed": deepspeed,
        "steps": steps,
        "epochs": epochs,
        "batch_size": batch_size,
        "micro_batch": micro_batch,
        "learning_rate": learning_rate,
        "warmup": warmup,
        "seed": seed,
        "eval_every": eval_every,
        "save_every": save_every,
        "repack": repack,
        "workers": workers,
        "language_token": language_token,
    }
    settings = read_config(config, given, recipe=recipe, changes=changes or [])
    from train.trainer import fit as fit_run

    record = fit_run(settings, resume=resume)
    if os.environ.get("RANK", "0") != "0":
        return  # the first process reports
    if as_json:
        console.print_json(record)
        return
    best = record["best"]
    found = f"dev WER {best['dev_wer']:.2%} at step {best['step']}" if best else "no dev split"
    print(f"{settings.output}/model: {record['steps']} steps, {found}")
    token = f" --language-token {settings.language_token}" if settings.language_token else ""
    print(f"next: train evaluate {settings.output} {settings.datasets[0]}{token}")


@app.command(epilog=PLAN_EXAMPLES)
def plan(
    datasets: DatasetsArgument = None,
    model: ModelOption = None,
    gpus: Annotated[int, typer.Option(min=1, help="Over which the batch is divided.")] = 1,
    language_token: LanguageTokenOption = None,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell what a run would be: windows, hours by licence, steps, and estimated time and memory."""
    given = {"datasets": datasets, "model": model, "language_token": language_token}
    settings = read_config(config, given, recipe=recipe, changes=changes or [])
    from train.forecast import forecast, total

    found = forecast(settings, world=gpus)
    if as_json:
        console.print_json(dataclasses.asdict(found))
        return
    console.print_table(
        "Datasets",
        ["dataset", "hours", "times an epoch"],
        [[name, hours, found.weights[name]] for name, hours in found.hours.items()],
    )
    console.print_table("Hours of an epoch", ["source", "licence", "hours"], found.licences)
    of = found.plan
    lines = [
        ("left out", ", ".join(f"{n} {why}" for why, n in found.dropped.items()) or "nothing"),
        ("windows an epoch", f"{found.windows:,}, {found.fill:.1%} full"),
        ("tokens a window", f"{found.tokens:.0f}, padded {found.padded_tokens:.0f}"),
        ("steps", f"{of['steps']:,} of {of['batch_size']} windows, {of['passes']:.1f} epochs"),
        (
            "on each GPU",
            f"{of['accumulate']} micro-batches of {of['micro_batch']} a step",
        ),
        ("learning rate", f"{of['learning_rate']:.2e} after {of['warmup']} steps"),
        (
            "time, estimated",
            ", ".join(f"{h / gpus:.2f} h on {gpus} x {n}" for n, h in found.gpu_hours.items()),
        ),
        (
            "memory, estimated",
            f"{total(found.memory):.1f} GiB on each GPU: "
            + ", ".join(f"{name} {size / 2**30:.1f}" for name, size in found.memory.items()),
        ),
    ]
    for name, text in lines:
        print(f"{name:18} {text}")


@app.command(epilog=AUTOBATCH_EXAMPLES)
def autobatch(
    model: ModelOption = None,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the best micro-batch that fits on this machine, by real steps on the worst windows."""
    given = {"datasets": ["-"], "model": model}
    settings = read_config(config, given, recipe=recipe, changes=changes or [])
    from train.autobatch import autobatch as try_sizes
    from train.autobatch import best

    trials = try_sizes(settings)
    found = best(trials)
    if as_json:
        fastest = found.micro_batch if found else None
        console.print_json({"trials": list(map(dataclasses.asdict, trials)), "best": fastest})
        return
    console.print_table(
        f"{settings.model}, windows of 448 tokens",
        ["micro-batch", "seconds a window", "peak GiB"],
        [
            [t.micro_batch, "does not fit" if t.seconds is None else t.seconds, t.gigabytes]
            for t in trials
        ],
    )
    if found is None:
        raise UserError("not one window fits; try gradient_checkpointing=true, or lora")
    print(f"next: train fit ... --micro-batch {found.micro_batch}")


@app.command(epilog=INSPECT_EXAMPLES)
def inspect(
    datasets: DatasetsArgument = None,
    model: ModelOption = None,
    count: Annotated[int, typer.Option("-n", "--count", help="How many windows.")] = 5,
    epoch: Annotated[int, typer.Option(help="Of which epoch, counted from 0.")] = 0,
    audio: Annotated[Path | None, typer.Option(help="Folder for their sound, as FLAC.")] = None,
    language_token: LanguageTokenOption = None,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show windows as a run would read them: what the model is given and what it learns."""
    given = {"datasets": datasets, "model": model, "language_token": language_token}
    settings = read_config(config, given, recipe=recipe, changes=changes or [])
    from train.inspect import inspect as show

    shown = list(show(settings, count=count, epoch=epoch, audio=audio))
    if as_json:
        console.print_json([dataclasses.asdict(window) for window in shown])
        return
    for window in shown:
        print(
            f"{window.audio or window.id[:40]}: {window.language}, {window.seconds:.2f} s, "
            f"{window.tokens} tokens"
        )
        for kind, text in window.parts:
            print(f"  {kind:6}  {console.printable(text)}")


app.command(epilog=EVALUATE_EXAMPLES)(evaluate)
app.command(epilog=COMPARE_EXAMPLES)(compare)
app.command(epilog=AVERAGE_EXAMPLES)(average)
app.command(epilog=EXPORT_EXAMPLES)(export)


def main() -> None:
    """Entry point."""
    console.run(app)
