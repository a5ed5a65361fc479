"""kill -9 at any moment: the same command again ends where an uninterrupted run ends."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from sqlalchemy import func, select

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
from corpus.workspace import CONFIG_NAME, Workspace, init_workspace, open_workspace
from demo.video_site import VideoSite

from ..conftest import copy_rows, with_catalogue
from .conftest import MODEL, PLAYLIST, SENTENCES, AddRecording, fetch_arguments, spoken

Moment = Callable[[], bool]


def start(*arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "corpus", *(str(a) for a in arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
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
            (t.segment_id, t.kind, t.origin, t.text, t.words, [(s.name, s.value) for s in t.scores])
            for t in session.scalars(select(Transcript))
        )
    catalogue.engine.dispose()
    found["media"] = {
        str(path.relative_to(workspace.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in workspace.media.rglob("*")
        if path.is_file()
    }
    return found


def wait_for(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is true, and fail if it does not become so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def copy_of(workspace: Workspace, folder: Path) -> Workspace:
    return open_workspace(shutil.copytree(workspace.root, folder))


def test_a_fetch_killed_again_and_again_ends_as_if_it_never_was(
    site: VideoSite, tmp_path: Path
) -> None:
    whole = init_workspace(tmp_path / "whole", "en")
    run(*fetch_arguments(site, whole.root))
    requests = len(site.requests)

    killed = init_workspace(tmp_path / "killed", "en")
    rng, kills, ended = random.Random(11), 0, 0
    while kills < 4 and ended < 4:
        limit = len(site.requests) + rng.randint(1, requests // 2)

        def far_enough(limit: int = limit) -> bool:
            return len(site.requests) >= limit

        if run_killed(
            *fetch_arguments(site, killed.root), moment=far_enough, later_s=rng.uniform(0, 0.1)
        ):
            kills += 1
        else:  # it got to its end, so nothing is left to be killed at
            assert contents(killed) == contents(whole)
            ended += 1
            killed = init_workspace(tmp_path / f"killed-{ended}", "en")
    assert kills == 4
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

    rng, kills, late = random.Random(5), 0, 0
    while kills < moments and late < moments:
        # While it writes; of many moments every other one at any time.
        any_time = moments > 4 and kills % 2
        died = run_killed(
            *command,
            moment=(lambda: True) if any_time else begun,
            later_s=rng.uniform(0, seconds if any_time else seconds / 4),
        )
        if (workspace.datasets / "one").exists():  # too late for a kill to count
            assert _is_whole(workspace.datasets / "one")
            shutil.rmtree(workspace.datasets / "one")
            died = False
        kills, late = kills + died, late + (not died)
    assert kills == moments
    run(*command)
    assert [path.name for path in workspace.datasets.iterdir()] == ["one"]
    one, same = whole.datasets / "one", workspace.datasets / "one"
    assert file_hashes(one) == file_hashes(same)
    assert (one / "manifest.json").read_bytes() == (same / "manifest.json").read_bytes()


def _is_whole(folder: Path) -> bool:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    hashes: dict[str, str] = manifest["files"]
    return hashes == file_hashes(folder)


SPOKEN = (*SENTENCES, "call number five", *reversed(SENTENCES), "the red boat is here")


@pytest.fixture
def unlabelled(workspace: Workspace, catalogue: Catalogue) -> Workspace:
    """120 spoken segments without a transcript."""
    for voice in range(4):
        pcm, spans = spoken(*(SPOKEN * 4)[:30], voice=voice, pause=0.2)
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
    catalogue.engine.dispose()  # SQLite's locks do not survive that its files are copied
    return workspace


@pytest.mark.timeout(2400)
@pytest.mark.skipif(not MODEL.is_dir(), reason="demo/model, the small Whisper, is absent")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "database", "kills"),
    [
        ([], "sqlite", 20),
        (["--workers", "2"], "sqlite", 20),
        (["--engine", "ray", "--workers", "2"], "sqlite", 20),
        (["--engine", "ray", "--workers", "2"], "postgres", 8),
    ],
    ids=["here", "processes", "ray", "ray-postgres"],
)
def test_a_labelling_killed_at_random_moments_misses_nothing_and_doubles_nothing(
    options: list[str],
    database: str,
    kills: int,
    unlabelled: Workspace,
    converted: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """A kill counts when the command ran and had work left; one that came too late is repeated.

    Where there are workers, one of them dies first, and then the command, every second time.
    """
    whole = copy_of(unlabelled, tmp_path / "whole")
    arguments = ("label", "--model", converted, "--batch-size", "1", "--device", "cpu")
    run(*arguments, "--workspace", whole.root)
    expected = contents(whole)
    total = len(expected["transcripts"])
    assert total == 120
    space = unlabelled
    if database == "postgres":
        space = moved_to(request.getfixturevalue("postgres"), unlabelled)
    catalogue = Catalogue(space.catalogue_url)
    rng, marker, begins_s = random.Random(7), str(tmp_path), 0.0

    def reached(process: subprocess.Popen[bytes], limit: int) -> None:
        while labelled(catalogue) < limit and process.poll() is None:
            time.sleep(0.005)

    counted = late = 0
    while counted < kills and late < kills:
        before = labelled(catalogue)
        if before == total:  # nothing is left to be killed at
            assert contents(space) == expected
            forget_transcripts(catalogue)
            before = 0
        kill_worker = bool(options) and counted % 2 == 1
        # Some more results, or none: then it is loading, and that takes as long as the first time.
        more = rng.randint(0 if begins_s and not kill_worker else 1, 3)
        started = time.monotonic()
        process = start(*arguments, *options, "--workspace", space.root, KILLED_HERE=marker)
        reached(process, before + more)
        begins_s = begins_s or time.monotonic() - started
        time.sleep(rng.uniform(0, 0.05 if more else begins_s))
        workers = pids_of(marker) if kill_worker else []
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
            reached(process, labelled(catalogue) + 2)
        process.kill()
        died = process.wait() == -signal.SIGKILL and labelled(catalogue) < total
        real = died and (bool(workers) or not kill_worker)
        counted, late = counted + real, late + (not real)
    print(f"{counted} kills, {late} that came too late")
    assert counted == kills
    run(*arguments, *options, "--workspace", space.root)
    assert contents(space) == expected
    wait_for(lambda: not pids_of(marker))


def labelled(catalogue: Catalogue) -> int:
    """Transcripts that are stored."""
    with catalogue.session() as session:
        return session.scalar(select(func.count()).select_from(Transcript)) or 0


def forget_transcripts(catalogue: Catalogue) -> None:
    """Make all work of labelling new."""
    with catalogue.session() as session:
        for transcript in session.scalars(select(Transcript)):
            session.delete(transcript)


def moved_to(databases: Iterator[str], workspace: Workspace) -> Workspace:
    """The workspace with all of its rows in another database."""
    moved = with_catalogue(workspace, next(databases))
    copy_rows(Catalogue(workspace.catalogue_url), Catalogue(moved.catalogue_url))
    return moved


def pids_of(marker: str) -> list[int]:
    """The workers of a command that was started with this marker in its environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (folder / "cmdline").read_bytes()
            is_worker = b"spawn_main" in name or name.startswith(b"ray::_Worker")
            if is_worker and f"KILLED_HERE={marker}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


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

    def new_workspace(name: str) -> Workspace:
        space = init_workspace(tmp_path / name, "en")
        (space.root / CONFIG_NAME).write_text(settings)
        return space

    def assert_same(killed: Workspace) -> None:
        assert contents(killed) == contents(whole)
        assert file_hashes(killed.datasets / "main") == file_hashes(whole.datasets / "main")

    whole = new_workspace("whole")
    started = time.monotonic()
    run("run", "--workspace", whole.root)
    seconds = time.monotonic() - started

    killed = new_workspace("killed")
    rng, kills, ended = random.Random(2), 0, 0
    while kills < 8 and ended < 8:
        if run_killed(
            *("run", "--workspace", killed.root),
            moment=lambda: True,
            later_s=rng.uniform(0.5, seconds),
        ):
            kills += 1
        else:  # it got to its end, so nothing is left to be killed at
            assert_same(killed)
            ended += 1
            killed = new_workspace(f"killed-{ended}")
    assert kills == 8
    run("run", "--workspace", killed.root)
    assert_same(killed)
