"""Plans: leaks of each kind left out and listed, runs kept whole, mixing, cutting, nothing lost."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import audio, pack
from corpus.build import build, plan_dataset, plan_rows
from corpus.catalogue import Catalogue, Decision, Recording, Transcript
from corpus.dataset import file_hashes, read_split
from corpus.engine import Workers
from corpus.errors import UserError
from corpus.kept import ROOM_TOKENS, Kept, Media, cut_at_pauses
from corpus.plan import Plan, runs
from corpus.workspace import BuildConfig, Workspace
from demo.voices import BASE_VOICES, speak

from .conftest import AddRecording, Corpus

WORDS = ("river", "mill", "war", "old", "road", "house", "green", "apple", "seven", "winter")


def said(number: int, **wish: Any) -> dict[str, Any]:
    """A segment with a text of its own."""
    text = " ".join(random.Random(number).choices(WORDS, k=7))
    return {"text": f"{text} {number}", "verdict": "keep", **wish}


def plan_of(workspace: Workspace, **changes: Any) -> Plan:
    wanted = BuildConfig(**{"name": "one", "single_share": 0.0, **changes})
    return plan_dataset(workspace, Catalogue(workspace.catalogue_url), wanted)


def ids(plan: Plan, split: str) -> list[str]:
    return [item.id for window in plan.rows[split] for run in window for item in run]


class TestLeaks:
    def test_a_planted_leak_of_each_kind_is_left_out_and_listed(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        add_recording: AddRecording,
        tmp_path: Path,
    ) -> None:
        long = "the old mill by the river has not been running since the war"
        add_recording("held-a", [said(1, text=long)], split="test", speaker="jana")
        add_recording("held-b", [said(2)], split="dev", sha256="content")
        (spoken_id,) = add_recording("held-c", [said(3)], split="test", source="release-1")
        pcm = speak("she never told us about the weather on monday", BASE_VOICES[0])
        rng = np.random.default_rng(0)
        copy = np.concatenate([np.zeros(1600, np.int16), pcm // 2]).astype(np.int16)
        copy = (copy + rng.normal(scale=3, size=copy.size)).astype(np.int16)
        leaking = {
            "the same text is held out": add_recording(
                "train-text", [said(4, text=long.title() + "!")], split="train"
            ),
            "the same run of 8 words is held out": add_recording(
                "train-words", [said(5, text=f"I know {long[:-12]} and so on")], split="train"
            ),
            "the same speaker is held out": add_recording(
                "train-speaker", [said(6)], split="train", speaker="jana"
            ),
            "the same audio is held out": add_recording(
                "train-content", [said(7)], split="train", sha256="content"
            ),
        }
        (copied,) = add_recording("train-audio", [said(8)], split="train", source="release-2")
        for number in range(20, 40):
            add_recording(f"train{number}", [said(number)], split="train")
        for name, samples in (("held-c", pcm), ("train-audio", copy)):
            soundfile.write(workspace.media / f"{name}.flac", samples, audio.SAMPLE_RATE)
            with catalogue.session() as session:
                found = session.get_one(Recording, name)
                found.duration_ms = samples.size // 16
        plan = plan_of(workspace)
        listed = {leak.segment: leak for leak in plan.leaks}
        assert listed.keys() == {copied, *(item for some in leaking.values() for item in some)}
        assert listed[copied].why == "same audio"
        assert listed[copied].held_out == spoken_id
        assert plan.left_out == {
            "train: the same audio is held out": 2,
            **{f"train: {why}": 1 for why in leaking if "audio" not in why},
        }
        assert len(ids(plan, "train")) == 20
        assert not listed.keys() & set(ids(plan, "train"))
        folder, _ = build(workspace, catalogue, "one", plan)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        assert {leak["segment"] for leak in manifest["leaks"]["segments"]} == listed.keys()
        assert manifest["leaks"]["counts"]["same audio"] == 2

    def test_what_an_earlier_dataset_tests_on_is_not_trained_on(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        for number in range(12):
            add_recording(f"talk{number}", [said(number)], channel_id=f"channel{number}")
        first = plan_of(workspace)
        build(workspace, catalogue, "one", first)
        tested = {*ids(first, "dev"), *ids(first, "test")}
        seeds = range(1, 30)
        second, seed = next(
            (plan, seed)
            for seed in seeds
            if not tested & {*ids(plan := plan_of(workspace, name="two", seed=seed), "dev")}
            and not tested & set(ids(plan, "test"))
        )
        assert tested
        assert not tested & set(ids(second, "train"))
        assert {leak.segment for leak in second.leaks} == tested
        assert all(leak.held_out.startswith("one/") for leak in second.leaks)
        build(workspace, catalogue, "two", second)
        assert plan_of(workspace, name="one").fingerprint == first.fingerprint
        again = plan_of(workspace, name="two", seed=seed)
        assert again.fingerprint == second.fingerprint

    def test_audio_of_an_earlier_test_is_known_though_its_recording_is_gone(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("held", [said(1)], split="test")
        add_recording("other", [said(2)], split="train")
        build(workspace, catalogue, "one", plan_of(workspace))
        media = (workspace.media / "held.flac").read_bytes()
        with catalogue.session() as session:
            session.delete(session.get_one(Recording, "held"))
        (again,) = add_recording("again", [said(3)], split="train")
        (workspace.media / "again.flac").write_bytes(media)
        for number in range(20, 24):
            add_recording(f"train{number}", [said(number)], split="train")
        plan = plan_of(workspace, name="two")
        assert [(leak.segment, leak.why) for leak in plan.leaks] == [(again, "same audio")]

    def test_what_is_held_out_is_no_prompt(
        self, workspace: Workspace, add_recording: AddRecording
    ) -> None:
        secret = "the old mill by the river is closed"
        add_recording("held", [said(1, text=secret)], split="test")
        parts = [said(2, seconds=16.0), said(3, text=secret, seconds=16.0), said(4, seconds=16.0)]
        add_recording("talk", [*parts, said(5, seconds=16.0)], split="train")
        plan = plan_of(workspace)
        assert len(plan.leaks) == 1
        prompts = [row["previous_text"] for row in plan_rows(plan.rows["train"])]
        assert sorted(prompts, key=str) == sorted([None, None, said(4)["text"]], key=str)

    def test_a_dataset_that_cannot_be_read_is_told(
        self, workspace: Workspace, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [said(1)])
        (workspace.datasets / "old").mkdir(parents=True)
        (workspace.datasets / "old" / "test-00000-of-00001.parquet").write_bytes(b"cut")
        with pytest.raises(UserError, match="what it tests on is unknown"):
            plan_of(workspace)


class TestSplits:
    def test_dev_is_carved_out_of_a_release_that_has_none(
        self, workspace: Workspace, add_recording: AddRecording
    ) -> None:
        for number in range(30):
            split = "test" if number < 3 else "train"
            add_recording(f"clip{number}", [said(number)], split=split, speaker=f"v{number}")
        plan = plan_of(workspace)
        assert len(ids(plan, "test")) == 3
        assert ids(plan, "dev")
        assert len(ids(plan, "train")) + len(ids(plan, "dev")) == 27
        assert not ids(plan_of(workspace, dev_hours=0.0), "dev")

    def test_a_split_of_one_voice_is_told(
        self, workspace: Workspace, add_recording: AddRecording
    ) -> None:
        for number in range(8):
            add_recording(f"clip{number}", [said(number)], split="train", speaker=f"v{number}")
        add_recording("long", [said(100), said(101)], split="test", speaker="jana")
        add_recording("short", [said(102)], split="test", speaker="petr")
        assert any(
            "test is 67% of one speaker or channel (jana)" in line
            for line in plan_of(workspace).warnings
        )


class TestRuns:
    def test_consecutive_speech_is_kept_as_it_was(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        parts = [
            said(1, seconds=3.01),
            said(2, seconds=4.333, gap=777),
            said(3, seconds=20.0, gap=1501),
            said(4, seconds=9.0, gap=300),
            said(5, seconds=2.0, gap=2100),
        ]
        add_recording("talk", parts, split="train")
        plan = plan_of(workspace)
        folder, _ = build(workspace, catalogue, "one", plan)
        by_first = {row["segments"][0]["text"]: row for row in read_split(folder, "train")}
        row = by_first[said(1)["text"]]
        assert [segment["text"] for segment in row["segments"]] == [
            said(number)["text"] for number in (1, 2, 3)
        ]
        assert row["previous_text"] is None
        at = [(segment["start"], segment["end"]) for segment in row["segments"]]
        assert at == [(0.0, 3.02), (3.78, 8.12), (9.62, 29.64)]
        pcm = audio.decode(row["audio"]["bytes"])
        whole = audio.read_span(workspace.media / "talk.flac", 0, 29_621)
        assert np.array_equal(pcm[: whole.size], whole)
        assert row["speech_seconds"] == pytest.approx(3.01 + 4.333 + 20.0, abs=0.03)
        # What follows is in a window with the rest, or alone with what was said before it.
        assert len(by_first) == 2

    @given(
        st.lists(
            st.tuples(
                st.integers(1, 30_000), st.integers(0, ROOM_TOKENS), st.booleans(), st.booleans()
            ),
            max_size=30,
        )
    )
    def test_runs_lose_nothing_and_fit_a_window(
        self, drawn: list[tuple[int, int, bool, bool]]
    ) -> None:
        media = Media("m", "s", "cs", "own", True, "m", None, 1, 0)
        items: list[Kept] = []
        at = 0
        for index, (length, tokens, follows, speaks) in enumerate(drawn):
            after = items[-1].id if items and follows else None
            text = "x" if speaks else ""
            items.append(Kept(media, str(index), at, at + length, text, "review", tokens, after))
            at += length + 10
        found = list(runs(items))
        assert [item for run in found for item in run] == items
        for run in found:
            assert run[-1].end_ms - run[0].start_ms <= 30_000
            assert sum(i.tokens + 2 for i in run) <= ROOM_TOKENS + 2
            assert len(run) == 1 or all(item.text for item in run)


class TestMixing:
    def test_weights_caps_and_repeats_are_those_of_the_configuration(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        for number in range(20):
            kind = "review" if number < 5 else "pseudo"
            add_recording(f"talk{number}", [said(number, kind=kind, seconds=6.0)], split="train")
        plan = plan_of(workspace, weights={"review": 2.0}, max_hours={"pseudo": 0.01})
        times = Counter(ids(plan, "train"))
        assert Counter(times.values()) == {2: 5, 1: 6}
        assert plan.left_out == {"train: over the 0.01 h of pseudo": 9}
        assert plan.repeated == 5
        for window in plan.rows["train"]:
            assert len({item.id for run in window for item in run}) == len(window)
        assert plan_of(workspace, weights={"nothing": 2.0}).warnings[-1].startswith("[build] noth")
        folder, _ = build(workspace, catalogue, "one", plan)
        assert json.loads((folder / "manifest.json").read_text())["repeated"] == 5

    def test_it_can_be_asked_for_in_the_configuration(
        self, workspace: Workspace, corpus: Corpus, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [said(1)], split="train")
        with (workspace.root / "corpus.toml").open("a") as file:
            file.write("\n[build.weights]\nrelease = 3\n")
        outcome = corpus("build", "one", "--plan-only", "--json", "--workspace", workspace.root)
        assert outcome.code == 0, outcome.err
        assert len(json.loads(outcome.out)["windows"]["train"]) == 3
        with (workspace.root / "corpus.toml").open("a") as file:
            file.write('review = "much"\n')
        assert "weights" in corpus("status", "--workspace", workspace.root).err


class TestPlanOnly:
    def test_it_shows_each_window_and_writes_nothing(
        self, workspace: Workspace, corpus: Corpus, add_recording: AddRecording
    ) -> None:
        for number in range(9):
            add_recording(f"talk{number}", [said(number)], channel_id=f"channel{number}")
        at = ("--workspace", workspace.root)
        outcome = corpus("build", "one", "--plan-only", "--json", *at)
        planned = json.loads(outcome.out)
        assert not workspace.datasets.exists()
        listed = [
            segment["segment_id"]
            for windows in planned["windows"].values()
            for window in windows
            for segment in window["segments"]
        ]
        assert len(listed) == len(set(listed)) == 9
        assert "one would have" in corpus("build", "one", "--plan-only", *at).out
        assert corpus("build", "one", *at).code == 0
        again = corpus("build", "one", "--json", *at)
        assert json.loads(again.out)["fingerprint"] == planned["fingerprint"]

    def test_what_people_have_decided_since_the_verdicts_is_held_out_or_left_out(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        corpus: Corpus,
        add_recording: AddRecording,
    ) -> None:
        heard = {"kind": "pseudo", "seconds": 4.0, "scores": {"avg_logprob": -0.1}}
        at = ("--workspace", workspace.root)
        pseudo = [{"text": said(n)["text"], **heard} for n in range(4)]
        held = add_recording("held", pseudo[:2], split="test")
        train = add_recording("trained on", pseudo[2:], split="train")

        def planned() -> dict[str, set[str]]:
            outcome = corpus("build", "one", "--plan-only", "--json", *at)
            assert outcome.code == 0, outcome.err
            return {
                split: {one["segment_id"] for window in windows for one in window["segments"]}
                for split, windows in json.loads(outcome.out)["windows"].items()
            }

        assert corpus("verdict", *at).code == 0
        assert planned() == {"train": set(train), "dev": set(), "test": set()}
        with catalogue.session() as session:
            typed = Transcript(segment_id=held[0], kind="review", origin="First", text="typed")
            session.add(typed)
            session.flush()
            session.add(
                Decision(
                    segment_id=held[0], reviewer="First", action="correct", transcript_id=typed.id
                )
            )
            session.add(
                Decision(segment_id=train[0], reviewer="First", action="reject", reason="private")
            )
        assert planned() == {"train": {train[1]}, "dev": set(), "test": {held[0]}}


class TestCutting:
    def test_a_text_over_448_tokens_is_cut_at_its_longest_pause(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        words = [f"სიტყვა{number}" for number in range(24)]
        (item,) = add_recording(
            "talk", [said(1, text=" ".join(words), seconds=27.0)], split="train"
        )
        times = [[i * 1000 + 500 * (i >= 11), i * 1000 + 900, w, 1.0] for i, w in enumerate(words)]
        with catalogue.session() as session:
            session.query(Transcript).one().words = times
        plan = plan_of(workspace)
        parts = sorted(plan.kept, key=lambda part: part.start_ms)
        assert plan.left_out == {}
        assert [part.id for part in parts] == [f"{item}/0", f"{item}/1"]
        assert (parts[0].start_ms, parts[-1].end_ms) == (0, 27_000)
        assert parts[0].end_ms == parts[1].start_ms == (10_900 + 11_500) // 2
        assert " ".join(part.text for part in parts) == " ".join(words)
        assert all(part.tokens <= ROOM_TOKENS for part in parts)

    def test_where_the_words_are_not_known_it_is_left_out_and_told(
        self, workspace: Workspace, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [said(1, text="სიტყვა " * 40, seconds=27.0), said(2)], split="train")
        plan = plan_of(workspace)
        assert plan.left_out == {f"more than {ROOM_TOKENS} tokens": 1}

    @given(
        st.lists(st.text("აბგ ", min_size=1, max_size=30).map(str.strip), max_size=60),
        st.randoms(use_true_random=False),
    )
    @settings(max_examples=50)
    def test_no_word_is_lost_and_each_part_fits(self, drawn: list[str], rng: random.Random) -> None:
        spoken = [word.replace(" ", "") for word in drawn if word.strip()]
        text = " ".join(spoken)
        times, at = [], 0
        for word in spoken:
            at += rng.randint(0, 500)
            times.append([at, at + 400, word, 1.0])
            at += 400
        tokens = lambda texts: [pack.token_bound(t) for t in texts]  # noqa: E731
        parts = cut_at_pauses(0, at + 1, text, times, tokens)
        assert " ".join(part[2] for part in parts) == text
        assert parts[0][0] == 0
        assert parts[-1][1] == at + 1
        for start, end, _, count in parts:
            assert 0 < end - start <= 30_000
            assert count <= ROOM_TOKENS


def test_sentences_of_a_token_heavy_script_are_all_in_windows_that_whisper_can_decode(
    workspace: Workspace, add_recording: AddRecording
) -> None:
    """Georgian letters cost three bytes, so a full window of speech would have twice the tokens."""
    rng = random.Random(0)
    for speaker in range(5):
        sentences = [
            " ".join("".join(rng.choices("აბგდევზთიკლმნო", k=7)) for _ in range(4))
            for _ in range(20)
        ]
        for number, text in enumerate(sentences):
            add_recording(
                f"clip{speaker}-{number}",
                [said(0, text=text, seconds=3 + number % 4)],
                split="train",
                speaker=f"v{speaker}",
            )
    plan = plan_of(workspace)
    assert plan.left_out == {}
    assert len(ids(plan, "train")) == len(set(ids(plan, "train"))) == 100
    for window in plan.rows["train"]:
        tokens = sum(item.tokens + pack.TIMESTAMP_TOKENS for run in window for item in run)
        assert tokens + pack.SPECIAL_TOKENS <= pack.MAX_TOKENS


def test_gaps_are_silence_between_segments_and_on_the_grid(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    for number in range(4):
        add_recording(f"clip{number}", [said(number, seconds=2.5)], split="train", speaker="jana")
    folder, _ = build(workspace, catalogue, "one", plan_of(workspace, gap_seconds=0.3))
    (row,) = read_split(folder, "train")
    spans = [(segment["start"], segment["end"]) for segment in row["segments"]]
    assert spans == [(0.0, 2.5), (2.8, 5.3), (5.6, 8.1), (8.4, 10.9)]
    pcm = audio.decode(row["audio"]["bytes"])
    assert row["duration"] == 10.9
    assert not pcm[40_000:44_800].any()
    assert pcm[44_800:46_000].any()


def test_two_worker_counts_give_equal_bytes(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    for number in range(30):
        parts = [said(100 * number + i, seconds=3.0 + i) for i in range(6)]
        add_recording(f"talk{number}", parts, channel_id=f"channel{number % 10}")
    plan = plan_of(workspace, dev_hours=0.05, test_hours=0.05)
    hashes = []
    for name, workers in (("alone", Workers()), ("two", Workers(count=2))):
        folder, _ = build(workspace, catalogue, name, plan, workers)
        found = file_hashes(folder)
        hashes.append({key: found[key] for key in found if key.endswith(".parquet")})
    assert len(hashes[0]) == 3
    assert hashes[0] == hashes[1]
