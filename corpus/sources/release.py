"""What a published data set holds, whichever it is: clips with their texts, and what to tell."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "dev", "test")


class Clip(NamedTuple):
    """One recorded text; a release has millions, hence the plain tuple and the path as text.

    Attributes:
        file: absolute path of its audio.
        text: what is said; empty where nobody has written it down yet.
        speaker: who speaks, as the release names them; None where it does not tell.
        split: train, dev or test.
        duration_ms: None where the release does not tell.
        locale: the language as the release names it.
        validated: whether listeners agreed that the text is what is said.
        as_written: the text with its tags, where some were taken off.
    """

    file: str
    text: str
    speaker: str | None
    split: str
    duration_ms: int | None
    locale: str
    validated: bool = True
    as_written: str | None = None

    @property
    def name(self) -> str:
        """The file's name without folder and suffix."""
        return self.file.rpartition("/")[2].rpartition(".")[0]

    @property
    def path(self) -> Path:
        """The audio file."""
        return Path(self.file)


@dataclass(frozen=True)
class Release:
    """A release of a data set in one language.

    Attributes:
        name: tells this release from all others, such as common-voice-25.0-2026-03-09-cs.
        locale: the language as the release names it.
        version: such as "21.0-2025-03-14", None where the folder's name does not tell.
        clips: each once.
        notes: a line for each kind of thing that was left out or that people should know.
    """

    name: str
    locale: str
    version: str | None
    clips: list[Clip]
    notes: list[str]


class Tally:
    """Counts what is left out or odd: by place and kind, with the first of each."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], str] = {}

    def add(self, where: str, what: str, which: str) -> None:
        """One more of kind `what` at `where`."""
        self._counts[where, what] += 1
        self._first.setdefault((where, what), which)

    def notes(self) -> list[str]:
        """A line for each kind, in the order they were met."""
        return [
            f"{where}: {what}: {self._counts[where, what]}, first {first}"
            for (where, what), first in self._first.items()
        ]


def split_notes(clips: Iterable[Clip], splits: Iterable[str] = SPLITS) -> list[str]:
    """Lines for the splits that are empty, or that have only one speaker."""
    speakers: dict[str, set[str | None]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for clip in clips:
        speakers[clip.split].add(clip.speaker)
        counts[clip.split] += 1
    notes = []
    for split in splits:
        if not counts[split]:
            notes.append(f"{split} is empty")
        elif counts[split] > 1 and len(speakers[split]) == 1 and None not in speakers[split]:
            notes.append(f"{split} has {counts[split]} clips of one speaker only")
    return notes
