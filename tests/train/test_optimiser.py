"""What is trained, how fast, and what is kept of it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.testing import CompileCounter

from corpus.errors import UserError
from train import model as models
from train.config import FitConfig
from train.ema import Average
from train.loss import WhisperLoss
from train.optimiser import new_optimizer, place_steps
from train.trainer import fit, prepare

SINES = "model.encoder.embed_positions.weight"


def make(**options: Any) -> FitConfig:
    return FitConfig(("d",), "m", "o", **options)


@pytest.fixture
def whisper(tiny_model: Path) -> models.Whisper:
    return models.load(str(tiny_model))


def factors(whisper: models.Whisper, config: FitConfig) -> dict[str, float]:
    """The learning rate of each weight that is trained, as a multiple of the schedule's peak."""
    loss = prepare(whisper, config, sources=1)
    assert isinstance(loss, WhisperLoss)
    plan = dataclasses.replace(config, steps=1, warmup=0).plan(
        epoch_windows=16, learning_rate=1.0, world=1, on_gpu=False
    )
    optimizer, _ = new_optimizer(loss, config, plan, fused=False)
    rates = {id(w): group["lr"] for group in optimizer.param_groups for w in group["params"]}
    return {n: rates[id(w)] for n, w in whisper.model.named_parameters() if id(w) in rates}


def test_lower_layers_and_the_encoder_learn_slower(whisper: models.Whisper) -> None:
    found = factors(whisper, make(layer_decay=0.5, encoder_rate=0.1))
    expected = {
        "model.encoder.conv1.weight": 0.025,
        "model.encoder.layers.0.fc1.weight": 0.05,
        "model.encoder.layers.1.fc1.weight": 0.1,
        "model.encoder.layer_norm.weight": 0.1,
        "model.decoder.embed_tokens.weight": 0.25,
        "model.decoder.embed_positions.weight": 0.25,
        "model.decoder.layers.0.self_attn.q_proj.weight": 0.5,
        "model.decoder.layers.1.fc2.bias": 1.0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_all_weights_learn_alike_by_default(whisper: models.Whisper) -> None:
    found = factors(whisper, make())
    assert set(found.values()) == {1.0}
    every = {name for name, _ in whisper.model.named_parameters()}
    assert every - found.keys() == {SINES}


@pytest.mark.parametrize(
    ("parts", "frozen"),
    [
        (("encoder",), ["model.encoder."]),
        (("conv", "decoder_positions"), ["model.encoder.conv", "model.decoder.embed_positions"]),
    ],
)
def test_what_is_frozen_is_not_trained(
    whisper: models.Whisper, parts: tuple[str, ...], frozen: list[str]
) -> None:
    found = factors(whisper, make(freeze=parts))
    assert found
    for name, weight in whisper.model.named_parameters():
        if name != SINES:
            assert (name in found) == (not name.startswith(tuple(frozen)))
            assert weight.requires_grad == (name in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ("head",)}, "there are encoder"),
        ({"freeze": ("encoder", "decoder")}, "nothing is left"),
    ],
)
def test_a_mistake_in_what_to_freeze_is_named(
    whisper: models.Whisper, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepare(whisper, make(**options), sources=1)


def test_counts_of_steps_go_where_their_weights_are() -> None:
    elsewhere = torch.nn.Parameter(torch.empty(1, device="meta"))
    optimizer = torch.optim.AdamW([elsewhere, torch.nn.Parameter(torch.empty(1))])
    optimizer.state[elsewhere] = {"step": torch.tensor(2.0)}
    place_steps(optimizer)
    assert optimizer.state[elsewhere]["step"].device == elsewhere.device


@pytest.fixture(scope="module")
def run_fit(dataset: Path, tiny_model: Path, tmp_path_factory: Any) -> Callable[..., Path]:
    """Trains four steps and gives the run's folder."""

    def run(**options: Any) -> Path:
        folder = tmp_path_factory.mktemp("runs") / "run"
        defaults: dict[str, Any] = {"deepspeed": "none", "steps": 4, "batch_size": 4}
        defaults |= {"learning_rate": 1e-3, "eval_every": 0, "save_every": 0}
        fit(FitConfig((str(dataset),), str(tiny_model), str(folder), **(defaults | options)))
        return folder

    return run


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def plain(run_fit: Callable[..., Path]) -> Path:
    return run_fit()


def test_a_run_with_lora_saves_a_whole_model_that_has_learnt(
    run_fit: Callable[..., Path], tiny_model: Path
) -> None:
    run = run_fit(lora=4, steps=8, learning_rate=1e-2)
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(run / "model" / "model.safetensors")
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".layers." in name and name.endswith("weight") for name in changed)
    assert losses(run)[-1] < losses(run)[0]
    models.load(str(run))


def test_lora_beside_divided_weights_saves_whole_models(
    run_fit: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "all-divided.json"
    file.write_text('{"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}')
    run = run_fit(lora=4, deepspeed=str(file))
    shapes = {n: w.shape for n, w in load_file(tiny_model / "model.safetensors").items()}
    for folder in (run / "model", *(run / "weights").iterdir()):
        saved = load_file(folder / "model.safetensors")
        assert {name: weight.shape for name, weight in saved.items()} == shapes


@pytest.mark.parametrize("option", ["gradient_checkpointing", "freeze"])
def test_checkpointing_and_freezing_start_from_the_same_loss(
    run_fit: Callable[..., Path], plain: Path, tiny_model: Path, option: str
) -> None:
    value = ("encoder",) if option == "freeze" else True
    run = run_fit(**{option: value})
    if option == "freeze":
        assert losses(run)[0] == pytest.approx(losses(plain)[0], rel=1e-6)
        before = load_file(tiny_model / "model.safetensors")
        after = load_file(run / "model" / "model.safetensors")
        frozen = {name for name in before if torch.equal(before[name], after[name])}
        assert frozen == {name for name in before if "encoder." in name}
    else:
        assert losses(run) == pytest.approx(losses(plain), rel=1e-6)


def test_layers_are_compiled_without_changing_what_they_compute(whisper: models.Whisper) -> None:
    features = torch.randn(2, 80, 3000)
    with torch.no_grad():
        expected = whisper.model.model.encoder(features).last_hidden_state
        models.compile_layers(whisper.model, backend="eager")
        compiled = whisper.model.model.encoder(features).last_hidden_state
    assert torch.allclose(compiled, expected, atol=1e-5)
    assert not any("_orig_mod" in name for name in whisper.model.state_dict())


@pytest.mark.parametrize("stochastic_depth", [0.0, 0.5])
def test_three_programs_are_compiled_whatever_the_lengths_of_targets(
    whisper: models.Whisper, stochastic_depth: float
) -> None:
    torch.compiler.reset()
    loss = prepare(whisper, make(stochastic_depth=stochastic_depth), sources=1).train()
    programs = CompileCounter()

    def totals() -> list[float]:
        chance = torch.Generator().manual_seed(0)
        features = torch.randn(2, 80, 3000, generator=chance)
        found = []
        for length in (40, 8, 24, 72, 448):
            tokens = torch.randint(0, 300, (2, length), generator=chance)
            kept = torch.rand(2, 4, generator=chance) < 0.5
            total, _ = loss(features, tokens, tokens, torch.zeros_like(tokens), kept)
            total.backward()
            found.append(total.item())
        return found

    expected = totals()
    models.compile_layers(whisper.model, backend=programs)
    assert totals() == pytest.approx(expected, rel=1e-6)
    assert programs.frame_count == 3


@pytest.mark.parametrize("deepspeed", ["none", "zero2"])
def test_bf16_trains_nearly_as_fp32_does(
    run_fit: Callable[..., Path], plain: Path, deepspeed: str
) -> None:
    run = run_fit(precision="bf16", deepspeed=deepspeed)
    assert "bf16" in json.loads((run / "run.json").read_text())["engine"]
    assert losses(run) == pytest.approx(losses(plain), rel=2e-2)
    assert losses(run) != losses(plain)


def test_fp16_is_refused_without_a_gpu(run_fit: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="needs a GPU"):
        run_fit(precision="fp16")


def test_an_average_follows_the_weights_and_takes_their_place_for_a_while() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    average = Average(model, 0.9)
    by_hand = 0.0
    for step in range(1, 41):
        torch.nn.init.constant_(model.weight, float(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        by_hand = decay * by_hand + (1 - decay) * step
    with average.in_place():
        assert model.weight.item() == pytest.approx(by_hand)
    assert model.weight.item() == 40.0


def test_the_average_is_what_is_saved_and_it_survives_a_resume(
    run_fit: Callable[..., Path], plain: Path, dataset: Path, tiny_model: Path
) -> None:
    averaged = run_fit(ema=0.9)
    assert losses(averaged) == losses(plain)  # the training itself is the same
    ours = load_file(averaged / "model" / "model.safetensors")
    last = load_file(plain / "model" / "model.safetensors")
    first = load_file(tiny_model / "model.safetensors")
    name = "model.decoder.layers.1.fc1.weight"
    assert (ours[name] - first[name]).norm() < (last[name] - first[name]).norm()

    broken_off = run_fit(ema=0.9, steps=4, save_every=2)
    for checkpoint in sorted((broken_off / "checkpoints").iterdir())[1:]:
        (checkpoint / "state.json").unlink()  # as if killed before the last one was complete
    record = json.loads((broken_off / "run.json").read_text())
    (broken_off / "run.json").write_text(json.dumps(record | {"status": "running"}))
    fit(
        FitConfig(
            (str(dataset),),
            str(tiny_model),
            str(broken_off),
            deepspeed="none",
            steps=4,
            batch_size=4,
            learning_rate=1e-3,
            eval_every=0,
            save_every=2,
            ema=0.9,
        )
    )
    again = load_file(broken_off / "model" / "model.safetensors")
    assert all(torch.equal(again[name], ours[name]) for name in ours)


def test_training_stops_when_dev_gets_no_better(run_fit: Callable[..., Path]) -> None:
    # At such a rate nothing changes: no evaluation is better than the first. Of equals the last is
    # kept, which has learnt more of what WER does not see.
    run = run_fit(steps=12, eval_every=1, learning_rate=1e-12, patience=2)
    record = json.loads((run / "run.json").read_text())
    assert record["steps"] == 3
    assert record["best"]["step"] == 3
