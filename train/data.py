"""From a dataset to batches: windows are taken apart and packed anew each epoch.

A row of the dataset lists the segments in it, so short segments meet other neighbours in every
epoch, and no copy of the audio is made. Rows that mean something as they are stay whole: those with
previous text, those with a single long segment, those without speech.

A plan (`Window`) is metadata: which stretches of which rows lie where in 30 s. Reading a window
decodes only its own stretches; the log-mel spectrogram is computed later, on the device.
"""

import io
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from corpus.audio import SAMPLE_RATE
from corpus.errors import UserError
from corpus.pack import (
    GRID_SECONDS,
    MAX_TOKENS,
    SPECIAL_TOKENS,
    TIMESTAMP_TOKENS,
    WINDOW_SECONDS,
    Piece,
    grid_steps,
    pack,
)
from train.targets import (
    IGNORED,
    Choices,
    Encode,
    Target,
    Utterance,
    Vocabulary,
    build_target,
    spaced,
    target_tokens,
)

WINDOW_SAMPLES = int(WINDOW_SECONDS * SAMPLE_RATE)
GRID_SAMPLES = round(GRID_SECONDS * SAMPLE_RATE)

LONG_SEGMENT_SECONDS = 20.0
"""A lone segment of this length leaves little to pack beside it: the row stays whole."""

TOO_LONG = "text longer than 448 tokens"

BUCKET = 64
"""Targets are padded to multiples of this, so that a compiled model meets few shapes."""


class Span(NamedTuple):
    """Samples `start` to `stop` of a row's audio, laid at sample `at` of a window."""

    row: int
    start: int
    stop: int
    at: int


@dataclass(frozen=True)
class Window:
    """The plan of one training sample."""

    id: str
    language: str
    spans: tuple[Span, ...]
    utterances: tuple[Utterance, ...]
    previous: Utterance | None = None

    @property
    def seconds(self) -> float:
        """Audio in the window, without the padding to 30 s."""
        return sum(span.stop - span.start for span in self.spans) / SAMPLE_RATE


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


@dataclass
class Material:
    """What can be trained on: whole rows, and clips that are packed into windows each epoch."""

    whole: list[Window] = field(default_factory=list)
    clips: dict[str, Clip] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    def epoch(self, seed: int, epoch: int) -> list[Window]:
        """The windows of one epoch, shuffled; the same for the same arguments."""
        chance = random.Random(f"{seed}/{epoch}")
        pieces = [clip.piece for clip in self.clips.values()]
        chance.shuffle(pieces)
        windows = list(self.whole)
        for packed in pack(pieces, seed=chance.getrandbits(32)):
            windows.append(join([self.clips[piece.id] for piece in packed]))
        chance.shuffle(windows)
        return windows


def collect(
    rows: Iterable[Mapping[str, Any]],
    vocabulary: Vocabulary,
    encode: Encode,
    *,
    repack: bool = True,
    language_token: str | None = None,
) -> Material:
    """Sort the rows of a dataset (without their audio) into `Material`.

    What cannot be trained on is counted in `Material.dropped`; text is never cut to fit.

    Raises:
        UserError: a language has no token.
    """
    material = Material()
    room = MAX_TOKENS - SPECIAL_TOKENS
    lengths: dict[tuple[str | int, str], float] = {}  # of what was said in which recording
    prompted: dict[int, str | int] = {}  # windows with previous text and their recordings
    for number, row in enumerate(rows):
        for segment in row["segments"]:
            recording = _recording((number, segment))
            lengths[recording, segment["text"]] = segment["end"] - segment["start"]
        language = row["language"]
        vocabulary.language_code(language, language_token)
        if repack and can_take_apart(row):
            for clip in take_apart(number, row, encode):
                if clip.piece.tokens + TIMESTAMP_TOKENS > room:
                    material.dropped[TOO_LONG] += 1
                else:
                    material.clips[clip.piece.id] = clip
            continue
        window = whole_window(number, row)
        if target_tokens(window.utterances, language, encode) > MAX_TOKENS:
            material.dropped[TOO_LONG] += 1
            continue
        if window.previous and row["segments"]:
            prompted[len(material.whole)] = _recording((number, row["segments"][0]))
        material.whole.append(window)
    for index, recording in prompted.items():
        material.whole[index] = _timed(material.whole[index], recording, lengths)
    return material


def _timed(
    window: Window, recording: str | int, lengths: Mapping[tuple[str | int, str], float]
) -> Window:
    """A window whose previous text has the end that its own segment tells, if that is here too."""
    assert window.previous is not None
    seconds = lengths.get((recording, window.previous.text))
    return replace(window, previous=replace(window.previous, end=seconds))


def whole_window(number: int, row: Mapping[str, Any]) -> Window:
    """Row `number` as it was built. A segment that ends after the audio does goes on beyond it."""
    utterances = (
        Utterance(
            segment["start"],
            None if segment["end"] > row["duration"] + GRID_SECONDS else segment["end"],
            segment["text"],
        )
        for segment in row["segments"]
    )
    samples = min(round(row["duration"] * SAMPLE_RATE), WINDOW_SAMPLES)
    return Window(
        id=row["id"],
        language=row["language"],
        spans=(Span(number, 0, samples, 0),),
        utterances=tuple(utterances),
        previous=Utterance(0.0, None, row["previous_text"]) if row["previous_text"] else None,
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
            Utterance(s["start"] - origin, min(s["end"], row["duration"]) - origin, s["text"])
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
        spans.append(Span(clip.row, clip.start, clip.stop, at))
        for said in clip.utterances:
            end = None if said.end is None else at / SAMPLE_RATE + said.end
            utterances.append(Utterance(at / SAMPLE_RATE + said.start, end, said.text))
        at += grid_steps(clip.piece.seconds) * GRID_SAMPLES
    pieces = [clip.piece for clip in clips]
    return Window(
        id="+".join(piece.id for piece in pieces),
        language=pieces[0].language,
        spans=tuple(spans),
        utterances=tuple(utterances),
    )


@dataclass
class Stream:
    """The endless sequence of windows: epoch after epoch, each with its own plan.

    The sequence depends only on the material and the seed, so a run that starts again at position n
    sees what it would have seen.
    """

    material: Material
    seed: int

    def read(self, position: int) -> Iterator[tuple[int, Window]]:
        """Pairs of epoch and window from `position` on, counted in windows."""
        epoch = 0
        while True:
            windows = self.material.epoch(self.seed, epoch)
            for window in windows[position:]:
                yield epoch, window
            position = max(0, position - len(windows))
            epoch += 1

    def count(self, epochs: float) -> int:
        """Number of windows in `epochs` epochs."""
        whole = int(epochs)
        windows = sum(len(self.material.epoch(self.seed, epoch)) for epoch in range(whole))
        if epochs > whole:
            windows += round((epochs - whole) * len(self.material.epoch(self.seed, whole)))
        return windows

    def batches(
        self, start: int, stop: int, *, batch_size: int, micro_batch: int, rank: int, world: int
    ) -> Iterator[list[tuple[int, Window]]]:
        """One process's micro-batches of steps `start` to `stop`, `batch_size` windows a step.

        Which windows make a step does not depend on `micro_batch` or `world`.
        """
        windows = self.read(start * batch_size)
        for _ in range(start, stop):
            mine = [next(windows) for _ in range(batch_size)][rank::world]
            for at in range(0, len(mine), micro_batch):
                yield mine[at : at + micro_batch]


class Batch(NamedTuple):
    """A micro-batch of B windows.

    Attributes:
        pcm: int16 [B, 480000], 16 kHz.
        decoder_input_ids, labels: int64 [B, L], L a multiple of 64.
        tokens: number of labels with loss.
        seconds: audio without padding.
    """

    pcm: Any
    decoder_input_ids: Any
    labels: Any
    tokens: int
    seconds: float


class Reader:
    """Reads planned windows: a map-style dataset for torch's DataLoader, indexed by the plan."""

    def __init__(
        self,
        rows: Any,
        vocabulary: Vocabulary,
        encode: Encode,
        *,
        seed: int,
        language_token: str | None,
    ) -> None:
        self.rows = rows.select_columns(["audio"])
        self.vocabulary = vocabulary
        self.encode = encode
        self.seed = seed
        self.language_token = language_token

    def __getitem__(self, item: tuple[int, Window]) -> tuple[np.ndarray, Target, float]:
        epoch, window = item
        target = build_target(
            window.utterances,
            window.language,
            Choices.draw(self.seed, epoch, window.id),
            self.vocabulary,
            self.encode,
            previous=window.previous,
            language_token=self.language_token,
        )
        pcm = np.zeros(WINDOW_SAMPLES, np.int16)
        for span in window.spans:
            stretch = read_flac(self.rows[span.row]["audio"]["bytes"], span.start, span.stop)
            pcm[span.at : span.at + stretch.size] = stretch
        if target.silent_from is not None:
            pcm[round(target.silent_from * SAMPLE_RATE) :] = 0
        return pcm, target, window.seconds

    def collate(self, items: Sequence[tuple[np.ndarray, Target, float]]) -> Batch:
        """Stack windows; inputs are padded with <|endoftext|>, labels with -100."""
        import torch

        targets = [target for _, target, _ in items]
        longest = max(len(target.labels) for target in targets)
        length = -(-longest // BUCKET) * BUCKET
        inputs = np.full((len(items), length), self.vocabulary.end, np.int64)
        labels = np.full((len(items), length), IGNORED, np.int64)
        for row, target in enumerate(targets):
            inputs[row, : len(target.labels)] = target.decoder_input_ids
            labels[row, : len(target.labels)] = target.labels
        return Batch(
            torch.from_numpy(np.stack([pcm for pcm, _, _ in items])),
            torch.from_numpy(inputs),
            torch.from_numpy(labels),
            int((labels != IGNORED).sum()),
            sum(seconds for _, _, seconds in items),
        )


def read_flac(data: bytes, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Samples `start` to `stop` of a FLAC file's bytes: int16 [samples], by seeking."""
    import soundfile

    pcm, rate = soundfile.read(io.BytesIO(data), start=start, stop=stop, dtype="int16")
    if rate != SAMPLE_RATE or pcm.ndim != 1:
        raise UserError("the dataset's audio is not 16 kHz mono; build it anew with `corpus build`")
    return pcm


def open_split(folders: Sequence[Path], split: str) -> Any:
    """One split of one or more datasets, laid end to end, as a `datasets.Dataset`.

    Raises:
        UserError: a folder is missing or is no dataset, or none of them has the split.
    """
    from datasets import concatenate_datasets

    from corpus.dataset import read_split

    return concatenate_datasets([read_split(folder, split) for folder in folders])
