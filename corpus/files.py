"""Files and folders: their names, their SHA-256, and JSON that may be absent or damaged."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def as_text(name: str | Path) -> str:
    """A file's name, or words with one in them, as text that can be stored.

    Bytes that are no UTF-8, as in names of before it, become the replacement character.
    """
    return os.fsencode(name).decode("utf-8", "replace")


def short_name(folder: str) -> str:
    """What a dataset or a model is called: v1 for WS/datasets/v1, a for WS/runs/a/model."""
    path = Path(folder)
    return path.parent.name if path.name == "model" else path.name


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none to read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
