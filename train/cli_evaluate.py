"""`train evaluate`, `compare`, `average`, `export`: what was gained, and the model for others."""

from pathlib import Path
from typing import Annotated

import typer

from corpus import console
from corpus.console import DebugOption, JsonOption

ALPHAS = "0,0.2,0.4,0.6,0.8,1"

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

  train export ws/runs/v1-whisper-small --to onnx

  train export ws/runs/v1-whisper-small --to hf --push me/whisper-small-czech

  train export ws/runs/v1-whisper-small --to safetensors
"""

LanguageTokenOption = Annotated[
    str | None,
    typer.Option(help="Use this language's token for languages that the model has none for."),
]

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
LanguageOption = Annotated[
    str | None, typer.Option(help="Of a data set of others that does not tell it.")
]
BatchOption = Annotated[int, typer.Option(help="Rows decoded at a time.", min=1)]


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
    language: LanguageOption = None,
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


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATASET...",
            help="Two models or more, the first to compare with: folders, runs, names on the Hub, "
            "or what `train evaluate --output` wrote. Then folders that `corpus build` made, or "
            "data sets of others.",
        ),
    ],
    split: SplitOption = "test",
    html: Annotated[
        Path | None, typer.Option(help="Write a page with plots and audio too, read offline.")
    ] = None,
    long_form: LongFormOption = False,
    detect_language: DetectOption = False,
    language: LanguageOption = None,
    language_token: LanguageTokenOption = None,
    batch_size: BatchOption = 8,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let models transcribe the same rows, and tell who is better, where, and how surely."""
    from train.compare import compare as compare_models
    from train.compare import is_dataset, print_comparison
    from train.page import GENERATOR, write_page
    from train.predict import Decoding

    datasets = [name for name in names if is_dataset(name)]
    models = [name for name in names if name not in datasets]
    if html is not None:
        console.check_page(html, GENERATOR)
    how = Decoding(
        split=split,
        language=language,
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
        str | None,
        typer.Option(
            help=f"Shares of the fine-tuned to try, with --base [default: {ALPHAS}].",
        ),
    ] = None,
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

    if alphas and not base:
        raise typer.BadParameter("needs --base, the model to be mixed in", param_hint="--alphas")
    try:
        shares = [float(share) for share in (alphas or ALPHAS).split(",")] if base else []
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


def export(
    run: Annotated[str, typer.Argument(help="A run's or a model's folder.")],
    to: Annotated[
        str,
        typer.Option(
            help="ct2 for faster-whisper and `corpus label`, hf for transformers and the Hub, "
            "openai for openai/whisper, ggml for whisper.cpp, onnx for transformers.js and "
            "optimum's ONNX Runtime; safetensors: a run's last checkpoint."
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
            metavar="NAME",
            help="Upload what --to hf or --to onnx writes to the Hub, private if it is new.",
        ),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a run's model for another program, and read it again before success is told."""
    known = ("ct2", "hf", "openai", "ggml", "onnx", "safetensors")
    if to not in known:
        raise typer.BadParameter(f"{to!r} is not known; known are {', '.join(known)}")
    if push and to not in ("hf", "onnx"):
        raise typer.BadParameter(
            "uploads what --to hf or --to onnx writes; give one of these", param_hint="--push"
        )
    from corpus import hub
    from train.export import FORMATS
    from train.export import export as export_model
    from train.export.last_checkpoint import to_safetensors

    if to == "safetensors":
        path = to_safetensors(run, output)
        proof = "a model folder with the weights of the last checkpoint"
    else:
        path, proof = export_model(run, to, output, quantization), FORMATS[to].proof
    address = hub.push(path, push, "model") if push else None
    if as_json:
        console.print_json({"output": str(path), "to": to, "address": address})
        return
    print(f"{path}: {proof}")
    if to == "ct2":
        print(f"next: corpus label --model {path}")
    if address:
        print(f"{address}: uploaded")
