"""The stages of the demo: seconds of audio per second of wall time, start of the process included.

Beside each stands real time: a ratio of 50 means that a stage takes 50 hours of audio in one hour.
The commands run as `make demo` runs them, in a new folder, with the small model on the CPU.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks import Figure
from corpus.pack import WINDOW_SECONDS
from demo.__main__ import FIT_BATCH, FIT_STEPS, Shell, demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options: the demo is the same everywhere."""


def measure(options: argparse.Namespace) -> list[Figure]:
    """Run the demo once and relate each command's time to the audio that it worked on."""
    shell = Shell(out=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        with contextlib.redirect_stdout(sys.stderr):
            demo(Path(scratch), shell)
        workspace = Path(scratch) / "workspace"
        status = shell.json("corpus", "status", "--workspace", workspace)
        manifest = json.loads((workspace / "datasets" / "demo" / "manifest.json").read_text())
    wall: dict[str, float] = defaultdict(float)
    for timed in shell.timings:
        wall[timed.name] += timed.seconds
    return [
        Figure(name, seconds / wall[name], "audio s per s", "real time", 1.0)
        for name, seconds in _audio_seconds(status, manifest).items()
    ]


def _audio_seconds(status: dict[str, Any], manifest: dict[str, Any]) -> dict[str, float]:
    sources = {name: 3600 * part["hours"] for name, part in status["sources"].items()}
    fetched = sources["youtube"]
    splits = manifest["splits"]
    return {
        "corpus fetch": fetched,
        "corpus import": sum(sources.values()) - fetched,
        "corpus segment": fetched,
        "corpus label": fetched,
        # Applied twice: before the review and after it.
        "corpus verdict": 2 * 3600 * sum(part["hours"] for part in status["verdicts"]),
        "corpus build": sum(split["speech_seconds"] for split in splits.values()),
        "train fit": FIT_STEPS * FIT_BATCH * WINDOW_SECONDS,
        # Before and after.
        "train evaluate": 2 * splits["test"]["speech_seconds"],
    }
