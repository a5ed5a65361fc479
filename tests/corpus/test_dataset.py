"""Datasets: exact offsets in a row, whole or absent on disk, readable by anyone's tools."""

import json
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.audio import decode
from corpus.dataset import (
    Credit,
    LabelledSegment,
    SplitTotals,
    attribution_md,
    dataset_card,
    file_hashes,
    read_split,
    window_row,
    write_dataset,
)
from corpus.errors import UserError

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = {"readme": "# card\n", "attribution": "# credits\n", "manifest": {"seed": 7}}


def tone(samples, level=8000):
    return (level * np.sin(np.arange(samples) / 5)).astype(np.int16)


def segment(pcm, text="ahoj", **changes):
    values = {
        "speaker": None,
        "source": "folder",
        "segment_id": "rec@0-1",
        "licence": "CC-BY-4.0",
        "label_kind": "subtitle",
        "redistributable": True,
    }
    return LabelledSegment(pcm=pcm, text=text, **(values | changes))


def rows(count, samples=1600):
    for index in range(count):
        noise = np.random.default_rng(index).integers(-2000, 2000, samples).astype(np.int16)
        yield window_row(f"w{index}", [segment(noise, f"text {index}")], language="cs")


# --- a row


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 60_000), min_size=1, max_size=8), st.booleans())
def test_every_segment_lies_where_the_row_says(lengths, cut):
    pieces = [
        segment(tone(n, 1000 + 500 * i), f"t{i}", cut_before=cut, cut_after=cut)
        for i, n in enumerate(lengths)
    ]
    row = window_row("w", pieces, language="cs")
    audio = decode(row["audio"]["bytes"])
    assert audio.size == round(row["duration"] * 16_000)
    end = 0.0
    for piece, label in zip(pieces, row["segments"], strict=True):
        assert label["start"] == end
        end = label["end"]
        assert round(end * 50) == pytest.approx(end * 50, abs=1e-9)
        start = round(label["start"] * 16_000)
        edge = 80 if cut else 0  # samples that may be faded
        inner = slice(start + edge, start + piece.pcm.size - edge)
        if piece.pcm.size > 160:
            assert np.array_equal(audio[inner], piece.pcm[edge : piece.pcm.size - edge])
        assert not audio[start + piece.pcm.size : round(end * 16_000)].any()
    assert end == row["duration"]
    assert row["speech_seconds"] == sum(lengths) / 16_000


def test_a_joint_of_cuts_does_not_click():
    loud = np.full(16_000, 12_000, np.int16)

    def joined(**cut):
        segments = [segment(loud, **cut), segment(-loud, **cut)]
        return decode(window_row("w", segments, language="cs")["audio"]["bytes"]).astype(int)

    whole = joined(cut_before=False, cut_after=False)
    assert np.abs(np.diff(whole)).max() == 24_000
    audio = joined()
    assert np.abs(np.diff(audio)).max() < 200
    assert audio[0] == 12_000
    assert audio[-1] == -12_000


def test_a_single_segment_keeps_every_sample():
    pcm = tone(4803)
    row = window_row("w", [segment(pcm)], language="cs")
    assert np.array_equal(decode(row["audio"]["bytes"])[:4803], pcm)


def test_a_row_sums_up_its_segments():
    row = window_row(
        "w1",
        [
            segment(tone(320), "one", licence="CC0-1.0", label_kind="release", speaker="voice1"),
            segment(tone(320), "two", licence="CC-BY-4.0", redistributable=False),
            segment(tone(320), "three", licence="CC0-1.0", label_kind="review"),
        ],
        language="en",
        previous_text="zero",
    )
    assert row["text"] == "one two three"
    assert row["licences"] == ["CC-BY-4.0", "CC0-1.0"]
    assert row["label_kinds"] == ["release", "review", "subtitle"]
    assert row["redistributable"] is False
    assert row["previous_text"] == "zero"
    assert [s["speaker"] for s in row["segments"]] == ["voice1", None, None]
    assert row["audio"]["path"] == "w1.flac"


def test_a_row_holds_at_most_thirty_seconds():
    full = segment(np.zeros(30 * 16_000, np.int16))
    assert window_row("w", [full], language="cs")["duration"] == 30.0
    with pytest.raises(ValueError, match=r"w9: 30\.02 s"):
        window_row("w9", [full, segment(tone(1))], language="cs")
    with pytest.raises(ValueError, match="at least one segment"):
        window_row("w", [], language="cs")


# --- on disk


def test_what_is_written_is_read_back(tmp_path):
    train = list(rows(7))
    write_dataset(tmp_path / "cs", {"train": train, "dev": rows(2)}, **DOCUMENTS)
    read = read_split(tmp_path / "cs", "train")
    assert [dict(row) for row in read] == train
    assert read_split(tmp_path / "cs", "dev").num_rows == 2
    assert (tmp_path / "cs" / "README.md").read_text() == "# card\n"
    assert (tmp_path / "cs" / "ATTRIBUTION.md").read_text() == "# credits\n"


def test_reading_never_imports_torchcodec(tmp_path):
    write_dataset(tmp_path / "cs", {"train": rows(3)}, **DOCUMENTS)
    code = (
        "import sys; sys.modules['torchcodec'] = None\n"
        "from pathlib import Path; from corpus.dataset import read_split\n"
        f"rows = read_split(Path({str(tmp_path / 'cs')!r}), 'train')\n"
        "print(rows[1]['text'], rows[1]['audio']['bytes'][:4])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "text 1 b'fLaC'"


def test_datasets_sees_the_splits_and_an_audio_column(tmp_path):
    import datasets

    splits = {"train": SplitTotals(3, 3, 1, 1), "dev": SplitTotals(2, 2, 1, 1)}
    splits["test"] = SplitTotals(0, 0, 0, 0)
    card = dataset_card(
        "cs",
        languages=["cs"],
        splits=splits,
        licences={"CC0-1.0": 1},
        label_kinds={"subtitle": 1},
        redistributable=True,
    )
    write_dataset(
        tmp_path / "cs",
        {"train": rows(3), "dev": rows(2), "test": []},
        **(DOCUMENTS | {"readme": card}),
    )
    loaded = datasets.load_dataset(str(tmp_path / "cs"), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in loaded.items()} == {"train": 3, "dev": 2}
    assert loaded["train"].features["audio"] == datasets.Audio(sampling_rate=16_000)
    assert isinstance(loaded["train"].features["segments"], datasets.List)


def test_equal_rows_give_equal_bytes(tmp_path):
    for name in "one", "two":
        write_dataset(tmp_path / name, {"train": rows(250), "test": rows(3)}, **DOCUMENTS)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert one == two


def test_the_manifest_names_the_hash_of_each_file(tmp_path):
    folder = tmp_path / "cs"
    write_dataset(folder, {"train": rows(3), "dev": []}, **DOCUMENTS)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["seed"] == 7
    assert manifest["rows"] == {"train": 3, "dev": 0}
    assert set(manifest["files"]) == {"train-00000-of-00001.parquet", "README.md", "ATTRIBUTION.md"}
    assert manifest["files"] == file_hashes(folder)
    (folder / "README.md").write_text("changed")
    assert manifest["files"] != file_hashes(folder)


def test_shards_stay_below_the_limit_and_keep_the_order(tmp_path):
    write_dataset(
        tmp_path / "cs", {"train": rows(450, samples=320)}, **DOCUMENTS, shard_bytes=120_000
    )
    shards = sorted((tmp_path / "cs").glob("*.parquet"))
    assert shards[0].name == f"train-00000-of-{len(shards):05d}.parquet"
    assert len(shards) > 2
    assert all(shard.stat().st_size <= 120_000 for shard in shards)
    assert all(pq.ParquetFile(shard).metadata.row_group(0).num_rows <= 100 for shard in shards)
    assert read_split(tmp_path / "cs", "train")["id"][:] == [f"w{i}" for i in range(450)]


def test_rows_are_written_as_they_come(tmp_path):
    class Tracked(dict):
        """A row whose end can be watched."""

    alive = peak = 0

    def gone():
        nonlocal alive
        alive -= 1

    def stream():
        nonlocal alive, peak
        for row in rows(700, samples=320):
            tracked = Tracked(row)
            weakref.finalize(tracked, gone)
            alive += 1
            peak = max(peak, alive)
            yield tracked
            del tracked

    write_dataset(tmp_path / "cs", {"train": stream()}, **DOCUMENTS)
    assert peak <= 201


def test_a_failed_build_leaves_nothing(tmp_path):
    def broken():
        yield from rows(150)
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write_dataset(tmp_path / "cs", {"train": broken()}, **DOCUMENTS)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_is_absent_and_is_swept_by_the_next(tmp_path):
    code = (
        "import itertools, time; from pathlib import Path\n"
        "from tests.corpus.test_dataset import DOCUMENTS, rows\n"
        "from corpus.dataset import write_dataset\n"
        "def slow():\n"
        "    yield from rows(150)\n"
        "    print('half', flush=True); time.sleep(60)\n"
        f"write_dataset(Path({str(tmp_path / 'cs')!r}), {{'train': slow()}}, **DOCUMENTS)\n"
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        assert builder.stdout.readline() == "half\n"
        (half,) = tmp_path.iterdir()
        assert half.name.startswith(".cs.")
        write_dataset(tmp_path / "cs", {"train": rows(1)}, **DOCUMENTS)
        assert half.exists(), "the folder of a build that is still running is not touched"
    finally:
        os.kill(builder.pid, signal.SIGKILL)
        builder.communicate()
    assert half.exists()
    with pytest.raises(UserError, match="exists and a dataset is frozen"):
        write_dataset(tmp_path / "cs", {"train": rows(1)}, **DOCUMENTS)
    (tmp_path / "cs").rename(tmp_path / "old")
    write_dataset(tmp_path / "cs", {"train": rows(1)}, **DOCUMENTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cs", "old"]


def test_a_dataset_without_rows_is_refused(tmp_path):
    with pytest.raises(UserError, match="no split has a row"):
        write_dataset(tmp_path / "cs", {"train": [], "dev": []}, **DOCUMENTS)
    assert list(tmp_path.iterdir()) == []


def test_reading_says_what_is_missing(tmp_path):
    folder = tmp_path / "cs"
    with pytest.raises(UserError, match="no such dataset"):
        read_split(folder, "train")
    write_dataset(folder, {"train": rows(200), "dev": rows(1)}, **DOCUMENTS, shard_bytes=1)
    with pytest.raises(UserError, match="no split test; it has dev, train"):
        read_split(folder, "test")
    (folder / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match="1 of 2 train files"):
        read_split(folder, "train")
    dev = folder / "dev-00000-of-00001.parquet"
    pq.write_table(pq.read_table(dev).drop_columns(["segments", "language"]), dev)
    with pytest.raises(UserError, match="column segments, language missing"):
        read_split(folder, "dev")
    dev.write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_split(folder, "dev")


# --- documents


def test_the_card_tells_hours_fill_and_what_may_be_shared():
    card = dataset_card(
        "czech-1",
        languages=["cs"],
        splits={
            "train": SplitTotals(1000, 6000, 29_500, 28_800),
            "dev": SplitTotals(60, 60, 300, 300),
        },
        licences={"CC-BY-4.0": 18_000, "CC0-1.0": 11_100},
        label_kinds={"subtitle": 29_100},
        redistributable=False,
    )
    header = card.split("---\n")[1]
    assert 'license: ["cc-by-4.0", "cc0-1.0"]' in header
    assert '"path": "dev-*.parquet"' in header
    assert 'size_categories: ["1K<n<10K"]' in header
    assert "| train | 1,000 | 6,000 | 8.19 | 8.00 | 96.0% |" in card
    assert "| CC-BY-4.0 | 5.00 |" in card
    assert "Do not publish" in card


def test_the_hub_reads_the_cards_header():
    from huggingface_hub import DatasetCard

    card = DatasetCard(
        dataset_card(
            'cs "one": two',
            languages=["cs", "sk"],
            splits={"train": SplitTotals(10, 10, 1, 1)},
            licences={"CC0-1.0": 1},
            label_kinds={"review": 1},
            redistributable=True,
        )
    )
    assert card.data.pretty_name == 'cs "one": two'
    assert card.data.language == ["cs", "sk"]
    assert card.data.size_categories == ["n<1K"]


def test_attribution_names_title_author_link_and_licence():
    text = attribution_md(
        "cs", [Credit("A | B\nC", "Voice1", "https://v.example/1", "CC-BY-3.0", 90.0)]
    )
    assert "| A \\| B C | Voice1 | https://v.example/1 | CC-BY-3.0 | 1.5 |" in text
    assert "cut into segments" in text
