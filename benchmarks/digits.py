"""The small Whisper adapted to real people who say digits: WER on their test takes.

FOLDER holds the recordings of the Free Spoken Digit Dataset, DIGIT_SPEAKER_TAKE.wav. By its own
convention the takes 0 to 4 are the test; takes 5 to 9 are dev here, and the rest is trained on.
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

MODEL = Path(__file__).parents[1] / "demo" / "model"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES, DEV_TAKES = range(5), range(5, 10)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the dataset's recordings")
    parser.add_argument("--steps", type=int, default=200, help="steps of `train fit`")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--processes", type=int, default=1, help="of `train fit`")


def measure(options: argparse.Namespace) -> list[Figure]:
    """Add, build, fit and evaluate through the command lines."""
    with tempfile.TemporaryDirectory() as scratch:
        manifest = Path(scratch) / "digits.csv"
        write_manifest(options.folder, manifest)
        workspace = Path(scratch) / "workspace"
        dataset, trained = workspace / "datasets" / "digits", workspace / "runs" / "digits"
        at = ("--workspace", workspace)
        _run("corpus", "init", workspace, "--language", "en")
        _run("corpus", "add", manifest, "--license", "CC-BY-SA-4.0", *at)
        _run("corpus", "verdict", *at)
        _run("corpus", "build", "digits", "--tokenizer", MODEL, *at)
        before = _json("train", "evaluate", MODEL, dataset)
        _run(
            *(["torch.distributed.run", "--standalone", "--nproc-per-node", options.processes, "-m"]
              if options.processes > 1 else []),
            *("train", "fit", dataset, "--model", MODEL, "--output", trained),
            *("--steps", options.steps, "--learning-rate", options.learning_rate),
            *("--batch-size", 8),
        )  # fmt: skip
        after = _json("train", "evaluate", trained, dataset)
    return [
        Figure(
            f"{name} on test takes after {options.steps} steps",
            after["normalised"][name.lower()],
            "errors per unit",
            "before",
            before["normalised"][name.lower()],
        )
        for name in ("WER", "CER")
    ]


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


def _run(*words: object) -> str:
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(map(str, words))} failed; what it said is above")
    return done.stdout


def _json(*words: object) -> Any:
    return json.loads(_run(*words, "--json"))
