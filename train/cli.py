"""The command line `train`: fit, plan, autobatch, inspect, evaluate, export."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from corpus import console
from corpus.console import DebugOption, JsonOption
from corpus.errors import UserError
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

EVALUATE_EXAMPLES = """Examples:

  train evaluate openai/whisper-small ws/datasets/v1

  train evaluate ws/runs/v1-whisper-small ws/datasets/v1 ws/datasets/english --timestamps

  train evaluate ws/runs/v1-whisper-small ws/datasets/v1 --long-form --output predictions.jsonl
"""

COMPARE_EXAMPLES = """Examples:

  train compare openai/whisper-small ws/runs/v1-whisper-small ws/datasets/v1

  train compare openai/whisper-small ws/runs/v1-whisper-small ws/datasets/v1 ws/datasets/english
      --html report.html

  train compare before.jsonl after.jsonl ws/datasets/v1
"""

AVERAGE_EXAMPLES = """Examples:

  train average ws/runs/v1-whisper-small

  train average ws/runs/v1-whisper-small --base openai/whisper-small
      --on ws/datasets/v1 --on ws/datasets/english

  train average runs/a runs/b/model --output runs/both
"""

EXPORT_EXAMPLES = """Examples:

  train export ws/runs/v1-whisper-small --to ct2 --quantization int8

  train export ws/runs/v1-whisper-small --to ggml --output ggml-czech.bin

  train export ws/runs/v1-whisper-small --to hf --push me/whisper-small-czech

  train export ws/runs/v1-whisper-small --to safetensors
"""

LanguageTokenOption = Annotated[
    str | None,
    typer.Option(help="Use this language's token for languages that the model has none for."),
]

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
    gpus: Annotated[int, typer.Option(help="Over which the batch is divided.")] = 1,
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


EvaluatedArgument = Annotated[
    list[str], typer.Argument(help="Folders that `corpus build` made, or data sets of others.")
]
SplitOption = Annotated[str, typer.Option(help="train, dev or test; train shows fit, not quality.")]
DetectOption = Annotated[
    bool, typer.Option("--detect-language", help="Let the model detect the language of each row.")
]
TimestampsOption = Annotated[
    bool, typer.Option("--timestamps", help="Decode with timestamps, and judge them.")
]
LongFormOption = Annotated[
    bool,
    typer.Option("--long-form", help="Transcribe whole recordings, as faster-whisper does."),
]
BatchOption = Annotated[int, typer.Option(help="Rows decoded at a time.", min=1)]


@app.command(epilog=EVALUATE_EXAMPLES)
def evaluate(
    model: Annotated[str, typer.Argument(help="A model's folder, a run, or a name on the Hub.")],
    datasets: EvaluatedArgument,
    split: SplitOption = "test",
    output: Annotated[
        Path | None, typer.Option(help="Write the predictions here, as JSON lines.")
    ] = None,
    timestamps: TimestampsOption = False,
    long_form: LongFormOption = False,
    detect_language: DetectOption = False,
    language: Annotated[
        str | None, typer.Option(help="Of a data set of others that does not tell it.")
    ] = None,
    language_token: LanguageTokenOption = None,
    batch_size: BatchOption = 8,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Transcribe a split and report WER and CER with intervals, by source, and what went wrong."""
    from train.evaluate import evaluate as evaluate_model
    from train.evaluate import print_evaluation
    from train.predict import Decoding

    how = Decoding(
        split=split,
        language=language,
        language_token=language_token,
        detect_language=detect_language,
        timestamps=timestamps,
        long_form=long_form,
        batch_size=batch_size,
    )
    result = evaluate_model(model, datasets, how, output)
    if as_json:
        console.print_json(result)
    else:
        print_evaluation(result)


@app.command(epilog=COMPARE_EXAMPLES)
def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATASET...",
            help="Two models or more, the first to compare with: folders, runs, names on the Hub, "
            "or what `train evaluate --output` wrote. Then folders that `corpus build` made.",
        ),
    ],
    split: SplitOption = "test",
    html: Annotated[
        Path | None, typer.Option(help="Write a page with plots and audio too, read offline.")
    ] = None,
    long_form: LongFormOption = False,
    detect_language: DetectOption = False,
    language_token: LanguageTokenOption = None,
    batch_size: BatchOption = 8,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let models transcribe the same rows, and tell who is better, where, and how surely."""
    from train.compare import compare as compare_models
    from train.compare import is_dataset, print_comparison
    from train.page import check_target, write_page
    from train.predict import Decoding

    datasets = [Path(name) for name in names if is_dataset(name)]
    models = [name for name in names if not is_dataset(name)]
    if html is not None:
        check_target(html)
    how = Decoding(
        split=split,
        language_token=language_token,
        detect_language=detect_language,
        long_form=long_form,
        batch_size=batch_size,
    )
    found = compare_models(models, datasets, how)
    if html is not None:
        write_page(html, found)
        console.say(f"{html}: the page")
    if as_json:
        console.print_json(found)
    else:
        print_comparison(found)


@app.command(epilog=AVERAGE_EXAMPLES)
def average(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Runs, each for its last checkpoints, or models' folders."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder to write [default: RUN/averaged].")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The model before the fine-tuning, to be mixed in.")
    ] = None,
    alphas: Annotated[
        str, typer.Option(help="Shares of the fine-tuned to try, with --base.")
    ] = "0,0.2,0.4,0.6,0.8,1",
    on: Annotated[
        list[Path] | None,
        typer.Option(help="A dataset to choose the alpha by; the lowest mean of their WERs wins."),
    ] = None,
    split: Annotated[str, typer.Option(help="The datasets' split to choose by.")] = "dev",
    language_token: LanguageTokenOption = None,
    batch_size: BatchOption = 8,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the mean of a run's checkpoints, or the best point between the base and that mean."""
    from train.merge import average as average_models
    from train.merge import print_sweep
    from train.predict import Decoding

    try:
        shares = [float(share) for share in alphas.split(",")] if base else []
    except ValueError:
        shares = []
    if base and not (shares and all(0 <= share <= 1 for share in shares)):
        raise typer.BadParameter("give numbers from 0 to 1, as 0.3,0.5", param_hint="--alphas")
    how = Decoding(split=split, language_token=language_token, batch_size=batch_size)
    found = average_models(names, output, base=base, alphas=shares, datasets=on or [], how=how)
    if as_json:
        console.print_json(found)
    else:
        print_sweep(found)


@app.command(epilog=EXPORT_EXAMPLES)
def export(
    run: Annotated[str, typer.Argument(help="A run's or a model's folder.")],
    to: Annotated[
        str,
        typer.Option(
            help="ct2 for faster-whisper and `corpus label`, hf for transformers and the Hub, "
            "openai for openai/whisper, ggml for whisper.cpp; safetensors: a run's last checkpoint."
        ),
    ] = "ct2",
    output: Annotated[
        Path | None, typer.Option(help="What to write [default: RUN/ct2 and so on].")
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            help="Of ct2: float32, float16, bfloat16, int8, int8_float16, ...; of openai: float32 "
            "or float16 [default: float32]."
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Upload what --to hf writes to the Hub, private if it is new."
        ),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a run's model for another program, and read it again before success is told."""
    known = ("ct2", "hf", "openai", "ggml", "safetensors")
    if to not in known:
        raise typer.BadParameter(f"{to!r} is not known; known are {', '.join(known)}")
    if push and to != "hf":
        raise typer.BadParameter("uploads what --to hf writes; give that", param_hint="--push")
    from train.export import FORMATS, hf
    from train.export import export as export_model
    from train.export.last_checkpoint import to_safetensors

    if to == "safetensors":
        path = to_safetensors(run, output)
        proof = "a model folder with the weights of the last checkpoint"
    else:
        path, proof = export_model(run, to, output, quantization), FORMATS[to].proof
    address = hf.push(path, push) if push else None
    if as_json:
        console.print_json({"output": str(path), "to": to, "address": address})
        return
    print(f"{path}: {proof}")
    if to == "ct2":
        print(f"next: corpus label --model {path}")
    if address:
        print(f"{address}: uploaded")


def main() -> None:
    """Entry point."""
    console.run(app)
