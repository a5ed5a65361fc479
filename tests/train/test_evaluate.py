"""The reported error rates are those of the predictions that are written."""

import json
import shutil
from pathlib import Path

import jiwer
import pytest

from corpus.dataset import read_split, write_dataset
from corpus.errors import UserError
from corpus.text import normalise
from train.evaluate import evaluate


def test_the_rates_are_jiwers_on_the_predictions_file(
    tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    file = tmp_path / "predictions.jsonl"
    result = evaluate(str(tiny_model), dataset, output=file)
    predictions = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(predictions) == result["rows"] == 4
    references = [p["reference"] for p in predictions]
    hypotheses = [p["hypothesis"] for p in predictions]
    assert result["written"]["wer"] == jiwer.wer(references, hypotheses)
    assert result["normalised"]["cer"] == jiwer.cer(
        [normalise(text) for text in references], [normalise(text) for text in hypotheses]
    )
    assert result["sources"].keys() == {"tones", "beeps"}
    for source, part in result["sources"].items():
        own = [p for p in predictions if p["source"] == source]
        assert part["rows"] == len(own)
        assert part["written"]["wer"] == jiwer.wer(
            [p["reference"] for p in own], [p["hypothesis"] for p in own]
        )
    with pytest.raises(UserError, match="exists"):
        evaluate(str(tiny_model), dataset, output=file)


def test_a_missing_split_is_told_with_those_that_are_there(tiny_model: Path, dataset: Path) -> None:
    with pytest.raises(UserError, match=r"no split validation.*dev, test, train"):
        evaluate(str(tiny_model), dataset, split="validation")


def test_a_run_is_measured_with_the_language_token_that_it_was_trained_with(
    tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    rows = [{**row, "language": "xx"} for row in read_split(dataset, "test")]
    foreign = tmp_path / "foreign"
    write_dataset(foreign, {"test": rows}, readme="", attribution="", manifest={})
    with pytest.raises(UserError, match="xx"):
        evaluate(str(tiny_model), foreign)
    run = tmp_path / "run"
    shutil.copytree(tiny_model, run / "model")
    (run / "run.json").write_text(json.dumps({"config": {"language_token": "en"}}))
    assert evaluate(str(run), foreign)["rows"] == len(rows)
