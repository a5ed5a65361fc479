"""kill -9 at any moment: the same command again ends where an uninterrupted run ends."""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from sqlalchemy import select

from corpus.audio import SAMPLE_RATE
from corpus.catalogue import (
    Catalogue,
    Cue,
    Failure,
    Recording,
    Segment,
    Transcript,
    Verdict,
    segment_id,
)
from corpus.dataset import file_hashes
from corpus.label import find_model
from corpus.workspace import CONFIG_NAME, Workspace, init_workspace, open_workspace
from demo.video_site import VideoSite

from .conftest import PLAYLIST, SENTENCES, AddRecording, fetch_arguments, spoken

MODEL = Path(__file__).parents[2] / "demo" / "model"

Moment = Callable[[], bool]


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "corpus", *(str(a) for a in arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )


def run(*arguments: object) -> None:
    assert start(*arguments).wait(timeout=300) == 0, arguments


def run_killed(*arguments: object, moment: Moment, later_s: float) -> bool:
    """Run a command, and kill it and its children some seconds after a moment; whether it died."""
    process = start(*arguments)
    while not moment() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(later_s)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def contents(workspace: Workspace) -> dict[str, Any]:
    """Everything in a workspace but times of day: the catalogue's rows and the media's hashes."""
    catalogue = Catalogue(workspace.catalogue_url)
    found: dict[str, Any] = {}
    with catalogue.session() as session:
        for table in (Recording, Cue, Segment, Verdict, Failure):
            rows = [
                {
                    column.key: getattr(row, column.key)
                    for column in table.__table__.columns
                    if column.key not in {"id", "added_at", "failed_at", "attempts"}
                    or (column.key == "id" and table is not Failure)
                }
                for row in session.scalars(select(table))
            ]
            for row in rows:
                row.get("licence_evidence", {}).pop("when", None)
            found[table.__tablename__] = sorted(rows, key=repr)
        found["transcripts"] = sorted(
            (t.segment_id, t.kind, t.origin, t.text, [(s.name, s.value) for s in t.scores])
            for t in session.scalars(select(Transcript))
        )
    catalogue.engine.dispose()
    found["media"] = {
        str(path.relative_to(workspace.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in workspace.media.rglob("*")
        if path.is_file()
    }
    return found


def copy_of(workspace: Workspace, folder: Path) -> Workspace:
    return open_workspace(shutil.copytree(workspace.root, folder))


def test_a_fetch_killed_again_and_again_ends_as_if_it_never_was(
    site: VideoSite, tmp_path: Path
) -> None:
    whole = init_workspace(tmp_path / "whole", "en")
    run(*fetch_arguments(site, whole.root))
    requests = len(site.requests)

    killed = init_workspace(tmp_path / "killed", "en")
    rng, kills = random.Random(11), 0
    for _ in range(5):
        limit = len(site.requests) + rng.randint(1, requests // 2)

        def far_enough(limit: int = limit) -> bool:
            return len(site.requests) >= limit

        kills += run_killed(
            *fetch_arguments(site, killed.root), moment=far_enough, later_s=rng.uniform(0, 0.1)
        )
    assert kills >= 2
    run(*fetch_arguments(site, killed.root))
    assert contents(killed) == contents(whole)
    assert len(contents(killed)["recordings"]) == 3


@pytest.mark.parametrize(
    ("moments", "workers"),
    [(4, 1), pytest.param(20, 2, marks=pytest.mark.slow)],
)
def test_a_build_killed_again_and_again_gives_the_same_bytes(
    workspace: Workspace,
    catalogue: Catalogue,
    add_recording: AddRecording,
    tmp_path: Path,
    moments: int,
    workers: int,
) -> None:
    for number in range(4):
        segments = [
            {"text": f"sentence {number} {i}", "seconds": 4.0 + i % 20, "verdict": "keep"}
            for i in range(40)
        ]
        add_recording(f"talk{number}", segments, channel_id=f"channel{number}")
    catalogue.engine.dispose()
    whole = copy_of(workspace, tmp_path / "whole")
    run("build", "one", "--workspace", whole.root)
    command = ("build", "one", "--workers", workers, "--workspace", workspace.root)
    started = time.monotonic()
    run(*command)
    seconds = time.monotonic() - started
    shutil.rmtree(workspace.datasets / "one")

    def begun() -> bool:
        return bool(list(workspace.datasets.glob(".one.partial-*")))

    rng, kills = random.Random(5), 0
    for turn in range(moments):
        # While it writes; of many moments every other one at any time.
        any_time = moments > 4 and turn % 2
        kills += run_killed(
            *command,
            moment=(lambda: True) if any_time else begun,
            later_s=rng.uniform(0, seconds if any_time else seconds / 4),
        )
        if (workspace.datasets / "one").exists():
            assert _is_whole(workspace.datasets / "one")
            shutil.rmtree(workspace.datasets / "one")
    assert kills >= moments / 4
    run(*command)
    assert [path.name for path in workspace.datasets.iterdir()] == ["one"]
    one, same = whole.datasets / "one", workspace.datasets / "one"
    assert file_hashes(one) == file_hashes(same)
    assert (one / "manifest.json").read_bytes() == (same / "manifest.json").read_bytes()


def _is_whole(folder: Path) -> bool:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    hashes: dict[str, str] = manifest["files"]
    return hashes == file_hashes(folder)


@pytest.fixture
def unlabelled(workspace: Workspace, catalogue: Catalogue) -> Workspace:
    """Eight spoken segments without a transcript."""
    for voice in range(2):
        pcm, spans = spoken(*SENTENCES, "call number five", voice=voice)
        path = workspace.media / f"talk{voice}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, pcm, SAMPLE_RATE)
        with catalogue.session() as session:
            session.add(
                Recording(
                    id=f"talk{voice}",
                    source="files",
                    language="en",
                    licence="own",
                    licence_evidence={},
                    attribution="",
                    redistributable=False,
                    media_path=str(path.relative_to(workspace.root)),
                    duration_ms=len(pcm) // 16,
                    segmented_with="test",
                    segments=[
                        Segment(
                            id=segment_id(f"talk{voice}", *span), start_ms=span[0], end_ms=span[1]
                        )
                        for span in spans
                    ],
                )
            )
    catalogue.engine.dispose()
    return workspace


@pytest.mark.skipif(not MODEL.is_dir(), reason="demo/model, the small Whisper, is absent")
def test_a_labelling_killed_again_and_again_labels_nothing_twice_and_forgets_nothing(
    unlabelled: Workspace, tmp_path: Path
) -> None:
    model = find_model(unlabelled, str(MODEL)).path
    whole = copy_of(unlabelled, tmp_path / "whole")
    run("label", "--model", model, "--workspace", whole.root)

    with sqlite3.connect(unlabelled.root / "catalogue.sqlite") as database:

        def labelled() -> int:
            found: int = database.execute("SELECT count(*) FROM transcripts").fetchone()[0]
            return found

        rng = random.Random(3)
        for _ in range(3):
            limit = labelled() + 1
            died = run_killed(
                *("label", "--model", model, "--workspace", unlabelled.root),
                moment=lambda limit=limit: labelled() >= limit,  # type: ignore[misc]
                later_s=rng.uniform(0, 0.05),
            )
            assert died
            assert limit <= labelled() < 8
    run("label", "--model", model, "--workspace", unlabelled.root)
    assert contents(unlabelled) == contents(whole)
    assert len(contents(unlabelled)["transcripts"]) == 8


@pytest.mark.slow
def test_a_whole_run_killed_at_random_moments_ends_as_if_it_never_was(
    site: VideoSite, tmp_path: Path
) -> None:
    """The moments are spread over the time that one run takes."""
    settings = (
        f'language = "en"\n[fetch]\nurls = ["{PLAYLIST}"]\nproxy = "{site.proxy_url}"\n'
        'check_certificate = false\nsleep = false\n[verdict]\npreset = "lenient"\n'
        f'[segment]\ntarget_seconds = 3.0\n[label]\nmodel = "{MODEL}"\n'
    )
    spaces = []
    for name in ("whole", "killed"):
        space = init_workspace(tmp_path / name, "en")
        (space.root / CONFIG_NAME).write_text(settings)
        spaces.append(space)
    whole, killed = spaces
    started = time.monotonic()
    run("run", "--workspace", whole.root)
    seconds = time.monotonic() - started

    rng = random.Random(2)
    for _ in range(15):
        run_killed(
            *("run", "--workspace", killed.root),
            moment=lambda: True,
            later_s=rng.uniform(0.5, seconds),
        )
    run("run", "--workspace", killed.root)
    assert contents(killed) == contents(whole)
    assert file_hashes(killed.datasets / "main") == file_hashes(whole.datasets / "main")
