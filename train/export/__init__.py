"""Makes the model of a run ready for other programs, and proves that it loads there.

A file for each format: `ct2` for faster-whisper and `corpus label`. What is written is read again
before it is put in place; a failed export leaves nothing behind.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from corpus.errors import UserError
from train import model as models
from train.export import ct2

Write = Callable[[models.Whisper, Path], None]
"""Writes a model to a path that is free, reads it again, and raises what goes wrong."""


def export(
    run: str, to: str = "ct2", output: Path | None = None, quantization: str = "float32"
) -> Path:
    """Convert a model for another program.

    Args:
        run: a run's folder, a model's folder, or a name on the Hub.
        to: the format.
        output: by default RUN/ct2, RUN/ct2-int8 and so on.
        quantization: of ct2, any that CTranslate2 knows.

    Returns:
        what was written.

    Raises:
        UserError: there is no model, `output` exists, or the conversion fails.
    """
    if output is None:
        if not Path(run).is_dir():
            raise UserError(f"{run}: no such folder; for a model on the Hub give --output too")
        output = Path(run) / (to if quantization == "float32" else f"{to}-{quantization}")
    if output.exists():
        raise UserError(f"{output} exists; remove it or choose another --output")
    whisper = models.load(run)
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        ct2.write(whisper, part, quantization)
        part.rename(output)
    except Exception as error:  # other libraries and a disk, with every kind of error between them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{run}: the export to {to} failed ({reason})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return output
