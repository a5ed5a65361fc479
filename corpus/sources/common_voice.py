"""Reads a Common Voice release from its folder: the lists of clips, without opening a clip.

Releases differ. Columns come in another order in each, once even twice, and are found by name.
Sentences with quotation marks are quoted as in CSV in the oldest releases and left alone since,
which only the whole file can tell. "null" and "NA" are sentences like others. A clip is accepted
only where it is a plain file in `clips/`, so that no list can name a file elsewhere.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from corpus.errors import UserError

SPLITS = ("train", "dev", "test")
PRECEDENCE = ("test", "dev", "train", "validated", "other")
"""Which list a clip belongs to when it is in several: what is tested on comes first."""


@dataclass(frozen=True)
class Clip:
    """One recorded sentence.

    Attributes:
        path: its audio file.
        text: the sentence as the release has it.
        speaker: the release's hash of who speaks, None where the list has none.
        split: the list it is in.
        duration_ms: from `clip_durations.tsv`, None where that does not have it.
        locale: the language as Common Voice names it.
    """

    path: Path
    text: str
    speaker: str | None
    split: str
    duration_ms: int | None
    locale: str

    @property
    def validated(self) -> bool:
        """Whether listeners agreed that the sentence is what is said."""
        return self.split != "other"


@dataclass(frozen=True)
class Release:
    """What a folder holds.

    Attributes:
        name: "common-voice", the version where it is known, and the locale.
        locale: the language as Common Voice names it.
        version: such as "21.0-2025-03-14", None where the folder's name does not tell.
        clips: each once.
        problems: one line for each kind of thing that was left out.
    """

    name: str
    locale: str
    version: str | None
    clips: list[Clip]
    problems: list[str]


class _Row(NamedTuple):
    """A line of a list whose columns are in order."""

    line: int
    fields: dict[str, str]


def read_release(folder: Path, splits: Sequence[str] = SPLITS) -> Release:
    """Read the clips of `folder`, the one with `clips/` and the .tsv lists.

    By default train, dev and test are read, which hold one recording of each sentence.
    "validated" and "other" add the rest; a clip that is in several lists comes once.

    Raises:
        UserError: the folder is no release, or a list cannot be read.
    """
    lists = {split: folder / f"{split}.tsv" for split in PRECEDENCE if split in splits}
    lists = {split: path for split, path in lists.items() if path.is_file()}
    if not lists or not (folder / "clips").is_dir():
        inside = sorted(path.parent.name for path in folder.glob("*/clips"))
        hint = f"give the folder {inside[0]} in it" if inside else "it lacks clips/ or train.tsv"
        raise UserError(f"{folder} is no Common Voice release: {hint}")

    with os.scandir(folder / "clips") as entries:
        files = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    durations = _read_durations(folder / "clip_durations.tsv")
    problems: list[str] = []
    found: dict[str, tuple[str, dict[str, str]]] = {}  # clip -> its list, its fields

    for split, path in lists.items():
        faults: dict[str, list[str]] = {}
        for row in _read_rows(path, ("path", "sentence")):
            if isinstance(row, int):
                faults.setdefault("another number of columns", []).append(f"line {row}")
                continue
            name = row.fields["path"]
            if name not in files and f"{name}.mp3" in files:
                name += ".mp3"  # the first releases leave the suffix out
            if name in files and row.fields["sentence"].strip():
                earlier, _ = found.setdefault(name, (split, row.fields))
                # Whatever is in a split is in `validated` as well.
                if earlier != split and split != "validated":
                    faults.setdefault(f"in {earlier} too, left there", []).append(name)
            elif name in files:
                faults.setdefault("no sentence", []).append(name)
            elif "/" in name or "\\" in name:
                faults.setdefault("refused, the path leaves clips/", []).append(name)
            else:
                faults.setdefault("not in clips/", []).append(name)
        problems += [
            f"{path.name}: {what}: {len(which)}, first {which[0]}" for what, which in faults.items()
        ]

    locale = _locale(folder, found)
    version = _version(folder)
    clips = [
        Clip(
            path=folder / "clips" / name,
            text=fields["sentence"],
            speaker=fields.get("client_id") or None,
            split=split,
            duration_ms=durations.get(name),
            locale=fields.get("locale") or locale,
        )
        for name, (split, fields) in found.items()
    ]
    return Release(
        name="-".join(filter(None, ("common-voice", version, locale))),
        locale=locale,
        version=version,
        clips=clips,
        problems=problems,
    )


def _version(folder: Path) -> str | None:
    """The version in the name of the release's folder or of the one around it."""
    path = folder.resolve()
    match = re.search(r"cv-corpus-(\d[\w.-]*\d)", f"{path.parent.name}/{path.name}")
    return match[1] if match else None


def _locale(folder: Path, found: dict[str, tuple[str, dict[str, str]]]) -> str:
    """The language: from the lists, or from the clips' names, or from the folder's name."""
    for name, (_, fields) in found.items():
        if locale := fields.get("locale"):
            return locale
        if match := re.fullmatch(r"common_voice_(.+)_\d+\.mp3", name):
            return match[1]
    return folder.resolve().name


def _read_durations(path: Path) -> dict[str, int]:
    """Milliseconds by clip; empty where the release, as the early ones, has no such list."""
    if not path.is_file():
        return {}
    return {
        row.fields["clip"]: int(row.fields["duration[ms]"])
        for row in _read_rows(path, ("clip", "duration[ms]"))
        if isinstance(row, _Row) and row.fields["duration[ms]"].isdecimal()
    }


def _read_rows(path: Path, needed: Iterable[str]) -> Iterator[_Row | int]:
    """The rows of a .tsv file by column name; a line with more or fewer columns is its number.

    Of two columns of one name the first counts.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            quoted = _is_csv_quoted(_fields(line) for line in file)
            file.seek(0)
            rows = csv.reader(file, delimiter="\t") if quoted else map(_fields, file)
            header: list[str] = next(rows, [])
            if missing := [name for name in needed if name not in header]:
                raise UserError(f"{path}: no column {', '.join(missing)}; is it a release's list?")
            for number, fields in enumerate(rows, start=2):
                if len(fields) == len(header):
                    pairs = zip(reversed(header), reversed(fields), strict=True)
                    yield _Row(number, dict(pairs))
                elif any(fields):
                    yield number
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8; get the release again") from error
    except csv.Error as error:
        raise UserError(f"{path}: not a readable list ({error}); get the release again") from error


def _fields(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _is_csv_quoted(rows: Iterable[list[str]]) -> bool:
    """Whether quotation marks are CSV's and not the sentences' own.

    A CSV writer that is told to separate by tabs quotes a sentence only for the marks in it, and
    doubles those. So in a quoted file every field with a mark looks like ''"a ""b"" c"''; one
    that does not, and the marks are text.
    """
    found = False
    for fields in rows:
        for field in fields:
            if '"' in field:
                inner = field[1:-1]
                doubled = '""' in inner and '"' not in inner.replace('""', "")
                if not (doubled and field[0] == field[-1] == '"'):
                    return False
                found = True
    return found
