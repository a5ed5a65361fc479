"""From verdicts to a frozen dataset: splits, windows, prompts, and equal bytes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select

from corpus import audio
from corpus.build import build as build_planned
from corpus.build import check_media, plan_dataset
from corpus.catalogue import Catalogue, Recording, Transcript, Verdict
from corpus.dataset import file_hashes, read_split, write_dataset
from corpus.errors import UserError
from corpus.plan import Plan
from corpus.thresholds import read_thresholds
from corpus.verdict import apply_verdicts
from corpus.workspace import BuildConfig, Workspace, open_workspace

from .conftest import AddRecording

KEEP = {"verdict": "keep", "text": "mother saw seven red boats"}
LONG = {**KEEP, "seconds": 16.0}
"""Two of these do not fit one window."""


def plan_of(workspace: Workspace, **changes: Any) -> Plan:
    settings = BuildConfig(**{"name": "one", **changes})
    return plan_dataset(workspace, Catalogue(workspace.catalogue_url), settings)


def build(workspace: Workspace, name: str, plan: Plan) -> tuple[Path, bool]:
    return build_planned(workspace, Catalogue(workspace.catalogue_url), name, plan)


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return list(read_split(folder, split))


def segment_ids(rows: Sequence[dict[str, Any]]) -> set[str]:
    return {segment["segment_id"] for row in rows for segment in row["segments"]}


@pytest.fixture
def channels(add_recording: AddRecording) -> list[str]:
    """Ten channels of two recordings, each with human and pseudo labels."""
    names = []
    for number in range(10):
        for part in "ab":
            names.append(f"talk{number}{part}")
            segments = [
                {**KEEP, "kind": "subtitle"},
                {**KEEP, "kind": "pseudo", "text": "nine red boats today"},
                {**KEEP, "kind": "subtitle", "text": "please call nine two six"},
            ]
            add_recording(names[-1], segments, channel_id=f"channel{number}")
    return names


class TestSplits:
    def test_no_channel_is_on_two_sides_and_nothing_is_lost(
        self, workspace: Workspace, catalogue: Catalogue, channels: list[str]
    ) -> None:
        plan = plan_of(workspace)
        folder, written = build(workspace, "one", plan)
        assert written
        sides: dict[str, set[str]] = {}
        found: set[str] = set()
        for split in ("train", "dev", "test"):
            split_rows = rows(folder, split)
            assert split_rows
            found |= segment_ids(split_rows)
            for row in split_rows:
                for segment in row["segments"]:
                    sides.setdefault(segment["speaker"], set()).add(split)
        assert len(sides) == 10
        assert all(len(splits) == 1 for splits in sides.values())
        assert len(found) + sum(plan.left_out.values()) == 3 * len(channels)

    def test_dev_and_test_hold_single_segments_that_people_have_written(
        self, workspace: Workspace, catalogue: Catalogue, channels: list[str]
    ) -> None:
        plan = plan_of(workspace)
        folder, _ = build(workspace, "one", plan)
        for split in ("dev", "test"):
            for row in rows(folder, split):
                assert row["label_kinds"] == ["subtitle"]
                assert len(row["segments"]) == 1
            assert plan.left_out[f"{split}: labelled by a model only"] == 2
        assert any("pseudo" in row["label_kinds"] for row in rows(folder, "train"))
        assert any(len(row["segments"]) > 1 for row in rows(folder, "train"))

    def test_what_is_held_out_is_noted_for_reviewers(
        self, workspace: Workspace, catalogue: Catalogue, channels: list[str]
    ) -> None:
        folder, _ = build(workspace, "one", plan_of(workspace))
        tested = {key for split in ("dev", "test") for key in segment_ids(rows(folder, split))}
        with catalogue.session() as session:
            noted = set(session.scalars(select(Recording.id).filter(Recording.held_out)))
        assert noted == {key.split("@")[0] for key in tested}

    def test_the_splits_of_a_source_are_kept(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        for split in ("train", "dev", "test"):
            add_recording(f"clip-{split}", [KEEP], split=split, speaker=split)
        folder, _ = build(workspace, "one", plan_of(workspace))
        for split in ("train", "dev", "test"):
            assert [s.split("@")[0] for s in segment_ids(rows(folder, split))] == [f"clip-{split}"]

    def test_a_corpus_of_one_speaker_is_all_train_and_that_is_told(
        self, workspace: Workspace, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [KEEP, KEEP])
        plan = plan_of(workspace)
        assert [len(plan.rows[split]) for split in ("train", "dev", "test")] == [1, 0, 0]
        assert "collect from 3 channels" in plan.warnings[0]

    def test_a_split_that_only_a_model_has_labelled_is_told(
        self, workspace: Workspace, add_recording: AddRecording
    ) -> None:
        add_recording("clip-train", [KEEP], split="train")
        add_recording("clip-test", [{**KEEP, "kind": "pseudo"}], split="test")
        assert any(
            "only a model has labelled its 1 segments" in w for w in plan_of(workspace).warnings
        )

    def test_audio_that_is_held_out_is_not_trained_on_under_another_name(
        self, workspace: Workspace, add_recording: AddRecording
    ) -> None:
        add_recording("clip-test", [KEEP], split="test", sha256="same")
        add_recording("copy-train", [KEEP], split="train", sha256="same")
        add_recording("clip-train", [KEEP], split="train")
        plan = plan_of(workspace)
        assert {item.media.id for item in plan.kept} == {"clip-test", "clip-train"}
        assert plan.left_out == {"train: the same audio is held out": 1}


class TestMedia:
    def test_a_clip_that_cannot_be_decoded_is_left_out_and_told(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("clip-good", [KEEP], sha256=None)
        add_recording("clip-bad", [KEEP], sha256=None)
        (workspace.media / "clip-bad.flac").write_bytes(b"no audio at all")
        counts = check_media(workspace, catalogue)
        assert (counts.done, counts.failed) == (1, 1)
        plan = plan_of(workspace)
        assert {item.media.id for item in plan.kept} == {"clip-good"}
        assert plan.left_out == {"media cannot be read": 1}
        build(workspace, "one", plan)
        assert check_media(workspace, catalogue).done == 0

    def test_media_that_is_gone_is_left_out_until_it_is_back(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("here", [KEEP])
        add_recording("away", [KEEP])
        media = workspace.media / "away.flac"
        media.rename(workspace.root / "elsewhere")
        assert check_media(workspace, catalogue).failed == 1
        assert {item.media.id for item in plan_of(workspace).kept} == {"here"}
        (workspace.root / "elsewhere").rename(media)
        assert check_media(workspace, catalogue).done == 1
        assert {item.media.id for item in plan_of(workspace).kept} == {"here", "away"}

    def test_another_file_where_it_was_is_not_taken_for_it(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        for name in ("here", "away"):
            add_recording(name, [KEEP], sha256=None)
        assert check_media(workspace, catalogue).done == 2
        media = workspace.media / "away.flac"
        media.rename(workspace.root / "elsewhere")
        assert check_media(workspace, catalogue).failed == 1
        soundfile.write(media, np.zeros(48_000, np.int16), 16_000)
        assert check_media(workspace, catalogue).failed == 1
        assert {item.media.id for item in plan_of(workspace).kept} == {"here"}
        (workspace.root / "elsewhere").rename(media)
        assert check_media(workspace, catalogue).failed == 0
        assert {item.media.id for item in plan_of(workspace).kept} == {"here", "away"}


class TestRows:
    def test_a_row_holds_the_very_samples_of_its_segments(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        (first, second) = add_recording("talk", [{**KEEP, "seconds": 3.0}, LONG], split="test")
        folder, _ = build(workspace, "one", plan_of(workspace))
        by_id = {row["id"]: row for row in rows(folder, "test")}
        assert by_id.keys() == {first, second}
        pcm = audio.decode(by_id[second]["audio"]["bytes"])
        media = workspace.media / "talk.flac"
        assert np.array_equal(pcm, audio.read_span(media, 3000, 19_000))
        assert by_id[second]["duration"] == by_id[second]["speech_seconds"] == 16.0

    def test_only_what_was_truly_said_just_before_is_a_prompt(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        def said(word: str, **wish: Any) -> dict[str, Any]:
            return {**LONG, "text": f"{word} and so on for a while", **wish}

        add_recording(
            "talk",
            [
                said("one"),
                said("two", gap=1900),
                said("three", gap=2100),
                said("four", verdict="drop", seconds=1.0),
                said("five"),
                said("six", verdict="review", seconds=1.0),
                {"seconds": 1.0},
                said("seven"),
                said("eight"),
            ],
            split="train",
        )
        add_recording("talk2", [said("nine")], split="train")
        folder, _ = build(workspace, "one", plan_of(workspace))
        prompts = {
            row["text"].split()[0]: (row["previous_text"] or "").split(" ")[0]
            for row in rows(folder, "train")
        }
        assert prompts == {
            "one": "",
            "two": "one",
            "three": "",
            "five": "",
            "seven": "",
            "eight": "seven",
            "nine": "",
        }

    def test_a_window_of_several_segments_has_no_prompt(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [KEEP] * 6)
        folder, _ = build(workspace, "one", plan_of(workspace))
        (row,) = rows(folder, "train")
        assert len(row["segments"]) == 6
        assert row["previous_text"] is None

    def test_what_is_left_out_is_counted_by_reason(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording(
            "talk",
            [
                KEEP,
                {**KEEP, "verdict": "drop"},
                {**KEEP, "verdict": "review"},
                {"text": "no verdict on this"},
                {**KEEP, "text": ""},
                {**KEEP, "text": "word " * 400},
            ],
        )
        folder, _ = build(workspace, "one", plan_of(workspace))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["left_out"] == {
            "verdict drop": 1,
            "verdict review": 1,
            "no verdict yet": 1,
            "no text": 1,
            "more than 441 tokens": 1,
        }
        assert manifest["rows"] == {"train": 1}
        assert manifest["settings"]["thresholds"] == ["t@0"]

    def test_card_manifest_and_credits_tell_where_the_speech_is_from(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        url = {"url": "https://v.example/1", "source": "youtube", "licence": "CC-BY-3.0"}
        add_recording("On Boats", [KEEP], **url, channel="Open Lectures")
        add_recording("Reading", [KEEP], licence="CC-BY-4.0")
        add_recording("Diary", [LONG], licence="own", redistributable=False)
        folder, _ = build(workspace, "one", plan_of(workspace))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        speech = {part["licence"]: part for part in manifest["speech"]}
        assert speech["own"] == {
            "split": "train",
            "source": "files",
            "licence": "own",
            "label_kind": "release",
            "redistributable": False,
            "segments": 1,
            "seconds": 16.0,
        }
        works = {(work["title"], work["url"]) for work in manifest["works"]}
        assert works == {
            ("On Boats", "https://v.example/1"),
            ("Reading", ""),
            ("files", ""),
        }
        credits = (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
        assert "| On Boats | Open Lectures | https://v.example/1 | CC-BY-3.0 | 0.0 |" in credits
        assert "| Reading |  |  | CC-BY-4.0 | 0.0 |" in credits
        assert "Diary" not in credits
        card = (folder / "README.md").read_text(encoding="utf-8")
        for line in (
            "| youtube | 0.00 |",
            "| files | 0.01 |",
            "| seed | 0 |",
            "| dev_hours | 1.0 |",
        ):
            assert line in card

    def test_the_card_tells_the_values_of_the_thresholds(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [KEEP])
        apply_verdicts(catalogue, "strict", values := read_thresholds("strict"), "en")
        folder, _ = build(workspace, "one", plan_of(workspace))
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert f"| thresholds {values.version('strict')} | value |" in card
        assert f"| max_cer | {values.max_cer} |" in card

    def test_no_place_on_this_machine_is_in_a_dataset(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [KEEP], url="file:///home/voice2/talk.wav")
        add_recording("video", [KEEP], url="https://video.example/1", channel="Open Lectures")
        folder, _ = build(workspace, "one", plan_of(workspace))
        texts = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.[mj][ds]*"))
        assert "https://video.example/1" in texts
        assert "voice2" not in texts
        assert str(workspace.root) not in texts


class TestFrozen:
    def test_an_equal_second_build_writes_nothing(
        self, workspace: Workspace, catalogue: Catalogue, channels: list[str]
    ) -> None:
        folder, _ = build(workspace, "one", plan_of(workspace))
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert build(workspace, "one", plan_of(workspace)) == (folder, False)
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    @pytest.mark.parametrize("change", ["text", "verdict", "seed"])
    def test_a_changed_one_under_the_same_name_is_refused(
        self, workspace: Workspace, catalogue: Catalogue, channels: list[str], change: str
    ) -> None:
        folder, _ = build(workspace, "one", plan_of(workspace))
        before = file_hashes(folder)
        with catalogue.session() as session:
            if change == "text":
                session.scalars(select(Transcript)).first().text = "another text"  # type: ignore[union-attr]
            if change == "verdict":
                session.scalars(select(Verdict)).first().verdict = "drop"  # type: ignore[union-attr]
        plan = plan_of(workspace, seed=1 if change == "seed" else 0)
        with pytest.raises(UserError, match="frozen; build under another name"):
            build(workspace, "one", plan)
        assert file_hashes(folder) == before
        assert build(workspace, "two", plan)[1]

    def test_equal_workspaces_give_equal_bytes_wherever_they_lie(
        self, workspace: Workspace, catalogue: Catalogue, channels: list[str], tmp_path: Path
    ) -> None:
        catalogue.engine.dispose()
        copy = open_workspace(shutil.copytree(workspace.root, tmp_path / "elsewhere" / "copy"))
        one, _ = build(workspace, "one", plan_of(workspace))
        same, _ = build(copy, "one", plan_of(copy))
        other, _ = build(copy, "other", plan_of(copy))
        assert file_hashes(one) == file_hashes(same)
        assert (one / "manifest.json").read_bytes() == (same / "manifest.json").read_bytes()
        parquet = {name: h for name, h in file_hashes(one).items() if name.endswith(".parquet")}
        assert len(parquet) == 3
        assert parquet.items() <= file_hashes(other).items()

    def test_a_tokenizer_fills_windows_by_exact_counts_and_its_place_does_not_matter(
        self, workspace: Workspace, catalogue: Catalogue, channels: list[str], tmp_path: Path
    ) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers

        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        plans = []
        for place in ("here", "there"):
            folder = tmp_path / place / "model"
            folder.mkdir(parents=True)
            tokenizer.save(str(folder / "tokenizer.json"))
            plans.append(plan_of(workspace, tokenizer=str(folder)))
        assert {item.tokens for item in plans[0].kept} == {4, 5}
        assert plans[0].fingerprint == plans[1].fingerprint
        with pytest.raises(UserError, match="no tokenizer at"):
            plan_of(workspace, tokenizer=str(tmp_path))


class TestIncremental:
    @pytest.fixture(autouse=True)
    def small_shards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Shards and neighbourhoods of 20 s, so that a minute of speech has several."""
        monkeypatch.setattr("corpus.plan.SHARD_SECONDS", 20.0)
        monkeypatch.setitem(write_dataset.__kwdefaults__, "shard_seconds", 20.0)

    def test_after_a_correction_only_its_shards_are_made_anew(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        add_recording: AddRecording,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for talk in range(20):
            said = [
                {**KEEP, "text": f"talk {talk} part {part}", "seconds": 1.5 + 0.2 * talk}
                for part in range(3)
            ]
            add_recording(f"talk{talk}", said, channel_id=f"channel{talk}")
        one, _ = build(workspace, "one", plan_of(workspace))
        with catalogue.session() as session:
            session.scalars(
                select(Transcript).filter(Transcript.segment_id.like("talk5@%"))
            ).first().text = "another word"  # type: ignore[union-attr]
        read: list[str] = []
        read_span = audio.read_span

        def counted(path: Path, start_ms: int, end_ms: int) -> audio.Pcm:
            read.append(path.stem)
            return read_span(path, start_ms, end_ms)

        monkeypatch.setattr("corpus.audio.read_span", counted)
        two, _ = build(workspace, "two", plan_of(workspace))
        before = {shard.stat().st_ino for shard in one.glob("*.parquet")}
        after = {shard.stat().st_ino for shard in two.glob("*.parquet")}
        assert len(before & after) >= len(after) - 2 >= 4
        assert "talk5" in read
        assert len(set(read)) < 10  # of 20
        # The same bytes as a build that finds nothing to take over.
        shutil.rmtree(one)
        two.rename(workspace.root / "aside")
        anew, _ = build(workspace, "two", plan_of(workspace))
        parquet = {
            folder: {n: h for n, h in file_hashes(folder).items() if n.endswith(".parquet")}
            for folder in (anew, workspace.root / "aside")
        }
        assert parquet[anew] == parquet[workspace.root / "aside"]

    def test_another_process_plans_the_same_shards_and_takes_them_over(
        self, workspace: Workspace, channels: list[str]
    ) -> None:
        shards = []
        for number in "12":
            command = [sys.executable, "-m", "corpus", "build", number]
            place = ["--workspace", str(workspace.root)]
            environment = {**os.environ, "PYTHONHASHSEED": number}
            subprocess.run([*command, *place], env=environment, check=True, capture_output=True)
            folder = workspace.datasets / number
            shards.append({path.name: path.stat().st_ino for path in folder.glob("*.parquet")})
        assert shards[0] == shards[1] != {}

    def test_what_may_be_handed_on_shares_no_window_with_what_may_not(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        for number in range(6):
            add_recording(f"clip{number}", [KEEP] * 2, redistributable=bool(number % 2))
        folder, _ = build(workspace, "one", plan_of(workspace, dev_hours=0.0, test_hours=0.0))
        for row in rows(folder, "train"):
            held = {int(segment["segment_id"][4]) % 2 for segment in row["segments"]}
            assert held == {int(row["redistributable"])}


class TestRefusals:
    def test_nothing_kept_is_told_with_what_to_do(
        self, workspace: Workspace, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [{**KEEP, "verdict": "drop"}])
        with pytest.raises(UserError, match=r"no segment is kept: .*corpus verdict"):
            plan_of(workspace)

    def test_media_that_is_gone_is_told_and_no_dataset_appears(
        self, workspace: Workspace, catalogue: Catalogue, channels: list[str]
    ) -> None:
        (workspace.media / "talk0a.flac").unlink()
        with pytest.raises(UserError, match=r"talk0a\.flac: the media file is gone"):
            build(workspace, "one", plan_of(workspace))
        assert list(workspace.datasets.iterdir()) == []

    @pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "/abs"])
    def test_a_name_that_is_a_path_is_refused(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording, name: str
    ) -> None:
        add_recording("talk", [KEEP])
        with pytest.raises(UserError, match="is no name for a dataset"):
            build(workspace, name, plan_of(workspace))

    def test_a_folder_of_something_else_is_not_touched(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [KEEP])
        (workspace.datasets / "one").mkdir(parents=True)
        (workspace.datasets / "one" / "mine.txt").write_text("mine")
        with pytest.raises(UserError, match="build under another name"):
            build(workspace, "one", plan_of(workspace))
        assert (workspace.datasets / "one" / "mine.txt").read_text() == "mine"


def test_removing_a_recording_takes_it_out_of_the_next_dataset(
    workspace: Workspace, catalogue: Catalogue, channels: list[str]
) -> None:
    with catalogue.session() as session:
        session.delete(session.get_one(Recording, channels[0]))
    folder, _ = build(workspace, "one", plan_of(workspace))
    found = set().union(*(segment_ids(rows(folder, s)) for s in ("train", "dev", "test")))
    assert not any(item.startswith(f"{channels[0]}@") for item in found)
    assert any(item.startswith(f"{channels[1]}@") for item in found)
