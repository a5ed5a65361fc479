"""Data sets of others are taken over once, whatever format their audio has."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from corpus.dataset import read_split
from corpus.errors import UserError
from train.config import FitConfig
from train.data import open_data, open_dev
from train.foreign import as_dataset
from train.model import load
from train.rows import Streamed, read_flac


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def audio_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes an audio folder of Hugging Face's with clips of several formats and rates."""

    def make(splits: dict[str, list[tuple[str, float, int]]]) -> Path:
        for split, clips in splits.items():
            folder = tmp_path / "clips" / split
            folder.mkdir(parents=True)
            lines = []
            for name, seconds, rate in clips:
                tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
                soundfile.write(folder / name, tone, rate)
                lines.append({"file_name": name, "transcription": f"one {name[0]}"})
            (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return tmp_path / "clips"

    return make


def test_clips_of_any_format_become_rows(audio_folder: Callable[..., Path], cache: Path) -> None:
    folder = audio_folder(
        {
            "train": [("a.wav", 1.0, 44_100), ("b.mp3", 2.0, 48_000), ("c.flac", 31.0, 16_000)],
            "validation": [("d.ogg", 1.5, 8_000)],
        }
    )
    taken = as_dataset(str(folder), "cs")
    assert Path(taken).is_relative_to(cache)
    rows = list(read_split(Path(taken), "train"))
    assert [row["text"] for row in rows] == ["one a", "one b"]  # 31 s do not fit into a window
    assert {row["language"] for row in rows} == {"cs"}
    for row, seconds in zip(rows, (1.0, 2.0), strict=True):
        assert row["duration"] == pytest.approx(seconds, abs=0.1)
        pcm = read_flac(row["audio"]["bytes"]).astype(float)
        loudest = np.abs(np.fft.rfft(pcm)).argmax() * 16_000 / pcm.size
        assert loudest == pytest.approx(440, abs=2)
    manifest = json.loads((Path(taken) / "manifest.json").read_text())
    assert manifest["left_out"] == {"longer than 30 s": 1}
    assert len(read_split(Path(taken), "dev")) == 1


def test_it_is_taken_over_once_and_again_when_it_has_changed(
    audio_folder: Callable[..., Path],
) -> None:
    folder = audio_folder({"train": [("a.wav", 1.0, 16_000)]})
    taken = Path(as_dataset(str(folder), "cs"))
    written = (taken / "manifest.json").stat().st_mtime_ns
    assert as_dataset(str(folder), "cs") == str(taken)
    assert (taken / "manifest.json").stat().st_mtime_ns == written
    (folder / "train" / "metadata.jsonl").write_text(
        json.dumps({"file_name": "a.wav", "transcription": "three"})
    )
    again = as_dataset(str(folder), "cs")
    assert again != str(taken)
    assert read_split(Path(again), "train")[0]["text"] == "three"


def test_a_table_is_taken_over_again_when_it_or_its_audio_has_changed(
    audio_folder: Callable[..., Path],
) -> None:
    clips = audio_folder({"train": [("a.wav", 1.0, 16_000)]}) / "train"
    (clips / "metadata.jsonl").unlink()
    table = clips / "table.csv"

    def taken(text: str) -> tuple[str, dict[str, Any]]:
        table.write_text(f"path,sentence\na.wav,{text}\n")
        folder = as_dataset(str(table), "cs")
        return folder, read_split(Path(folder), "train")[0]

    first, row = taken("wrong")
    (clips / "runs").mkdir()
    (clips / "runs" / "notes.txt").write_text("made meanwhile")
    assert as_dataset(str(table), "cs") == first
    assert row["text"] == "wrong"
    second, row = taken("right")
    assert row["text"] == "right"
    soundfile.write(clips / "a.wav", np.zeros(8_000), 16_000)
    assert as_dataset(str(table), "cs") != second


def test_a_language_that_nobody_tells_is_asked_for(audio_folder: Callable[..., Path]) -> None:
    folder = audio_folder({"train": [("a.wav", 1.0, 16_000)]})
    with pytest.raises(UserError, match="language=cs"):
        as_dataset(str(folder))


def test_clips_of_others_are_packed_with_ours(
    audio_folder: Callable[..., Path], dataset: Path, tiny_model: Path
) -> None:
    folder = audio_folder({"train": [(f"{n}.wav", 4.0, 16_000) for n in range(5)]})
    config = FitConfig((str(dataset), str(folder)), "m", "o", language="en")
    windows = [draw.window for draw in open_data(config, load(str(tiny_model))).stream.epoch(0)]
    mixed = [window for window in windows if len({u.source for u in window.utterances}) > 1]
    assert any("clips" in {u.source for u in window.utterances} for window in mixed)
    said = [u.text for window in windows for u in window.utterances]
    assert sum(text.startswith("one ") and text[4:].isdigit() for text in said) == 5


def test_rows_are_streamed_from_an_address(dataset: Path) -> None:
    def texts(rows: Any) -> list[str]:
        return [row["text"] for row in rows.text()]

    there = Streamed(f"file://{dataset}", "train")
    here = Streamed(str(dataset), "train")
    assert texts(there) == texts(here)
    assert there.audio(7) == here.audio(7)
    with pytest.raises(UserError, match="no split validation"):
        Streamed(f"file://{dataset}", "validation")


def test_an_address_has_a_dev_split_like_a_folder(dataset: Path, tmp_path: Path) -> None:
    def dev(*datasets: str) -> list[tuple[str, bytes]] | None:
        found = open_dev(FitConfig(datasets, "m", "o", streaming=True))
        return found and [(row["id"], row["audio"]["bytes"]) for row in found]

    here = dev(str(dataset))
    assert dev(f"file://{dataset}") == here
    assert dev(f"file://{dataset}", str(dataset)) == [*(here or []), *(here or [])]
    shutil.copytree(dataset, tmp_path / "d", ignore=shutil.ignore_patterns("dev-*"))
    assert dev(f"file://{tmp_path / 'd'}") is None


def test_what_is_no_data_set_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no audio")
    for name in (str(tmp_path / "none"), str(tmp_path / "notes")):
        with pytest.raises(UserError):
            as_dataset(name, "cs")


def test_a_folder_of_our_datasets_is_not_taken_for_one(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    for name in ("one", "two"):
        shutil.copytree(dataset, tmp_path / "datasets" / name)
    with pytest.raises(UserError, match=r"holds datasets and is none; .*/one .*/two$"):
        as_dataset(str(tmp_path / "datasets"))
