"""Checkpoints that are complete or are not there.

A checkpoint is written to a hidden folder, synced to disk and renamed. What a kill leaves behind is
never taken for a checkpoint.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from train.engine import Processes

KEPT = 2
"""Should the latest turn out to be damaged on disk, there is the one before."""


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in a folder of checkpoints."""
    complete = [path for path in folder.glob("step-*") if (path / "state.json").exists()]
    return max(complete, default=None)


def write(
    folder: Path,
    step: int,
    save_part: Callable[[Path], None],
    state: Mapping[str, Any],
    processes: Processes,
) -> None:
    """Write the checkpoint of `step`: all processes call this, each saves its part.

    Args:
        folder: of checkpoints.
        save_part: given a folder, writes this process's part.
        state: JSON, the same on all processes; read back by `read_state`.
    """
    part, target = folder / f".step-{step:08d}.part", folder / f"step-{step:08d}"
    if processes.first:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    processes.wait()
    save_part(part)
    processes.wait()
    if processes.first:
        (part / "state.json").write_text(json.dumps(state, indent=2) + "\n")
        for path in [*part.rglob("*"), part]:
            _sync(path)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        _sync(folder)
        for old in sorted(folder.glob("step-*"))[:-KEPT]:
            shutil.rmtree(old)
    processes.wait()


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The state that `write` was given."""
    return dict(json.loads((checkpoint / "state.json").read_text()))


def write_json(path: Path, data: Any) -> None:
    """Replace a JSON file whole."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file whole."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    _sync(part)
    part.replace(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
