"""LoRA: small matrices beside the frozen weights are trained in their place (Hu et al. 2021).

`peft` puts them into the model. What is saved is always the whole model, with the matrices added to
the weights, so that everything that reads a Whisper reads it.
"""

from typing import Any

from torch import Tensor

from corpus.errors import UserError

TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
"""All linear layers of encoder and decoder."""

RATE_FACTOR = 25.0
"""The matrices start at zero and take a rate 20 to 30 times that of the weights themselves."""


def add_lora(model: Any, rank: int) -> None:
    """Freeze a model's weights and put matrices of a rank beside them.

    Raises:
        UserError: `peft` is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError('lora needs peft: `pip install -c constraints.txt -e ".[lora]"`') from error
    for weight in model.parameters():
        weight.requires_grad = False
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS)
    inject_adapter_in_model(settings, model)


def merge(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's state by the names of one without LoRA, the matrices added to the weights.

    Args:
        model: the model, whose modules tell where matrices are and how they are scaled.
        state: its state dict, whole, or an average of it.
    """
    merged = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in state.items()
        if ".lora_" not in name
    }
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            down = state[f"{name}.lora_A.default.weight"]
            up = state[f"{name}.lora_B.default.weight"]
            weight = merged[f"{name}.weight"]
            delta = up.float() @ down.float() * module.scaling["default"]
            merged[f"{name}.weight"] = (weight.float() + delta).to(weight.dtype)
    return merged
