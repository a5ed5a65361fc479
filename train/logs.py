"""Where the figures of a run go: a file of JSON lines, TensorBoard, and Weights & Biases.

RUN/metrics.jsonl is what everything else can be made from. TensorBoard's files lie in
RUN/tensorboard. Weights & Biases is told where it is installed and WANDB_PROJECT names a project.
"""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from train.checkpoint import write_text


class Log:
    """The figures of one run, written by its first process.

    Args:
        folder: the run's.
        config: the resolved configuration, for those that show it.
        step: the last step whose figures still hold; those of later ones will come again.
    """

    def __init__(self, folder: Path, config: dict[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.file = folder / "metrics.jsonl"
        self._forget_after(step)
        self.tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self.wandb: Any = None
        if os.environ.get("WANDB_PROJECT") and importlib.util.find_spec("wandb"):
            import wandb

            self.wandb = wandb.init(
                id=folder.name, name=folder.name, dir=folder, config=config, resume="allow"
            )

    def write(self, metrics: dict[str, Any]) -> None:
        """Figures of a step, by name; a figure may be several by a name of their own."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics, ensure_ascii=False) + "\n")
        flat: dict[str, float] = {}
        for name, value in metrics.items():
            if isinstance(value, dict):
                flat |= {f"{name}/{part}": figure for part, figure in value.items()}
            elif name != "step":
                flat[name] = value
        for name, value in flat.items():
            self.tensorboard.add_scalar(name, value, metrics["step"])
        if self.wandb is not None:
            self.wandb.log(flat, step=metrics["step"])

    def close(self) -> None:
        """Write what is still held back."""
        self.tensorboard.close()
        if self.wandb is not None:
            self.wandb.finish()

    def _forget_after(self, step: int) -> None:
        """Drop the metrics of steps that will be done again."""
        lines = self.file.read_text("utf-8").splitlines() if self.file.exists() else []
        # A kill may have cut the last line short.
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_text(self.file, "".join(f"{line}\n" for line in kept))
