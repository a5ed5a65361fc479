"""Makes the model of a run ready for other programs, and proves that it loads there."""

import json
import shutil
from pathlib import Path

import numpy as np

from corpus.audio import SAMPLE_RATE
from corpus.errors import UserError
from train import checkpoint, lora
from train import model as models

COPIED_FILES = ["tokenizer.json", "preprocessor_config.json"]
"""Without the first faster-whisper fetches another model's; without the second it assumes 80 mels,
which large-v3 does not have."""


def to_ctranslate2(run: str, output: Path | None = None, quantization: str = "float32") -> Path:
    """Convert a model for CTranslate2, on which faster-whisper and `corpus label` run.

    The model is first saved anew, since checkpoints from elsewhere may lack the language ids or the
    files that the conversion needs. The converted model is then loaded with faster-whisper and
    transcribes a second of audio before it is put in place.

    Args:
        run: a run's folder, a model's folder, or a name on the Hub.
        output: by default RUN/ct2, or RUN/ct2-int8 and so on for a quantization.
        quantization: any that CTranslate2 knows.

    Returns:
        the folder of the converted model.

    Raises:
        UserError: there is no model, `output` exists, or the conversion fails.
    """
    if output is None:
        if not Path(run).is_dir():
            raise UserError(f"{run}: no such folder; for a model on the Hub give --output too")
        output = Path(run) / ("ct2" if quantization == "float32" else f"ct2-{quantization}")
    if output.exists():
        raise UserError(f"{output} exists; remove it or choose another --output")
    whisper = models.load(run)

    from ctranslate2.converters import TransformersConverter

    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        models.save(whisper, part / "source")
        converter = TransformersConverter(str(part / "source"), copy_files=COPIED_FILES)
        converter.convert(str(part / "converted"), quantization=quantization)
        transcribe_a_second(part / "converted")
        (part / "converted").rename(output)
    except Exception as error:  # two libraries and a disk, with every kind of error between them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{run}: the conversion to CTranslate2 failed ({reason})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return output


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


def transcribe_a_second(folder: Path) -> None:
    """Load a converted model with faster-whisper and let it work, from language to timestamps."""
    from faster_whisper import WhisperModel

    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    model = WhisperModel(str(folder), device="cpu", cpu_threads=1, local_files_only=True)
    segments, _ = model.transcribe(noise, temperature=0.0, beam_size=1, max_new_tokens=16)
    for _ in segments:  # a generator: transcription happens here
        pass
