"""The segments that can be in a dataset, read from the catalogue.

A million of them are held in memory, some 750 bytes each: rows of columns, no mapped objects.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from corpus import engine, pack
from corpus.catalogue import Catalogue, Failure, Recording, Segment, Transcript, Verdict
from corpus.errors import UserError
from corpus.segment import HARD_GAP_SECONDS, MAX_SECONDS
from corpus.split import Split
from corpus.workspace import Workspace

SILENCE_BY = ("subtitle", "review")
"""Kinds of transcript whose empty text means that nothing is said."""

ROOM_TOKENS = pack.MAX_TOKENS - pack.SPECIAL_TOKENS - pack.TIMESTAMP_TOKENS
"""For the text of one segment."""

MAX_MS = round(MAX_SECONDS * 1000)
HARD_GAP_MS = round(HARD_GAP_SECONDS * 1000)

READ_ROWS = 200
"""At a time, so that they stay in the processor's cache."""

TokenCounter = Callable[[Sequence[str]], list[int]]


class Media(NamedTuple):
    """What planning has to know of a recording."""

    id: str
    source: str
    language: str
    licence: str
    redistributable: bool
    group: str
    split: Split | None
    content: int | None
    """Stands for the hash of its media file; None where that cannot be read."""
    duration_ms: int


class Kept(NamedTuple):
    """A segment that the verdict keeps, with the transcript it is trained on.

    `id` is the segment's in the catalogue, with a number where it was cut. `after` is the id of the
    segment that was said just before, and `previous_text` its text.
    """

    media: Media
    id: str
    start_ms: int
    end_ms: int
    text: str
    label_kind: str
    tokens: int
    after: str | None = None
    previous_text: str | None = None

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end_ms - self.start_ms) / 1000


def count_tokens(tokenizer: str | None) -> TokenCounter:
    """How many tokens texts have: exactly with a tokenizer's folder or name, else at most.

    Raises:
        UserError: there is no tokenizer at that place.
    """
    if tokenizer is None:
        return lambda texts: [pack.token_bound(text) for text in texts]
    from tokenizers import Tokenizer

    path = Path(tokenizer).expanduser()
    if tokenizer.startswith((".", "/", "~")) and not path.is_dir():
        raise UserError(f"no tokenizer at {tokenizer}: no such folder")
    try:
        loaded = (
            Tokenizer.from_file(str(path / "tokenizer.json"))
            if path.is_dir()
            else Tokenizer.from_pretrained(tokenizer)
        )
    except Exception as error:  # the library raises bare Exceptions
        reason = " ".join(str(error).split())
        raise UserError(f"no tokenizer at {tokenizer}: {reason}") from None
    return lambda texts: [
        len(encoding.ids)
        for encoding in loaded.encode_batch_fast(
            [f" {text}" for text in texts], add_special_tokens=False
        )
    ]


def read_kept(catalogue: Catalogue, tokens_in: TokenCounter) -> tuple[list[Kept], Counter[str]]:
    """The segments that can be in a dataset, by recording and time, and why others cannot.

    A text of more tokens than a window holds, or a segment of more than 30 s, is cut at pauses
    where the times of its words are known.
    """
    left_out: Counter[str] = Counter()
    kept: list[Kept] = []
    before: Kept | None = None
    with catalogue.session() as session:
        # In the order of the segments; asked for after these, so that none lacks its recording.
        recordings = _media(session)
        recording: Media | None = None
        for row, count in _segments(session, tokens_in):
            recording_id, item, start, end, verdict, transcript, kind, text = row
            while recording is None or recording.id != recording_id:
                recording = next(recordings)
            parts = [(item, start, end, text, count)]
            reason = _unfit(recording, verdict, kind, text)
            if reason is None and (count > ROOM_TOKENS or end - start > MAX_MS):
                words = session.scalar(select(Transcript.words).filter_by(id=transcript))
                cut = cut_at_pauses(start, end, text, words or [], tokens_in)
                parts = [(f"{item}/{number}", *part) for number, part in enumerate(cut)]
                if not parts:
                    long = end - start > MAX_MS
                    what = f"{MAX_SECONDS:.0f} s" if long else f"{ROOM_TOKENS} tokens"
                    reason = f"more than {what}"
            if reason:
                left_out[reason] += 1
                before = None  # something was said here: what follows has no predecessor
                continue
            kind = intern(kind)  # one of a few, but each row brings its own
            for name, start, end, text, count in parts:
                after = previous = None
                if (
                    before is not None
                    and before.media is recording
                    and 0 <= start - before.end_ms <= HARD_GAP_MS
                ):
                    after, previous = before.id, before.text or None
                before = Kept(recording, name, start, end, text, kind, count, after, previous)
                kept.append(before)
    kept.sort(key=attrgetter("media.id"))  # a database's order of letters is its own
    return kept, left_out


def unreadable(session: Session) -> set[str]:
    """The recordings whose media the last look before a build could not use."""
    return set(session.scalars(select(Failure.item).filter_by(stage="build")))


def _media(session: Session) -> Iterator[Media]:
    failed = unreadable(session)
    rows = session.connection().execute(
        select(
            Recording.id,
            Recording.source,
            Recording.language,
            Recording.licence,
            Recording.redistributable,
            Recording.speaker,
            Recording.channel_id,
            Recording.split,
            Recording.sha256,
            Recording.duration_ms,
        ).order_by(Recording.id),
        execution_options={"yield_per": READ_ROWS},  # streamed
    )
    for item, source, language, licence, free, speaker, channel, split, sha256, length in rows:
        # Values that many recordings share are held once, of a hash as little as tells files apart.
        yield Media(
            item,
            intern(source),
            intern(language),
            intern(licence),
            free,
            intern(speaker or channel or item),
            cast("Split | None", intern(split) if split else None),
            int.from_bytes(sha256[-16:].encode()) if sha256 and item not in failed else None,
            length,
        )


def _segments(session: Session, tokens_in: TokenCounter) -> Iterator[tuple[Sequence[Any], int]]:
    """All segments, by recording and time, with the number of tokens of their texts."""
    rows = session.connection().execute(
        select(
            Segment.recording_id,
            Segment.id,
            Segment.start_ms,
            Segment.end_ms,
            Verdict.verdict,
            Transcript.id,
            Transcript.kind,
            Transcript.text,
        )
        .outerjoin(Verdict, Verdict.segment_id == Segment.id)
        .outerjoin(Transcript, Transcript.id == Verdict.transcript_id)
        .where(Segment.superseded.is_(False))  # only mapped objects are rid of them unasked
        .order_by(Segment.recording_id, Segment.start_ms, Segment.id),
        execution_options={"yield_per": READ_ROWS},
    )
    for batch in rows.partitions():
        yield from zip(batch, tokens_in([row[-1] or "" for row in batch]), strict=True)


def _unfit(media: Media, verdict: str | None, kind: str | None, text: str | None) -> str | None:
    """Why a segment cannot be in a dataset; None where it can."""
    if verdict is None:
        return "no verdict yet"
    if verdict != "keep":
        return f"verdict {verdict}"
    if media.content is None:
        return "media cannot be read"
    return None if text or (text is not None and kind in SILENCE_BY) else "no text"


def cut_at_pauses(
    start_ms: int,
    end_ms: int,
    text: str,
    words: Sequence[Sequence[Any]],
    tokens_in: TokenCounter,
) -> list[tuple[int, int, str, int]]:
    """Parts of a segment that windows can hold: start and end (ms), text, tokens.

    Cut is in the longest pause of the middle, again and again. `words` are rows of
    `Transcript.words`; where they are not those of `text`, or there is none, no part is returned:
    a text is never cut by guess.
    """
    count = tokens_in([text])[0]
    if count <= ROOM_TOKENS and end_ms - start_ms <= MAX_MS:
        return [(start_ms, end_ms, text, count)]
    spelt = [str(word[2]).replace(" ", "") for word in words]
    if len(words) < 2 or "".join(spelt) != text.replace(" ", ""):
        return []
    quarter = len(words) // 4
    middle = range(max(1, quarter), len(words) - quarter)
    cut = max(middle, key=lambda i: words[i][0] - words[i - 1][1])
    letters = len("".join(spelt[:cut]))
    at = next(i for i in range(len(text) + 1) if len(text[:i].replace(" ", "")) == letters)
    between = min(max((words[cut - 1][1] + words[cut][0]) // 2, start_ms + 1), end_ms - 1)
    left = cut_at_pauses(start_ms, between, text[:at].strip(), words[:cut], tokens_in)
    right = cut_at_pauses(between, end_ms, text[at:].strip(), words[cut:], tokens_in)
    return [*left, *right] if left and right else []


def media_paths(workspace: Workspace, catalogue: Catalogue, ids: Sequence[str]) -> dict[str, Path]:
    """Where the media of recordings lie."""
    paths: dict[str, Path] = {}
    with catalogue.session() as session:
        for some in engine.batches(ids, 500):
            query = select(Recording.id, Recording.media_path).where(Recording.id.in_(some))
            paths |= {item: workspace.path(path) for item, path in session.execute(query)}
    return paths
