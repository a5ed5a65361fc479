"""Makes the model of a run ready for other programs, and proves that it loads there.

A file of this package for each format; the card goes with a Hugging Face folder. What is written is
read again before it is put in place, and a failed export leaves nothing behind.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corpus.errors import UserError
from train import model as models
from train.export import ct2, ggml, hf, onnx, openai


@dataclass(frozen=True)
class Format:
    """Something that a model can be exported to.

    Attributes:
        name: of the file or folder in the run.
        precision: of the weights, unless another is asked for; None where there is no choice.
        proof: what is known of it once it is written.
        write: writes a model to a path that is free, for a run, in a precision; reads it again,
            and raises whatever goes wrong.
    """

    name: str
    precision: str | None
    proof: str
    write: Callable[[models.Whisper, Path, Path, str], None]


FORMATS = {
    "ct2": Format(
        "ct2", "float32", "loads in faster-whisper and transcribes",
        lambda whisper, path, run, precision: ct2.write(whisper, path, precision),
    ),
    "hf": Format(
        "hf", None, "loads in transformers and transcribes",
        lambda whisper, path, run, precision: hf.write(whisper, path, run, run.resolve().name),
    ),
    "openai": Format(
        "openai.pt", "float32", "reads back as it was written",
        lambda whisper, path, run, precision: openai.write(whisper, path, precision),
    ),
    "ggml": Format(
        "ggml-model.bin", None, "reads back as it was written",
        lambda whisper, path, run, precision: ggml.write(whisper, path),
    ),
    "onnx": Format(
        "onnx", None, "loads in onnxruntime and hears what the model hears",
        lambda whisper, path, run, precision: onnx.write(whisper, path, run, run.resolve().name),
    ),
}  # fmt: skip


def export(
    run: str, to: str = "ct2", output: Path | None = None, quantization: str | None = None
) -> Path:
    """Write a model for another program.

    Args:
        run: a run's folder, a model's folder, or a name on the Hub.
        to: one of `FORMATS`.
        output: by default in the run's folder under the format's name, RUN/ct2-int8 and so on for
            another precision than the format's own.
        quantization: the precision of the weights; of ct2 any that CTranslate2 knows, of openai
            float32 or float16.

    Returns:
        what was written.

    Raises:
        UserError: there is no model, `output` exists, the format has no such precision, or the
            export fails.
    """
    form = FORMATS[to]
    if quantization is not None and form.precision is None:
        raise UserError(f"--to {to} has one form only; leave out --quantization")
    precision = quantization or form.precision or ""
    if output is None:
        if not Path(run).is_dir():
            raise UserError(f"{run}: no such folder; for a model on the Hub give --output too")
        name = Path(form.name)
        special = "" if precision == (form.precision or "") else f"-{precision}"
        output = Path(run) / f"{name.stem}{special}{name.suffix}"
    if output.exists():
        raise UserError(f"{output} exists; remove it or choose another --output")
    whisper = models.load(run)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.name}.part")
    _remove(part)
    try:
        form.write(whisper, part, Path(run), precision)
        part.rename(output)
    except UserError:
        raise
    except Exception as error:  # other libraries and a disk, with every kind of error between them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{run}: the export to {to} failed ({reason})") from error
    finally:
        _remove(part)
    return output


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
