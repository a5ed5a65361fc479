"""Models that label: found by name, converted once, known by the hash of their weights.

A model that `train fit` has made also knows what it was made from: its run, the model it began as
and the datasets, back to the first.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from corpus import console
from corpus.catalogue import Catalogue
from corpus.catalogue import Model as ModelRow
from corpus.errors import UserError
from corpus.files import file_sha256, read_json
from corpus.workspace import Workspace

CT2_WEIGHTS = "model.bin"
"""The file that makes a folder a CTranslate2 model."""

CT2_FOLDER = "ct2"
"""Where `train export` puts one, in the run's folder."""

SETTINGS = ("config.json", "generation_config.json", "tokenizer.json", "preprocessor_config.json")
"""What beside the weights goes into a converted model."""

HUB_FILES = ["*.json", "*.txt", "model.safetensors", "model-*.safetensors", CT2_WEIGHTS]
"""What of a Hub model is needed: weights in one form, tokenizer and settings."""


@dataclass(frozen=True)
class Model:
    """A CTranslate2 folder under the name that its transcripts carry.

    Attributes:
        lineage: what it was made from, where its run tells: see `read_lineage`.
    """

    name: str
    path: str
    lineage: dict[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def sha256(self) -> str | None:
        """Of the weights; none where there are no CTranslate2 weights."""
        weights = Path(self.path) / CT2_WEIGHTS
        if not weights.exists():
            return None
        return file_sha256(weights)

    @property
    def origin(self) -> str:
        """Name and content hash, so that a retrained model of the same name is another origin."""
        return f"{self.name}@{self.sha256[:8]}" if self.sha256 else self.name


def find_model(workspace: Workspace, name: str) -> Model:
    """The model behind a name: a CTranslate2 folder, a Hugging Face folder, a run, or a Hub name.

    A Hugging Face model is converted to CTranslate2 once and kept in the workspace.

    Raises:
        UserError: there is no Whisper model.
    """
    folder = workspace.path(name) if workspace.path(name).is_dir() else Path(name).expanduser()
    if not folder.is_dir():
        # A Hub name has no folder of this machine in front: `runs/other` is a slip, not a name.
        if name.startswith((".", "/", "~")) or ("/" in name and folder.parent.is_dir()):
            raise UserError(f"{name}: no such model folder")
        folder = _download(name)
        return _local_model(workspace, folder, name.replace("/", "--"))
    if (folder / "model").is_dir():  # a run of `train fit`
        folder = folder / "model"
    folder = folder.resolve()
    in_run = folder.name == "model" or folder.name.startswith(CT2_FOLDER)
    return _local_model(workspace, folder, folder.parent.name if in_run else folder.name)


def _download(name: str) -> Path:
    """A model of the Hub in the local cache; a plain size such as large-v3 is faster-whisper's."""
    from faster_whisper.utils import download_model
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=HUB_FILES)
            if "/" in name
            else download_model(name)
        )
    except (ValueError, OSError) as error:  # the Hub's exceptions are kinds of these
        reason = " ".join(str(error).split())
        raise UserError(f"no model folder {name}, and it cannot be fetched: {reason}") from error


def _local_model(workspace: Workspace, folder: Path, title: str) -> Model:
    if (folder / CT2_WEIGHTS).exists():
        return Model(title, str(folder), read_lineage(folder, workspace.root))
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(
            f"{folder}: no Whisper model here; give a CTranslate2 folder, a Hugging Face folder "
            "with safetensors, or a run of `train fit`"
        )
    # The settings too: who mends what `_convert` warns of has it converted anew.
    settings = [path for name in SETTINGS if (path := folder / name).exists()]
    digest = hashlib.sha256()
    for path in [*weights, *settings]:
        digest.update(file_sha256(path).encode())
    converted = _convert(workspace, folder, f"{title}-{digest.hexdigest()[:8]}")
    return Model(title, str(converted), read_lineage(folder, workspace.root))


def _convert(workspace: Workspace, folder: Path, name: str) -> Path:
    target = workspace.models / name
    if target.exists():
        return target
    from ctranslate2.converters import TransformersConverter
    from transformers.utils import logging as transformers_logging

    missing = [
        n for n in ("tokenizer.json", "preprocessor_config.json") if not (folder / n).exists()
    ]
    if missing:
        raise UserError(f"{folder}: {' and '.join(missing)} missing; save the processor there too")
    console.say(f"converting {folder} for labelling, once")
    if not _alignment_heads(folder):
        console.say(
            f"warning: {folder} names no alignment_heads in generation_config.json; half of all "
            "heads are taken, which time words badly: copy the list of the model it was made from"
        )
    transformers_logging.disable_progress_bar()
    with workspace.lock("models"):
        part = workspace.models / f".{name}.part"
        workspace.models.mkdir(exist_ok=True)
        converter = TransformersConverter(
            str(folder), copy_files=["tokenizer.json", "preprocessor_config.json"]
        )
        converter.convert(str(part), force=True)
        part.rename(target)
    return target


def _alignment_heads(folder: Path) -> list[list[int]]:
    """The heads of a Hugging Face model that time words: [layer, head] each.

    Raises:
        UserError: the model has no such heads; CTranslate2 would crash on them.
    """
    heads = read_json(folder / "generation_config.json").get("alignment_heads") or []
    config = read_json(folder / "config.json")
    sizes = config.get("decoder_layers", 0), config.get("decoder_attention_heads", 0)
    if any(layer >= sizes[0] or head >= sizes[1] for layer, head in heads):
        raise UserError(
            f"{folder}/generation_config.json: alignment_heads of another model (this one has "
            f"{sizes[0]} layers of {sizes[1]} heads); copy the list of the model it was made from"
        )
    return heads


def read_lineage(folder: Path, root: Path) -> dict[str, Any]:
    """How the model in a run of `train fit` was made; empty for any other model.

    Returns:
        ``run``, ``base`` (the model it began as, with its own lineage), ``datasets`` (name and
        fingerprint) and ``steps``. Relative paths are looked for here, then at `root`.
    """
    run = next((f for f in (folder, folder.parent) if (f / "run.json").is_file()), None)
    config = read_json(run / "run.json").get("config", {}) if run else {}
    if run is None or "model" not in config:
        return {}
    found = {name: _first_folder(name, root) for name in config.get("datasets", [])}
    name = config["model"]
    base = _first_folder(name, root)
    if base is not None and base.is_relative_to(root):  # which may move
        name = str(base.relative_to(root))
    return {
        "run": run.name,
        "base": {"name": name, **(read_lineage(base, root) if base else {})},
        "datasets": [
            {
                "name": Path(name).name,
                "fingerprint": read_json(at / "manifest.json").get("fingerprint") if at else None,
            }
            for name, at in found.items()
        ],
        "steps": config.get("steps"),
    }


def _first_folder(name: str, root: Path) -> Path | None:
    return next((path for path in (Path(name), root / name) if path.is_dir()), None)


def note_model(catalogue: Catalogue, model: Model) -> None:
    """Write down which model labels, and what it was made from."""
    with catalogue.session() as session:
        if session.get(ModelRow, model.origin) is None:
            session.add(ModelRow(origin=model.origin, sha256=model.sha256, lineage=model.lineage))
