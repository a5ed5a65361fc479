"""Makes the model of a run ready for other programs, and proves that it loads there."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from corpus.audio import SAMPLE_RATE
from corpus.errors import UserError
from train import model as models

NEEDED_FILES = ["tokenizer.json", "preprocessor_config.json"]
"""Without the first faster-whisper fetches another model's; without the second it assumes 80 mels,
which large-v3 does not have."""


def to_ctranslate2(run: str, output: Path | None = None, quantization: str = "float32") -> Path:
    """Convert a run's model for CTranslate2, on which faster-whisper and `corpus label` run.

    The converted model is loaded again and transcribes a second of audio before it is put in place.

    Args:
        run: a run's folder, a model's folder, or a name on the Hub.
        output: by default RUN/ct2, or RUN/ct2-int8 and so on for a quantization.

    Returns:
        the folder of the converted model.

    Raises:
        UserError: there is no model, `output` exists, or the conversion fails.
    """
    source = Path(models.find(run))
    if not source.is_dir():
        raise UserError(f"{run}: no such folder; give a run's or a model's folder")
    name = "ct2" if quantization == "float32" else f"ct2-{quantization}"
    output = output or Path(run) / name
    if output.exists():
        raise UserError(f"{output} exists; remove it or choose another --output")
    if missing := [file for file in NEEDED_FILES if not (source / file).exists()]:
        raise UserError(
            f"{source} lacks {' and '.join(missing)}; save the model with its processor"
        )

    from ctranslate2.converters import TransformersConverter

    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        converter = TransformersConverter(str(source), copy_files=NEEDED_FILES)
        converter.convert(str(part), quantization=quantization)
        check_transcribes(part)
        part.rename(output)
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{run}: the conversion to CTranslate2 failed ({reason})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return output


def check_transcribes(folder: Path) -> list[Any]:
    """Load a converted model with faster-whisper and transcribe a second of noise with it."""
    from faster_whisper import WhisperModel

    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    model = WhisperModel(str(folder), device="cpu", cpu_threads=1, local_files_only=True)
    segments, _ = model.transcribe(noise, temperature=0.0, beam_size=1, max_new_tokens=16)
    return list(segments)
