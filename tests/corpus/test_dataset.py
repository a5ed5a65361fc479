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
from corpus.card import SplitTotals, dataset_card
from corpus.dataset import (
    SHARD_SECONDS,
    LabelledSegment,
    PlannedRow,
    PlannedSplit,
    file_hashes,
    read_manifest,
    read_rows,
    read_split,
    shards_of,
    splits_of,
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


LOAD = """
import sys; sys.modules["torchcodec"] = None
import datasets
folder, cache, streaming = sys.argv[1], sys.argv[2], sys.argv[3] == "streaming"
loaded = datasets.load_dataset(folder, cache_dir=cache, streaming=streaming)
print(sorted(loaded))
train = loaded["train"]
assert train.features["audio"] == datasets.Audio(sampling_rate=16_000), train.features
assert isinstance(train.features["segments"], datasets.List), train.features
for row in train.cast_column("audio", datasets.Audio(decode=False)):
    print(row["text"], row["audio"]["bytes"][:4], row["segments"][0]["end"])
"""


@pytest.mark.parametrize("how", ["in memory", "streaming"])
def test_datasets_loads_the_folder_without_torchcodec(tmp_path, how):
    card = dataset_card(
        "cs",
        languages=["cs"],
        splits={
            "train": SplitTotals(3, 3, 1, 1),
            "dev": SplitTotals(2, 2, 1, 1),
            "test": SplitTotals(0, 0, 0, 0),
        },
        speech=[],
        left_out={},
        settings={},
        thresholds={},
    )
    write_dataset(
        tmp_path / "cs",
        {"train": rows(3), "dev": rows(2), "test": []},
        **(DOCUMENTS | {"readme": card}),
    )
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "cs"), str(tmp_path / "cache"), how],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['dev', 'train']",
        *(f"text {i} b'fLaC' 0.1" for i in range(3)),
    ]


def test_datasets_decodes_the_folder_where_torchcodec_is(tmp_path):
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        pytest.skip("torchcodec is absent, or does not fit this machine's torch and FFmpeg")
    import datasets

    ready = list(rows(3))
    write_dataset(tmp_path / "cs", {"train": ready}, **(DOCUMENTS | {"readme": "# cs\n"}))
    for streaming in False, True:
        loaded = datasets.load_dataset(
            str(tmp_path / "cs"), cache_dir=str(tmp_path / "cache"), streaming=streaming
        )
        for found, row in zip(loaded["train"], ready, strict=True):
            samples = found["audio"].get_all_samples()
            heard = (samples.data[0].numpy() * 2**15).astype(np.int16)
            assert samples.sample_rate == 16_000
            assert np.array_equal(heard, decode(row["audio"]["bytes"]))


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
        tmp_path / "cs", {"train": rows(450, samples=320)}, **DOCUMENTS, shard_seconds=2.0
    )
    shards = shards_of(tmp_path / "cs", "train")
    assert shards[0].name == f"train-00000-of-{len(shards):05d}.parquet"
    assert len(shards) > 4
    read = [list(read_rows(shard)) for shard in shards]
    assert all(sum(row["duration"] for row in part) <= 2.0 for part in read)
    assert [row["id"] for part in read for row in part] == [f"w{i}" for i in range(450)]
    assert read_split(tmp_path / "cs", "train")["id"][:] == [f"w{i}" for i in range(450)]


def test_the_loudest_noise_fits_into_a_file_of_500_megabytes(tmp_path):
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, 30 * 16_000).astype(np.int16)
    row = window_row("w", [segment(noise, "word " * 100)], language="cs")
    write_dataset(tmp_path / "cs", {"train": [row] * 4}, **DOCUMENTS)
    (shard,) = shards_of(tmp_path / "cs", "train")
    assert shard.stat().st_size / 120 * SHARD_SECONDS <= 500_000_000


@pytest.mark.parametrize("how", ["stream", "planned"])
def test_rows_are_written_as_they_come(tmp_path, how):
    class Tracked(dict):
        """A row whose end can be watched."""

    alive = peak = 0

    def gone():
        nonlocal alive
        alive -= 1

    def stream(wanted=range(700)):
        nonlocal alive, peak
        assert list(wanted) == list(range(700))
        for row in rows(700, samples=320):
            tracked = Tracked(row)
            weakref.finalize(tracked, gone)
            alive += 1
            peak = max(peak, alive)
            yield tracked
            del tracked

    planned = PlannedSplit([PlannedRow(f"w{i}", 0.02, str(i)) for i in range(700)], stream)
    train = stream() if how == "stream" else planned
    write_dataset(tmp_path / "cs", {"train": train}, **DOCUMENTS, shard_seconds=9.0)
    assert peak <= 201
    assert read_split(tmp_path / "cs", "train")["id"][:] == [f"w{i}" for i in range(700)]


# --- what is there already


class Planner:
    """Plans rows, and counts those whose audio is read."""

    def __init__(self, ids=range(40), texts=None):
        self.read = []
        self.ids = list(ids)
        self.texts = texts or {}

    def text(self, index):
        return self.texts.get(index, f"text {index}")

    @property
    def split(self):
        plans = [PlannedRow(f"w{i}", 1.0, f"{i} {self.text(i)}") for i in self.ids]
        return PlannedSplit(plans, self.rows)

    def rows(self, wanted):
        for index in (self.ids[place] for place in wanted):
            self.read.append(index)
            noise = np.random.default_rng(index).integers(-2000, 2000, 16_000).astype(np.int16)
            yield window_row(f"w{index}", [segment(noise, self.text(index))], language="cs")


def write(folder, planner, reuse=()):
    splits = {"train": planner.split}
    return write_dataset(folder, splits, **DOCUMENTS, reuse=reuse, shard_seconds=8.0)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_unchanged_shards_are_linked_and_their_audio_is_not_read(tmp_path):
    one, two, fresh = (tmp_path / name for name in ("one", "two", "fresh"))
    write(one, Planner())
    planner = Planner(texts={20: "another text"})
    shards = shards_of(one, "train")
    assert write(two, planner, reuse=[one]) == len(shards) - 1 > 3
    (anew,) = (shard for shard in shards if not (two / shard.name).samefile(shard))
    assert [f"w{index}" for index in planner.read] == [row["id"] for row in read_rows(anew)]
    assert 20 in planner.read
    write(fresh, Planner(texts={20: "another text"}))
    assert contents(two) == contents(fresh)


def test_a_row_that_is_added_or_removed_changes_the_shards_around_it_alone(tmp_path):
    write(tmp_path / "one", Planner(range(60)))
    shards = len(shards_of(tmp_path / "one", "train"))
    fewer = Planner([index for index in range(60) if index != 30])
    assert write(tmp_path / "fewer", fewer, reuse=[tmp_path / "one"]) >= shards - 3
    assert len(fewer.read) <= 24
    assert write(tmp_path / "more", Planner(range(60)), reuse=[tmp_path / "fewer"]) >= shards - 3


def test_rows_that_stream_are_cut_as_planned_ones_and_are_never_taken_over(tmp_path):
    write(tmp_path / "one", Planner())
    again = Planner()
    stream = {"train": again.rows(range(40))}
    taken = write_dataset(
        tmp_path / "two", stream, **DOCUMENTS, reuse=[tmp_path / "one"], shard_seconds=8.0
    )
    assert (taken, len(again.read)) == (0, 40)
    assert file_hashes(tmp_path / "two") == file_hashes(tmp_path / "one")


def test_a_damaged_shard_is_not_taken_over(tmp_path):
    write(tmp_path / "one", Planner())
    shards = shards_of(tmp_path / "one", "train")
    shards[0].write_bytes(shards[0].read_bytes()[:-100] + bytes(100))
    shards[1].unlink()
    assert write(tmp_path / "two", Planner(), reuse=[tmp_path / "one"]) == len(shards) - 2
    write(tmp_path / "fresh", Planner())
    assert contents(tmp_path / "two") == contents(tmp_path / "fresh")


def test_where_links_cannot_be_shards_are_copied(tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError("Invalid cross-device link")

    write(tmp_path / "one", Planner())
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    planner = Planner()
    assert write(tmp_path / "two", planner, reuse=[tmp_path / "one"]) > 3
    assert planner.read == []
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_folders_that_are_no_datasets_are_passed_over(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("no JSON")
    assert (
        write(tmp_path / "two", Planner(range(3)), reuse=[tmp_path / "mine", tmp_path / "no"]) == 0
    )
    assert read_manifest(tmp_path / "mine") == {}


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
    write_dataset(
        folder, {"train": rows(2, 16_000), "dev": rows(1)}, **DOCUMENTS, shard_seconds=1.0
    )
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


def test_splits_come_in_the_order_of_their_use(tmp_path):
    write_dataset(
        tmp_path / "cs",
        {"test": rows(1), "dev": rows(1), "extra": rows(1), "train": rows(1)},
        **DOCUMENTS,
    )
    assert splits_of(tmp_path / "cs") == ["train", "dev", "test", "extra"]
