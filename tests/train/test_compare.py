"""Models are compared on the same rows, and the page shows it without trusting a transcript."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from corpus.errors import UserError
from train.compare import compare, is_dataset, print_comparison
from train.evaluate import evaluate
from train.metrics import Timed
from train.page import write_page
from train.predict import Decoding, Prediction, write_predictions

SMALL_MODEL = str(Path(__file__).parents[2] / "demo" / "model")
NASTY = '<script>alert("x")</script> & "quotes"'


def rows(hypothesis_of: dict[int, str], count: int = 40) -> list[Prediction]:
    """Rows of five words in two datasets, all right but for those given."""
    return [
        Prediction(
            id=f"row-{number}",
            dataset="home" if number % 2 else "abroad",
            source="talks",
            language="cs" if number % 2 else "en",
            speaker=f"speaker-{number % 4}",
            recording=f"recording-{number}",
            duration=1.0 + number % 12,
            reference="one two three four five",
            hypothesis=hypothesis_of.get(number, "one two three four five"),
            spans=None,
            reference_spans=(Timed(0.0, 1.0),),
        )
        for number in range(count)
    ]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Predictions of two models: the second gains at home and loses a little abroad."""
    first = rows({n: "one two three" for n in range(1, 40, 2)})
    second = rows({0: "one two three four", 2: "one two three four six"})
    paths = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    write_predictions(paths[0], first)
    write_predictions(paths[1], second)
    return list(map(str, paths))


def test_each_group_has_the_figures_of_every_model(files: list[str]) -> None:
    found = compare(files, [], Decoding())
    groups = {
        kind: {group["name"]: group for group in some} for kind, some in found["groups"].items()
    }
    whole = groups["all"]["all"]
    assert (whole["rows"], whole["words"]) == (40, 200)
    assert [m["wer"] for m in whole["models"]] == [pytest.approx(0.2), pytest.approx(0.01)]
    assert whole["models"][0]["difference"] is None
    home, abroad = groups["dataset"]["home"], groups["dataset"]["abroad"]
    assert home["models"][1]["difference"]["difference"] == pytest.approx(-0.4)
    assert home["models"][1]["difference"]["p"] <= 0.001
    assert abroad["models"][1]["difference"]["difference"] == pytest.approx(0.02)
    assert abroad["models"][1]["difference"]["p"] > 0.05
    assert groups["language"].keys() == {"cs", "en"}
    assert groups["speaker"].keys() == {f"speaker-{n}" for n in range(4)}
    assert groups["duration"].keys() == {"0-2 s", "2-5 s", "5-10 s", "10-20 s"}
    assert sum(group["rows"] for group in groups["duration"].values()) == 40


def test_only_the_datasets_that_are_named_are_compared(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    found = compare(files, [tmp_path / "home"], Decoding())
    assert found["rows"] == 20


def test_samples_are_what_was_gained_lost_and_never_right(files: list[str]) -> None:
    samples = compare(files, [], Decoding())["samples"]
    assert {s["kind"] for s in samples} == {"gained", "lost"}
    lost = [s for s in samples if s["kind"] == "lost"]
    assert {s["id"] for s in lost} == {"row-0", "row-2"}
    assert all(s["wrong"] == [0, 1] for s in lost)


def test_models_that_saw_other_rows_are_not_compared(files: list[str], tmp_path: Path) -> None:
    write_predictions(tmp_path / "short.jsonl", rows({}, count=39))
    with pytest.raises(UserError, match="other rows than"):
        compare([files[0], str(tmp_path / "short.jsonl")], [], Decoding())
    with pytest.raises(UserError, match="at least two models"):
        compare(files[:1], [], Decoding())
    (tmp_path / "other.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="holds no predictions"):
        compare([files[0], str(tmp_path / "other.jsonl")], [], Decoding())
    with pytest.raises(UserError, match=r"gone\.jsonl cannot be read: No such file"):
        compare([files[0], str(tmp_path / "gone.jsonl")], [], Decoding())


def test_a_slip_is_told_before_any_model_has_work(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.compare.predict", lambda *_: pytest.fail("a model had work"))
    with pytest.raises(UserError, match=r"gone\.jsonl cannot be read"):
        compare([str(tiny_model), str(tmp_path / "gone.jsonl")], [dataset], Decoding())


def test_a_slip_in_a_name_is_told_before_any_work(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        compare([SMALL_MODEL, str(tmp_path / "none")], [dataset], Decoding())
    with pytest.raises(UserError, match="no dataset given"):
        compare([SMALL_MODEL, SMALL_MODEL], [], Decoding())


def test_a_dataset_is_known_by_its_files(dataset: Path, tmp_path: Path) -> None:
    assert is_dataset(str(dataset))
    assert not is_dataset(SMALL_MODEL)
    (tmp_path / "table.csv").touch()
    assert is_dataset(str(tmp_path / "table.csv"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    assert not is_dataset(str(tmp_path / "run"))  # not finished, and no dataset either


def test_data_sets_of_others_are_compared_on_as_they_are_evaluated_on(
    spoken_digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    others = tmp_path / "clips" / "test"
    others.mkdir(parents=True)
    lines = []
    for number in range(4):
        soundfile.write(
            others / f"{number}.wav", np.resize(spoken_digits, 24_000 * (1 + number)), 16_000
        )
        told = {"file_name": f"{number}.wav", "transcription": "call number five"}
        lines.append(json.dumps({**told, "speaker_id": f"speaker-{number % 2}"}))
    (others / "metadata.jsonl").write_text("\n".join(lines))
    clips = str(others.parent)
    assert is_dataset(clips)
    with pytest.raises(UserError, match="does not tell its language"):
        compare([SMALL_MODEL, SMALL_MODEL], [clips], Decoding())
    file = tmp_path / "before.jsonl"
    evaluate(SMALL_MODEL, [clips], Decoding(language="en"), file)
    found = compare([str(file), SMALL_MODEL], [clips], Decoding(language="en"))
    assert found["rows"] == 4
    names = {kind: {group["name"] for group in some} for kind, some in found["groups"].items()}
    assert names["source"] == names["dataset"] == {"clips"}
    assert names["speaker"] == {"speaker-0", "speaker-1"}
    assert len(names["duration"]) > 1
    (whole,) = found["groups"]["all"]
    assert whole["models"][1]["difference"]["difference"] == 0
    write_page(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text()
    assert re.search(r'src="data:audio/flac;base64,[^"]+"', page)


def test_a_model_beside_its_own_predictions_differs_in_nothing(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "before.jsonl"
    evaluate(SMALL_MODEL, [dataset], Decoding(), file)
    found = compare([str(file), SMALL_MODEL], [dataset], Decoding())
    (whole,) = found["groups"]["all"]
    assert whole["models"][1]["difference"]["difference"] == 0
    assert whole["models"][1]["difference"]["p"] == 1
    write_page(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text()
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)
    assert sounds
    assert all(base64.b64decode(sound).startswith(b"fLaC") for sound in sounds)
    print_comparison(found)
    assert "by source" in capsys.readouterr().out


def test_the_page_trusts_no_transcript_and_loads_nothing(tmp_path: Path) -> None:
    nasty = [replace(p, reference=NASTY, speaker=NASTY, source=NASTY) for p in rows({1: NASTY})]
    other = [replace(p, hypothesis="") for p in nasty]
    for name, made in (("a", nasty), ("b", other)):
        write_predictions(tmp_path / f"{name}.jsonl", made)
    found = compare([str(tmp_path / f"{name}.jsonl") for name in "ab"], [], Decoding())
    write_page(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in policy[1]
    assert json.dumps(found)  # what --json prints


def test_a_page_replaces_only_a_page(files: list[str], tmp_path: Path) -> None:
    found = compare(files, [], Decoding())
    page = tmp_path / "page.html"
    write_page(page, found)
    write_page(page, found)
    page.write_text("mine")
    with pytest.raises(UserError, match="is no report"):
        write_page(page, found)
    with pytest.raises(UserError, match="no folder"):
        write_page(tmp_path / "none" / "page.html", found)
    assert page.read_text() == "mine"
