"""Means of weights are means, what does not fit is refused, and alphas are chosen by figures."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from corpus.dataset import read_split, write_dataset
from corpus.errors import UserError
from train import merge
from train import model as models
from train.merge import average
from train.predict import Decoding, predict

WEIGHTS = "model.safetensors"
SMALL_MODEL = Path(__file__).parents[2] / "demo" / "model"


@pytest.fixture
def shifted(tiny_model: Path, tmp_path: Path) -> list[Path]:
    """The tiny model three times, its weights moved by 0, 1 and 5."""
    folders = []
    for shift in (0, 1, 5):
        folder = tmp_path / f"shifted-{shift}"
        shutil.copytree(tiny_model, folder)
        weights = {name: t + shift for name, t in load_file(tiny_model / WEIGHTS).items()}
        save_file(weights, folder / WEIGHTS, {"format": "pt"})
        folders.append(folder)
    return folders


def test_the_mean_is_the_mean_of_every_tensor(
    tiny_model: Path, shifted: list[Path], tmp_path: Path
) -> None:
    found = average(list(map(str, shifted)), tmp_path / "mean")
    made = load_file(tmp_path / "mean" / "model" / WEIGHTS)
    for name, tensor in load_file(tiny_model / WEIGHTS).items():
        torch.testing.assert_close(made[name], tensor + 2)
    assert found["models"] == list(map(str, shifted))
    assert models.load(str(tmp_path / "mean")).model.config.d_model == 64
    assert not list(tmp_path.glob(".*"))


def test_the_mean_of_one_model_with_itself_is_that_model(tiny_model: Path, tmp_path: Path) -> None:
    average([str(tiny_model)] * 3, tmp_path / "mean")
    made = load_file(tmp_path / "mean" / "model" / WEIGHTS)
    assert all(torch.equal(made[n], t) for n, t in load_file(tiny_model / WEIGHTS).items())


def test_a_run_stands_for_its_last_checkpoints_and_hands_on_what_it_is(
    shifted: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(shifted[0], run / "model")
    for number, folder in enumerate(shifted):
        shutil.copytree(folder, run / "weights" / f"step-{number:08d}")
    record = {"config": {"model": "base", "language_token": None}, "steps": 10}
    (run / "run.json").write_text(json.dumps(record))
    average([str(run)])
    made = load_file(run / "averaged" / "model" / WEIGHTS)
    name, tensor = next(iter(load_file(tiny_model / WEIGHTS).items()))
    torch.testing.assert_close(made[name], tensor + 2)
    kept = json.loads((run / "averaged" / "run.json").read_text())
    assert kept["config"] == record["config"]
    assert len(kept["averaged"]["models"]) == 3
    with pytest.raises(UserError, match="exists"):
        average([str(run)])


def test_weights_in_several_files_and_of_16_bits_are_read(
    tiny_model: Path, shifted: list[Path], tmp_path: Path
) -> None:
    half = {name: t.to(torch.bfloat16) for name, t in load_file(shifted[1] / WEIGHTS).items()}
    names = sorted(half)
    (shifted[1] / WEIGHTS).unlink()
    for part in (0, 1):
        some = {name: half[name] for name in names[part::2]}
        save_file(some, shifted[1] / f"model-0000{part + 1}-of-00002.safetensors", {"format": "pt"})
    average([str(shifted[0]), str(shifted[1])], tmp_path / "mean")
    made = load_file(tmp_path / "mean" / "model" / WEIGHTS)
    for name, tensor in load_file(tiny_model / WEIGHTS).items():
        assert made[name].dtype == torch.float32
        torch.testing.assert_close(made[name], (tensor + half[name].float()) / 2)


def test_models_of_other_shapes_are_refused_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"another kind of model.* is \S+, not \S+$"):
        average([str(tiny_model), str(SMALL_MODEL)], tmp_path / "mean")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_chosen_is_told_before_anything_is_read(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = str(tiny_model)
    for told, arguments in {
        "alone has no mean": {},
        "name that too": {"datasets": [tmp_path]},
        "nothing to choose by": {"base": model, "alphas": [0.2, 0.4]},
    }.items():
        with pytest.raises(UserError, match=told):
            average([model], tmp_path / "out", **arguments)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no such folder"):
        average([model, str(tmp_path / "none")], tmp_path / "out")


def test_one_alpha_is_written_without_a_choice(
    tiny_model: Path, shifted: list[Path], tmp_path: Path
) -> None:
    average([str(shifted[2])], tmp_path / "out", base=str(shifted[0]), alphas=[0.2])
    made = load_file(tmp_path / "out" / "model" / WEIGHTS)
    for name, tensor in load_file(tiny_model / WEIGHTS).items():
        torch.testing.assert_close(made[name], tensor + 1)


def test_the_alpha_with_the_lowest_mean_of_the_datasets_wins(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base is a real model and the references are what it says: all of it must win."""
    from train.evaluate import evaluate
    from train.predict import read_predictions

    said = tmp_path / "said.jsonl"
    evaluate(str(SMALL_MODEL), [dataset], Decoding(), said)
    texts = {p.id: p.hypothesis for p in read_predictions(said)}
    test = read_split(dataset, "test").select([0])
    rows = [{**row, "text": texts[row["id"]]} for row in test]
    own = tmp_path / "own"
    write_dataset(own, {"dev": rows}, readme="", attribution="", manifest={})
    spoilt = tmp_path / "spoilt"
    shutil.copytree(SMALL_MODEL, spoilt)
    weights = {n: torch.randn_like(t) * 0.02 for n, t in load_file(spoilt / WEIGHTS).items()}
    save_file(weights, spoilt / WEIGHTS, {"format": "pt"})
    on_disk = []

    def watched(model: str, *arguments: Any) -> Any:
        scratch = Path(model).parent
        on_disk.append(len(list(scratch.rglob(WEIGHTS))))
        return predict(model, *arguments)

    monkeypatch.setattr(merge, "predict", watched)
    found = average(
        [str(spoilt)],
        tmp_path / "out",
        base=str(SMALL_MODEL),
        alphas=[1, 0, 0.5, 1],
        datasets=[own],
    )
    assert [one["alpha"] for one in found["sweep"]] == [0, 0.5, 1]
    assert on_disk == [1, 2, 2]  # the best so far and this one
    tried = {one["alpha"]: one["macro_wer"] for one in found["sweep"]}
    assert tried[0] == 0
    assert tried[1] > 0
    assert found["alpha"] == 0
    made = load_file(tmp_path / "out" / "model" / WEIGHTS)
    assert all(torch.equal(made[n], t) for n, t in load_file(SMALL_MODEL / WEIGHTS).items())
