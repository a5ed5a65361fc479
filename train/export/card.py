"""What a model says of itself in words, from what its run and its datasets wrote down."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus import console
from corpus.dataset import read_manifest
from corpus.files import read_json, short_name
from train.evaluate import read_evaluations, shown

UNNAMED = ("datasets", "model", "output")
"""Settings that the command at the top of the table names already."""

HUB_NAME = r"[\w-][\w.-]*(/[\w.-]+)?"


def write(run: Path, name: str, library: str = "transformers") -> dict[str, str]:
    """README.md of a model, and ATTRIBUTION.md where its datasets have one.

    Args:
        run: a run of `train fit` or `train average`; of any other folder nothing is known.
        name: of the model.
        library: the program that loads it, by the Hub's name.
    """
    record = read_json(run / "run.json")
    config = record.get("config", {})
    names = config.get("datasets", [])
    datasets = [folder for folder in map(Path, names) if folder.is_dir()]
    gone = [name for name in names if Path(name).is_absolute() and not Path(name).exists()]
    if gone:
        console.say(f"{', '.join(gone)}: not there, so the card tells neither hours nor licences")
    files = {"README.md": _readme(name, library, run, record, datasets, gone)}
    attributions = [folder / "ATTRIBUTION.md" for folder in datasets]
    texts = [path.read_text(encoding="utf-8") for path in attributions if path.exists()]
    if any(texts):
        files["ATTRIBUTION.md"] = "\n".join(texts)
    return files


def _readme(
    name: str,
    library: str,
    run: Path,
    record: Mapping[str, Any],
    datasets: Sequence[Path],
    gone: Sequence[str],
) -> str:
    config = record.get("config", {})
    manifests = [read_manifest(folder) for folder in datasets]
    speech = [part for manifest in manifests for part in manifest.get("speech", [])]
    evaluations = read_evaluations(run)
    header: dict[str, Any] = {
        "library_name": library,
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["whisper", "whisper-harvest"],
    }
    if languages := sorted({code for m in manifests for code in m.get("languages", [])}):
        header["language"] = languages
    base = config.get("model", "")
    if re.fullmatch(HUB_NAME, base) and not Path(base).exists():  # the Hub has no folder of ours
        header["base_model"] = base
    lines = [
        "---",
        # JSON is YAML, and quotes what needs quoting.
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()),
        "---",
        "",
        f"# {name}",
        "",
        *_origin(record),
        *_results(evaluations),
        *_hours("source", speech),
        *_hours("licence", speech),
        *_hours("label_kind", speech),
    ]
    if speech:
        lines += [
            "The works and their authors are in `ATTRIBUTION.md`. Whether the licences of what a "
            "model was trained on reach the model is not settled; they are listed for you to "
            "decide under which one to publish it.",
            "",
        ]
    if gone:
        lines += [
            f"Hours, licences and authors of {_names(gone)} are not told: it was not at hand when "
            "this was written.",
            "",
        ]
    lines += _settings(record)
    return "\n".join(lines).rstrip() + "\n"


def _origin(record: Mapping[str, Any]) -> Iterator[str]:
    config = record.get("config", {})
    if not config.get("model"):
        yield "A Whisper model; how it was trained is not known here."
        yield ""
        return
    steps = f"{record['steps']} steps" if "steps" in record else "a run that was not finished"
    base = _shown(config["model"])
    yield f"`{base}` fine-tuned on {_names(config['datasets'])}, {steps} with whisper-harvest."
    yield ""
    if averaged := record.get("averaged"):
        share = ""
        if averaged["base"]:
            share = f", mixed with `{_shown(averaged['base'])}` (alpha {averaged['alpha']:g})"
        yield f"The mean of {len(averaged['models'])} checkpoints{share}."
        yield ""


def _names(datasets: Iterable[str]) -> str:
    return ", ".join(Path(name).name for name in datasets)


def _shown(name: str) -> str:
    """A dataset or a model without the path to it on somebody's machine."""
    return short_name(name) if Path(name).is_absolute() else name


def _results(evaluations: Iterable[Mapping[str, Any]]) -> list[str]:
    """Error rates in percent with 95 % bootstrap intervals."""
    rows = [
        [
            f"{', '.join(Path(folder).name for folder in found['datasets'])}: {part}",
            ", ".join([found["split"], *found.get("decoded", [])]),
            f"{figures['normalised']['words']:,}",
            shown(figures["normalised"]),
            shown(figures["normalised"], "cer"),
            shown(figures["written"]),
        ]
        for found in evaluations
        for part, figures in {"all": found, **found["sources"]}.items()
    ]
    columns = ["dataset", "split", "words", "WER % (95 %)", "CER %", "WER % as written"]
    return ["## Error rates", "", *_table(columns, rows), ""] if rows else []


def _hours(key: str, speech: Iterable[Mapping[str, Any]]) -> list[str]:
    hours: dict[str, float] = defaultdict(float)
    for part in speech:
        if part["split"] == "train":
            hours[part[key]] += part["seconds"] / 3600
    told = key.replace("_kind", "")
    rows = [[name, f"{hours[name]:.2f}"] for name in sorted(hours)]
    return [f"## Trained on, by {told}", "", *_table([told, "hours"], rows), ""] if rows else []


def _settings(record: Mapping[str, Any]) -> list[str]:
    config = record.get("config", {})
    if not config.get("model"):
        return []
    datasets = " ".join(map(_shown, config["datasets"]))
    command = f"train fit {datasets} --model {_shown(config['model'])}"
    rows = [[key, str(value)] for key, value in config.items() if key not in UNNAMED]
    rows += [[key, str(value)] for key, value in record.get("versions", {}).items()]
    rows += [[key, str(record[key])] for key in ("engine", "device", "processes") if key in record]
    return [
        "## How it was trained",
        "",
        f"    {command}",
        "",
        *_table(["setting", "value"], rows),
        "",
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def _cell(text: str) -> str:
    """`text` as a cell of a Markdown table: on one line, its bars escaped."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
