"""Stochastic depth: in training, each window skips some of the layers.

Huang et al. 2016, with the survival probability falling linearly with depth as they propose;
Whisper's large-v2 was trained so (Radford et al. 2022, table 18). What a layer adds to its input is
multiplied by 0 or 1 / (1 - p), window by window. Every layer runs for every batch: where whole
layers are left out, as by `encoder_layerdrop` of transformers, processes disagree about which, and
ZeRO stage 3 takes the gradient of the step before for a layer that was left out.
"""

import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class StochasticDepth:
    """Makes the layers of a Whisper skippable, in training mode only.

    Args:
        model: a `WhisperForConditionalGeneration`.
        rate: probability of skipping the last layer of encoder and decoder, 0 to 1.
    """

    def __init__(self, model: Any, rate: float) -> None:
        self.kept: Tensor | None = None
        """bool [B, layers]: which layers each window of the present micro-batch keeps."""
        stacks = [model.model.encoder.layers, model.model.decoder.layers]
        rates = skip_rates([len(stack) for stack in stacks], rate)
        for index, layer in enumerate(layer for stack in stacks for layer in stack):
            layer.register_forward_hook(partial(self._skip, index, 1.0 / (1.0 - rates[index])))

    @torch.compiler.disable  # else compiled layers have a program for each index, up to a limit
    def _skip(
        self, index: int, scale: float, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> Tensor | None:
        if not layer.training or self.kept is None:
            return None
        hidden = inputs[0]
        factor = self.kept[:, index, None, None].to(hidden.dtype) * scale
        return torch.addcmul(hidden, output - hidden, factor)


def skip_rates(depths: list[int], rate: float) -> list[float]:
    """Probability of skipping each layer: in each stack from rate / depth to `rate`."""
    return [rate * (layer + 1) / depth for depth in depths for layer in range(depth)]


def draw_kept(chance: random.Random, rates: list[float]) -> list[bool]:
    """For one window, whether it keeps each layer."""
    return [chance.random() >= rate for rate in rates]
