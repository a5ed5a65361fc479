"""Reads FLEURS (Conneau et al. 2022, arXiv:2205.12446) in one language from its folder.

The folder is as the Hub has it, `data/cs_cz`: a list for each split and the audio beside it, packed
(`audio/train.tar.gz`) or not. A list has no header: number of the sentence, file, text as written,
text in lower case without punctuation, its characters, samples at 16 kHz, gender. Speakers are not
told. The text as written is taken by default, since most other sources are written so.
"""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from corpus.audio import SAMPLE_RATE
from corpus.errors import UserError
from corpus.sources.release import SPLITS, Clip, Release, Tally, split_notes

REPOSITORY = "google/fleurs"
TEXT_COLUMNS = {"raw_transcription": 2, "transcription": 3}

_FILE, _SAMPLES, _FIELDS = 1, 5, 7
_LOCALE = re.compile(r"[a-z]{2,3}(_[a-z]{4})?_([a-z]{2}|\d{3})")


def is_locale(name: str) -> bool:
    """Whether a name is that of a part of FLEURS, such as cs_cz or cmn_hans_cn."""
    return _LOCALE.fullmatch(name) is not None


def find_fleurs(folder: Path) -> Path:
    """The folder with the lists: `folder`, or the one in it.

    Raises:
        UserError: there is none, or there are several.
    """
    if any((folder / f"{split}.tsv").is_file() for split in SPLITS):
        return folder.resolve()
    lists = (path for depth in ("*", "*/*") for path in folder.glob(f"{depth}/*.tsv"))
    inside = sorted({path.parent for path in lists})
    if len(inside) == 1:
        return inside[0].resolve()
    if inside:
        names = ", ".join(str(path.relative_to(folder)) for path in inside)
        raise UserError(f"{folder} holds several languages: give one of {names}")
    raise UserError(f"{folder} is no folder of FLEURS: it lacks train.tsv, dev.tsv and test.tsv")


def packed_audio(folder: Path) -> dict[str, Path]:
    """The archives of the splits whose audio is not unpacked in the folder."""
    archives = {split: folder / "audio" / f"{split}.tar.gz" for split in SPLITS}
    return {
        split: path
        for split, path in archives.items()
        if path.is_file() and _audio_folder(folder, split) is None
    }


def is_audio(path: PurePosixPath) -> bool:
    """Whether a member of such an archive is to be unpacked."""
    return path.suffix == ".wav"


def _audio_folder(folder: Path, split: str) -> Path | None:
    places = (folder / "audio" / split, folder / split)
    return next((place for place in places if place.is_dir()), None)


def read_fleurs(
    folder: Path, unpacked: Mapping[str, Path], *, text_column: str = "raw_transcription"
) -> Release:
    """Read the clips of one language.

    Args:
        folder: with the lists, as `find_fleurs` gives it.
        unpacked: where the audio of a split lies, of those that came packed.
        text_column: ``raw_transcription`` or ``transcription``.

    Raises:
        UserError: a list cannot be read.
    """
    column = TEXT_COLUMNS[text_column]
    tally = Tally()
    taken: dict[str, Clip] = {}
    for split in reversed(SPLITS):  # what is tested on comes first
        path = folder / f"{split}.tsv"
        if not path.is_file():
            continue
        place = unpacked.get(split) or _audio_folder(folder, split)
        files = {p.name: p for p in place.rglob("*.wav") if not p.is_symlink()} if place else {}
        for number, fields in enumerate(_rows(path), start=1):
            if len(fields) != _FIELDS:
                tally.add(path.name, "another number of columns", f"line {number}")
            elif fields[_FILE] not in files:
                tally.add(path.name, "no such audio", fields[_FILE])
            elif fields[_FILE] in taken:
                tally.add(path.name, "there already", fields[_FILE])
            elif not fields[column].strip():
                tally.add(path.name, "no sentence", fields[_FILE])
            else:
                samples = int(fields[_SAMPLES]) if fields[_SAMPLES].isdecimal() else 0
                taken[fields[_FILE]] = Clip(
                    file=str(files[fields[_FILE]]),
                    text=fields[column],
                    speaker=None,
                    split=split,
                    duration_ms=samples * 1000 // SAMPLE_RATE or None,
                    locale=folder.name,
                )
    clips = list(taken.values())
    return Release(
        name=f"fleurs-{folder.name}",
        locale=folder.name,
        version=None,
        clips=clips,
        notes=[*split_notes(clips), *tally.notes()],
    )


def _rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8; get it again") from error
    return [line.rstrip("\r").split("\t") for line in text.split("\n") if line]
