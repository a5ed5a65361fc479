"""Reads speech data sets in the forms of Hugging Face `datasets`, from a folder or from the Hub.

A folder may hold Parquet files, CSV with audio beside it, an audio folder with its metadata, or
what `save_to_disk` wrote. All are streamed: nothing is copied into a cache. Audio comes as the
bytes of its file, whatever its format and rate, and is decoded by `corpus.audio`; the library's own
decoder is not needed.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.text import is_language_code

AUDIO_COLUMNS = ("audio", "speech", "path", "file_name", "file")
TEXT_COLUMNS = (
    "text",
    "sentence",
    "raw_transcription",  # before the one that has lost its case and punctuation
    "transcription",
    "transcript",
    "normalized_text",
)
SPEAKER_COLUMNS = ("speaker_id", "client_id", "speaker")
LANGUAGE_COLUMNS = ("locale", "language", "lang")

_SPLITS = (("test", "test"), ("val", "dev"), ("dev", "dev"), ("train", "train"))
"""How names of splits begin, and which of ours that is."""
_FILES = {".parquet": "parquet", ".csv": "csv", ".arrow": "arrow"}


@dataclass(frozen=True)
class Card:
    """What the data set's card says; None and empty where it says nothing."""

    licence: str | None
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """Which column is what."""

    audio: str
    text: str
    speaker: str | None
    language: str | None


@dataclass(frozen=True)
class Example:
    """One row. `audio` is a file's bytes, or the reason why there are none is in `problem`."""

    name: str
    """Split and number of the row, counted from 0."""
    split: str | None
    text: str
    speaker: str | None
    language: str | None
    audio: bytes
    problem: str | None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the audio's bytes, in hexadecimal digits."""
        return hashlib.sha256(self.audio).hexdigest()


class DataSet:
    """An opened data set.

    Args:
        name: a folder, a Parquet or CSV file, or, where there is no such file, a name of the Hub.
        config: which of several parts, as the Hub calls it.

    Raises:
        UserError: there is none, or it cannot be read.
    """

    def __init__(self, name: str, config: str | None = None) -> None:
        path = Path(name).expanduser()
        self.local = path.exists()
        # A Hub name has no folder of this machine in front: `runs/other` is a slip, not a name.
        slip = name.startswith((".", "/", "~")) or ("/" in name and path.parent.is_dir())
        if not self.local and (slip or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)):
            raise UserError(f"{name}: no such folder, and no name of the Hub (OWNER/NAME)")
        self.path = path.resolve()
        self.root = self.path if path.is_dir() else self.path.parent
        self.name = (self.path.stem if path.is_file() else self.path.name) if self.local else name
        if config:
            self.name += f"/{config}"
        self._repository = name
        try:
            self.splits: dict[str, Any] = _load(self.path if self.local else name, config)
        except Exception as error:  # the library raises most kinds there are
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{name} cannot be read as a data set: {reason}") from error

    def card(self) -> Card:
        """The licence and the languages that its README.md tells."""
        from huggingface_hub import DatasetCard

        readme = self.root / "README.md"
        if self.local and not readme.is_file():
            return Card(None, ())
        source = readme if self.local else self._repository
        try:
            data = DatasetCard.load(source, ignore_metadata_errors=True).data
        except (OSError, ValueError):
            return Card(None, ())
        licence, languages = data.license, data.language or ()
        licences = licence if isinstance(licence, list) else [licence]
        return Card(
            licence=str(licences[0]) if len(licences) == 1 and licences[0] else None,
            languages=tuple([languages] if isinstance(languages, str) else map(str, languages)),
        )

    def column_names(self) -> list[str]:
        """The columns of its first split that has a row."""
        for split in self.splits.values():
            if split.column_names:
                return list(split.column_names)
            for row in _plain(split):
                return list(row)
        raise UserError(f"{self.name} has no rows")

    def examples(self, columns: Columns, only: Sequence[str] = ()) -> Iterator[Example]:
        """The rows, those of test and dev first: what is there twice counts as held out.

        Raises:
            UserError: there is no split of a name in `only`, or the data set breaks off.
        """
        if unknown := set(only) - self.splits.keys():
            known = ", ".join(self.splits)
            raise UserError(
                f"{self.name} has no split {', '.join(sorted(unknown))}; it has {known}"
            )
        ranks = ["test", "dev", "train", None]
        for name in sorted(only or self.splits, key=lambda name: ranks.index(our_split(name))):
            try:
                for number, row in enumerate(_plain(self.splits[name])):
                    yield self._example(f"{name}-{number}", our_split(name), row, columns)
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{self.name}, {name}: it breaks off ({reason})") from error

    def _example(
        self, name: str, split: str | None, row: Mapping[str, Any], columns: Columns
    ) -> Example:
        def value(column: str | None) -> str:
            found = row.get(column) if column else None
            return "" if found is None else str(found)

        audio, problem = b"", None
        try:
            audio = self._read(row.get(columns.audio))
        except (OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, OSError) and not self.local:
                raise  # the network: what comes after would fail too
            problem = f"{self.name}, {name}: its audio cannot be read ({error})"
        return Example(
            name=name,
            split=split,
            text=value(columns.text),
            speaker=value(columns.speaker) or None,
            language=value(columns.language) or None,
            audio=audio,
            problem=problem,
        )

    def _read(self, audio: Any) -> bytes:
        """The bytes of an audio file, however the column holds it."""
        if isinstance(audio, bytes):
            return audio
        if isinstance(audio, str):
            audio = {"path": audio}
        if not isinstance(audio, dict):
            raise ValueError("the column holds no audio")
        if audio.get("bytes"):
            return bytes(audio["bytes"])
        if audio.get("array") is not None:
            return _wav(audio["array"], int(audio["sampling_rate"]))
        path = audio.get("path") or ""
        if not self.local:
            # A table from elsewhere must not name files of this machine.
            if not path.startswith("hf://"):
                raise ValueError("neither bytes nor a file of the Hub")
            import fsspec

            with fsspec.open(path, "rb") as remote:
                return bytes(remote.read())
        file = (self.root / path).resolve()
        if not path or not file.is_relative_to(self.root):
            raise ValueError(f"{path!r} is not in {self.root}; `corpus add` takes other files")
        return file.read_bytes()


def guess_columns(
    names: Sequence[str],
    *,
    audio: str | None = None,
    text: str | None = None,
    speaker: str | None = None,
) -> Columns:
    """Which column is what, by the names in use; `audio`, `text` and `speaker` settle it.

    Raises:
        UserError: a column that was named is not there, or audio or text cannot be guessed.
    """
    for option, given in (("audio", audio), ("text", text), ("speaker", speaker)):
        if given is not None and given not in names:
            raise UserError(f"--{option}-column {given}: there is only {', '.join(names)}")

    def guess(kinds: Iterable[str]) -> str | None:
        return next((kind for kind in kinds if kind in names), None)

    audio, text = audio or guess(AUDIO_COLUMNS), text or guess(TEXT_COLUMNS)
    for option, found in (("audio", audio), ("text", text)):
        if found is None:
            raise UserError(
                f"which column is the {option}? Give --{option}-column, one of {', '.join(names)}"
            )
    assert audio is not None
    assert text is not None
    return Columns(audio, text, speaker or guess(SPEAKER_COLUMNS), guess(LANGUAGE_COLUMNS))


def our_split(name: str) -> str | None:
    """train, dev or test for a split's name such as validation or train.clean; else None."""
    return next((ours for start, ours in _SPLITS if name.lower().startswith(start)), None)


def row_language(value: str | None) -> str | None:
    """The language code in a row, if what is there is one and not a name or a number."""
    return value if value and is_language_code(value) else None


def _load(where: Path | str, config: str | None) -> dict[str, Any]:
    import datasets

    datasets.disable_progress_bars()
    if isinstance(where, str):
        return dict(datasets.load_dataset(where, config, streaming=True))
    if where.is_file():
        return dict(_load_files(where.suffix, str(where)))
    if (where / "dataset_dict.json").is_file() or (where / "state.json").is_file():
        found = datasets.load_from_disk(str(where))
        splits = found if isinstance(found, dict) else {str(found.split or "train"): found}
        return {name: split.to_iterable_dataset() for name, split in splits.items()}
    suffixes = {path.suffix for path in where.rglob("*") if path.is_file()}
    if ".csv" in suffixes and ".parquet" not in suffixes and not any(where.rglob("metadata.*")):
        return dict(_load_files(".csv", None, str(where)))
    return dict(datasets.load_dataset(str(where), config, streaming=True))


def _load_files(suffix: str, file: str | None, folder: str | None = None) -> Any:
    import datasets

    if suffix not in _FILES:
        raise ValueError(f"only {', '.join(_FILES)} files and folders can be read")
    # "NA" and "null" are texts like others.
    options = {"keep_default_na": False} if suffix == ".csv" else {}
    return datasets.load_dataset(
        _FILES[suffix], data_files=file, data_dir=folder, streaming=True, **options
    )


def _plain(split: Any) -> Iterator[dict[str, Any]]:
    """The rows, with audio as it is stored.

    Even a feature of audio that is not to be decoded asks for torchcodec when rows are streamed; a
    cast to what is stored does not.
    """
    from datasets import Audio, Value

    for name, feature in (split.features or {}).items():
        if isinstance(feature, Audio):
            folder = split.info.builder_name == "audiofolder"
            stored = {"bytes": Value("binary"), "path": Value("string")}
            split = split.cast_column(name, Value("string") if folder else stored)
    return iter(split)


def _wav(samples: Sequence[float], rate: int) -> bytes:
    import numpy as np
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.asarray(samples, np.float32).T, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()
