"""Figures are there once, whatever was killed, for people, for TensorBoard and for W&B."""

import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from train.logs import Log


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_a_run_that_carries_on_shows_each_step_once(tmp_path: Path) -> None:
    log = Log(tmp_path, {}, 0)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": float(step), "loss_by_source": {"radio": 0.5}})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed here
    time.sleep(1)  # TensorBoard reads its files in the order of their seconds

    log = Log(tmp_path, {}, 2)
    for step in (3, 4):
        log.write({"step": step, "loss": 10.0 * step})
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1), (2, 2), (3, 30), (4, 40)]
    shown = curves(tmp_path)
    assert shown["loss"] == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]
    assert shown["loss_by_source/radio"] == [(1, 0.5), (2, 0.5)]


def test_weights_and_biases_is_told_where_a_project_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Run:
        def log(self, metrics: dict[str, float], step: int) -> None:
            told.append((step, metrics))

        def finish(self) -> None:
            told.append("finished")

    # The real one wants an account.
    module = types.ModuleType("wandb")
    module.init = lambda **options: told.append(options["config"]) or Run()  # type: ignore
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    Log(tmp_path / "a", {}, 0).close()
    assert told == []
    monkeypatch.setenv("WANDB_PROJECT", "czech")
    log = Log(tmp_path / "b", {"seed": 1}, 0)
    log.write({"step": 1, "loss": 2.0, "loss_by_source": {"radio": 0.5}})
    log.close()
    assert told == [{"seed": 1}, (1, {"loss": 2.0, "loss_by_source/radio": 0.5}), "finished"]
