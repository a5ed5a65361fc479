"""Takedown: what goes, what stays, and that it never comes back."""

import io
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
from sqlalchemy import func, select

from corpus.catalogue import (
    Catalogue,
    Cue,
    Decision,
    Failure,
    Recording,
    Score,
    Segment,
    Tombstone,
    Transcript,
    Verdict,
)
from corpus.dataset import read_split
from corpus.workspace import Workspace
from demo.video_site import VideoSite

from .conftest import SENTENCES, AddRecording, Corpus, fetch_arguments, spoken, write_speech

DERIVED = (Recording, Cue, Segment, Transcript, Score, Decision, Verdict, Failure)


def rows(catalogue: Catalogue) -> dict[str, int]:
    with catalogue.session() as session:
        return {
            table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
            for table in DERIVED
        }


def ids(catalogue: Catalogue) -> set[str]:
    with catalogue.session() as session:
        return set(session.scalars(select(Recording.id)))


def media(workspace: Workspace) -> set[str]:
    return {path.name for path in workspace.media.rglob("*") if path.is_file()}


def refusals(corpus: Corpus, workspace: Workspace) -> dict[str, dict[str, Any]]:
    document = json.loads(corpus("status", "--json", "--workspace", workspace.root).out)
    return {failure["item"]: failure for failure in document["failures"]}


LABEL = {"text": "one", "kind": "pseudo", "scores": {"avg_logprob": -0.1}, "verdict": "keep"}


@pytest.fixture
def two(catalogue: Catalogue, add_recording: AddRecording) -> Catalogue:
    """Two recordings with a row in every table that hangs on them, and failures about them."""
    for name in ("talk", "other"):
        (segment,) = add_recording(name, [LABEL], channel_id=f"UC{name}", url=f"https://a.b/{name}")
        with catalogue.session() as session:
            session.add(Decision(segment_id=segment, reviewer="Reviewer", action="skip"))
            session.add(Cue(recording_id=name, position=0, start_ms=0, end_ms=10, text="one"))
            for stage, item in (("build", name), ("label", segment)):
                catalogue.record_failure(
                    session, stage=stage, item=item, kind="bad_media", message="m", transient=True
                )
    return catalogue


class TestWhatGoes:
    @pytest.mark.parametrize(
        "which", [["talk"], ["--channel", "UCtalk"], ["--url", "https://a.b/talk"]], ids=" ".join
    )
    def test_everything_of_the_recording_and_nothing_of_another(
        self, corpus: Corpus, workspace: Workspace, two: Catalogue, which: list[str]
    ) -> None:
        before = rows(two)
        outcome = corpus("remove", *which, "--yes", "--workspace", workspace.root)
        assert outcome.code == 0, outcome.err
        assert outcome.out == "remove: 1 recordings, 1 segments removed\n"
        assert ids(two) == {"other"}
        assert rows(two) == {table: count // 2 for table, count in before.items()}
        assert media(workspace) == {"other.flac"}

    def test_it_asks_first_and_no_answer_is_a_no(
        self,
        corpus: Corpus,
        workspace: Workspace,
        two: Catalogue,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        before = rows(two)
        for answer in ("n\n", "\n", ""):
            monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
            outcome = corpus("remove", "talk", "--workspace", workspace.root)
            assert outcome.code == 1
            assert "Remove 1 recordings with 1 segments" in outcome.err
            assert outcome.err.splitlines()[-1].endswith(
                "nothing was done; answer y, or give --yes"
            )
            assert rows(two) == before
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        assert corpus("remove", "talk", "--workspace", workspace.root).code == 0
        assert ids(two) == {"other"}

    def test_a_removal_that_was_killed_before_the_files_is_finished_by_the_next(
        self, corpus: Corpus, workspace: Workspace, two: Catalogue
    ) -> None:
        """The process ends itself where the first file is to be deleted."""
        code = (
            "import os, pathlib, sys\n"
            "pathlib.Path.unlink = lambda *_, **__: os._exit(9)\n"
            "sys.argv = ['corpus', *sys.argv[1:]]\n"
            "from corpus.cli import main\n"
            "main()\n"
        )
        words = ["remove", "talk", "--yes", "--workspace", str(workspace.root)]
        assert subprocess.run([sys.executable, "-c", code, *words], check=False).returncode == 9
        assert ids(two) == {"other"}
        assert media(workspace) == {"talk.flac", "other.flac"}
        outcome = corpus(*words)
        assert outcome.code == 0, outcome.err
        assert media(workspace) == {"other.flac"}
        with two.session() as session:
            assert [t.files for t in session.scalars(select(Tombstone))] == [[]]

    def test_something_unknown_beside_something_known_removes_nothing(
        self, corpus: Corpus, workspace: Workspace, two: Catalogue
    ) -> None:
        outcome = corpus("remove", "talk", "tolk", "--yes", "--workspace", workspace.root)
        assert outcome.code == 1
        assert "no recording tolk here" in outcome.err
        assert ids(two) == {"talk", "other"}


class TestWhatStays:
    def test_clips_of_a_release_stay_on_disk_and_are_not_imported_again(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        clip = tmp_path / "en" / "clips" / "common_voice_en_1.mp3"
        clip.parent.mkdir(parents=True)
        soundfile.write(clip, spoken(SENTENCES[0])[0], 16_000, format="MP3")
        (tmp_path / "en" / "train.tsv").write_text(
            f"client_id\tpath\tsentence\tlocale\nx\t{clip.name}\t{SENTENCES[0]}\ten\n"
        )
        at = ("--workspace", workspace.root)
        corpus("import", "common-voice", tmp_path / "en", *at)
        (id,) = ids(catalogue)
        assert corpus("remove", id, "--yes", *at).code == 0
        assert clip.is_file()
        corpus("import", "common-voice", tmp_path / "en", *at)
        assert ids(catalogue) == set()
        assert refusals(corpus, workspace)[id]["reason"] == "removed"

    def test_own_originals_stay_and_are_not_added_again_under_any_name(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue
    ) -> None:
        own = write_speech(workspace.root / "own" / "a.wav", *SENTENCES, subtitles=True)
        at = ("--workspace", workspace.root)
        corpus("add", own.parent, *at)
        assert len(ids(catalogue)) == 1
        assert corpus("remove", "--url", own.as_uri(), "--yes", *at).code == 0
        assert media(workspace) == set()
        assert own.with_suffix(".srt").is_file()
        copy = own.with_name("b.wav")
        copy.write_bytes(own.read_bytes())
        assert json.loads(corpus("add", copy, "--json", *at).out) == {"done": 0, "failed": 1}
        failure = refusals(corpus, workspace)[str(copy)]
        assert (failure["reason"], failure["retried"]) == ("removed", False)
        assert ids(catalogue) == set()


class TestNeverAgain:
    @pytest.mark.parametrize(
        "which",
        [
            ["youtube:first000000"],
            ["--url", "https://youtu.be/first000000"],
            ["--channel", "UCfirst00000000000000000"],
        ],
        ids=" ".join,
    )
    def test_a_removed_video_is_not_asked_for_and_fetch_says_why(
        self,
        corpus: Corpus,
        workspace: Workspace,
        catalogue: Catalogue,
        site: VideoSite,
        which: list[str],
    ) -> None:
        corpus(*fetch_arguments(site, workspace.root))
        outcome = corpus("remove", *which, "--yes", "--workspace", workspace.root)
        assert outcome.code == 0, outcome.err
        assert not any(name.startswith("first") for name in media(workspace))
        site.requests.clear()
        for _ in range(2):
            corpus(*fetch_arguments(site, workspace.root))
        assert site.requested("/watch", "first000000") == 0
        assert ids(catalogue) == {"youtube:second00000", "youtube:bare0000000"}
        failure = refusals(corpus, workspace)["youtube:first000000"]
        assert (failure["reason"], failure["retried"], failure["attempts"]) == ("removed", False, 1)
        again = corpus("remove", *which, "--yes", "--workspace", workspace.root)
        assert again.out == "remove: 0 recordings, 0 segments removed\n"

    def test_other_videos_of_a_removed_channel_cost_no_media(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        corpus(*fetch_arguments(site, workspace.root, "--max-videos", 1))
        corpus("remove", "--channel", "UCfirst00000000000000000", "--yes", "--workspace",
               workspace.root)  # fmt: skip
        video = site.videos["second00000"]
        site.videos["second00000"] = type(video)(
            **{**vars(video), "channel_id": "UCfirst00000000000000000"}
        )
        site.requests.clear()
        corpus(*fetch_arguments(site, workspace.root))
        assert ids(catalogue) == {"youtube:bare0000000"}
        assert site.requested("/videoplayback", "second00000") == 0
        assert refusals(corpus, workspace)["youtube:second00000"]["reason"] == "removed"

    def test_a_video_that_was_only_refused_can_be_kept_away_too(
        self, corpus: Corpus, workspace: Workspace, site: VideoSite
    ) -> None:
        corpus(*fetch_arguments(site, workspace.root))
        assert refusals(corpus, workspace)["youtube:live0000000"]["retried"]
        corpus("remove", "youtube:live0000000", "--yes", "--workspace", workspace.root)
        site.requests.clear()
        corpus(*fetch_arguments(site, workspace.root))
        assert {r.video for r in site.requests if r.video} == set()
        assert refusals(corpus, workspace)["youtube:live0000000"]["reason"] == "removed"


class TestDatasets:
    def test_each_that_holds_it_is_told_with_the_command_that_builds_it_anew(
        self, corpus: Corpus, workspace: Workspace, two: Catalogue, add_recording: AddRecording
    ) -> None:
        for number in range(4):
            add_recording(f"more{number}", [LABEL], channel_id=f"UC{number}")
        at = ("--workspace", workspace.root)
        settings = ("--seed", 3, "--dev-hours", 0, "--test-hours", 0)
        assert corpus("build", "one", *settings, *at).code == 0
        assert corpus("remove", "talk", "--yes", *at).code == 0
        assert corpus("build", "without", *settings, *at).code == 0
        outcome = corpus("remove", "talk", "--yes", "--json", *at)
        (told,) = json.loads(outcome.out)["datasets"]
        assert told["folder"] == str(workspace.datasets / "one")
        assert told["recordings"] == ["talk"]

        delete, build = told["rebuild"].split(" && ")
        assert shlex.split(delete) == ["rm", "-r", told["folder"]]
        subprocess.run(shlex.split(delete), check=True)
        assert corpus(*shlex.split(build)[1:]).code == 0
        held = {s["segment_id"] for row in read_split(workspace.datasets / "one", "train")
                for s in row["segments"]}  # fmt: skip
        assert len(held) == 5
        assert not any(id.startswith("talk@") for id in held)
        outcome = corpus("remove", "talk", "--yes", "--json", *at)
        assert json.loads(outcome.out)["datasets"] == []

    @pytest.mark.parametrize("form", ["csv", "hub"])
    def test_an_export_that_holds_it_is_told_though_its_dataset_is_gone(
        self, corpus: Corpus, workspace: Workspace, two: Catalogue, tmp_path: Path, form: str
    ) -> None:
        at = ("--workspace", workspace.root)
        assert corpus("build", "one", "--dev-hours", 0, "--test-hours", 0, *at).code == 0
        folder = tmp_path / "elsewhere"
        arguments = ("export", "one", "--to", form, "--output", folder, *at)
        assert corpus(*arguments).code == 0
        shutil.rmtree(workspace.datasets / "one")
        outcome = corpus("remove", "talk", "--yes", "--json", *at)
        (told,) = json.loads(outcome.out)["datasets"]
        assert told["folder"] == str(folder)
        assert told["recordings"] == ["talk"]
        assert folder.is_dir()
        delete, again = told["rebuild"].split(" && ")
        assert shlex.split(delete) == ["rm", "-r", str(folder)]
        assert shlex.split(again) == ["corpus", *map(str, arguments)]
        shutil.rmtree(folder)
        outcome = corpus("remove", "talk", "--yes", "--json", *at)
        assert json.loads(outcome.out)["datasets"] == []

    def test_one_that_cannot_be_read_is_told_and_stops_nothing(
        self, corpus: Corpus, workspace: Workspace, two: Catalogue
    ) -> None:
        shard = workspace.datasets / "old" / "train-00000.parquet"
        shard.parent.mkdir(parents=True)
        shard.write_bytes(b"no parquet")
        outcome = corpus("remove", "talk", "--yes", "--workspace", workspace.root)
        assert outcome.code == 0
        assert f"{shard} cannot be read" in outcome.err
        assert ids(two) == {"other"}
