"""Exports: each is read back by the tool that it is for, and holds what the dataset holds."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from corpus.audio import decode, read_span
from corpus.build import build, plan_dataset
from corpus.catalogue import Catalogue, Recording
from corpus.dataset import LabelledSegment, read_rows, shards_of, splits_of, window_row
from corpus.export import Format, core
from corpus.export.kaldi import speaker_id
from corpus.workspace import BuildConfig, Workspace

from ..hub import READ_TOKEN, TOKEN, Hub, files_of, open_hub
from .conftest import AddRecording, Corpus

SPLITS = ("train", "dev", "test")

TEXTS = ['she said "yes, no"; další', "a | b, c", "ძაღლი და კატა", "seven red boats"]
"""With what CSV, shells and Markdown have meanings for."""

SPEAKERS = ["a", "a b", "a-b", "a_b", "Žofie", "UC-x_Y", None]
"""One is another's beginning, and most are not what Kaldi can sort."""

Rows = dict[str, list[dict[str, Any]]]
Export = Callable[..., Path]


def built(workspace: Workspace, catalogue: Catalogue, name: str) -> Path:
    """A dataset of all that is kept."""
    plan = plan_dataset(workspace, catalogue, BuildConfig(name=name, dev_hours=0.0, test_hours=0.0))
    return build(workspace, catalogue, name, plan)[0]


@pytest.fixture
def dataset(workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording) -> Path:
    """A dataset of videos, and of clips of a release that may not be handed on."""
    for number in range(24):
        clip = number % 2
        kept = [
            {"verdict": "keep", "text": f"{TEXTS[(number + i) % 4]} {number}", "seconds": 4.0 + i}
            for i in ((number % 5,) if clip else (0, 2, 4))
        ]
        split = "train" if number < 16 else "dev" if number < 20 else "test"
        if clip:
            names = {
                "source": "common-voice/25.0",
                "licence": "CC0-1.0",
                "redistributable": False,
                "speaker": f"cv{number}",
            }
        else:
            names = {
                "source": "youtube",
                "licence": "CC-BY-3.0",
                "url": f"https://v.example/{number}",
                "channel": "Open Lectures",
                "speaker": SPEAKERS[number // 2 % 7],
                "channel_id": None,
            }
        add_recording(f"site:talk.{number}", kept, split=split, **names)
    return built(workspace, catalogue, "one")


@pytest.fixture
def rows(dataset: Path) -> Rows:
    """All rows of the dataset, by split."""
    return {
        split: [dict(row) for shard in shards_of(dataset, split) for row in read_rows(shard)]
        for split in SPLITS
    }


@pytest.fixture
def export(corpus: Corpus, workspace: Workspace, dataset: Path) -> Export:
    """Export the dataset by the command; returns the folder."""

    def run(to: str, *options: object) -> Path:
        done = corpus("export", "one", "--to", to, *options, "--workspace", workspace.root)
        assert done.code == 0, done.err
        return workspace.root / "exports" / f"one-{to}"

    return run


def needs_torchcodec() -> None:
    """Skip where `datasets` cannot read an audio folder: it wants a torchcodec that loads."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        pytest.skip("torchcodec is absent, or does not fit this machine's torch and FFmpeg")


def pcm(row: dict[str, Any]) -> np.ndarray:
    return decode(row["audio"]["bytes"])


# --- the forms


def test_lhotse_reads_rows_as_cuts_and_segments_as_supervisions(export: Export, rows: Rows) -> None:
    from lhotse import CutSet, validate

    folder = export("lhotse")
    for split in SPLITS:
        cuts = CutSet.from_file(folder / f"cuts_{split}.jsonl.gz").to_eager()
        validate(cuts, read_data=True)
        assert [cut.id for cut in cuts] == [row["id"] for row in rows[split]]
        for cut, row in zip(cuts, rows[split], strict=True):
            assert cut.duration == row["duration"]
            heard = cut.load_audio()[0] * 2**15
            assert np.array_equal(heard.astype(np.int16), pcm(row))
            said = [
                (s.id, s.text, s.speaker, s.start, s.language, s.source) for s in cut.supervisions
            ]
            assert said == [
                (s["segment_id"], s["text"], s["speaker"], s["start"], "en", s["source"])
                for s in row["segments"]
            ]
            ends = [s["end"] for s in row["segments"]]
            assert [s.end for s in cut.supervisions] == pytest.approx(ends, abs=1e-6)
            assert cut.redistributable is row["redistributable"]


def test_kaldi_reads_segments_as_utterances(export: Export, rows: Rows) -> None:
    from lhotse.kaldi import load_kaldi_data_dir

    folder = export("kaldi")
    for split in SPLITS:
        recordings, supervisions, _ = load_kaldi_data_dir(folder / split, sampling_rate=16_000)
        assert len(recordings) == len(rows[split])
        for index, row in enumerate(rows[split]):
            recording = recordings[f"{split}-{index:07d}"]
            assert recording.duration == pytest.approx(row["duration"])
            heard = recording.load_audio()[0] * 2**15
            assert np.array_equal(heard.astype(np.int16), pcm(row))
            said = sorted(supervisions.find(recording.id), key=lambda s: s.start)
            assert [(s.text, s.speaker, s.language) for s in said] == [
                (s["text"], speaker_id(s), "en") for s in row["segments"]
            ]
            assert [s.start for s in said] == [s["start"] for s in row["segments"]]
            assert [s.end for s in said] == pytest.approx([s["end"] for s in row["segments"]])
        assert len({s.speaker for s in supervisions}) == len(
            {s["speaker"] for row in rows[split] for s in row["segments"]}
        )


def test_the_tables_of_kaldi_are_sorted_as_its_tools_want(export: Export) -> None:
    folder = export("kaldi")
    c_locale = {**os.environ, "LC_ALL": "C"}
    for table in folder.glob("*/*"):
        if table.parent.name != "wav":
            subprocess.run(["sort", "-c", "-u", table], check=True, env=c_locale)
    by_speaker = subprocess.run(
        ["sort", "-k2", folder / "train" / "utt2spk"], check=True, env=c_locale, capture_output=True
    )
    assert by_speaker.stdout == (folder / "train" / "utt2spk").read_bytes()
    for line in (folder / "train" / "spk2utt").read_text().splitlines():
        speaker, *utterances = line.split(" ")
        assert utterances == sorted(utterances)
        assert all(utterance.startswith(f"{speaker}-") for utterance in utterances)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=20, unique=True))
def test_speakers_for_kaldi_stay_apart_and_sort_as_their_utterances_do(names: list[str]) -> None:
    ids = [speaker_id({"speaker": name, "segment_id": "x@0-1"}) for name in names]  # type: ignore[typeddict-item]
    assert len(set(ids)) == len(names)
    assert all(id.isascii() and id.split() == [id] for id in ids)
    assert sorted(ids) == [u.split("-")[0] for u in sorted(f"{id}-train-0000000" for id in ids)]


def test_nemo_finds_the_audio_of_each_line_beside_its_manifest(export: Export, rows: Rows) -> None:
    folder = export("nemo")
    for split in SPLITS:
        manifest = folder / f"{split}_manifest.json"
        lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
        for line, row in zip(lines, rows[split], strict=True):
            heard, rate = soundfile.read(manifest.parent / line["audio_filepath"], dtype="int16")
            assert (line["offset"], line["duration"]) == (0.0, heard.size / rate)
            assert np.array_equal(heard, pcm(row))
            assert (line["text"], line["lang"]) == (row["text"], "en")
            assert line["segments"] == row["segments"]
            voices = {segment["speaker"] for segment in row["segments"]}
            assert line.get("speaker") == (voices.pop() if len(voices) == 1 else None)


def test_webdataset_reads_samples_of_all_shards(
    export: Export, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    import webdataset

    monkeypatch.setattr("corpus.export.webdataset.SHARD_ROWS", 4)
    folder = export("webdataset")
    for split in SPLITS:
        shards = sorted(str(path) for path in folder.glob(f"{split}-*.tar"))
        assert len(shards) == -(-len(rows[split]) // 4)
        samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
        for sample, row in zip(samples, rows[split], strict=True):
            assert sample["flac"] == row["audio"]["bytes"]
            assert sample["txt"] == row["text"]
            assert sample["json"] == {k: v for k, v in row.items() if k != "audio"}
    assert len(rows["dev"]) > 4


def test_datasets_reads_the_csv_and_the_audio_beside_it(
    export: Export, rows: Rows, tmp_path: Path
) -> None:
    import datasets

    folder = export("csv")
    for split in SPLITS:
        found = datasets.load_dataset(
            "csv",
            data_files=str(folder / split / "metadata.csv"),
            cache_dir=str(tmp_path / "cache"),
            split="train",
        )
        for line, row in zip(found, rows[split], strict=True):
            assert (folder / split / line["file_name"]).read_bytes() == row["audio"]["bytes"]
            assert (line["text"], line["row_id"]) == (row["text"], row["id"])
            assert line["duration"] == row["duration"]
            assert line["licences"] == ";".join(row["licences"])
            assert line["redistributable"] is row["redistributable"]


def test_datasets_loads_the_csv_as_an_audiofolder(
    export: Export, rows: Rows, tmp_path: Path
) -> None:
    needs_torchcodec()
    import datasets

    loaded = datasets.load_dataset(
        "audiofolder", data_dir=str(export("csv")), cache_dir=str(tmp_path / "cache")
    )
    assert set(loaded) == {"train", "validation", "test"}
    for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True):
        for line, row in zip(loaded[name], rows[split], strict=True):
            heard = line["audio"].get_all_samples().data[0].numpy() * 2**15
            assert np.array_equal(heard.astype(np.int16), pcm(row))
            assert line["text"] == row["text"]


@pytest.mark.parametrize("to", ["nemo", "lhotse", "kaldi", "webdataset", "csv", "hub"])
def test_an_export_names_the_works_and_equal_exports_have_equal_bytes(
    export: Export, to: str
) -> None:
    folder = export(to)
    assert "| site:talk.0 | Open Lectures | https://v.example/0 | CC-BY-3.0 |" in (
        folder / "ATTRIBUTION.md"
    ).read_text(encoding="utf-8")
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder)
    export(to)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == first


# --- the Hub


def test_for_the_hub_only_what_may_be_handed_on_is_left(
    export: Export, dataset: Path, rows: Rows, tmp_path: Path
) -> None:
    import datasets

    folder = export("hub")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    for split in SPLITS:
        shared = [row for row in rows[split] if row["redistributable"]]
        assert 0 < len(shared) < len(rows[split])
        found = loaded[split].cast_column("audio", datasets.Audio(decode=False))
        assert [dict(row) for row in found] == shared
    everything = b"".join(p.read_bytes() for p in folder.iterdir() if p.name != "left_out.jsonl")
    assert b"cv1" not in everything
    card = (folder / "README.md").read_text(encoding="utf-8")
    train = [row for row in rows["train"] if row["redistributable"]]
    segments = sum(len(row["segments"]) for row in train)
    seconds = sum(row["duration"] for row in train)
    assert f"| train | {len(train)} | {segments} | {seconds / 3600:.2f} |" in card
    assert "| common-voice/25.0: may not be handed on; see left_out.jsonl | 12 |" in card
    assert "| common-voice/25.0 |" not in card
    assert "may be redistributed" in card
    assert "How to build the rest" in card
    assert "common-voice" not in (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")


def test_what_the_hub_does_not_get_can_be_built_from_the_recipe_and_the_release(
    export: Export, workspace: Workspace, catalogue: Catalogue, rows: Rows
) -> None:
    recipe = [
        json.loads(line)
        for line in (export("hub") / "left_out.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    withheld = {
        row["id"]: row for split in SPLITS for row in rows[split] if not row["redistributable"]
    }
    assert [line["id"] for line in recipe] == list(withheld)
    with catalogue.session() as session:
        media = {r.id: workspace.path(r.media_path) for r in session.query(Recording)}
    for line in recipe:
        segments = [
            LabelledSegment(
                pcm=read_span(media[part["segment_id"].rpartition("@")[0]], 0, 30_000),
                text=part["text"],
                speaker=None,
                source=part["source"],
                segment_id=part["segment_id"],
                licence="CC0-1.0",
                label_kind="release",
                redistributable=False,
                cut_before=False,
                cut_after=False,
            )
            for part in line["segments"]
        ]
        again = window_row(line["id"], segments, language=line["language"])
        assert again["audio"] == withheld[line["id"]]["audio"]
        assert again["text"] == withheld[line["id"]]["text"]
        assert "speaker" not in line["segments"][0]


def test_the_recipe_holds_no_text_whose_licence_does_not_let_it_go(
    export: Export, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    secret = [{"verdict": "keep", "text": "not for commerce"}]
    add_recording(
        "nc", secret, licence="CC-BY-NC-4.0", redistributable=False, split="dev", speaker="nc"
    )
    built(workspace, catalogue, "two")
    folder = workspace.root / "two-hub"
    core.export(workspace, "two", Format.HUB, folder)
    assert "nc@0-2000" in (folder / "left_out.jsonl").read_text(encoding="utf-8")
    assert all(b"not for commerce" not in path.read_bytes() for path in folder.iterdir())


def test_files_that_may_be_handed_on_as_a_whole_are_linked(
    workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    for number in range(3):
        kept = [{"verdict": "keep", "text": "seven red boats"}]
        add_recording(f"talk{number}", kept, split=SPLITS[number])
    dataset = built(workspace, catalogue, "open")
    folder = workspace.root / "open-hub"
    core.export(workspace, dataset.name, Format.HUB, folder)
    for split in splits_of(dataset):
        (one,), (two,) = shards_of(dataset, split), shards_of(folder, split)
        assert one.samefile(two)
    assert not (folder / "left_out.jsonl").exists()
    assert "How to build the rest" not in (folder / "README.md").read_text(encoding="utf-8")


def test_a_dataset_of_which_nothing_may_be_handed_on_is_refused(
    corpus: Corpus, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    add_recording("cv", [{"verdict": "keep", "text": "boats"}], redistributable=False)
    built(workspace, catalogue, "closed")
    done = corpus("export", "closed", "--to", "hub", "--workspace", workspace.root)
    assert (done.code, "none of its audio may be handed on" in done.err) == (1, True)
    assert list((workspace.root / "exports").iterdir()) == []


# --- uploads


@pytest.mark.parametrize("lfs", [True, False])
def test_push_makes_a_private_dataset_of_the_export_and_contacts_nobody_else(
    export: Export, workspace: Workspace, tmp_path: Path, *, lfs: bool
) -> None:
    folder = export("hub")
    push = ["corpus", "export", "one", "--to", "hub", "--push", "voice1/one"]
    with open_hub(lfs=lfs) as hub:
        done = hub.run(*push, "--workspace", workspace.root, home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"{hub.address}/datasets/voice1/one" in done.stdout
        ((where, made),) = hub.repositories.items()
        assert where == ("datasets", "voice1/one")
        assert made.private
        assert made.files == files_of(folder)
        assert bool(hub.stored) == lfs
        again = hub.run(*push, "--workspace", workspace.root, home=tmp_path)
        assert (again.returncode, made.files) == (0, files_of(folder))
        assert TOKEN not in done.stdout + done.stderr + again.stdout + again.stderr
        assert hub.elsewhere == []


def test_an_export_that_is_not_pushed_contacts_nobody(workspace: Workspace, dataset: Path) -> None:
    with open_hub() as hub:
        command = ["corpus", "export", "one", "--to", "hub", "--workspace", workspace.root]
        done = hub.run(*command, home=workspace.root)
        assert done.returncode == 0, done.stderr
        assert (hub.requests, hub.elsewhere) == ([], [])


@pytest.mark.parametrize("token", [None, "hf_wrong", READ_TOKEN])
def test_a_refused_token_is_told_in_one_line_with_what_to_do_then(
    export: Export, workspace: Workspace, tmp_path: Path, token: str | None
) -> None:
    folder = export("hub")
    push = ["corpus", "export", "one", "--to", "hub", "--push", "voice1/one"]
    with open_hub() as hub:
        done = hub.run(*push, "--workspace", workspace.root, home=tmp_path, token=token)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: voice1/one: not uploaded (the Hub does not let you")
        assert "`hf auth login`" in line
        assert "hf_" not in line
        assert hub.repositories == {}
        command = line.split("`")[-2].split()
        assert command.pop(0) == "hf"
        by_hand = hub.run("huggingface_hub.cli.hf", *command, home=tmp_path)
        assert by_hand.returncode == 0, by_hand.stderr
        made = hub.repositories["datasets", "voice1/one"]
        assert (made.private, made.files) == (True, files_of(folder))


def test_a_hub_that_cannot_be_reached_is_told_in_one_line(
    export: Export, workspace: Workspace, tmp_path: Path
) -> None:
    export("hub")
    push = ["corpus", "export", "one", "--to", "hub", "--push", "voice1/one"]
    done = Hub(address="http://127.0.0.1:9").run(
        *push, "--workspace", workspace.root, home=tmp_path
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: voice1/one: not uploaded (")


# --- the command


def test_the_same_export_again_writes_nothing(
    export: Export, corpus: Corpus, dataset: Path
) -> None:
    folder = export("nemo")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = corpus("export", "one", "--to", "nemo", "--json", "--workspace", dataset.parents[1])
    assert json.loads(done.out) == {"folder": str(folder), "written": False, "address": None}
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_is_there_is_never_overwritten(
    corpus: Corpus, workspace: Workspace, dataset: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    where = ["--output", mine, "--workspace", workspace.root]
    done = corpus("export", "one", "--to", "csv", *where)
    assert done.code == 1
    assert "exists; give another place with --output" in done.err
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    shutil.rmtree(mine)
    assert corpus("export", "one", "--to", "csv", *where).code == 0
    assert corpus("export", "one", "--to", "nemo", *where).code == 1
    assert (mine / "train" / "metadata.csv").is_file()


def test_an_export_that_fails_leaves_nothing(
    corpus: Corpus, workspace: Workspace, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def full(path: Path, *_: object) -> None:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(path.write_bytes(b"RIFF"))

    monkeypatch.setattr("soundfile.write", full)
    done = corpus("export", "one", "--to", "kaldi", "--workspace", workspace.root)
    assert (done.code, "No space left on device" in done.err) == (1, True)
    assert list((workspace.root / "exports").iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_dataset_is_not_exported(
    corpus: Corpus, workspace: Workspace, dataset: Path, damage: str
) -> None:
    (shard,) = shards_of(dataset, "test")
    content = shard.read_bytes()
    shard.unlink()
    if damage == "changed":  # in the midst of a sound, where nothing else would notice
        shard.write_bytes(content[:5000] + bytes(500) + content[5500:])
    done = corpus("export", "one", "--to", "nemo", "--workspace", workspace.root)
    assert (done.code, "not the file that was built" in done.err) == (1, True)
    assert not (workspace.root / "exports").exists()


def test_audio_that_may_not_be_handed_on_is_told_of(
    corpus: Corpus, workspace: Workspace, dataset: Path
) -> None:
    told = corpus("export", "one", "--to", "nemo", "--workspace", workspace.root)
    assert "may not be handed on" in told.err
    assert "note:" not in corpus("export", "one", "--to", "hub", "--workspace", workspace.root).err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["two", "--to", "nemo"], 1, "no such dataset; `corpus build` makes one"),
        (["../one", "--to", "nemo"], 1, "is no name of a dataset"),
        (["one", "--to", "htk"], 2, "htk"),
        (["one", "--to", "csv", "--push", "voice1/one"], 1, "give --to hub"),
    ],
)
def test_wrong_requests_are_told_in_a_line(
    corpus: Corpus,
    workspace: Workspace,
    dataset: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    done = corpus("export", *arguments, "--workspace", workspace.root)
    assert done.code == code
    assert message in done.err
