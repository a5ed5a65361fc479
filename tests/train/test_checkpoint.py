"""A checkpoint is complete or it is not there."""

from pathlib import Path

import pytest
import torch

from train import checkpoint
from train.engine import Processes

ALONE = Processes(rank=0, world=1, device=torch.device("cpu"))


def save(folder: Path, step: int) -> None:
    checkpoint.write(folder, step, lambda part: (part / "weights").touch(), {"step": step}, ALONE)


def test_the_latest_two_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    for step in (5, 90, 100):
        save(tmp_path, step)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert checkpoint.read_state(found) == {"step": 100}
    assert len(list(tmp_path.iterdir())) == 2


def test_one_that_broke_off_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def fails(part: Path) -> None:
        (part / "half").touch()
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        checkpoint.write(tmp_path, 2, fails, {"step": 2}, ALONE)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert checkpoint.read_state(found) == {"step": 1}
    save(tmp_path, 2)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
