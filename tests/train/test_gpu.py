"""What only a GPU can show; without one these tests are skipped and say so."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from train import model as models
from train.autobatch import autobatch, best
from train.config import FitConfig
from train.trainer import fit

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True, scope="module")
def _gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU on this machine")


@pytest.fixture(scope="module")
def config(
    dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., FitConfig]:
    """Settings of a run of four steps, each time in a folder of its own."""

    def make(**changes: Any) -> FitConfig:
        options: dict[str, Any] = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3}
        options |= {"eval_every": 0, "save_every": 2, "precision": "fp32"}
        folder = tmp_path_factory.mktemp("runs") / "run"
        return FitConfig((str(dataset),), str(tiny_model), str(folder), **(options | changes))

    return make


def losses(run: str) -> list[float]:
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def plain(config: Callable[..., FitConfig]) -> list[float]:
    """The losses of plain torch in fp32 on one GPU."""
    settings = config(deepspeed="none")
    fit(settings)
    return losses(settings.output)


def test_log_mel_is_that_of_the_cpu() -> None:
    from transformers import WhisperFeatureExtractor

    pcm = torch.from_numpy(np.random.default_rng(0).normal(0, 3000, (2, 480_000)).astype(np.int16))
    log_mel = models.LogMel(WhisperFeatureExtractor())
    expected = log_mel(pcm)
    found = log_mel.to("cuda")(pcm.to("cuda"))
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("deepspeed", ["zero1", "zero2", "zero2-offload", "zero3"])
def test_every_stage_makes_the_steps_of_plain_torch(
    config: Callable[..., FitConfig], plain: list[float], deepspeed: str
) -> None:
    settings = config(deepspeed=deepspeed)
    record = fit(settings)
    assert record["device"] == torch.cuda.get_device_name()
    assert losses(settings.output) == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"precision": "bf16", "deepspeed": "none"},
        {"compile": True},
        {"gradient_checkpointing": True},
    ],
    ids=lambda changes: "-".join(f"{name}={value}" for name, value in changes.items()),
)
def test_what_saves_time_or_memory_trains_nearly_as_plain_fp32_does(
    config: Callable[..., FitConfig], plain: list[float], changes: dict[str, Any]
) -> None:
    settings = config(**changes)
    fit(settings)
    assert losses(settings.output) == pytest.approx(plain, rel=3e-2)


def test_two_gpus_make_the_steps_of_one(
    config: Callable[..., FitConfig], plain: list[float]
) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    settings = config(micro_batch=2)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train"]
    options = ["--steps", "4", "--batch-size", "4", "--micro-batch", "2", "--eval-every", "0"]
    options += ["--learning-rate", "1e-3", "--set", "precision=fp32"]
    subprocess.run(
        [
            *(sys.executable, "-m", *launcher, "fit", *settings.datasets),
            *("--model", settings.model, "--output", settings.output, *options),
        ],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert losses(settings.output) == pytest.approx(plain, rel=1e-3)


def test_what_another_number_of_processes_saved_is_carried_on(
    config: Callable[..., FitConfig], plain: list[float]
) -> None:
    settings = config()
    fit(settings)
    run = Path(settings.output)
    (run / "checkpoints" / "step-00000004" / "state.json").unlink()  # as if killed before it
    for file, change in {
        run / "checkpoints" / "step-00000002" / "state.json": {"processes": 2},
        run / "run.json": {"processes": 2, "status": "running"},
    }.items():
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    fit(settings)
    assert losses(settings.output) == pytest.approx(plain, rel=1e-3)


def test_autobatch_meets_the_end_of_memory(config: Callable[..., FitConfig]) -> None:
    settings = config(deepspeed="none", batch_size=64)
    one = autobatch(config(deepspeed="none", batch_size=1))[0]
    assert one.gigabytes is not None
    _, total = torch.cuda.mem_get_info()
    # Room for a few windows and no more, whatever the GPU's size.
    torch.cuda.set_per_process_memory_fraction(min(1.0, 4 * one.gigabytes * 2**30 / total))
    try:
        trials = autobatch(settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert trials[-1].seconds is None
    found = best(trials)
    assert found is not None
    assert found.micro_batch < trials[-1].micro_batch
