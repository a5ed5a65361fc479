"""What was made of the corpus: datasets and training runs, from the files that they left."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus.files import read_json, short_name


def datasets_built(folder: Path) -> Iterator[dict[str, Any]]:
    """The datasets whose manifest can be read."""
    for path in sorted(folder.glob("[!.]*/manifest.json")):
        manifest = read_json(path)
        splits = manifest.get("splits", {})
        if splits:
            yield {
                "name": path.parent.name,
                "hours": sum(part["seconds"] for part in splits.values()) / 3600,
                "rows": {name: part["rows"] for name, part in splits.items()},
                "segments": sum(part["segments"] for part in splits.values()),
                "left_out": sum(manifest.get("left_out", {}).values()),
            }


def runs_made(folder: Path) -> Iterator[dict[str, Any]]:
    """The runs of `train fit`, with the best of their evaluations on dev so far."""
    for path in sorted(folder.glob("[!.]*/run.json")):
        record = read_json(path)
        if "config" not in record:
            continue
        evaluations = _evaluations(path.with_name("metrics.jsonl"))
        best = min(evaluations, key=lambda made: made["dev_wer"], default=None)
        best = record.get("best") or best or {}
        yield {
            "name": path.parent.name,
            "status": record.get("status"),
            "model": _model_name(record["config"].get("model") or ""),
            "datasets": [Path(name).name for name in record["config"].get("datasets") or []],
            "steps": record["config"].get("steps"),
            "best_step": best.get("step"),
            "dev_wer": best.get("dev_wer"),
            "dev_cer": best.get("dev_cer"),
        }


def _model_name(model: str) -> str:
    """The name of a model; the place of its folder on a disk is nobody's business."""
    return short_name(model) if Path(model).is_absolute() else model


def _evaluations(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics that tell a WER; a kill may have cut the last one short."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [json.loads(line) for line in lines if '"dev_wer"' in line and line.endswith("}")]
