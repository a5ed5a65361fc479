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
from collections import Counter
from pathlib import Path
from typing import Any

from corpus import console
from demo import material
from demo.video_site import VideoSite

MODEL = Path(__file__).with_name("model")
FIT_OPTIONS = ["--steps", "120", "--batch-size", "8", "--learning-rate", "1e-3"]
"""For a model of this size and ten minutes of speech; real models: see the README."""

COMMANDS = {"corpus": ["corpus.cli"], "train": ["train"], "review_app": ["review_app.cli"]}

REVIEWS = 12
"""How many segments the demo's reviewer corrects."""


def main() -> None:
    """Run the demo in a folder (default: demo-workspace)."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("folder", nargs="?", default="demo-workspace", type=Path)
    folder = parser.parse_args().folder.resolve()
    started = time.monotonic()
    demo(folder)
    console.say(f"\nthe demo took {time.monotonic() - started:.0f} s")


def demo(folder: Path) -> None:
    """Do everything and print the table."""
    console.say("making synthetic talks and a small release")
    videos, talks = material.make_videos(folder / "material" / "videos")
    release = material.make_release(folder / "material")
    workspace = folder / "workspace"
    if not workspace.exists():
        run("corpus", "init", workspace, "--language", "en")
    at = ("--workspace", workspace)
    with VideoSite(videos, {material.PLAYLIST: [video.id for video in videos]}) as site:
        run(
            *("corpus", "fetch", "--license", "cc", "--proxy", site.proxy_url),
            *("--no-check-certificate", "--no-sleep", *at),
            f"https://www.youtube.com/playlist?list={material.PLAYLIST}",
        )
        media_requests = site.requested("/videoplayback")
    run("corpus", "import", "common-voice", release, *at)
    run("corpus", "segment", "--target-seconds", "8", *at)
    labelled = run_json("corpus", "label", "--model", MODEL, "--json", *at)
    run("corpus", "verdict", "--preset", "lenient", *at)
    review(workspace, talks)
    run("corpus", "verdict", "--preset", "lenient", *at)
    run("corpus", "build", "demo", "--tokenizer", MODEL, *at)

    dataset, trained = workspace / "datasets" / "demo", workspace / "runs" / "demo"
    if not (trained / "model").exists():
        run("train", "fit", dataset, "--model", MODEL, "--output", trained, *FIT_OPTIONS)
    before = run_json("train", "evaluate", MODEL, dataset, "--json")
    after = run_json("train", "evaluate", trained, dataset, "--json")
    if not (trained / "ct2").exists():
        run("train", "export", trained, "--to", "ct2")

    print_result(run_json("corpus", "status", "--json", *at), dataset, before, after)
    console.say(
        f"\nthis run downloaded {media_requests} media files and labelled "
        f"{labelled['done']} segments"
    )
    console.say(
        "\nThe speech is synthetic. To correct its labels in the browser:\n"
        f"  {Path(sys.executable).parent / 'review_app'} --workspace {workspace}"
    )


def command(program: str, *arguments: object) -> list[str]:
    """The command line of one of the three programs, in this Python."""
    return [sys.executable, "-m", *COMMANDS[program], *(str(a) for a in arguments)]


def run(program: str, *arguments: object) -> None:
    """Show a command and run it; a failure ends the demo with its exit code."""
    show(program, *arguments)
    done = subprocess.run(command(program, *arguments), env=environment(), check=False)
    if done.returncode:
        sys.exit(done.returncode)


def run_json(program: str, *arguments: object) -> Any:
    """Show a command, run it, and read the JSON that it prints."""
    show(program, *arguments)
    done = subprocess.run(
        command(program, *arguments), env=environment(), stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def show(program: str, *arguments: object) -> None:
    """Print a command as one would type it."""
    words = [program, *(os.path.relpath(a) if isinstance(a, Path) else str(a) for a in arguments)]
    console.say(f"\n$ {' '.join(words)}")


def environment() -> dict[str, str]:
    """Nothing here may ask the Hub."""
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


def review(workspace: Path, talks: dict[str, material.Talk]) -> None:
    """Correct segments through the review app's own interface, as its page does.

    The reviewer knows the script of each talk; what was said in a segment is what it corrects to.
    """
    import httpx

    shown = ["review_app", "--workspace", workspace, "--reviewer", "demo", "--port", 0]
    show(str(shown[0]), *shown[1:])
    with subprocess.Popen(
        command(*map(str, shown)), env=environment(), stdout=subprocess.PIPE, text=True
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


def print_result(
    status: dict[str, Any], dataset: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """The demo's table."""
    manifest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    train = manifest["splits"]["train"]
    refused = Counter(f["reason"] for f in status["failures"] if f["stage"] == "fetch")
    taken = status["sources"]["youtube"]["recordings"]
    rows: list[list[object]] = [
        ["videos seen", taken + sum(refused.values())],
        ["videos taken", taken],
        *([f"videos refused: {reason}", count] for reason, count in sorted(refused.items())),
        ["recordings, with the release", status["recordings"]],
        *(
            [f"hours labelled by {kind}", f"{hours:.2f}"]
            for kind, hours in manifest["hours_by_label_kind"].items()
        ),
        ["30 s windows to train on", train["rows"]],
        ["of these filled with speech", f"{train['speech_seconds'] / (train['rows'] * 30):.1%}"],
        ["test words, speakers unheard", before["normalised"]["words"]],
        ["WER before", f"{before['normalised']['wer']:.1%}"],
        ["WER after", f"{after['normalised']['wer']:.1%}"],
    ]
    print()
    console.print_table("From a video site to a WER", ["", "figure"], rows)


if __name__ == "__main__":
    main()
