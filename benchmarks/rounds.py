"""Self-training where half of the labels are hidden: what each round gains or loses.

Synthetic talks of three speakers, every second one without its subtitles, and a release that brings
a dev and a test speaker; the small Whisper of the demo labels what has no text. All speech is by
espeak-ng, so the table shows that the rounds work, not what they are worth on people.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import soundfile

from benchmarks import Figure
from benchmarks.digits import MODEL, run_program
from demo.material import TALKERS, make_release, make_talk
from demo.voices import DEMO_VOICES, SAMPLE_RATE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--talks", type=int, default=8, help="of a minute and a half or two")
    parser.add_argument("--steps", type=int, default=60, help="steps of `train fit` in each round")


def measure(options: argparse.Namespace) -> list[Figure]:
    """Run the rounds through the command line."""
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        run_program("corpus", "init", workspace, "--language", "en")
        prepare(workspace, options.talks, options.steps)
        arguments = ("--iterations", options.rounds, "--workspace", workspace)
        print(run_program("corpus", "run", *arguments), file=sys.stderr)
        # Nothing is done again: this only reads.
        found = json.loads(run_program("corpus", "run", *arguments, "--json"))
    first, *others = found
    return [
        Figure(f"WER after round {one['number']}", one["wer"], "errors per word", "before",
               first["wer"])
        for one in others
    ]  # fmt: skip


def prepare(workspace: Path, talks: int, steps: int) -> None:
    """Talks, a release, and a corpus.toml that asks for them."""
    folder = workspace / "material" / "talks"
    folder.mkdir(parents=True)
    for number in range(talks):
        talk = make_talk(DEMO_VOICES[number % TALKERS], seed=200 + number)
        soundfile.write(folder / f"talk-{number}.flac", talk.pcm, SAMPLE_RATE)
        if number % 2 == 0:
            (folder / f"talk-{number}.srt").write_text(talk.srt(), encoding="utf-8")
    release = make_release(workspace / "material")
    (workspace / "fit.toml").write_text(
        f"steps = {steps}\nbatch_size = 4\nlearning_rate = 1e-3\neval_every = {steps // 3}\n",
        encoding="utf-8",
    )
    settings: dict[str, object] = {
        "language": "en",
        "sources": {"add": [str(folder)], "common_voice": [str(release)], "licence": "own"},
        "segment": {"target_seconds": 8.0},
        "verdict": {"preset": "relative"},
        "build": {"dev_hours": 0.0, "test_hours": 0.0},  # the release brings its own
        "train": {"model": str(MODEL), "config": "fit.toml"},
    }
    (workspace / "corpus.toml").write_text(_toml(settings), encoding="utf-8")


def _toml(settings: dict[str, object]) -> str:
    """Settings as TOML; JSON's values are TOML's."""
    sections = {name: part for name, part in settings.items() if isinstance(part, dict)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in settings.items() if k not in sections]
    for name, part in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in part.items())]
    return "\n".join(lines) + "\n"
