"""Importing the lists of a large Common Voice release, of which no clip is opened.

The release is made up to the size of a real one: as many clips in train, dev, test and validated,
with durations, whose files are empty. Beside it stands pandas reading the same lists, without
storing anything. What is measured is the processor time of a new process each time, its start
included, so that other programs on the machine do not count.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import Figure
from corpus.workspace import init_workspace

LIMIT_S = 5.0
REPEATS = 3  # the fastest counts
COLUMNS = (
    *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes"),
    *("age", "gender", "accents", "variant", "locale", "segment"),
)
HELD_OUT_SHARE = 0.05  # of the clips in test, and in dev
TRAIN_SHARE = 0.15  # the rest is validated only


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=int, default=58_741, metavar="N")


def measure(options: argparse.Namespace) -> list[Figure]:
    with tempfile.TemporaryDirectory() as scratch:
        release = write_release(Path(scratch) / "cv-corpus-25.0-2026-03-09" / "id", options.clips)
        read = [sys.executable, "-c", _PANDAS, str(release)]
        peer = min(_run(read) for _ in range(REPEATS))
        seconds = []
        for repeat in range(REPEATS):
            workspace = init_workspace(Path(scratch) / f"workspace-{repeat}", "id")
            command = ["-m", "corpus", "import", "common-voice", str(release), "--validated-rest"]
            seconds.append(_run([sys.executable, *command, "--workspace", str(workspace.root)]))
        again = _run([sys.executable, *command, "--workspace", str(workspace.root)])
    name = f"import of {options.clips:,} clips"
    return [
        Figure(name, min(seconds), "s", "limit", LIMIT_S),
        Figure(name, min(seconds), "s", "pandas, reading only", peer),
        Figure(f"{name}, a second time", again, "s", "limit", LIMIT_S),
    ]


_PANDAS = """
import sys, pathlib, pandas
for path in pathlib.Path(sys.argv[1]).glob("*.tsv"):
    pandas.read_csv(path, sep="\\t", quoting=3, keep_default_na=False, dtype=str)
"""


def _run(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def write_release(folder: Path, clips: int) -> Path:
    """A release of empty clips: each speaker has ten, and no sentence comes twice."""
    (folder / "clips").mkdir(parents=True)
    for number in range(clips):
        (folder / "clips" / _name(number)).touch()
    held_out, train = round(HELD_OUT_SHARE * clips), round(TRAIN_SHARE * clips)
    starts = {"test": 0, "dev": held_out, "train": 2 * held_out}
    ends = {"test": held_out, "dev": 2 * held_out, "train": 2 * held_out + train}
    for split in starts:
        _write(folder / f"{split}.tsv", range(starts[split], ends[split]))
    _write(folder / "validated.tsv", range(clips))
    with (folder / "clip_durations.tsv").open("w", encoding="utf-8") as file:
        file.write("clip\tduration[ms]\n")
        file.writelines(f"{_name(n)}\t{3000 + n % 4000}\n" for n in range(clips))
    return folder


def _write(path: Path, numbers: range) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for n in numbers:
            sentence = f"Kalimat nomor {n}, yang dibacakan oleh salah satu dari banyak suara."
            fields = [f"{n // 10:0128x}", _name(n), f"{n:064x}", sentence, "", "2", "0"]
            file.write("\t".join([*fields, "", "", "", "", "id", ""]) + "\n")


def _name(number: int) -> str:
    return f"common_voice_id_{number:08}.mp3"
