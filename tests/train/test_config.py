"""A configuration is checked before anything is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from corpus.errors import UserError
from train.config import FitConfig, deepspeed_config, default_output, read_config

GIVEN = {"datasets": ["ws/datasets/v1"], "model": "openai/whisper-small"}
MACHINE = {"epoch_windows": 533, "learning_rate": 1e-5, "world": 1, "on_gpu": False}


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "fit.toml"
    file.write_text('model = "a"\nseed = 7\nlearning_rate = 1e-4\nrepack = false\n')
    config = read_config(file, GIVEN | {"seed": 8, "repack": None})
    assert (config.model, config.seed) == ("openai/whisper-small", 8)
    assert (config.learning_rate, config.repack, config.batch_size) == (1e-4, False, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize = 4", "unknown key 'batchsize'; did you mean batch_size?"),
        ("colour = 4", "unknown key 'colour'; known are .*, batch_size, "),
        ('seed = "seven"', "not of type int"),
        ("steps = true", "not of type int"),
        ("batch_size = 0", "more than 0"),
        ("= 3", "is not TOML, .*Invalid"),
        ("steps: 10", "is not TOML, lines of KEY = VALUE"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "fit.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(file, GIVEN)


def test_a_file_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fit\.toml cannot be read: No such file or directory$"):
        read_config(tmp_path / "fit.toml", GIVEN)


def test_any_field_can_be_set_by_name_and_wins(tmp_path: Path) -> None:
    file = tmp_path / "fit.toml"
    file.write_text("weights = [1, 2.5]\nnoise = 0.5\n")
    changes = ["noise=0.25", "streaming=true", "language_token=cs", 'model="a=b"', "weights=[3, 4]"]
    config = read_config(file, GIVEN, changes=changes)
    assert (config.noise, config.streaming, config.language_token) == (0.25, True, "cs")
    assert (config.model, config.weights) == ("a=b", (3, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nois=1", "unknown key 'nois'"),
        ("noise", "KEY=VALUE"),
        ("noise=1.5", "from 0 to less than 1"),
        ("noise=loud", "not of type float"),
        ("weights=[0, 1]", "leave the dataset out"),
        ("weights=2", "not of type"),
        ("temperature=0", "more than 0"),
    ],
)
def test_a_mistake_in_a_change_is_named(change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_config(None, GIVEN, changes=[change])
    with pytest.raises(UserError, match="not both"):
        read_config(None, GIVEN, changes=["weights=[1]", "temperature=2"])


def test_a_recipe_is_a_start_that_all_else_changes() -> None:
    config = read_config(None, GIVEN, recipe="large-v2", changes=["bpe_dropout=0.2"])
    assert (config.spec_augment, config.stochastic_depth, config.bpe_dropout) == (True, 0.1, 0.2)
    with pytest.raises(UserError, match="only large-v2"):
        read_config(None, GIVEN, recipe="large-v9")


def test_the_run_goes_beside_the_datasets_of_its_workspace(tmp_path: Path) -> None:
    dataset = tmp_path / "datasets" / "v1"
    small = default_output(str(dataset), "openai/whisper-small")
    assert small == tmp_path / "runs" / "v1-whisper-small"
    again = default_output(str(dataset), "runs/v1-whisper-small/model")
    assert again == tmp_path / "runs" / "v1-v1-whisper-small"
    assert default_output("elsewhere", "m") == Path("runs/elsewhere-m")


def test_steps_follow_from_epochs_and_the_rest_from_the_steps() -> None:
    plan = read_config(None, GIVEN).plan(**MACHINE)  # type: ignore[arg-type]
    assert (plan.steps, plan.warmup, plan.eval_every, plan.save_every) == (100, 10, 10, 10)
    assert (plan.micro_batch, plan.accumulate, plan.learning_rate) == (8, 2, 1e-5)


def test_the_rate_rises_then_falls_to_zero() -> None:
    plan = read_config(None, GIVEN).plan(**MACHINE)  # type: ignore[arg-type]
    rates = [plan.rate(step) for step in range(101)]
    assert rates.index(max(rates)) == 10
    assert max(rates) == pytest.approx(1e-5)
    assert rates[0] > 0
    assert rates[99] > rates[100] == 0


@pytest.mark.parametrize(
    ("options", "world", "message"),
    [
        ({"batch_size": 16}, 3, r"cannot be divided among 3 processes; try 15"),
        ({"batch_size": 16, "micro_batch": 3}, 2, "--micro-batch 3 does not divide the 8"),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(
    options: dict[str, Any], world: int, message: str
) -> None:
    config = read_config(None, GIVEN | options)
    with pytest.raises(UserError, match=message):
        config.plan(**(MACHINE | {"world": world}))  # type: ignore[arg-type]


def engine_settings(choice: str) -> dict[str, Any]:
    plan = FitConfig(("d",), "m", "o", micro_batch=2).plan(**MACHINE)  # type: ignore[arg-type]
    return deepspeed_config(choice, plan, on_gpu=False, precision="fp32")


def test_a_deepspeed_file_adds_to_our_settings(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 1}, "gradient_clipping": 0.5}))
    settings = engine_settings(str(file))
    assert settings["zero_optimization"]["stage"] == 1
    assert settings["zero_optimization"]["reduce_bucket_size"] == 50_000_000
    assert settings["gradient_clipping"] == 0.5
    assert settings["gradient_accumulation_steps"] == 8
    assert "optimizer" not in settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"gradient_clippping": 1}', "gradient_clippping"),
        ('{"optimizer": {"type": "Adam"}}', "options of `train fit`"),
        ("[]", "one JSON object"),
        ("{", "zero2-offload, zero3, none or a JSON file"),
    ],
)
def test_a_mistake_in_a_deepspeed_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "ds.json"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        engine_settings(str(file))


@pytest.mark.parametrize("named", [True, False])
def test_an_average_of_weights_that_are_divided_is_refused(named: bool, tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text('{"zero_optimization": {"stage": 3}}')
    with pytest.raises(UserError, match="ema needs the weights whole"):
        FitConfig(("d",), "m", "o", ema=0.9, deepspeed="zero3" if named else str(file))
    file.write_text('{"zero_optimization": {"stage": 1}}')
    FitConfig(("d",), "m", "o", ema=0.9, deepspeed=str(file))
