"""The small Whisper adapted to real people who say digits: what is gained, and what it costs.

FOLDER holds the recordings of the Free Spoken Digit Dataset, DIGIT_SPEAKER_TAKE.wav. By its own
convention the takes 0 to 4 are the test; takes 5 to 9 are dev here, and the rest is trained on.
What the model knew before is tested by synthetic voices of the kind that it was made from. The
table of `train compare` has the model as it was, fine-tuned, the mean of the last checkpoints, and
the mean mixed with the model as it was.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import Figure
from corpus.errors import UserError
from demo.material import make_release

MODEL = Path(__file__).parents[1] / "demo" / "model"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES, DEV_TAKES = range(5), range(5, 10)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the dataset's recordings")
    parser.add_argument("--steps", type=int, default=200, help="steps of `train fit`")
    parser.add_argument("--batch-size", type=int, default=8, help="windows of 30 s in a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--processes", type=int, default=1, help="of `train fit`")


def measure(options: argparse.Namespace) -> list[Figure]:
    """Build, fit, average and compare through the command lines."""
    with tempfile.TemporaryDirectory() as scratch:
        digits = build_digits(options.folder, Path(scratch) / "digits")
        synthetic = build_synthetic(Path(scratch) / "synthetic")
        trained = digits.parents[1] / "runs" / "fine-tuned"
        mean, mixed = trained.with_name("mean"), trained.with_name("mixed")
        run_program(
            *(["torch.distributed.run", "--standalone", "--nproc-per-node", options.processes, "-m"]
              if options.processes > 1 else []),
            *("train", "fit", digits, "--model", MODEL, "--output", trained),
            *("--steps", options.steps, "--learning-rate", options.learning_rate),
            *("--batch-size", options.batch_size, "--eval-every", max(1, options.steps // 4)),
        )  # fmt: skip
        run_program("train", "average", trained, "--output", mean)
        told = run_program(
            *("train", "average", trained, "--base", MODEL, "--output", mixed),
            *("--on", digits, "--on", synthetic),
        )
        print(told, file=sys.stderr)
        names = ["as it was", "fine-tuned", "mean", "mixed"]
        files = [Path(scratch) / f"{name}.jsonl" for name in names]
        for model, file in zip((MODEL, trained, mean, mixed), files, strict=True):
            run_program("train", "evaluate", model, digits, synthetic, "--output", file)
        print(run_program("train", "compare", *files, digits, synthetic), file=sys.stderr)
        found = _json("train", "compare", *files, digits, synthetic)
    return [
        Figure(
            f"WER on {group['name']}, {name}", figures["wer"], "errors per word",
            names[0], group["models"][0]["wer"],
        )
        for group in found["groups"]["dataset"]
        for name, figures in zip(names, group["models"], strict=True)
    ]  # fmt: skip


def build_digits(folder: Path, workspace: Path) -> Path:
    """The dataset of the recordings in a folder."""
    run_program("corpus", "init", workspace, "--language", "en")
    manifest = workspace / "digits.csv"
    write_manifest(folder, manifest)
    at = ("--workspace", workspace)
    run_program("corpus", "add", manifest, "--license", "CC-BY-SA-4.0", *at)
    run_program("corpus", "verdict", *at)
    run_program("corpus", "build", "digits", "--tokenizer", MODEL, *at)
    return workspace / "datasets" / "digits"


def build_synthetic(workspace: Path) -> Path:
    """A dataset of the demo's release: two synthetic speakers in dev and test."""
    run_program("corpus", "init", workspace, "--language", "en")
    at = ("--workspace", workspace)
    run_program("corpus", "import", "common-voice", make_release(workspace / "material"), *at)
    run_program("corpus", "verdict", *at)
    splits = ("--dev-hours", 0, "--test-hours", 0)  # the release brings its own
    run_program("corpus", "build", "synthetic", "--tokenizer", MODEL, *splits, *at)
    return workspace / "datasets" / "synthetic"


def write_manifest(folder: Path, manifest: Path) -> None:
    """A manifest for `corpus add` from the names of the recordings."""
    takes = sorted(folder.glob("[0-9]_*_*.wav"))
    if not takes:
        raise UserError(f"{folder}: no files named DIGIT_SPEAKER_TAKE.wav; give that folder")
    with manifest.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path", "text", "speaker", "split"])
        for path in takes:
            digit, speaker, take = path.stem.split("_")
            held_out = {**dict.fromkeys(TEST_TAKES, "test"), **dict.fromkeys(DEV_TAKES, "dev")}
            split = held_out.get(int(take), "train")
            writer.writerow([path.resolve(), WORDS[int(digit)], speaker, split])


def run_program(*words: object) -> str:
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(map(str, words))} failed; what it said is above")
    return done.stdout


def _json(*words: object) -> Any:
    return json.loads(run_program(*words, "--json"))
