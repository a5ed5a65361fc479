"""What a dataset says of itself in words: its card, and the credits its licences ask for."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus.pack import WINDOW_SECONDS
from corpus.sources.licences import licence_url

_HUB_LICENCES = re.compile(
    r"cc0-1\.0|cc-by-(2\.0|2\.5|3\.0|4\.0)|cc-by-sa-(3\.0|4\.0)|"
    r"cc-by-nc-(2\.0|3\.0|4\.0)|cc-by-nc-sa-(2\.0|3\.0|4\.0)"
)
"""Those of our licences that the Hub has a name for; it calls all others ``other``."""


@dataclass(frozen=True)
class SplitTotals:
    """What a card says of a split: rows, segments in them, seconds of audio and of speech."""

    rows: int
    segments: int
    seconds: float
    speech_seconds: float


@dataclass(frozen=True)
class Speech:
    """How much speech is of one kind: segments that are alike in all that a card tells of them."""

    split: str
    source: str
    licence: str
    label_kind: str
    redistributable: bool
    segments: int
    seconds: float


@dataclass(frozen=True)
class Credit:
    """A work that a dataset uses, as its licence asks it to be named."""

    title: str
    author: str
    url: str
    licence: str
    seconds: float
    redistributable: bool = True


def dataset_card(
    name: str,
    *,
    languages: Sequence[str],
    splits: Mapping[str, SplitTotals],
    speech: Sequence[Speech],
    left_out: Mapping[str, int],
    settings: Mapping[str, Any],
    thresholds: Mapping[str, Mapping[str, Any]],
) -> str:
    """The README.md of a dataset: YAML for the Hub, then tables for people.

    Args:
        name: of the dataset.
        languages: language codes.
        splits: totals of each split; those without rows are left out.
        speech: all speech of the dataset, by kind.
        left_out: number of segments by the reason why they are not in it.
        settings: of the build, seeds included.
        thresholds: the values of each version of the thresholds that the verdicts were made with.
    """
    present = {split: totals for split, totals in splits.items() if totals.rows}
    header = {
        "pretty_name": name,
        "language": list(languages),
        "license": sorted({_hub_licence(part.licence) for part in speech}),
        "task_categories": ["automatic-speech-recognition"],
        "size_categories": [_size_category(sum(totals.rows for totals in present.values()))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}-*.parquet"} for split in present],
            }
        ],
    }
    sharing = (
        "All audio may be redistributed under the licences above, with `ATTRIBUTION.md`."
        if all(part.redistributable for part in speech)
        else "**Do not publish this dataset as it is:** the terms of some of its audio forbid "
        "handing it on. Those rows have `redistributable` = false, and "
        "`corpus export NAME --to hub` leaves them out."
    )
    lines = [
        "---",
        # JSON is YAML, and quotes what needs quoting.
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()),
        "---",
        "",
        f"# {name}",
        "",
        "Speech recognition windows of at most 30 s, 16 kHz mono FLAC. A train row is made of one "
        "or more segments laid end to end; `segments` says where each lies and where it comes "
        "from. A dev or test row is one segment.",
        "",
        "| split | rows | segments | audio h | speech h | fill |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {split} | {totals.rows:,} | {totals.segments:,} | {totals.seconds / 3600:.2f} "
            f"| {totals.speech_seconds / 3600:.2f} "
            f"| {totals.speech_seconds / (totals.rows * WINDOW_SECONDS):.1%} |"
            for split, totals in present.items()
        ),
        "",
        *_hours_table("source", speech, lambda part: part.source),
        "",
        *_hours_table("licence", speech, lambda part: part.licence),
        "",
        sharing,
        "",
        *_hours_table("label", speech, lambda part: part.label_kind),
        "",
        "## How it was built",
        "",
        "`manifest.json` holds the same facts for programs, and the hash of each file.",
        "",
        *_table("setting", "value", {key: _words(value) for key, value in settings.items()}),
        *(
            line
            for version, values in sorted(thresholds.items())
            for line in ("", *_table(f"thresholds {version}", "value", values))
        ),
    ]
    if left_out:
        counts = {why: f"{count:,}" for why, count in left_out.items()}
        lines += ["", "## What was left out", "", *_table("reason", "segments", counts)]
    return "\n".join(lines) + "\n"


def attribution_md(name: str, credits: Iterable[Credit]) -> str:
    """ATTRIBUTION.md: title, author, link and licence of each work, and what was changed.

    These are the things that Creative Commons licences ask for (CC BY 4.0, section 3.a.1).
    """
    credits = list(credits)
    licences = sorted({credit.licence for credit in credits})
    texts = [f"- {name}: <{address}>" for name in licences if (address := licence_url(name))]
    lines = [
        f"# Attribution for {name}",
        "",
        "The audio of these works was cut into segments, converted to 16 kHz mono, joined into "
        "windows of at most 30 s and labelled with transcripts. Their authors do not endorse "
        "that use.",
        "",
        "| title | author | link | licence | minutes used |",
        "| --- | --- | --- | --- | ---: |",
        *(
            f"| {_cell(credit.title)} | {_cell(credit.author)} | {_cell(credit.url)} "
            f"| {_cell(credit.licence)} | {credit.seconds / 60:.1f} |"
            for credit in credits
        ),
        *(["", "The texts of the licences:", "", *texts] if texts else []),
    ]
    return "\n".join(lines) + "\n"


def _hours_table(
    label: str, speech: Iterable[Speech], key: Callable[[Speech], str]
) -> Sequence[str]:
    seconds: dict[str, float] = defaultdict(float)
    for part in speech:
        seconds[key(part)] += part.seconds
    return _table(label, "speech h", {k: f"{s / 3600:.2f}" for k, s in sorted(seconds.items())})


def _table(label: str, value: str, rows: Mapping[str, object]) -> list[str]:
    return [
        f"| {_cell(label)} | {value} |",
        "| --- | ---: |",
        *(f"| {_cell(key)} | {_cell(str(shown))} |" for key, shown in rows.items()),
    ]


def _words(value: object) -> str:
    """A setting as people read it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_words(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(part) for part in value)
    return "none" if value is None else str(value)


def _cell(text: str) -> str:
    """`text` as a cell of a Markdown table: on one line, its bars escaped."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _hub_licence(identifier: str) -> str:
    name = identifier.lower()
    return name if _HUB_LICENCES.fullmatch(name) else "other"


def _size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    bounds = ["1K", "10K", "100K", "1M", "10M", "100M"]
    for index, bound in enumerate(bounds):
        if rows < 1000 * 10**index:
            return f"{bounds[index - 1]}<n<{bound}" if index else "n<1K"
    return "n>100M"
