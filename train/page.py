"""A comparison as one HTML page that needs nothing else: no script, no network, no other file.

Plots are SVG, each above its table of numbers. Transcripts come from anywhere: all are escaped, and
the page's Content-Security-Policy allows its one style sheet and the sounds inside it.
"""

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus import console
from corpus.dataset import read_split
from train import metrics
from train.checkpoint import write_text
from train.compare import COLUMNS, shown_kinds, table_rows
from train.foreign import as_dataset

TEMPLATE, STYLE = Path(__file__).with_name("page.html"), Path(__file__).with_name("page.css")

GENERATOR = "whisper-harvest train compare"
"""Tells a page of ours from any other file: only such a one is replaced."""

SOUND_BYTES = 6_000_000
"""Of FLAC in a page; as text in a data: URI it takes a third more."""

WIDTH, LABELS, LINE, GAP, TOP = 640, 200, 18, 12, 24
"""Of a plot, in units of its view box: names' column, a model's line, between groups, the axis."""

TICKS = 5


def write_page(path: Path, found: Mapping[str, Any]) -> None:
    """Write the page of what `train.compare.compare` found; it appears whole.

    Raises:
        UserError: `path` is taken by something else.
    """
    console.check_page(path, GENERATOR)
    write_text(path, render(found, _sounds(found)))


def render(found: Mapping[str, Any], sounds: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """The page, with the sounds of its samples by dataset and row."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    style = STYLE.read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(TEMPLATE.parent)
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    models = found["models"]
    return environment.get_template(TEMPLATE.name).render(
        generator=GENERATOR,
        style=style,
        style_hash=f"sha256-{digest}",
        made_at=time.strftime("%Y-%m-%d %H:%M"),
        found=found,
        draws=metrics.DRAWS,
        columns=COLUMNS,
        sections=[
            {
                "kind": kind,
                "title": title,
                "plot": draw(groups, models),
                "rows": table_rows(groups, models),
            }
            for kind, title, groups in shown_kinds(found)
        ],
        samples=[
            {**sample, **sounds.get((sample["dataset"], sample["id"]), {"sound": None})}
            for sample in found["samples"]
        ],
        private=sum(not sound["redistributable"] for sound in sounds.values()),
    )


def _sounds(found: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """FLAC (as a data: URI) and licences of the samples' rows, until the page is full."""
    sounds: dict[tuple[str, str], dict[str, Any]] = {}
    room = SOUND_BYTES
    for given in found["datasets"]:
        name = Path(given).resolve().name
        wanted = {sample["id"] for sample in found["samples"] if sample["dataset"] == name}
        rows = read_split(Path(as_dataset(given, found["language"])), found["split"])
        for place, row_id in enumerate(rows["id"]):
            if row_id not in wanted:
                continue
            row = rows[place]
            flac = row["audio"]["bytes"]
            if len(flac) > room:
                continue
            room -= len(flac)
            sounds[name, row_id] = {
                "sound": f"data:audio/flac;base64,{base64.b64encode(flac).decode()}",
                "licences": row["licences"],
                "redistributable": row["redistributable"],
            }
    return sounds


def draw(groups: Sequence[Mapping[str, Any]], models: Sequence[str]) -> dict[str, Any]:
    """Where the rates and intervals of a kind's groups lie: a line for each model of each group."""
    highest = max(
        (figures["wer_interval"][1] for group in groups for figures in group["models"]
         if figures["wer"] is not None),
        default=1.0,
    ) or 1.0  # fmt: skip
    scale = (WIDTH - LABELS - 20) / highest

    def x(rate: float) -> float:
        return round(LABELS + scale * rate, 2)

    marks, names, y = [], [], TOP
    for group in groups:
        names.append({"name": group["name"], "y": y + LINE * 0.7})
        for number, figures in enumerate(group["models"]):
            if figures["wer"] is not None:
                low, high = figures["wer_interval"]
                marks.append(
                    {
                        "number": number % 6,
                        "y": y + LINE / 2,
                        "low": x(low),
                        "high": x(high),
                        "at": x(figures["wer"]),
                        "told": f"{group['name']}, {models[number]}: WER "
                        f"{100 * figures['wer']:.2f} % ({100 * low:.2f} to {100 * high:.2f})",
                    }
                )
            y += LINE
        y += GAP
    return {
        "width": WIDTH,
        "height": y,
        "top": TOP,
        "marks": marks,
        "names": names,
        "ticks": [
            {"x": x(highest * tick / TICKS), "told": f"{100 * highest * tick / TICKS:.3g} %"}
            for tick in range(TICKS + 1)
        ],
    }
