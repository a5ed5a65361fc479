"""Reads a Common Voice release from its folder: the lists of clips, without opening a clip.

Releases differ. Columns come in another order in each, once even twice, and are found by name.
Sentences with quotation marks are quoted as in CSV in the oldest releases and left alone since,
which only the whole file can tell. "null" and "NA" are sentences like others. A clip is accepted
only where it is a plain file in `clips/`, so that no list can name a file elsewhere.

train, dev and test hold one recording of each sentence; what else was validated is in no split
and makes up most of what there is. Releases of spontaneous speech have one list for everything,
answers instead of sentences, and tags in the texts.
"""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from corpus.conventions import UNCLEAR, strip_tags
from corpus.errors import UserError
from corpus.sources.release import SPLITS, Clip, Release, Tally, split_notes
from corpus.text import normalise

PRECEDENCE = ("test", "dev", "train", "validated", "other")
"""Which list a clip belongs to when it is in several: what is tested on comes first."""

_COLUMNS = {"path": "path", "text": "sentence", "speaker": "client_id", "locale": "locale"}
_SPONTANEOUS_COLUMNS = {
    "path": "audio_file",
    "text": "transcription",
    "speaker": "client_id",
    "split": "split",
    "duration_ms": "duration_ms",
    "quality_tags": "quality_tags",
}
_NO_LETTERS = re.compile(r"[\W_]+")
_VERSION = re.compile(r"(?:cv|sps)-corpus-(\d+(?:\.\d+)?(?:-delta)?(?:-\d{4}-\d\d-\d\d)?)")


class _Line(NamedTuple):
    """What a list says of a clip."""

    list: str
    file: str
    text: str
    speaker: str | None
    locale: str | None = None
    duration_ms: int | None = None


def find_release(folder: Path) -> Path:
    """The folder of the release that `folder` is or contains.

    Raises:
        UserError: there is none, or there are several.
    """
    if _is_release(folder):
        return folder
    inside = sorted(
        path.parent
        for name in ("clips", "audios")
        for depth in ("*", "*/*")
        for path in folder.glob(f"{depth}/{name}")
        if _is_release(path.parent)
    )
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(str(path.relative_to(folder)) for path in inside)
        raise UserError(f"{folder} holds several releases: give one of {names}")
    raise UserError(
        f"{folder} is no Common Voice release: it lacks clips/ or train.tsv, or, for spontaneous "
        "speech, audios/ or ss-corpus-*.tsv"
    )


def _is_release(folder: Path) -> bool:
    lists = any((folder / f"{name}.tsv").is_file() for name in PRECEDENCE)
    return (lists and (folder / "clips").is_dir()) or (
        _spontaneous_list(folder) is not None and (folder / "audios").is_dir()
    )


def _spontaneous_list(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("ss-corpus-*.tsv"))), None)


def read_release(folder: Path, *, validated_rest: bool = False, other: bool = False) -> Release:
    """Read the clips of a release, of train, dev and test by default.

    Args:
        folder: the release's, or one around it.
        validated_rest: add to train the validated clips whose speaker and sentence are neither in
            dev nor in test.
        other: add, likewise, those that too few people have listened to; and of spontaneous
            speech those that are in no split, some of them without a text.

    Raises:
        UserError: the folder is no release, or a list cannot be read.
    """
    folder = find_release(folder).resolve()
    wanted = {*SPLITS, *(["validated"] if validated_rest else []), *(["other"] if other else [])}
    tally = Tally()
    spontaneous = _spontaneous_list(folder)
    if spontaneous is not None:
        kind, media = "spontaneous-speech", folder / "audios"
        lines: Iterable[_Line] = _spontaneous_lines(spontaneous, wanted, tally)
        durations: Mapping[str, int] = {}
    else:
        kind, media = "common-voice", folder / "clips"
        lists = {name: folder / f"{name}.tsv" for name in PRECEDENCE if name in wanted}
        lists = {name: path for name, path in lists.items() if path.is_file()}
        if not lists:
            raise UserError(f"{folder} has no train, dev or test list: give --validated-rest")
        lines = _scripted_lines(lists, tally)
        durations = _read_durations(folder / "clip_durations.tsv")

    taken = _choose(lines, _plain_files(media), tally, texts_needed=spontaneous is None)
    locale = _locale(folder, taken)
    version = _VERSION.search(f"{folder.parent.name}/{folder.name}")
    clips = [
        _clip(f"{media}/{file}", line, durations.get(file), locale, tally if spontaneous else None)
        for file, line in taken.items()
    ]
    added = Counter(line.list for line in taken.values())
    return Release(
        name="-".join(filter(None, (kind, version and version[1], locale))),
        locale=locale,
        version=version[1] if version else None,
        clips=clips,
        notes=[
            *split_notes(clips),
            *(
                f"{name}: {added[name]} clips beside those of train, dev and test, added to train"
                for name in ("validated", "other")
                if name in wanted
            ),
            *tally.notes(),
        ],
    )


def _choose(
    lines: Iterable[_Line], files: set[str], tally: Tally, *, texts_needed: bool
) -> dict[str, _Line]:
    """The clips to take, by file name; those of test and dev come first in `lines`."""
    taken: dict[str, _Line] = {}
    speakers: set[str | None] = set()
    held_out = _Sentences()
    for line in lines:
        where, file = f"{line.list}.tsv", line.file
        if file not in files and f"{file}.mp3" in files:
            file += ".mp3"  # the first releases leave the suffix out
        if file not in files:
            outside = "/" in file or "\\" in file
            what = "refused, the path leaves its folder" if outside else "not in its folder"
            tally.add(where, what, file)
        elif not line.text.strip() and (texts_needed or line.list in SPLITS):
            tally.add(where, "no sentence", file)
        elif file in taken:
            # Whatever is in a split is in `validated` as well.
            if line.list not in {"validated", taken[file].list}:
                tally.add(where, f"in {taken[file].list} too, left there", file)
        elif line.list in {"dev", "test"}:
            taken[file] = line
            speakers.add(line.speaker)
            held_out.add(line.text)
        elif line.list == "train":
            taken[file] = line
        elif line.speaker is not None and line.speaker in speakers:
            tally.add(where, "left out, its speaker is in dev or test", file)
        elif line.text in held_out:
            tally.add(where, "left out, its sentence is in dev or test", file)
        else:
            taken[file] = line
    return taken


class _Sentences:
    """Sentences by their words, whatever their case and punctuation."""

    def __init__(self) -> None:
        self._by_letters: dict[str, list[str]] = {}

    def add(self, text: str) -> None:
        self._by_letters.setdefault(self._letters(text), []).append(text)

    def __contains__(self, text: str) -> bool:
        # Equal words have equal letters, which are compared ten times faster.
        alike = self._by_letters.get(self._letters(text), [])
        return bool(text.strip()) and bool(alike) and normalise(text) in map(normalise, alike)

    @staticmethod
    def _letters(text: str) -> str:
        # Decomposed: a mark, which is no letter, goes, whether it was joined to one or not.
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        return _NO_LETTERS.sub("", plain)


def _clip(
    file: str, line: _Line, duration_ms: int | None, locale: str, tags_taken_off: Tally | None
) -> Clip:
    text = line.text
    tags: tuple[str, ...] = ()
    if tags_taken_off is not None:
        text, tags = strip_tags(line.text)
        for tag in tags:
            tags_taken_off.add("texts", f"[{tag}] taken off", line.file)
    return Clip(
        file=file,
        text=text,
        speaker=line.speaker,
        split=line.list if line.list in SPLITS else "train",
        duration_ms=line.duration_ms if duration_ms is None else duration_ms,
        locale=line.locale or locale,
        # Where a word could not be understood, the text lacks it.
        validated=line.list != "other" and UNCLEAR not in tags,
        as_written=line.text if tags else None,
    )


def _plain_files(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}


def _scripted_lines(lists: Mapping[str, Path], tally: Tally) -> Iterator[_Line]:
    for name, path in lists.items():
        for row in _read_rows(path, _COLUMNS, needed=("path", "text"), tally=tally):
            yield _Line(name, row["path"], row["text"], row["speaker"] or None, row["locale"])


def _spontaneous_lines(path: Path, wanted: set[str], tally: Tally) -> list[_Line]:
    lines = []
    needed = ("path", "text", "split")
    for row in _read_rows(path, _SPONTANEOUS_COLUMNS, needed=needed, tally=tally):
        name = row["split"] if row["split"] in SPLITS else "other"
        if name not in wanted:
            continue
        for tag in filter(None, row["quality_tags"].split("|")):
            tally.add(path.name, f"tagged {tag} by the release", row["path"])
        length = int(row["duration_ms"]) if row["duration_ms"].isdecimal() else None
        speaker = row["speaker"] or None
        lines.append(_Line(name, row["path"], row["text"], speaker, duration_ms=length))
    return sorted(lines, key=lambda line: PRECEDENCE.index(line.list))


def _locale(folder: Path, taken: Mapping[str, _Line]) -> str:
    """The language: from the lists, or from the clips' names, or from the folder's name."""
    for file, line in taken.items():
        if line.locale:
            return line.locale
        if match := re.fullmatch(r"(?:common_voice_|spontaneous-speech-)(.+)[_-]\d+\.mp3", file):
            return match[1]
    return folder.name


def _read_durations(path: Path) -> dict[str, int]:
    """Milliseconds by clip; empty where the release, as the early ones, has no such list."""
    if not path.is_file():
        return {}
    columns = {"clip": "clip", "ms": "duration[ms]"}
    rows = _read_rows(path, columns, needed=("clip", "ms"), tally=Tally())
    return {row["clip"]: int(row["ms"]) for row in rows if row["ms"].isdecimal()}


def _read_rows(
    path: Path, columns: Mapping[str, str], *, needed: Iterable[str], tally: Tally
) -> Iterator[dict[str, str]]:
    """The rows of a .tsv file: of each name in `columns` the value in the column of that title.

    Of two columns of one title the first counts; one that is not there is empty. A line with more
    or fewer fields than there are titles is tallied.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            quoted = _is_csv_quoted(file)
            file.seek(0)
            rows = csv.reader(file, delimiter="\t") if quoted else map(_fields, file)
            titles: list[str] = next(rows, [])
            if missing := [columns[name] for name in needed if columns[name] not in titles]:
                raise UserError(f"{path}: no column {', '.join(missing)}; is it a release's list?")
            places = {n: titles.index(title) for n, title in columns.items() if title in titles}
            empty = dict.fromkeys(columns, "")
            for number, fields in enumerate(rows, start=2):
                if len(fields) == len(titles):
                    yield empty | {name: fields[place] for name, place in places.items()}
                elif any(fields):
                    tally.add(path.name, "another number of columns", f"line {number}")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8; get the release again") from error
    except csv.Error as error:
        raise UserError(f"{path}: not a readable list ({error}); get the release again") from error


def _fields(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _is_csv_quoted(lines: Iterable[str]) -> bool:
    """Whether quotation marks are CSV's and not the sentences' own.

    A CSV writer that is told to separate by tabs quotes a sentence only for the marks in it, and
    doubles those. So in a quoted file every field with a mark looks like ''"a ""b"" c"''; one
    that does not, and the marks are text.
    """
    found = False
    for line in lines:
        if '"' not in line:
            continue
        for field in _fields(line):
            if '"' in field:
                inner = field[1:-1]
                doubled = '""' in inner and '"' not in inner.replace('""', "")
                if not (doubled and field[0] == field[-1] == '"'):
                    return False
                found = True
    return found
