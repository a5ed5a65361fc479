"""Manifests of people's own files: CSV or JSON lines, a text a line.

A line has ``path`` (relative to the manifest) and ``text``, and may have ``start`` and ``end``
(seconds), ``speaker``, ``language`` and ``split`` (train, dev or test). Without a span the text is
that of the whole file. Several lines with spans are several segments of one recording, which has
one speaker, language and split.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.segment import MAX_SECONDS
from corpus.text import clean_transcript, is_language_code

MANIFEST_SUFFIXES = (".csv", ".jsonl")
MANIFEST_COLUMNS = frozenset({"path", "text", "start", "end", "speaker", "language", "split"})


@dataclass(frozen=True)
class Line:
    """One text of a file; `start_ms` and `end_ms` are None where it is that of the whole file."""

    where: str
    """The manifest and the number of the line, for messages."""
    number: int
    text: str
    start_ms: int | None
    end_ms: int | None


@dataclass(frozen=True)
class OwnFile:
    """A file of the user's, with the subtitles beside it or what a manifest says about it."""

    path: Path
    subtitles: Path | None = None
    lines: tuple[Line, ...] = ()
    speaker: str | None = None
    language: str | None = None
    split: str | None = None


def read_manifest(path: Path) -> list[OwnFile]:
    """The files of a manifest in order, each with its lines.

    Raises:
        UserError: it cannot be read, or a line has a mistake; the message names the line.
    """
    rows = list(_read_csv(path) if path.suffix.lower() == ".csv" else _read_jsonl(path))
    files: dict[Path, list[tuple[Line, dict[str, Any]]]] = {}
    for number, row in rows:
        line = _line(f"{path}, line {number}", number, row)
        files.setdefault(path.parent / row["path"], []).append((line, row))
    return [_file(media, lines) for media, lines in files.items()]


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 CSV ({error})") from None
    columns = set(reader.fieldnames or ())
    if not rows or not {"path", "text"} <= columns:
        raise UserError(
            f"{path}: needs a header with path and text, separated by a comma, and a line for each "
            "text"
        )
    if unknown := columns - MANIFEST_COLUMNS:
        raise UserError(
            f"{path}: unknown column {', '.join(sorted(unknown))}; known are "
            f"{', '.join(sorted(MANIFEST_COLUMNS))}"
        )
    for number, row in rows:
        if None in row:
            raise UserError(f"{path}, line {number}: too many fields; quote a text with commas")
        yield number, {name: value or None for name, value in row.items()}


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    if not any(line.strip() for line in lines):
        raise UserError(f"{path}: needs a JSON object with path and text on each line")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a JSON object with path and text")
        if unknown := row.keys() - MANIFEST_COLUMNS:
            raise UserError(
                f"{path}, line {number}: unknown name {', '.join(sorted(unknown))}; known are "
                f"{', '.join(sorted(MANIFEST_COLUMNS))}"
            )
        yield number, row


def _line(where: str, number: int, row: dict[str, Any]) -> Line:
    for name in ("path", "text", "speaker", "language", "split"):
        if not isinstance(row.get(name), str | None):
            raise UserError(f"{where}: {name} is {row[name]!r}; it must be a text")
    text = clean_transcript(row.get("text") or "")
    if not row.get("path") or not text:
        raise UserError(f"{where}: path or text is missing")
    if row.get("language") and not is_language_code(row["language"]):
        raise UserError(f"{where}: {row['language']!r} is no language code")
    if (row.get("split") or None) not in {None, "train", "dev", "test"}:
        raise UserError(f"{where}: split is train, dev or test")
    start, end = (_milliseconds(where, name, row.get(name)) for name in ("start", "end"))
    if (start is None) != (end is None):
        raise UserError(f"{where}: start and end go together; give both or neither")
    if start is not None and end is not None:
        if not 0 <= start < end:
            raise UserError(f"{where}: from {start / 1000:g} s to {end / 1000:g} s is no span")
        if end - start > MAX_SECONDS * 1000:
            raise UserError(
                f"{where}: {(end - start) / 1000:g} s; a segment has at most {MAX_SECONDS:g} s: "
                "cut it"
            )
    return Line(where, number, text, start, end)


def _milliseconds(where: str, name: str, value: object) -> int | None:
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise UserError(f"{where}: {name} is {value!r}; give seconds, such as 12.5")
    return round(seconds * 1000)


def _file(path: Path, given: list[tuple[Line, dict[str, Any]]]) -> OwnFile:
    lines = [line for line, _ in given]
    whole = [line for line in lines if line.start_ms is None]
    if whole and len(lines) > 1:
        line = whole[0] if whole[0] is not lines[0] else lines[1]
        raise UserError(
            f"{line.where}: {path.name} is in line {lines[0].number} too; several texts of one "
            "file need start and end"
        )
    lines.sort(key=lambda line: line.start_ms or 0)
    for before, after in pairwise(lines):
        assert before.end_ms is not None
        assert after.start_ms is not None
        if after.start_ms < before.end_ms:
            raise UserError(f"{after.where}: it overlaps line {before.number} in {path.name}")
    return OwnFile(
        path,
        lines=tuple(lines),
        speaker=_one_value("speaker", given),
        language=_one_value("language", given),
        split=_one_value("split", given),
    )


def _one_value(name: str, given: Iterable[tuple[Line, dict[str, Any]]]) -> str | None:
    """What the lines of one file say; lines that say nothing agree with all others."""
    value, said_in = None, 0
    for line, row in given:
        said = row.get(name) or None
        if said is not None and value not in {None, said}:
            raise UserError(
                f"{line.where}: {name} is {said!r}, but {value!r} in line {said_in}; one file has "
                "one, or say none"
            )
        if value is None and said is not None:
            value, said_in = said, line.number
    return value
