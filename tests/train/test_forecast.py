"""What is foretold is what the run then is, and what does not fit is told before it starts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from train import autobatch as sizes
from train.autobatch import Trial, autobatch, best
from train.config import FitConfig
from train.forecast import forecast
from train.trainer import fit


def make(dataset: Path, model: Path, **options: Any) -> FitConfig:
    return FitConfig((str(dataset),), str(model), "o", **options)


def test_a_run_has_the_steps_and_the_fill_that_were_foretold(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"batch_size": 2, "epochs": 2.0, "repack": False}
    found = forecast(make(dataset, tiny_model, **options))
    assert found.windows == 10
    assert found.plan["steps"] == 10
    assert found.hours == {
        str(dataset): pytest.approx(sum(h for _, _, h in found.licences), rel=0.05)
    }
    assert {source for source, _, _ in found.licences} == {"tones", "beeps"}
    run = tmp_path / "run"
    fit(
        FitConfig(
            (str(dataset),), str(tiny_model), str(run), deepspeed="none", eval_every=0, **options
        )
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == found.plan["steps"]
    assert sum(s["fill"] for s in steps) / len(steps) == pytest.approx(found.fill, rel=1e-3)


def test_operations_are_those_that_torch_counts(dataset: Path, tiny_model: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from train.engine import Processes
    from train.forecast import PEAK_FLOPS, UTILISATION
    from train.loss import WhisperLoss
    from train.model import load

    found = forecast(make(dataset, tiny_model, batch_size=1, steps=1))
    told = found.gpu_hours["A100"] * 3600 * UTILISATION * PEAK_FLOPS["A100"]
    whisper = load(str(tiny_model))
    whisper.model.set_attn_implementation("eager")  # the counter does not know the CPU's kernel
    inputs = sizes.worst_case(whisper, 1, Processes(0, 1, torch.device("cpu")))
    short = int(found.padded_tokens)
    features, tokens, labels, sources, kept = inputs
    with FlopCounterMode(display=False) as counter:
        loss, _ = WhisperLoss(whisper.model)(
            features, tokens[:, :short], labels[:, :short], sources[:, :short], kept
        )
        loss.backward()
    assert told == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_memory_falls_with_what_is_meant_to_save_it(dataset: Path, tiny_model: Path) -> None:
    def memory(world: int = 1, **options: Any) -> dict[str, float]:
        return forecast(make(dataset, tiny_model, micro_batch=2, **options), world=world).memory

    plain, divided, sharded = memory(), memory(4), memory(4, deepspeed="zero3")
    assert divided["optimiser"] == plain["optimiser"] / 4
    assert divided["weights"] == plain["weights"] == 4 * sharded["weights"]
    assert memory(deepspeed="zero2-offload")["optimiser"] == 0
    assert memory(gradient_checkpointing=True)["activations"] < plain["activations"] / 2
    assert memory(lora=4)["optimiser"] < plain["optimiser"] / 2


def test_real_steps_are_taken_up_to_the_batch_size(tiny_model: Path) -> None:
    trials = autobatch(make(Path("-"), tiny_model, deepspeed="none", batch_size=4))
    assert [trial.micro_batch for trial in trials] == [1, 2, 4]
    assert all(trial.seconds and trial.gigabytes for trial in trials)
    assert best(trials) in trials


def test_the_first_that_does_not_fit_is_the_last_to_be_tried(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worst = sizes.worst_case

    def too_large(whisper: Any, size: int, processes: Any) -> Any:
        if size > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return worst(whisper, size, processes)

    monkeypatch.setattr(sizes, "worst_case", too_large)
    trials = autobatch(make(Path("-"), tiny_model, deepspeed="none", batch_size=8))
    assert [trial.micro_batch for trial in trials] == [1, 2, 4]
    assert trials[-1] == Trial(4, None, None)
    found = best(trials)
    assert found is not None
    assert found.micro_batch in (1, 2)
