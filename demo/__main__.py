"""`make demo`: the whole path on one machine, from a video site to a lower WER.

A loopback site that yt-dlp takes for YouTube serves synthetic talks. The commands below are the
ones that people use, run as people run them; only the proxy that leads to the site is added. A
second run finds its work done and fetches and labels nothing again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from corpus import console
from demo import material
from demo.video_site import VideoSite

MODEL = Path(__file__).with_name("model")
PRESET = "trusting"
"""The model mishears two words of three here, so its own labels are for people to decide on."""
FIT_STEPS, FIT_BATCH, FIT_RATE = 100, 4, 1e-3
"""For a model of this size and a quarter of an hour of speech; of others see docs/training.md."""


REVIEWS = 40
"""How many segments the demo's reviewer corrects."""


@dataclass(frozen=True)
class Timed:
    """A command that ran: its name, and the seconds it took with the start of its process."""

    name: str
    seconds: float


@dataclass
class Shell:
    """Runs the three programs in this Python, as a person would, and notes how long they take.

    What they print goes to `out`, by default to stdout.
    """

    out: TextIO | None = None
    timings: list[Timed] = field(default_factory=list)

    def run(self, program: str, *arguments: object) -> str:
        """Show a command, run it, and return what it printed; a failure ends everything."""
        show(program, *arguments)
        started = time.monotonic()
        as_json = "--json" in arguments
        done = subprocess.run(
            command_line(program, *arguments),
            env=OFFLINE,
            stdout=subprocess.PIPE if as_json else self.out,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(done.returncode)
        name = f"{program} {arguments[0]}"
        self.timings.append(Timed(name, time.monotonic() - started))
        return done.stdout

    def json(self, program: str, *arguments: object) -> Any:
        """Run a command with --json and read what it printed."""
        return json.loads(self.run(program, *arguments, "--json"))


OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1"}
"""Nothing in the demo may ask the Hub."""


def command_line(program: str, *arguments: object) -> list[str]:
    """The command line of one of the three programs, in this Python."""
    return [sys.executable, "-m", program, *map(str, arguments)]


def show(program: str, *arguments: object) -> None:
    """Print a command as one would type it."""
    words = [os.path.relpath(a) if isinstance(a, Path) else str(a) for a in arguments]
    console.say(f"\n$ {' '.join([program, *words])}")


def main() -> None:
    """Run the demo in a folder (default: demo-workspace)."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("folder", nargs="?", default="demo-workspace", type=Path)
    folder = parser.parse_args().folder.resolve()
    started = time.monotonic()
    demo(folder, Shell())
    console.say(f"\nthe demo took {time.monotonic() - started:.0f} s")


def demo(folder: Path, shell: Shell) -> None:
    """Do everything and print the table."""
    console.say("making synthetic talks and a small release")
    videos, talks = material.make_videos(folder / "material" / "videos")
    release = material.make_release(folder / "material")
    workspace = folder / "workspace"
    at = ("--workspace", workspace)
    if not workspace.exists():
        shell.run("corpus", "init", workspace, "--language", "en")
    with VideoSite(videos, {material.PLAYLIST: [video.id for video in videos]}) as site:
        shell.run(
            *("corpus", "fetch", "--license", "cc", "--proxy", site.proxy_url),
            *("--no-check-certificate", "--no-sleep", *at),
            f"https://www.youtube.com/playlist?list={material.PLAYLIST}",
        )
        downloads = site.requested("/videoplayback")
    shell.run("corpus", "import", "common-voice", release, *at)
    shell.run("corpus", "segment", "--target-seconds", "8", *at)
    labelled = shell.json("corpus", "label", "--model", MODEL, *at)
    shell.run("corpus", "verdict", "--preset", PRESET, *at)
    dataset, trained = workspace / "datasets" / "demo", workspace / "runs" / "demo"
    if not dataset.exists():  # a dataset is frozen; what is reviewed later goes into another
        review(workspace, talks)
        shell.run("corpus", "verdict", "--preset", PRESET, *at)
        # The release brings a dev and a test speaker of its own.
        splits = ("--dev-hours", 0, "--test-hours", 0)
        shell.run("corpus", "build", "demo", "--tokenizer", MODEL, *splits, *at)
    if not (trained / "model").exists():
        shell.run(
            *("train", "fit", dataset, "--model", MODEL, "--output", trained),
            *("--steps", FIT_STEPS, "--batch-size", FIT_BATCH, "--learning-rate", FIT_RATE),
            *("--eval-every", FIT_STEPS // 4),
        )
    before = shell.json("train", "evaluate", MODEL, dataset)
    after = shell.json("train", "evaluate", trained, dataset)
    if not (trained / "ct2").exists():
        shell.run("train", "export", trained, "--to", "ct2")

    figures = result(shell.json("corpus", "status", *at), dataset, before, after)
    figures["media files downloaded by this run"] = downloads
    figures["segments labelled by this run"] = labelled["done"]
    (folder / "result.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print()
    console.print_table(
        "From a video site to a WER", ["", "figure"], [[k, v] for k, v in figures.items()]
    )
    console.say(
        "The speech is synthetic. To correct its labels in the browser:\n"
        f"  {Path(sys.executable).parent / 'review_app'} --workspace {workspace}"
    )


def review(workspace: Path, talks: dict[str, material.Talk]) -> None:
    """Correct segments through the review app's own interface, as its page does.

    The reviewer knows the script of each talk; what was said in a segment is what it corrects to.
    """
    import httpx

    arguments = ("--workspace", workspace, "--reviewer", "demo", "--port", 0)
    show("review_app", *arguments)
    with subprocess.Popen(
        command_line("review_app", *arguments), env=OFFLINE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            with httpx.Client(
                base_url=address, headers={"X-Requested-With": "demo"}, timeout=30
            ) as client:
                console.say(f"{_decide(client, talks)} segments reviewed over {address}")
        finally:
            server.terminate()


def _decide(client: Any, talks: dict[str, material.Talk]) -> int:
    item = client.get("/api/v1/next").raise_for_status().json()["item"]
    for number in range(REVIEWS):
        if item is None:
            return number
        said = _script(talks, item["segment_id"])
        decision = {
            "segment_id": item["segment_id"],
            "transcript_id": item["transcript_id"],
            "action": "accept" if said == item["text"] else "correct",
            "text": said,
            "client_id": uuid.uuid4().hex,
        }
        reply = client.post("/api/v1/decide", json=decision).raise_for_status().json()
        item = reply["item"]
    return REVIEWS


def _script(talks: dict[str, material.Talk], segment_id: str) -> str:
    recording, span = segment_id.rsplit("@", 1)
    start, end = (int(ms) / 1000 for ms in span.split("-"))
    return talks[recording.removeprefix("youtube:")].said_between(start, end)


def result(
    status: dict[str, Any], dataset: Path, before: dict[str, Any], after: dict[str, Any]
) -> dict[str, object]:
    """The figures of the demo's table, by name."""
    manifest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    train = manifest["splits"]["train"]
    refused = Counter(f["reason"] for f in status["failures"] if f["stage"] == "fetch")
    taken = status["sources"]["youtube"]["recordings"]
    labelled: dict[str, float] = defaultdict(float)
    for part in manifest["speech"]:
        labelled[part["label_kind"]] += part["seconds"]
    return {
        "videos seen": taken + sum(refused.values()),
        "videos taken": taken,
        **{f"videos refused: {reason}": count for reason, count in sorted(refused.items())},
        "recordings, with the release": status["recordings"],
        **{
            f"minutes labelled by {kind}": f"{seconds / 60:.1f}"
            for kind, seconds in sorted(labelled.items())
        },
        "30 s windows to train on": train["rows"],
        "of these filled with speech": f"{train['speech_seconds'] / (train['rows'] * 30):.1%}",
        "test words, by speakers never trained on": before["normalised"]["words"],
        "WER before": f"{before['normalised']['wer']:.1%}",
        "WER after": f"{after['normalised']['wer']:.1%}",
    }


if __name__ == "__main__":
    main()
