"""The reported figures are those of the predictions that are written; nothing is cut in silence."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest

from corpus.dataset import LabelledSegment, read_split, window_row, write_dataset
from corpus.errors import UserError
from corpus.text import normalise, whisper_normalise
from train import model as models
from train.evaluate import evaluate, report
from train.metrics import Timed
from train.predict import Decoding, Prediction, describe_row, read_predictions, transcribe

SAMPLE_RATE = 16_000
SMALL_MODEL = str(Path(__file__).parents[2] / "demo" / "model")
"""A real Whisper of a few hundred English words; a random one would write on and on."""


def write(folder: Path, rows: Any) -> Path:
    """A dataset of these test rows."""
    write_dataset(folder, {"test": rows}, readme="", attribution="", manifest={})
    return folder


def tone(seconds: float, segment_id: str, text: str = "one") -> LabelledSegment:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return LabelledSegment(
        pcm=(8000 * np.sin(2 * np.pi * 400 * time)).astype(np.int16),
        text=text,
        speaker="speaker",
        source="tones",
        segment_id=segment_id,
        licence="CC0-1.0",
        label_kind="release",
        redistributable=True,
    )


def prediction(number: int, reference: str, hypothesis: str, **changed: Any) -> Prediction:
    plain = Prediction(
        id=f"row-{number}",
        dataset="set",
        source="tones",
        language="en",
        speaker=None,
        recording=None,
        duration=2.0,
        reference=reference,
        hypothesis=hypothesis,
        spans=None,
        reference_spans=(Timed(0.0, 2.0),),
    )
    return replace(plain, **changed)


def test_the_rates_are_jiwers_on_the_predictions_file(dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    result = evaluate(SMALL_MODEL, [dataset], Decoding(), file)
    predictions = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(predictions) == result["rows"] == 4
    references = [p["reference"] for p in predictions]
    hypotheses = [p["hypothesis"] for p in predictions]
    for form, change in {"normalised": normalise, "whisper": whisper_normalise}.items():
        texts = [[change(text) for text in side] for side in (references, hypotheses)]
        assert result[form]["wer"] == pytest.approx(jiwer.wer(*texts))
        assert result[form]["cer"] == pytest.approx(jiwer.cer(*texts))
    assert result["written"]["wer"] == pytest.approx(jiwer.wer(references, hypotheses))
    low, high = result["normalised"]["wer_interval"]
    assert low <= result["normalised"]["wer"] <= high
    assert result["sources"].keys() == {"tones", "beeps"}
    wers = []
    for source, part in result["sources"].items():
        own = [p for p in predictions if p["source"] == source]
        assert part["rows"] == len(own)
        wers.append(jiwer.wer([p["reference"] for p in own], [p["hypothesis"] for p in own]))
        assert part["written"]["wer"] == pytest.approx(wers[-1])
    assert result["macro"]["written"]["wer"] == pytest.approx(sum(wers) / 2)
    assert read_predictions(file)[0].reference_spans[0].start == 0
    with pytest.raises(UserError, match="exists"):
        evaluate(SMALL_MODEL, [dataset], Decoding(), file)


def test_a_report_agrees_with_a_case_counted_by_hand() -> None:
    found = report(
        [
            prediction(0, "One, two.", "one two"),
            prediction(1, "three four", "three for five", source="beeps"),
            prediction(2, "six", ""),
            prediction(3, "", "Thanks for watching!", duration=30.0),
            prediction(4, "", " ", duration=30.0),
        ]
    )
    assert found["rows"] == 3
    words = found["normalised"]
    assert (words["words"], words["substitutions"], words["deletions"]) == (5, 1, 1)
    assert (words["insertions"], words["wer"]) == (1, pytest.approx(3 / 5))
    assert found["written"]["wer"] == pytest.approx(5 / 5)
    assert found["macro"]["normalised"]["wer"] == pytest.approx((1 / 3 + 2 / 2) / 2)
    assert [(w["id"], w["wrong"]) for w in found["worst"]] == [("row-2", 1), ("row-1", 2)][::-1]
    assert found["no_speech"] == {
        "rows": 2,
        "hallucinated": 1,
        "rate": 0.5,
        "characters_per_minute": len("thanks for watching"),
    }
    assert found["resampled"]["unit"] == "utterances"


def test_timestamps_and_languages_are_judged_where_they_were_asked_for() -> None:
    found = report(
        [
            prediction(0, "one", "one", spans=(Timed(0.1, 1.9),), detected="en"),
            prediction(1, "two", "two", spans=(Timed(0.0, None),), detected="cs", cut=True),
        ]
    )
    assert found["timestamps"]["valid"] == 0.5
    assert found["timestamps"]["bounds"] == 3  # one end is not there to be compared
    assert found["timestamps"]["mean_error"] == pytest.approx((0.1 + 0.1 + 0.0) / 3)
    assert found["language_found"] == 0.5
    assert found["cut"] == 1
    plain = report([prediction(0, "one", "one")])
    assert plain["timestamps"] is plain["language_found"] is plain["no_speech"] is None


def test_sources_of_several_datasets_are_told_apart(dataset: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", read_split(dataset, "test"))
    found = evaluate(SMALL_MODEL, [dataset, other], Decoding())
    assert set(found["sources"]) == {
        f"{name}: {source}" for name in ("tones", "other") for source in ("tones", "beeps")
    }
    with pytest.raises(UserError, match="two datasets are named tones"):
        evaluate(SMALL_MODEL, [dataset, dataset], Decoding())


def test_what_a_model_has_no_room_for_is_told_not_cut(tmp_path: Path) -> None:
    long = window_row("long", [tone(29.98, "a@0-29980")], language="en")
    long["audio"] = window_row("x", [tone(1.0, "x")], language="en")["audio"]
    long["duration"] = 31.0
    wordy = window_row("wordy", [tone(1.0, "b@0-1000", " ".join(["one"] * 700))], language="en")
    plain = window_row("plain", [tone(1.0, "c@0-1000")], language="en")
    folder = write(tmp_path / "set", [long, wordy, plain])
    found = evaluate(SMALL_MODEL, [folder], Decoding())
    assert found["longer_than_30_s"] == ["long"]
    assert found["over_448_tokens"] == ["wordy"]
    assert found["rows"] == 2
    assert found["normalised"]["words"] == 701


def test_timestamps_are_read_as_the_model_writes_them(dataset: Path) -> None:
    whisper = models.load(SMALL_MODEL)
    rows = read_split(dataset, "test")
    timed = list(transcribe(whisper, rows, timestamps=True))
    assert all(p.spans for p in timed)  # Whisper's rules make it begin with one
    assert all(0 <= (p.spans or ())[0].start <= 30 for p in timed)
    assert all("<|" not in p.hypothesis for p in timed)
    assert all(p.spans is None for p in transcribe(whisper, rows))


def test_a_language_is_detected_only_when_asked_for(dataset: Path) -> None:
    whisper = models.load(SMALL_MODEL)
    rows = read_split(dataset, "test")
    detected = [p.detected for p in transcribe(whisper, rows, detect_language=True)]
    assert set(detected) <= set(whisper.vocabulary.languages)
    assert all(p.detected is None for p in transcribe(whisper, rows))


def test_rows_of_a_recording_are_transcribed_as_one_in_long_form(tmp_path: Path) -> None:
    rows = [
        window_row("second", [tone(2.0, "talk@12000-14000", "two")], language="en"),
        window_row("first", [tone(1.0, "talk@0-1000", "one")], language="en"),
        window_row("other", [tone(1.0, "chat@500-1500", "three")], language="en"),
    ]
    folder = write(tmp_path / "set", rows)
    output = tmp_path / "predictions.jsonl"
    found = evaluate(SMALL_MODEL, [folder], Decoding(long_form=True), output)
    talks = {p.id: p for p in read_predictions(output)}
    assert found["rows"] == 2
    assert talks["talk"].reference == "one two"
    # Eleven seconds that nobody kept are shortened to two.
    assert talks["talk"].reference_spans == (Timed(0.0, 1.0), Timed(3.0, 5.0))
    assert talks["talk"].duration == pytest.approx(5.0)
    assert found["timestamps"]["rows"] == 2


def test_predictions_without_a_folder_to_go_to_are_told_before_decoding(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*missing; make it"):
        evaluate("./no-model", [tmp_path], Decoding(), tmp_path / "missing" / "p.jsonl")


def test_long_form_needs_recordings(dataset: Path) -> None:
    with pytest.raises(UserError, match="do not tell of which recordings"):
        evaluate(SMALL_MODEL, [dataset], Decoding(long_form=True))


def test_a_row_of_several_speakers_has_none() -> None:
    mixed = window_row(
        "mixed", [tone(1.0, "a@0-1000"), replace(tone(1.0, "b@0-1000"), speaker="two")],
        language="en",
    )  # fmt: skip
    described = describe_row(mixed, "set")
    assert described["speaker"] is described["recording"] is None
    assert describe_row(window_row("x", [tone(1.0, "a@0-1000")], language="en"), "set")[
        "recording"
    ] == "a"  # fmt: skip


def test_a_missing_split_is_told_with_those_that_are_there(dataset: Path) -> None:
    with pytest.raises(UserError, match=r"no split validation.*dev, test, train"):
        evaluate(SMALL_MODEL, [dataset], Decoding(split="validation"))


def test_a_run_is_measured_with_the_language_token_that_it_was_trained_with(
    tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    rows = [{**row, "language": "xx"} for row in read_split(dataset, "test").select([0])]
    foreign = write(tmp_path / "foreign", rows)
    with pytest.raises(UserError, match="xx"):
        evaluate(str(tiny_model), [foreign], Decoding())
    run = tmp_path / "run"
    shutil.copytree(tiny_model, run / "model")
    (run / "run.json").write_text(json.dumps({"config": {"language_token": "en"}}))
    assert evaluate(str(run), [foreign], Decoding())["rows"] == len(rows)
