"""Which weights are trained, and how fast each of them.

AdamW as in Whisper's pre-training (Radford et al. 2022, appendix F): betas 0.9 and 0.98, epsilon
1e-6, no decay of biases and norms.
"""

from collections import defaultdict
from typing import Any

import torch

from corpus.errors import UserError
from train.config import FitConfig, Plan
from train.loss import WhisperLoss

BETAS, EPSILON = (0.9, 0.98), 1e-6
WEIGHT_DECAY = 0.01

FREEZABLE = {
    "encoder": "model.encoder.",
    "conv": "model.encoder.conv",
    "decoder": "model.decoder.",
    "decoder_positions": "model.decoder.embed_positions.",
}
"""What `freeze` may name, and how its weights' names begin."""


def freeze(model: Any, parts: tuple[str, ...]) -> None:
    """Keep parts of a `WhisperForConditionalGeneration` as they are.

    Raises:
        UserError: there is no such part, or nothing would be left to train.
    """
    for part in parts:
        if part not in FREEZABLE:
            raise UserError(f"freeze = {part!r}: there are {', '.join(FREEZABLE)}")
        for name, weight in model.named_parameters():
            if name.startswith(FREEZABLE[part]):
                weight.requires_grad = False
    if not any(weight.requires_grad for weight in model.parameters()):
        raise UserError(f"freeze = {', '.join(parts)}: nothing is left to train")


def rate_factor(name: str, model: Any, config: FitConfig) -> float:
    """What a weight's learning rate is multiplied by, from its name in `model`.

    With `layer_decay` d each layer learns d times as fast as the one above it, the embeddings and
    convolutions below the lowest (Clark et al. 2020, section 3.3); with `encoder_rate` the encoder
    learns that much faster or slower than the decoder.
    """
    _, _, inside = name.partition("model.")
    stack_name, _, rest = inside.partition(".")
    if stack_name not in ("encoder", "decoder"):
        return 1.0
    depth = len(getattr(model.model, stack_name).layers)
    parts = rest.split(".")
    if parts[0] == "layers":
        below = depth - 1 - int(parts[1])
    else:
        below = 0 if parts[0] == "layer_norm" else depth
    factor = config.layer_decay**below
    return factor * config.encoder_rate if stack_name == "encoder" else factor


def new_optimizer(
    loss: WhisperLoss, config: FitConfig, plan: Plan, *, fused: bool
) -> tuple[Any, Any]:
    """AdamW over the weights of a `WhisperLoss` that are not frozen, and its schedule."""
    groups: dict[tuple[float, float], list[Any]] = defaultdict(list)
    model = loss.whisper
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            decay = WEIGHT_DECAY if weight.ndim > 1 else 0.0
            groups[rate_factor(name, model, config), decay].append(weight)
    optimizer = torch.optim.AdamW(
        [
            # Times what the schedule says.
            {"params": weights, "lr": factor, "weight_decay": decay}
            for (factor, decay), weights in groups.items()
        ],
        betas=BETAS,
        eps=EPSILON,
        fused=fused,
    )
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, plan.rate)


def set_rates(optimizer: Any, plan: Plan, step: int) -> None:
    """After loading, go by the plan as it is now: a run may carry on with more steps."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * plan.rate(step)


def place_steps(optimizer: Any) -> None:
    """Put Adam's counts of steps beside their weights, as torch does when it loads them.

    DeepSpeed's universal checkpoint leaves them on the CPU, where fused Adam does not find them.
    """
    for weight, state in optimizer.state.items():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].to(weight.device)
