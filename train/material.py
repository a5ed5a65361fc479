"""What can be trained on: the rows of datasets, taken apart into what may be packed anew.

A row of a dataset lists the segments in it, so short segments can meet other neighbours in every
epoch, and no copy of the audio is made. Rows that mean something as they are stay whole: those with
previous text, those with a single long segment, those without speech.

All of it is metadata: which stretches of which rows lie where in 30 s. `train.reader` decodes them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

from corpus.audio import SAMPLE_RATE
from corpus.pack import (
    GRID_SECONDS,
    MAX_TOKENS,
    SPECIAL_TOKENS,
    TIMESTAMP_TOKENS,
    WINDOW_SECONDS,
    Piece,
    grid_steps,
)
from train.targets import Choices, Encode, Utterance, Vocabulary, place, spaced

WINDOW_SAMPLES = int(WINDOW_SECONDS * SAMPLE_RATE)
GRID_SAMPLES = round(GRID_SECONDS * SAMPLE_RATE)

LONG_SEGMENT_SECONDS = 20.0
"""A lone segment of this length leaves little to pack beside it: the row stays whole."""

WITH_TIMESTAMPS = Choices(timestamps=True, previous_text=False, no_speech_token=False)

TOO_LONG = "text longer than 448 tokens"


class Span(NamedTuple):
    """Samples `start` to `stop` of a row's audio, laid at sample `at` of a window.

    Played `speed` times as fast, it takes `samples` there.
    """

    row: int
    start: int
    stop: int
    at: int
    speed: float = 1.0

    @property
    def samples(self) -> int:
        """Length in the window."""
        return round((self.stop - self.start) / self.speed)


@dataclass(frozen=True)
class Window:
    """The plan of one training sample.

    Attributes:
        spans: none in a window of silence that was not recorded.
        text_tokens, timestamp_tokens: those of its utterances; special tokens come on top.
        previous_tokens: those of the previous text.
    """

    id: str
    language: str
    spans: tuple[Span, ...]
    utterances: tuple[Utterance, ...]
    text_tokens: int
    timestamp_tokens: int
    previous: Utterance | None = None
    previous_tokens: int = 0

    @property
    def seconds(self) -> float:
        """Audio in the window, without the padding to 30 s."""
        return sum(span.samples for span in self.spans) / SAMPLE_RATE

    @property
    def speaks(self) -> bool:
        """Whether anything is said in it."""
        return any(said.text.strip() for said in self.utterances)

    def tokens(self, choices: Choices) -> int:
        """Decoder positions that its target would take, were there no limit to them."""
        tokens = self.text_tokens + (3 + self.timestamp_tokens if choices.timestamps else 4)
        if choices.previous_text and self.previous:
            tokens += 1 + self.previous_tokens
        return tokens

    def faster(self, speed: float) -> "Window":
        """The same window played `speed` times as fast, or as near to it as fits into 30 s."""
        (span,) = self.spans
        speed = max(speed, (span.stop - span.start) / WINDOW_SAMPLES)
        return replace(
            self,
            spans=(span._replace(speed=speed),),
            utterances=tuple(said.faster(speed) for said in self.utterances),
        )


@dataclass(frozen=True)
class Clip:
    """Segments that are packed as one: samples `start` to `stop` of a row's audio.

    The times of the utterances are seconds from `start`.
    """

    piece: Piece
    row: int
    start: int
    stop: int
    utterances: tuple[Utterance, ...]
    speed: float = 1.0

    def faster(self, speed: float) -> "Clip":
        """The same clip played `speed` times as fast, or as near to it as fits into 30 s."""
        speed = max(speed, (self.stop - self.start) / WINDOW_SAMPLES)
        seconds = round((self.stop - self.start) / speed) / SAMPLE_RATE
        return replace(
            self,
            piece=self.piece._replace(seconds=seconds),
            utterances=tuple(said.faster(speed) for said in self.utterances),
            speed=speed,
        )


Item = Window | Clip


@dataclass
class Material:
    """What of one dataset can be trained on.

    Attributes:
        units: what is read together, in the order of the rows: a row's items, or where audio is
            streamed those of a row group.
        dropped: why how many rows or segments cannot be used.
        licences: seconds by source and licence.
    """

    units: list[list[Item]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    licences: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def items(self) -> Iterator[Item]:
        """All whole windows and clips."""
        return (item for unit in self.units for item in unit)

    @property
    def speaks(self) -> bool:
        """Whether anything is said in any of it."""
        return any(isinstance(item, Clip) or item.speaks for item in self.items)

    @property
    def seconds(self) -> float:
        """Audio in all of it."""
        return sum(
            item.seconds if isinstance(item, Window) else item.piece.seconds for item in self.items
        )


def collect(
    rows: Iterable[Mapping[str, Any]],
    vocabulary: Vocabulary,
    encode: Encode,
    *,
    first_row: int = 0,
    unit_rows: Iterable[int] | None = None,
    repack: bool = True,
    language_token: str | None = None,
) -> Material:
    """Sort the rows of a dataset (without their audio) into `Material`.

    What cannot be trained on is counted in `Material.dropped`; text is never cut to fit.

    Args:
        first_row: the number that the first row has among those of all datasets.
        unit_rows: how many rows are read together each time; by default each row is by itself.

    Raises:
        UserError: a language has no token.
    """
    material = Material()
    lengths: dict[tuple[str | int, str], float] = {}  # of what was said in which recording
    prompted: list[tuple[list[Item], int, str | int]] = []  # windows with previous text
    sizes = iter(unit_rows or ())
    left = 0
    for number, row in enumerate(rows, first_row):
        vocabulary.language_code(row["language"], language_token)
        _count_licences(material, row)
        if left == 0:
            left = next(sizes, 1)
            material.units.append([])
        left -= 1
        unit = material.units[-1]
        for segment in row["segments"]:
            recording = _recording((number, segment))
            lengths[recording, segment["text"]] = segment["end"] - segment["start"]
        if repack and can_take_apart(row):
            for clip in take_apart(number, row, encode):
                if clip.piece.tokens + TIMESTAMP_TOKENS > MAX_TOKENS - SPECIAL_TOKENS:
                    material.dropped[TOO_LONG] += 1
                else:
                    unit.append(clip)
            continue
        window = whole_window(number, row, encode)
        if window.tokens(WITH_TIMESTAMPS) > MAX_TOKENS:
            material.dropped[TOO_LONG] += 1
            continue
        if window.previous and row["segments"]:
            prompted.append((unit, len(unit), _recording((number, row["segments"][0]))))
        unit.append(window)
    for unit, index, recording in prompted:
        unit[index] = _timed(unit[index], recording, lengths)
    material.units = [unit for unit in material.units if unit]
    return material


def _count_licences(material: Material, row: Mapping[str, Any]) -> None:
    licence = " + ".join(sorted(set(row["licences"]))) or "unknown"
    for segment in row["segments"]:
        seconds = min(segment["end"], row["duration"]) - segment["start"]
        material.licences[segment["source"], licence] += seconds


def _timed(
    window: Item, recording: str | int, lengths: Mapping[tuple[str | int, str], float]
) -> Window:
    """A window whose previous text has the end that its own segment tells, if that is here too."""
    assert isinstance(window, Window)
    assert window.previous is not None
    seconds = lengths.get((recording, window.previous.text))
    return replace(window, previous=replace(window.previous, end=seconds))


def whole_window(number: int, row: Mapping[str, Any], encode: Encode) -> Window:
    """Row `number` as it was built. A segment that ends after the audio does goes on beyond it."""
    utterances = tuple(
        Utterance(
            segment["start"],
            None if segment["end"] > row["duration"] + GRID_SECONDS else segment["end"],
            segment["text"],
            segment["source"],
        )
        for segment in row["segments"]
    )
    samples = min(round(row["duration"] * SAMPLE_RATE), WINDOW_SAMPLES)
    language, previous = row["language"], row["previous_text"]
    said = place(utterances, language)
    return Window(
        id=row["id"],
        language=language,
        spans=(Span(number, 0, samples, 0),),
        utterances=utterances,
        text_tokens=sum(len(encode(placed.text)) for placed in said if placed.end is not None),
        timestamp_tokens=sum(1 if placed.end is None else TIMESTAMP_TOKENS for placed in said),
        previous=Utterance(0.0, None, previous) if previous else None,
        previous_tokens=len(encode(spaced(previous, language))) if previous else 0,
    )


def can_take_apart(row: Mapping[str, Any]) -> bool:
    """Whether nothing is lost when a row's segments meet others."""
    segments = row["segments"]
    if not segments or not all(segment["text"].strip() for segment in segments):
        return False  # silence is material too
    if row["previous_text"] or segments[-1]["end"] > row["duration"] + GRID_SECONDS:
        return False
    return len(segments) > 1 or segments[0]["end"] - segments[0]["start"] < LONG_SEGMENT_SECONDS


def take_apart(number: int, row: Mapping[str, Any], encode: Encode) -> Iterator[Clip]:
    """The segments of row `number`; those of one recording stay together, with their pauses."""
    groups = groupby(enumerate(row["segments"]), key=_recording)
    for index, segments in enumerate([segment for _, segment in group] for _, group in groups):
        start = round(segments[0]["start"] * SAMPLE_RATE)
        stop = round(min(segments[-1]["end"], row["duration"]) * SAMPLE_RATE)
        tokens = [len(encode(spaced(segment["text"], row["language"]))) for segment in segments]
        piece = Piece(
            id=f"{number}/{index}",
            seconds=(stop - start) / SAMPLE_RATE,
            tokens=sum(tokens) + TIMESTAMP_TOKENS * (len(tokens) - 1),
            language=row["language"],
            speaker=segments[0]["speaker"],
        )
        origin = start / SAMPLE_RATE
        utterances = tuple(
            Utterance(
                s["start"] - origin,
                min(s["end"], row["duration"]) - origin,
                s["text"],
                s["source"],
            )
            for s in segments
        )
        yield Clip(piece, number, start, stop, utterances)


def _recording(numbered: tuple[int, Mapping[str, Any]]) -> str | int:
    """What a segment has in common with its neighbours of the same recording."""
    number, segment = numbered
    recording: str = segment["segment_id"].rpartition("@")[0]
    return recording or number


def join(clips: Sequence[Clip]) -> Window:
    """Lay clips end to end, each from a point of the 0.02 s grid on."""
    spans: list[Span] = []
    utterances: list[Utterance] = []
    at = 0
    for clip in clips:
        spans.append(Span(clip.row, clip.start, clip.stop, at, clip.speed))
        utterances += [said.later(at / SAMPLE_RATE) for said in clip.utterances]
        at += grid_steps(clip.piece.seconds) * GRID_SAMPLES
    pieces = [clip.piece for clip in clips]
    tokens = sum(piece.tokens + TIMESTAMP_TOKENS for piece in pieces)
    timestamps = TIMESTAMP_TOKENS * len(utterances)
    return Window(
        id="+".join(piece.id for piece in pieces),
        language=pieces[0].language,
        spans=tuple(spans),
        utterances=tuple(utterances),
        text_tokens=tokens - timestamps,
        timestamp_tokens=timestamps,
    )
