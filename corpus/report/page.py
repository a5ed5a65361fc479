"""The report as one HTML page that needs nothing else: no script, no network, no other file.

Plots are SVG and each has its table of numbers. Titles and transcripts come from the web: all are
escaped, and the page's Content-Security-Policy allows its one style sheet and the sounds inside it.
"""

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus import audio, console
from corpus.errors import UserError
from corpus.report.tables import Table, histogram_table, tables
from corpus.workspace import Workspace

TEMPLATE, STYLE = Path(__file__).with_name("page.html"), Path(__file__).with_name("page.css")

GENERATOR = "whisper-harvest corpus report"
"""Tells a page of ours from any other file: `corpus report` replaces nothing else."""

SOUND_BYTES = 6_000_000
"""Of FLAC in a page; as text in a data: URI it takes a third more."""

WIDTH, HEIGHT = 560, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 548, 12, 186
"""Of a histogram, in units of its view box; the plot itself lies between the four."""

TICK_EVERY = 5
"""Bins between two numbers below a histogram."""


def write_page(path: Path, found: dict[str, Any], workspace: Workspace) -> None:
    """Write the page of a report; it appears whole, and replaces only an earlier report.

    Raises:
        UserError: `path` is taken by something else, or cannot be written.
    """
    console.check_page(path, GENERATOR)
    page = render(found, sounds(found["samples"], workspace))
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def sounds(samples: Sequence[dict[str, Any]], workspace: Workspace) -> list[bytes | str]:
    """The FLAC bytes of each sample, or why there are none; at most `SOUND_BYTES` in all."""
    found: list[bytes | str] = []
    room = SOUND_BYTES
    for sample in samples:
        path = workspace.path(sample["media_path"])
        try:
            flac = audio.encode_flac(audio.read_span(path, sample["start_ms"], sample["end_ms"]))
        except audio.MediaError:  # which names the place on this machine
            found.append("the media file is missing or cannot be read")
            continue
        found.append(flac if len(flac) <= room else "this page is full")
        room -= len(flac) if len(flac) <= room else 0
    return found


def render(found: dict[str, Any], sounds: Sequence[bytes | str]) -> str:
    """The page of a report, with the sound of each of its samples or why there is none."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    style = STYLE.read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(TEMPLATE.parent)
    )
    environment.filters["cell"] = cell
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template(TEMPLATE.name).render(
        generator=GENERATOR,
        style=style,
        style_hash=f"sha256-{digest}",
        found=found,
        verdicts=("keep", "review", "drop", "no verdict"),
        tables=[draw(table) for table in tables(found)],
        plots=[
            draw_histogram(histogram_table(name, values), values)
            for name, values in found["histograms"].items()
            if values["values"]
        ],
        samples=[_shown(*pair) for pair in zip(found["samples"], sounds, strict=True)],
        private=sum(
            not sample["redistributable"] and isinstance(sound, bytes)
            for sample, sound in zip(found["samples"], sounds, strict=True)
        ),
    )


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:z,.2f}"  # z: no -0.00
    return f"{value:,}" if isinstance(value, int) else str(value)


# --- plots ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A stretch of a bar, in percent of the longest bar of its table."""

    kind: str
    start: float
    width: float
    told: str


@dataclass(frozen=True)
class Mark:
    """A number at an axis."""

    at: float
    told: str


@dataclass(frozen=True)
class Column:
    """A bin of a histogram, in units of the view box."""

    x: float
    y: float
    width: float
    height: float
    told: str


def draw(table: Table) -> dict[str, Any]:
    """A table with the columns that hold numbers, and the stacked bar of each row."""
    numeric = [
        index
        for index in range(1, len(table.columns))
        if all(_is_number(row[index]) for row in table.rows)
    ]
    places = [table.columns.index(name) for name in table.bars]
    longest = max((sum(row[place] for place in places) for row in table.rows), default=0)
    bars = [list(_stacked(table, row, places, longest or 1)) for row in table.rows]
    return {**vars(table), "numeric": numeric, "bars": bars if places else []}


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or str(value).endswith("%")


def _stacked(
    table: Table, row: Sequence[Any], places: Sequence[int], longest: float
) -> Iterator[Part]:
    start = 0.0
    for place in places:
        name, width = table.columns[place], 100 * row[place] / longest
        if width:
            told = f"{row[0]}: {cell(row[place])} {name}"
            yield Part(name.replace(" ", "-"), round(start, 3), round(width, 3), told)
        start += width


def draw_histogram(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """Where the columns, numbers and median of a histogram with at least one value lie."""
    counts, edges = values["counts"], values["edges"]
    bin_width, highest = (RIGHT - LEFT) / len(counts), max(counts)

    def height(count: float) -> float:
        return (BOTTOM - TOP) * count / highest

    columns = [
        Column(
            x=round(LEFT + index * bin_width + 1, 2),
            y=round(BOTTOM - height(count), 2),
            width=round(bin_width - 2, 2),
            height=round(height(count), 2),
            told=f"{label}: {count:,} segments",
        )
        for index, (label, count) in enumerate(table.rows)
    ]
    share = (values["median"] - edges[0]) / (edges[-1] - edges[0])
    levels = [0, highest] if highest < 2 else [0, highest // 2, highest]
    return {
        "table": draw(table),
        "columns": columns,
        "levels": [Mark(round(BOTTOM - height(level), 2), cell(level)) for level in levels],
        "ticks": [
            Mark(round(LEFT + index * bin_width, 2), f"{edges[index]:g}")
            for index in range(0, len(counts) + 1, TICK_EVERY)
        ],
        "median": round(LEFT + (RIGHT - LEFT) * min(max(share, 0.0), 1.0), 2),
        **{"width": WIDTH, "height": HEIGHT},
        **{"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
    }


# --- samples --------------------------------------------------------------------------------------


def _shown(sample: dict[str, Any], sound: bytes | str) -> dict[str, Any]:
    url = sample["url"] or ""
    heard = None
    if isinstance(sound, bytes):
        heard = f"data:audio/flac;base64,{base64.b64encode(sound).decode()}"
    return {
        **sample,
        "title": sample["title"] or sample["segment_id"],
        "link": url if url.startswith(("https://", "http://")) else None,
        "sound": heard,
        "silent": sound,
    }
