"""The whole of it: a model learns a few recordings by heart and says them in other programs."""

from pathlib import Path

import numpy as np
import pytest

from corpus.dataset import LabelledSegment, window_row, write_dataset
from train.config import FitConfig
from train.evaluate import evaluate
from train.export import export
from train.predict import Decoding
from train.rows import read_flac
from train.trainer import fit

SEGMENTS = 8


@pytest.mark.slow
def test_a_model_learns_texts_and_times_that_survive_the_export(
    tiny_model: Path, tmp_path: Path, spoken_segments: list[LabelledSegment]
) -> None:
    from faster_whisper import WhisperModel

    rows = [
        window_row(f"row-{number}", [segment], language="en")
        for number, segment in enumerate(spoken_segments[:SEGMENTS])
    ]
    dataset = tmp_path / "dataset"
    splits = {"train": rows, "dev": rows, "test": rows}
    write_dataset(dataset, splits, readme="", attribution="", manifest={})
    config = FitConfig(
        (str(dataset),),
        str(tiny_model),
        str(tmp_path / "run"),
        steps=250,
        batch_size=4,
        learning_rate=2e-3,
        eval_every=50,
        repack=False,
    )
    assert fit(config)["best"]["dev_wer"] == 0.0
    assert evaluate(config.output, [dataset], Decoding())["normalised"]["wer"] == 0.0

    exported = WhisperModel(
        str(export(config.output, quantization="int8")), device="cpu", local_files_only=True
    )
    for row in rows:
        pcm = read_flac(row["audio"]["bytes"])
        # Left to itself faster-whisper pads the spectrogram with zeros, which is not silence.
        audio = np.pad(pcm, (0, 480_000 - pcm.size)).astype(np.float32) / 32768
        segments, _ = exported.transcribe(audio, language="en", beam_size=1, temperature=0.0)
        (said,) = segments
        assert said.text.strip() == row["text"]
        assert said.start == pytest.approx(0.0, abs=0.1)
        assert said.end == pytest.approx(row["duration"], abs=0.1)
