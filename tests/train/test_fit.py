"""A step is the same however it is divided, by either engine, and across a kill."""

import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from corpus.errors import UserError
from train import model as models
from train.config import FitConfig
from train.export.last_checkpoint import to_safetensors
from train.trainer import fit

STEPS = 6


def metrics(run: Path, name: str) -> list[float]:
    """One figure of every step of a run that has it."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def config(dataset: Path, tiny_model: Path) -> Callable[..., FitConfig]:
    def make(output: Path, **changes: Any) -> FitConfig:
        options: dict[str, Any] = {
            "deepspeed": "zero2",
            "steps": STEPS,
            "batch_size": 4,
            "micro_batch": 2,
            "learning_rate": 1e-3,
            "eval_every": 0,
            "save_every": 2,
        }
        return FitConfig((str(dataset),), str(tiny_model), str(output), **(options | changes))

    return make


def command(config: FitConfig) -> list[str]:
    """The arguments of `python` that run `config`."""
    return [
        *("-m", "train", "fit", *config.datasets, "--model", config.model),
        *("--output", config.output, "--deepspeed", config.deepspeed),
        *("--steps", str(config.steps), "--batch-size", str(config.batch_size)),
        *("--micro-batch", str(config.micro_batch), "--learning-rate", str(config.learning_rate)),
        *("--eval-every", str(config.eval_every), "--save-every", str(config.save_every)),
    ]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def launched(config: FitConfig, processes: int) -> list[str]:
    """The same for so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*(launcher if processes > 1 else []), *command(config)]


def kill_after_a_checkpoint(process: subprocess.Popen[str], run: Path) -> None:
    """SIGKILL to all of them, once the first checkpoint is there."""
    while not (run / "checkpoints" / "step-00000002").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    for victim in [*psutil.Process(process.pid).children(recursive=True), process]:
        victim.kill()
    process.communicate()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, config: Callable[..., FitConfig]) -> Path:
    """A run of the reference: plain torch, one process, whole batches."""
    run = tmp_path_factory.mktemp("runs") / "plain"
    fit(config(run, deepspeed="none", micro_batch=4))
    return run


@pytest.fixture(scope="module")
def zero2(tmp_path_factory: pytest.TempPathFactory, config: Callable[..., FitConfig]) -> Path:
    """An uninterrupted run of DeepSpeed in one process, two micro-batches a step."""
    run = tmp_path_factory.mktemp("runs") / "zero2"
    fit(config(run))
    return run


def assert_equal_steps(run: Path, reference: Path) -> None:
    """Loss and gradient norm: by Adam and clipping the loss alone would hide a wrong scale."""
    for name, tolerance in (("loss", 2e-5), ("gradient_norm", 1e-4)):
        ours, theirs = metrics(run, name), metrics(reference, name)
        assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
        # From the second step on Adam has made more of what rounding left.
        assert ours == pytest.approx(theirs, abs=tolerance)


def test_deepspeed_makes_the_steps_of_plain_torch(plain: Path, zero2: Path) -> None:
    losses = metrics(plain, "loss")
    assert len(losses) == STEPS
    assert losses[-1] < losses[0]
    assert_equal_steps(zero2, plain)


@pytest.mark.parametrize("deepspeed", ["zero1", "zero2-offload", "zero3"])
def test_every_stage_makes_the_steps_of_plain_torch(
    deepspeed: str, plain: Path, tmp_path: Path, config: Callable[..., FitConfig]
) -> None:
    fit(config(tmp_path / "run", deepspeed=deepspeed))
    assert_equal_steps(tmp_path / "run", plain)
    # What is evaluated and saved is the whole model, at whatever stage it was trained.
    assert metrics(tmp_path / "run", "dev_wer") == metrics(plain, "dev_wer")
    ours, theirs = (
        load_file(run / "model" / "model.safetensors") for run in (tmp_path / "run", plain)
    )
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-3, atol=1e-4)
    assert_exported_is_the_result(tmp_path / "run")
    last = load_file(tmp_path / f"run/weights/step-{STEPS:08d}/model.safetensors")
    for name, weight in ours.items():  # the best on dev is the last
        assert torch.equal(last[name], weight)


def assert_exported_is_the_result(run: Path) -> None:
    """The last checkpoint, written as plain safetensors, is the model that the run ended with."""
    folder = to_safetensors(str(run))
    assert folder == run / f"step-{STEPS:08d}"
    exported, result = (load_file(f / "model.safetensors") for f in (folder, run / "model"))
    assert exported.keys() == result.keys()
    assert all(torch.equal(exported[name], result[name]) for name in result)
    with pytest.raises(UserError, match="exists"):
        to_safetensors(str(run))


@pytest.mark.parametrize("engine", ["plain", "zero2"])
def test_a_checkpoint_is_written_as_plain_safetensors(
    engine: str, request: pytest.FixtureRequest
) -> None:
    assert_exported_is_the_result(request.getfixturevalue(engine))


def test_a_run_without_a_checkpoint_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        to_safetensors(str(tmp_path))


def test_a_finished_training_leaves_no_process_group_to_crash_the_exit(zero2: Path) -> None:
    assert json.loads((zero2 / "run.json").read_text())["status"] == "finished"
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_two_processes_make_the_steps_of_one(
    stage: int, plain: Path, tmp_path: Path, config: Callable[..., FitConfig]
) -> None:
    run = tmp_path / "run"
    process = start(launched(config(run, deepspeed=f"zero{stage}", micro_batch=1), 2))
    log, _ = process.communicate(timeout=300)
    assert process.returncode == 0, log
    assert f"DeepSpeedEngine, ZeRO stage {stage}, world size 2" in log
    assert_equal_steps(run, plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["deepspeed", "--num_gpus", "2", "--module"],
        [
            *("accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
            *("--mixed_precision", "no", "--dynamo_backend", "no", "-m"),
        ],
    ],
    ids=["deepspeed", "accelerate"],
)
def test_other_launchers_make_the_same_steps(
    launcher: list[str], plain: Path, tmp_path: Path, config: Callable[..., FitConfig]
) -> None:
    run = tmp_path / "run"
    programs = Path(sys.executable).parent
    _, *arguments = command(config(run, micro_batch=1))
    done = subprocess.run(
        [programs / launcher[0], *launcher[1:], *arguments],
        env=os.environ
        | {
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
            "PATH": f"{programs}:{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "DeepSpeedEngine, ZeRO stage 2, world size 2" in done.stdout
    assert_equal_steps(run, plain)


ALL_THAT_IS_DRAWN = [
    *("--recipe", "large-v2", "--set", "dropout=0.1", "--set", "speed=0.5", "--set", "noise=0.5"),
    *("--set", "label_smoothing=0.1"),
]


@pytest.mark.parametrize(
    ("processes", "deepspeed", "options"),
    [
        (1, "none", []),
        (1, "zero2", ["--set", "streaming=true"]),
        pytest.param(2, "zero2", [], marks=pytest.mark.slow),
        pytest.param(2, "zero2", ["--set", "streaming=true"], marks=pytest.mark.slow),
        pytest.param(2, "zero3", [], marks=pytest.mark.slow),
    ],
    ids=["plain", "streamed", "two processes", "two processes, streamed", "sharded"],
)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    processes: int,
    deepspeed: str,
    options: list[str],
    dataset: Path,
    tmp_path: Path,
    config: Callable[..., FitConfig],
) -> None:
    # Without a dev split the result is the last model.
    shutil.copytree(dataset, tmp_path / "data", ignore=shutil.ignore_patterns("dev-*"))

    def arguments(run: str) -> list[str]:
        settings = dataclasses.replace(
            config(tmp_path / run, deepspeed=deepspeed, micro_batch=4 // processes),
            datasets=(str(tmp_path / "data"),),
        )
        return [*launched(settings, processes), *ALL_THAT_IS_DRAWN, *options]

    def finish(run: str) -> tuple[bytes, list[float]]:
        process = start(arguments(run))
        log, _ = process.communicate(timeout=300)
        assert process.returncode == 0, log
        model = tmp_path / run / "model" / "model.safetensors"
        return model.read_bytes(), metrics(tmp_path / run, "loss")

    undisturbed = finish("undisturbed")
    kill_after_a_checkpoint(start(arguments("killed")), tmp_path / "killed")
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["status"] == "running"
    assert finish("killed") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize(("before", "deepspeed"), [(2, "zero2"), (1, "zero1")])
def test_a_killed_run_carries_on_with_another_number_of_processes(
    before: int, deepspeed: str, plain: Path, tmp_path: Path, config: Callable[..., FitConfig]
) -> None:
    run = tmp_path / "run"
    first, second = (config(run, deepspeed=deepspeed, micro_batch=size) for size in (1, 2))
    kill_after_a_checkpoint(start(launched(first, before)), run)
    process = start(launched(second, 3 - before))
    log, _ = process.communicate(timeout=300)
    assert process.returncode == 0, log
    assert f"world size {3 - before}" in log
    assert "carrying on after step" in log
    assert_equal_steps(run, plain)
    assert not list((run / "checkpoints").glob("*/whole"))


@pytest.mark.slow
def test_at_stage_3_another_number_of_processes_is_told_what_to_do(
    tmp_path: Path, config: Callable[..., FitConfig]
) -> None:
    settings = config(tmp_path / "run", deepspeed="zero3", micro_batch=1)
    kill_after_a_checkpoint(start(launched(settings, 2)), tmp_path / "run")
    with pytest.raises(UserError, match=r"saved by 2 processes.*start 2, or .*train export"):
        fit(settings)


def test_a_run_folder_tells_what_was_run(zero2: Path) -> None:
    record = json.loads((zero2 / "run.json").read_text())
    assert record["engine"] == "DeepSpeedEngine, ZeRO stage 2, world size 1, fp32"
    assert record["config"]["warmup"] == 1
    assert record["best"]["step"] == STEPS
    assert {"torch", "deepspeed", "transformers"} <= record["versions"].keys()
    first = json.loads((zero2 / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 1
    assert first["audio_hours_per_hour"] > 0
    assert 0 <= first["data_wait_share"] < 1
    assert 0 < first["fill"] <= 1
    assert first["loss_by_source"].keys() <= {"tones", "beeps"}
    assert list((zero2 / "tensorboard").iterdir())
    assert (zero2 / "model" / "model.safetensors").exists()
    kept = sorted(path.name for path in (zero2 / "checkpoints").iterdir())
    assert kept == ["step-00000004", "step-00000006"]
    assert not list(zero2.glob("best-*"))
    weights = sorted((zero2 / "weights").iterdir())
    assert [path.name for path in weights][-len(kept) :] == kept
    assert models.load(str(weights[0])).model.config.d_model == 64


def test_a_finished_run_is_not_trained_over(plain: Path, config: Callable[..., FitConfig]) -> None:
    with pytest.raises(UserError, match=r"finished run; choose another --output.*--resume"):
        fit(config(plain, deepspeed="none", micro_batch=4, steps=STEPS + 1))


def test_a_finished_run_that_is_asked_for_again_is_told_not_trained(
    plain: Path, config: Callable[..., FitConfig]
) -> None:
    before = (plain / "metrics.jsonl").read_bytes()
    assert fit(config(plain, deepspeed="none", micro_batch=4))["status"] == "finished"
    assert (plain / "metrics.jsonl").read_bytes() == before


def test_a_run_knows_its_dataset_and_model_from_any_folder(
    dataset: Path,
    tiny_model: Path,
    tmp_path: Path,
    config: Callable[..., FitConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, folder in {"data": dataset, "base": tiny_model}.items():
        (tmp_path / name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    settings = config(tmp_path / "run", deepspeed="none", steps=1, batch_size=2)
    short = dataclasses.replace(settings, datasets=("data",), model="base")
    known = fit(short)["config"]
    assert (known["datasets"], known["model"]) == ([str(dataset)], str(tiny_model))
    # The same asked for from elsewhere is the same run, and so it is where they have moved since.
    monkeypatch.chdir("/")
    assert fit(settings)["config"] == known
    run = tmp_path / "run" / "run.json"
    for there, message in {"tones": None, "other": "choose another --output"}.items():
        moved = {**known, "datasets": [str(tmp_path / "gone" / there)]}
        run.write_text(json.dumps({"status": "finished", "config": moved}))
        with pytest.raises(UserError, match=message) if message else nullcontext():
            fit(settings)


def test_only_one_process_at_a_time_trains_a_run(
    tmp_path: Path, config: Callable[..., FitConfig]
) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is training"):
            fit(config(tmp_path / "run", deepspeed="none"))


@pytest.mark.parametrize("deepspeed", ["none", "zero1"])
def test_a_finished_run_can_be_trained_on(
    deepspeed: str, dataset: Path, tmp_path: Path, config: Callable[..., FitConfig]
) -> None:
    # Without a dev split the result is the last model, whatever it is worth.
    shutil.copytree(dataset, tmp_path / "data", ignore=shutil.ignore_patterns("dev-*"))
    settings = dataclasses.replace(
        config(tmp_path / "run", deepspeed=deepspeed, steps=1, batch_size=2),
        datasets=(str(tmp_path / "data"),),
    )
    model = tmp_path / "run" / "model" / "model.safetensors"
    fit(settings)
    first = model.read_bytes()
    fit(dataclasses.replace(settings, steps=2), resume=True)
    assert len(metrics(tmp_path / "run", "loss")) == 2
    # The added step has the rate of the longer schedule, not the zero that the old one ended on.
    assert model.read_bytes() != first


def test_an_unfinished_run_does_not_carry_on_as_another(
    plain: Path, tmp_path: Path, config: Callable[..., FitConfig]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    record = json.loads((plain / "run.json").read_text()) | {"status": "running"}
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"learning_rate = 0.001, not 0.01"):
        fit(config(run, deepspeed="none", micro_batch=4, learning_rate=0.01))


@pytest.mark.parametrize("deepspeed", ["none", "zero2"])
def test_a_run_that_diverges_ends_at_once_and_says_so(
    tmp_path: Path, config: Callable[..., FitConfig], deepspeed: str
) -> None:
    with pytest.raises(UserError, match=r"step [23]: loss .* diverged; .* below 1e\+30"):
        fit(config(tmp_path / "run", deepspeed=deepspeed, learning_rate=1e30, save_every=0))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, config: Callable[..., FitConfig]
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="no run of ours"):
        fit(config(tmp_path))
    with pytest.raises(UserError, match="no run of ours"):
        fit(config(tmp_path / "thesis.tex"))
