"""The last checkpoint of a run, finished or not, as a model of its own."""

import json
from pathlib import Path

from corpus.errors import UserError
from train import checkpoint, lora
from train import model as models


def to_safetensors(run: str, output: Path | None = None) -> Path:
    """Write the last checkpoint of a run, finished or not, as a Hugging Face model in fp32.

    What DeepSpeed divided among processes is put together, LoRA's matrices are added to the
    weights, and where the run keeps an average of the weights it is that which is written.

    Args:
        output: by default RUN/step-N.

    Returns:
        the folder of the model.

    Raises:
        UserError: there is no run, it has no checkpoint yet, or `output` exists.
    """
    import torch

    folder = Path(run)
    found = checkpoint.latest(folder / "checkpoints")
    if found is None:
        raise UserError(f"{run}: no checkpoint; it is written after --save-every steps")
    output = output or folder / found.name
    if output.exists():
        raise UserError(f"{output} exists; remove it or choose another --output")
    settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]
    whisper = models.load(settings["model"])
    if settings["lora"]:
        lora.add_lora(whisper.model, settings["lora"])
    if (found / "torch.pt").exists():
        whole = torch.load(found / "torch.pt", weights_only=True, map_location="cpu")["model"]
    else:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        whole = get_fp32_state_dict_from_zero_checkpoint(str(found), tag="engine")
    # The engines hold the model inside its loss.
    trained = {name.removeprefix("whisper."): tensor for name, tensor in whole.items()}
    # DeepSpeed's ZeRO stage 1 leaves out what is not trained, which is as it was at the start.
    state = whisper.model.state_dict() | trained
    if (found / "average.pt").exists():
        state |= torch.load(found / "average.pt", weights_only=True, map_location="cpu")
    models.save(whisper, output, state)
    return output
