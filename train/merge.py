"""The mean of models, and the way between a model and the one it was made from.

The mean of a run's last checkpoints is mostly a little better than each (Izmailov et al. 2018,
arXiv:1803.05407). A mean of the fine-tuned and the base model keeps much of what the base knew and
much of what was learnt (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903): alpha is the share of the
fine-tuned, tried from 0 to 1 on datasets of both kinds.

Tensors are read, added and written one by one: the memory of one, not of all models. The sweep
reads all weights anew for each alpha and decodes every dataset with it; that is what it costs. On
disk there are the best so far and the one that is tried.
"""

import dataclasses
import json
import math
import shutil
import struct
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from corpus import console
from corpus.errors import UserError
from corpus.files import read_json
from train.checkpoint import write_json
from train.config import absolute
from train.evaluate import report, shown
from train.model import find, replace_folder
from train.predict import Decoding, predict, trained_language_token

TIED = "proj_out.weight"
"""Is the decoder's embedding; some files have it twice."""

WEIGHTS = "*.safetensors"
SETTINGS = ("*.json", "*.txt")

HEADER_ALIGNMENT = 8
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Of safetensors: its header's length is a multiple of the one, the others are its types."""

Part = tuple[Path, float]
"""A model's folder and its share."""


def average(
    names: Sequence[str],
    output: Path | None = None,
    *,
    base: str | None = None,
    alphas: Sequence[float] = (),
    datasets: Sequence[Path] = (),
    how: Decoding | None = None,
) -> dict[str, Any]:
    """Write the mean of models, or the best point between the base and that mean.

    Args:
        names: runs, each of which stands for its last checkpoints, or models.
        output: a folder for `model/` and `run.json`; by default `averaged` in the first run.
        base: the model that they were made from.
        alphas: shares of the mean that are tried; the rest is the base.
        datasets: what each alpha is tried on. The lowest mean of their WERs wins, so give the
            language that was trained and one that shall be kept.
        how: how they are decoded.

    Returns:
        what was averaged, and for each alpha its figures: also kept in `run.json`.

    Raises:
        UserError: a model is missing or of another shape, `output` exists, or there is nothing to
            choose by.
    """
    if output is None:
        if not Path(names[0]).is_dir():
            raise UserError(f"{names[0]}: no such folder; for models on the Hub give --output too")
        output = Path(names[0]) / "averaged"
    if output.exists():
        raise UserError(f"{output} exists; remove it or choose another --output")
    if base is None and (alphas or datasets):
        raise UserError("alphas and datasets choose between a mean and its --base; name that too")
    if base is not None and len(alphas) != 1 and not datasets:
        raise UserError("several alphas and nothing to choose by: name datasets with --on")
    folders = [folder for name in names for folder in _folders(name)]
    if base is None and len(folders) < 2:
        raise UserError(f"{folders[0]} alone has no mean; give more models, or a --base")
    starting = _local(base) if base is not None else None
    check_shapes([*folders, *([starting] if starting else [])])
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        done = Path(scratch) / "averaged"
        done.mkdir()
        record: dict[str, Any] = {"models": list(map(str, folders))}
        record["base"] = absolute(base) if base is not None else None
        if starting is None:
            _write_model(_parts(folders, None, 1.0), done / "model")
        else:
            how = how or Decoding("dev")
            token = how.language_token or trained_language_token(Path(names[0]))
            how = dataclasses.replace(how, language_token=token)
            sweep = []
            for alpha in sorted(set(alphas)):
                folder = Path(scratch) / f"alpha-{alpha}"
                sweep.append(_try(folders, starting, alpha, folder, datasets, how))
                # Of equal ones the first, which is nearest to the base.
                best = min(sweep, key=lambda tried: tried.get("macro_wer", 0.0))
                if best is sweep[-1]:
                    replace_folder(folder, done / "model")
                else:
                    shutil.rmtree(folder)
            record |= {"alpha": best["alpha"], "sweep": sweep}
        run = read_json(Path(names[0]) / "run.json")
        write_json(done / "run.json", {**run, "averaged": record})
        done.rename(output)
    return {"output": str(output), **record}


def _try(
    folders: Sequence[Path],
    base: Path,
    alpha: float,
    folder: Path,
    datasets: Sequence[Path],
    how: Decoding,
) -> dict[str, Any]:
    """Write the model at `alpha` as `folder`, and tell its figures on each dataset."""
    _write_model(_parts(folders, base, alpha), folder)
    if not datasets:
        return {"alpha": alpha}
    found = {}
    predictions, _ = predict(str(folder), datasets, how)
    for name in dict.fromkeys(prediction.dataset for prediction in predictions):
        figures = report([p for p in predictions if p.dataset == name])["normalised"]
        found[name] = {key: figures[key] for key in ("wer", "wer_interval", "cer", "words")}
    macro = sum(figures["wer"] for figures in found.values()) / len(found)
    return {"alpha": alpha, "macro_wer": macro, "datasets": found}


def _parts(folders: Sequence[Path], base: Path | None, alpha: float) -> list[Part]:
    mean = [(folder, alpha / len(folders)) for folder in folders]
    return mean if base is None else [*mean, (base, 1 - alpha)]


def _folders(name: str) -> list[Path]:
    """The models behind a name: a run's last checkpoints, or the one model."""
    kept = sorted((Path(name) / "weights").glob("step-*"))
    return kept or [_local(name)]


def _local(name: str) -> Path:
    """A model's folder on this machine; one on the Hub is fetched.

    Raises:
        UserError: there is none, or it has no safetensors.
    """
    folder = Path(find(name))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", WEIGHTS]))
        except (OSError, ValueError) as error:  # the Hub's exceptions are kinds of these
            reason = " ".join(str(error).split())
            raise UserError(f"{name}: cannot be fetched ({reason})") from error
    if not any(folder.glob(WEIGHTS)):
        raise UserError(f"{name}: no safetensors in it; load it with transformers and save it anew")
    return folder


# --- tensors --------------------------------------------------------------------------------------


class Tensors:
    """The weights in a model's folder, each read when it is asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        self.files: dict[str, Any] = {}
        for path in sorted(folder.glob(WEIGHTS)):
            file = stack.enter_context(safe_open(path, framework="pt"))
            self.files |= dict.fromkeys(file.keys(), file)
        self.files.pop(TIED, None)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, without reading it."""
        return tuple(self.files[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """As safetensors names it, such as F32 or BF16."""
        return str(self.files[name].get_slice(name).get_dtype())

    def read(self, name: str) -> torch.Tensor:
        """A tensor."""
        tensor: torch.Tensor = self.files[name].get_tensor(name)
        return tensor


def check_shapes(folders: Sequence[Path]) -> None:
    """See that models have the same tensors.

    Raises:
        UserError: one has others.
    """
    with ExitStack() as stack:
        first, *others = (Tensors(folder, stack) for folder in folders)
        for folder, other in zip(folders[1:], others, strict=True):
            for name in sorted(first.files.keys() | other.files.keys()):
                here, there = (
                    "x".join(map(str, one.shape(name))) if name in one.files else "missing"
                    for one in (first, other)
                )
                if here != there:
                    raise UserError(
                        f"{folder} is another kind of model than {folders[0]}: {name} is {there}, "
                        f"not {here}"
                    )


def write_sum(parts: Sequence[Part], path: Path) -> None:
    """Write the weighted sum of models as one safetensors file, with the first one's types.

    The file is a header of JSON (type, shape and place of each tensor) after its length in eight
    bytes, then the tensors' bytes: https://huggingface.co/docs/safetensors.
    """
    with ExitStack() as stack:
        models = [(Tensors(folder, stack), share) for folder, share in parts]
        first = models[0][0]
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        place = 0
        for name in first.files:
            dtype, shape = first.dtype(name), first.shape(name)
            size = math.prod(shape) * ITEM_BYTES[dtype]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (place, place + size)}
            place += size
        told = json.dumps(header).encode()
        told += b" " * (-len(told) % HEADER_ALIGNMENT)
        file = stack.enter_context(path.open("wb"))
        file.write(struct.pack("<Q", len(told)) + told)
        for name in console.progress(list(first.files), desc=path.parent.name, unit="tensor"):
            # In 64 bits, so that the mean of equal weights is that weight.
            total = torch.zeros(first.shape(name), dtype=torch.float64)
            for tensors, share in models:
                total += share * tensors.read(name).double()
            tensor = total.to(first.read(name).dtype)
            file.write(tensor.flatten().view(torch.uint8).numpy().data)


def _write_model(parts: Sequence[Part], folder: Path) -> None:
    """The weighted sum of models with the settings and the tokenizer of the first."""
    folder.mkdir()
    for pattern in SETTINGS:
        for path in parts[0][0].glob(pattern):
            if not path.name.endswith(".safetensors.index.json"):
                shutil.copyfile(path, folder / path.name)
    write_sum(parts, folder / "model.safetensors")


# --- for people -----------------------------------------------------------------------------------


def print_sweep(found: Mapping[str, Any]) -> None:
    """Print what `average` returns, as a table of alphas where there was something to choose by."""
    tried = [one for one in found.get("sweep", []) if "datasets" in one]
    if tried:
        names = list(tried[0]["datasets"])
        console.print_table(
            f"between {found['base']} (0) and the fine-tuned (1)",
            ["alpha", *(f"{name}: WER % (95 %)" for name in names), "mean", ""],
            [
                [
                    f"{one['alpha']:g}",
                    *(shown(one["datasets"][name]) for name in names),
                    f"{100 * one['macro_wer']:.2f}",
                    "taken" if one["alpha"] == found["alpha"] else "",
                ]
                for one in tried
            ],
        )
    print(f"{found['output']}/model: made of {len(found['models'])} models")
    print(f"next: train evaluate {found['output']} DATASET")
