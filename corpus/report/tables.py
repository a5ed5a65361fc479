"""The report as tables, which the terminal and the page both show."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from corpus import console
from corpus.report.numbers import SCALES, VERDICTS

CHANNELS_SHOWN = 20
"""Rows of the table of channels; the JSON has all of them."""

_BARS = ("keep", "review", "drop", "no verdict")
_BY_VERDICT = ("segments", *VERDICTS)


@dataclass(frozen=True)
class Table:
    """One table of the report. `bars` names the columns that are drawn as one stacked bar."""

    key: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: list[list[Any]]
    bars: tuple[str, ...] = ()


def tables(found: dict[str, Any]) -> list[Table]:
    """The report as tables in the order they are read; those without a row are left out."""
    every = [
        Table(
            "sources",
            "Sources",
            "Hours recorded, and hours of segments by verdict.",
            ("source", "recordings", "recorded", "segments", *_BARS),
            _rows(found["sources"], "source", "recordings", "hours", *_BY_VERDICT),
            _BARS,
        ),
        *(
            Table(
                key,
                title,
                f"Hours of segments by verdict{note}.",
                (title.lower().removesuffix("s"), "segments", *_BARS),
                _rows(found[key], column, *_BY_VERDICT),
                _BARS,
            )
            for key, column, title, note in (
                ("label_kinds", "label_kind", "Labels", ", and where the text they have is from"),
                ("licences", "licence", "Licences", ""),
                ("languages", "language", "Languages", ""),
            )
        ),
        Table(
            "losses",
            "Why hours were lost",
            "Hours that are not kept. A segment with two reasons counts for both.",
            ("verdict", "reason", "segments", "hours"),
            _rows(found["losses"], "verdict", "reason", "segments", "hours"),
            ("hours",),
        ),
        Table(
            "failures",
            "What was not taken or could not be done",
            "By stage and class. Each item with its reason: corpus status --json.",
            ("stage", "reason", "tried again", "items"),
            [
                [row["stage"], row["reason"], "yes" if row["retried"] else "no", row["items"]]
                for row in found["failures"]
            ],
            ("items",),
        ),
        Table(
            "channels",
            "Channels that deserve a second look",
            "In the order of median CER between subtitle and model, times hours. The start shift "
            "is a median too, in seconds; machine-made are subtitle tracks that look it. "
            f"Shown: {min(CHANNELS_SHOWN, len(found['channels']))} of {len(found['channels'])}.",
            (
                *("channel", "source", "recordings", "hours", "kept", "median CER"),
                *("start shift", "machine-made", "most frequent reasons"),
            ),
            [_channel_row(row) for row in found["channels"][:CHANNELS_SHOWN]],
        ),
        Table(
            "reviewers",
            "Reviewers",
            "Decisions, and the hours of audio they decided.",
            ("reviewer", "accept", "correct", "reject", "skip", "hours"),
            _rows(found["reviewers"], "reviewer", "accept", "correct", "reject", "skip", "hours"),
            ("hours",),
        ),
        Table(
            "datasets",
            "Datasets",
            "Built so far. Left out are segments.",
            ("dataset", "hours", "segments", "train rows", "dev rows", "test rows", "left out"),
            [
                [
                    *(row["name"], row["hours"], row["segments"]),
                    *(row["rows"].get(split, 0) for split in ("train", "dev", "test")),
                    row["left_out"],
                ]
                for row in found["datasets"]
            ],
        ),
        Table(
            "runs",
            "Runs",
            "Fine-tuning, with the best word error rate on dev by free decoding.",
            ("run", "status", "model", "datasets", "steps", "best step", "dev WER", "dev CER"),
            [
                [
                    *(row["name"], row["status"], row["model"], ", ".join(row["datasets"])),
                    *(row["steps"], row["best_step"]),
                    *(_percent(row[rate]) for rate in ("dev_wer", "dev_cer")),
                ]
                for row in found["runs"]
            ],
        ),
    ]
    return [table for table in every if table.rows]


def histogram_table(name: str, found: dict[str, Any]) -> Table:
    """A histogram as a table; the first and the last bin are open."""
    scale, edges = SCALES[name], found["edges"]
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    labels[0] = f"below {edges[1]:g}"
    labels[-1] = f"{edges[-2]:g} and more"
    note = f"{found['values']:,} segments"
    if found["values"] < found["of"]:
        note += f", evenly spread among {found['of']:,}"
    if found["median"] is not None:
        note += f"; median {found['median']:.2f}"
    rows = [[label, count] for label, count in zip(labels, found["counts"], strict=True)]
    return Table(name, scale.title, f"{note}.", (scale.unit, "segments"), rows)


def _rows(rows: Iterable[dict[str, Any]], *keys: str) -> list[list[Any]]:
    return [[row[key] for key in keys] for row in rows]


def _channel_row(row: dict[str, Any]) -> list[Any]:
    return [
        row["channel"] or row["channel_id"] or "(none)",
        *(row["source"], row["recordings"], row["hours"], _percent(row["kept_share"])),
        *(row["median_cer"], row["median_align_start_shift"], row["suspect_auto"]),
        ", ".join(row["reasons"]),
    ]


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def print_report(found: dict[str, Any]) -> None:
    """The report as tables; of each histogram the median."""
    totals = [[name.replace("_", " "), value] for name, value in found["totals"].items()]
    console.print_table("Totals", ["what", "how much"], totals)
    for table in tables(found):
        console.print_table(table.title, table.columns, table.rows)
    console.print_table(
        "Scores (histograms: corpus report --html F)",
        ["score", "segments", "median"],
        [[SCALES[name].title, h["values"], h["median"]] for name, h in found["histograms"].items()],
    )
