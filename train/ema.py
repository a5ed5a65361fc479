"""An exponential moving average of the weights, which forgets less than the last of them.

It is what is evaluated and saved where `ema` is set. Early on it follows closely, since the first
weights say little: the decay is at most (1 + step) / (10 + step).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Average:
    """Of the trained weights of a model, in fp32 on its device.

    Args:
        model: any module; frozen weights need no average.
        decay: how much of the average is kept in a step, 0 to 1.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self.decay = decay
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.averages = {n: p.detach().float().clone() for n, p in self.weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weight in self.weights.items():
            self.averages[name].lerp_(weight.detach().float(), 1.0 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the model for the time of the block."""
        kept = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._write(self.averages)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(values[name])

    def state(self) -> dict[str, Tensor]:
        """To be saved."""
        return self.averages

    def load(self, state: dict[str, Tensor]) -> None:
        """What `state` gave."""
        for name, average in self.averages.items():
            average.copy_(state[name])
