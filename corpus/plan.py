"""The plan of a dataset: which segments, in which split, how often, in which windows.

A plan needs the catalogue, not the audio (save of recordings that could be a held-out one under
another name), and it can be looked at before anything is written. Its fingerprint covers every
segment, text and setting, so an equal second build knows that there is nothing to do.

A million segments are planned in memory, some 600 bytes each: rows of columns, no mapped objects.
"""

import gc
import hashlib
import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple, cast

from sqlalchemy import select

from corpus import audio, engine, leaks, mix, pack
from corpus.catalogue import Catalogue, Recording, Segment, Transcript, Verdict, segment_id
from corpus.chunks import chunks, draw
from corpus.dataset import SHARD_SECONDS, HeldOut, held_out_audio, held_out_rows
from corpus.errors import UserError
from corpus.fingerprint import Fingerprint, FingerprintIndex, fingerprint
from corpus.segment import HARD_GAP_SECONDS, MAX_SECONDS
from corpus.split import SPLITS, Split, assign_splits, carve
from corpus.workspace import BuildConfig, Workspace

HELD_OUT: tuple[Split, ...] = ("dev", "test")

SILENCE_BY = ("subtitle", "review")
"""Kinds of transcript whose empty text means that nothing is said."""

LABEL_KINDS = ("subtitle", "pseudo", "review", "release")

ROOM_TOKENS = pack.MAX_TOKENS - pack.SPECIAL_TOKENS - pack.TIMESTAMP_TOKENS
"""For the text of one segment."""

ONE_VOICE_SHARE = 0.5
"""A split of which one speaker or channel has more is told: its figures are that one's."""

SAME_AUDIO_MS = 500
"""Copies of a recording differ less in length: encoders add some tens of milliseconds."""

MAX_MS = round(MAX_SECONDS * 1000)
HARD_GAP_MS = round(HARD_GAP_SECONDS * 1000)

READ_ROWS = 1000

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

    `after` is the id of the segment that was said just before, and `previous_text` its text.
    `own_id` is None where the id is made of recording and bounds, as it mostly is.
    """

    media: Media
    own_id: str | None
    start_ms: int
    end_ms: int
    text: str
    label_kind: str
    tokens: int
    after: str | None = None
    previous_text: str | None = None

    @property
    def id(self) -> str:
        """The segment's id in the catalogue, with its number where it was cut."""
        return self.own_id or segment_id(self.media.id, self.start_ms, self.end_ms)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end_ms - self.start_ms) / 1000


Run = tuple[Kept, ...]
"""Segments that follow each other in one recording, kept with the pauses between them."""

Window = tuple[Run, ...]


@dataclass(frozen=True)
class Plan:
    """What a dataset will hold, before any audio is read.

    Attributes:
        rows: windows by split; those of dev and test hold one segment.
        left_out: number of segments by the reason why they are in no split.
        leaks: what is left out of train because it is held out, each with what it shares.
        repeated: number of segments of train that are taken more than once.
        warnings: one line for each thing that a person should know.
        settings: what the plan depends on, as the manifest tells it.
        fingerprint: equal for equal plans.
    """

    rows: dict[str, list[Window]]
    left_out: dict[str, int]
    leaks: list[leaks.Leak]
    repeated: int
    warnings: list[str]
    settings: dict[str, Any]
    fingerprint: str

    @property
    def kept(self) -> Iterator[Kept]:
        """All segments in all rows."""
        for windows in self.rows.values():
            for window in windows:
                for run in window:
                    yield from run


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


@contextmanager
def _no_collections() -> Iterator[None]:
    """No garbage collector: what planning makes has no cycles, and it is looked at in vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()  # nor afterwards
            gc.enable()


@_no_collections()
def make_plan(
    workspace: Workspace,
    catalogue: Catalogue,
    settings: BuildConfig,
    *,
    against: Sequence[str] = (),
    workers: engine.Workers = engine.HERE,
) -> Plan:
    """Assign every kept segment to a split, and the train segments to windows.

    A speaker, channel or recording is in one split only: a source's own, else by hash. Dev and
    test hold single segments, and none that only a model has labelled: a WER is measured against
    people's words. What is held out here, or in the datasets `against`, is left out of train.

    Raises:
        UserError: there is nothing to build from, or a setting makes no sense.
    """
    if settings.gap_seconds < 0 or not 0 <= settings.single_share < 1:
        raise UserError(
            "[build] of corpus.toml: gap_seconds is 0 or more, single_share from 0 to below 1"
        )
    kept, left_out = read_kept(catalogue, count_tokens(settings.tokenizer))
    if not kept:
        raise UserError(
            "no segment is kept: see `corpus status`; then review some, or choose another "
            "`corpus verdict --preset`"
        )
    split_of, warnings = _split(kept, settings)
    singles: dict[Split, list[Kept]] = {split: [] for split in SPLITS}
    for item in kept:
        split = split_of(item.media)
        if split in HELD_OUT and item.label_kind == "pseudo":
            left_out[f"{split}: labelled by a model only"] += 1
        elif split in HELD_OUT and not item.text:
            left_out[f"{split}: nothing is said"] += 1
        else:
            singles[split].append(item)
    sources = {item.media.source for item in kept}
    del kept  # a million segments: each list of them counts
    warnings += _told_of(singles, left_out, settings, told=bool(warnings))

    found = _find_leaks(workspace, catalogue, singles, against, workers)
    train = _without(singles["train"], {leak.segment for leak in found.leaks})
    left_out.update(
        {f"train: the {why} is held out": n for why, n in leaks.counts(found.leaks).items()}
    )

    wanted = mix.Mix(
        settings.weights, settings.max_hours, settings.max_epochs, settings.temperature
    )
    drawn = _draw(train, wanted, settings.seed)
    left_out.update({f"train: {why}": count for why, count in drawn.left_out.items()})
    unknown = wanted.names - sources - set(LABEL_KINDS)

    rows: dict[str, list[Window]] = {
        "train": _train_windows(train, drawn.copies, settings),
        **{split: [((item,),) for item in singles[split]] for split in HELD_OUT},
    }
    told = {
        # By name: the place of a folder must not make another dataset of the same windows.
        **vars(settings),
        "tokenizer": _tokenizer_name(settings.tokenizer),
        "thresholds": _thresholds(catalogue),
        "against": list(against),
    }
    del told["name"]
    return Plan(
        rows=rows,
        left_out=dict(left_out),
        leaks=found.leaks,
        repeated=sum(count > 1 for count in drawn.copies),
        warnings=[
            *warnings,
            *found.shared,
            *(f"[build] {name}: no such source or kind of label here" for name in sorted(unknown)),
        ],
        settings=told,
        fingerprint=_fingerprint(rows, told),
    )


# --- reading ------------------------------------------------------------------------------------


def read_kept(catalogue: Catalogue, tokens_in: TokenCounter) -> tuple[list[Kept], Counter[str]]:
    """The segments that can be in a dataset, by recording and time, and why others cannot.

    A text of more tokens than a window holds, or a segment of more than 30 s, is cut at pauses
    where the times of its words are known.
    """
    left_out: Counter[str] = Counter()
    kept: list[Kept] = []
    before: Kept | None = None
    with catalogue.session() as session:
        media = {item.id: item for item in _media(session)}
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
            execution_options={"yield_per": READ_ROWS},  # streamed
        )
        for batch in rows.partitions():
            counts = tokens_in([row[-1] or "" for row in batch])
            for row, count in zip(batch, counts, strict=True):
                recording_id, item, start, end, verdict, transcript, kind, text = row
                recording = media[recording_id]
                reason = _unfit(recording, verdict, kind, text)
                parts: Sequence[tuple[int, int, str, int]] = ((start, end, text, count),)
                if reason is None and (count > ROOM_TOKENS or end - start > MAX_MS):
                    words = session.scalar(select(Transcript.words).filter_by(id=transcript))
                    parts = cut_at_pauses(start, end, text, words or [], tokens_in)
                    if not parts:
                        long = end - start > MAX_MS
                        what = f"{MAX_SECONDS:.0f} s" if long else f"{ROOM_TOKENS} tokens"
                        reason = f"more than {what}"
                if reason:
                    left_out[reason] += 1
                    before = None  # something was said here: what follows has no predecessor
                    continue
                kind = intern(kind)  # one of a few, but each row brings its own
                for position, (start, end, text, count) in enumerate(parts):
                    name = item if len(parts) == 1 else f"{item}/{position}"
                    own = None if name == segment_id(recording_id, start, end) else name
                    after = previous = None
                    if (
                        before is not None
                        and before.media is recording
                        and 0 <= start - before.end_ms <= HARD_GAP_MS
                    ):
                        after, previous = before.id, before.text or None
                    before = Kept(recording, own, start, end, text, kind, count, after, previous)
                    kept.append(before)
    kept.sort(key=attrgetter("media.id"))  # a database's order of letters is its own
    return kept, left_out


def _media(session: Any) -> Iterator[Media]:
    # Values that many recordings share are held once.
    same: dict[str, str] = {}
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
        ),
        execution_options={"yield_per": READ_ROWS},
    )
    for item, source, language, licence, free, speaker, channel, split, sha256, length in rows:
        group = speaker or channel or item
        yield Media(
            item,
            same.setdefault(source, source),
            same.setdefault(language, language),
            same.setdefault(licence, licence),
            free,
            same.setdefault(group, group),
            cast("Split | None", same.setdefault(split, split) if split else None),
            hash(sha256) if sha256 else None,
            length,
        )


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


def _thresholds(catalogue: Catalogue) -> list[str]:
    with catalogue.session() as session:
        return sorted(session.scalars(select(Verdict.thresholds).distinct()))


def _tokenizer_name(tokenizer: str | None) -> str | None:
    return Path(tokenizer).name if tokenizer and Path(tokenizer).is_dir() else tokenizer


# --- splits -------------------------------------------------------------------------------------


def _split(
    kept: Sequence[Kept], settings: BuildConfig
) -> tuple[Callable[[Media], Split], list[str]]:
    """Which split a recording is in, and what should be told about it."""
    seconds: dict[str, float] = defaultdict(float)
    given: dict[str, set[Split]] = defaultdict(set)
    for item in kept:
        seconds[item.media.group] += item.seconds
        if item.media.split:
            given[item.media.group].add(item.media.split)
    # What a source puts into test stays out of train wherever else the same speaker turns up.
    fixed = {group: max(splits, key=SPLITS.index) for group, splits in given.items()}
    asked = {"dev": settings.dev_hours * 3600, "test": settings.test_hours * 3600}
    assigned = assign_splits(
        seconds,
        dev_seconds=asked["dev"],
        test_seconds=asked["test"],
        fixed=fixed,
        salt=str(settings.seed),
    )
    carved = carve(seconds, assigned.splits, asked=asked, salt=str(settings.seed))

    def split_of(media: Media) -> Split:
        return carved.splits.get(media.group) or media.split or assigned.splits[media.group]

    return split_of, [*assigned.warnings, *carved.warnings]


def _told_of(
    singles: Mapping[Split, Sequence[Kept]],
    left_out: Mapping[str, int],
    settings: BuildConfig,
    *,
    told: bool,
) -> Iterator[str]:
    """Lines about splits that are empty, where the assignment has not `told`, or one voice's."""
    hours = {"dev": settings.dev_hours, "test": settings.test_hours}
    for split in HELD_OUT:
        seconds: dict[str, float] = defaultdict(float)
        for item in singles[split]:
            seconds[item.media.group] += item.seconds
        pseudo = left_out.get(f"{split}: labelled by a model only", 0)
        if not seconds and pseudo:
            yield f"{split} is empty: only a model has labelled its {pseudo} segments; review some"
        elif not seconds and hours[split] and not told:
            yield f"{split} is empty: the sources bring none, and no other speaker is left for it"
        elif seconds:
            group, most = max(seconds.items(), key=lambda pair: (pair[1], pair[0]))
            share = most / sum(seconds.values())
            if share > ONE_VOICE_SHARE:
                yield f"{split} is {share:.0%} of one speaker or channel ({group}): collect others"


# --- leaks --------------------------------------------------------------------------------------


def _find_leaks(
    workspace: Workspace,
    catalogue: Catalogue,
    singles: Mapping[Split, Sequence[Kept]],
    against: Sequence[str],
    workers: engine.Workers,
) -> leaks.Found:
    held = [item for split in HELD_OUT for item in singles[split]]
    train = singles["train"]
    before = [row for name in against for row in held_out_rows(workspace.datasets / name)]
    copies = _same_audio(workspace, catalogue, train, held, before, workers)
    return leaks.find_leaks(
        (_known(item, copies.get(item.media.id, item.media.content)) for item in train),
        [
            *(_known(item, item.media.content) for item in held),
            *(leaks.Known(row.id, row.recording, row.speaker, row.id, row.text) for row in before),
        ],
    )


def _known(item: Kept, audio_key: object) -> leaks.Known:
    media = item.media
    return leaks.Known(item.id, media.id, media.group, audio_key, item.text)


def _same_audio(
    workspace: Workspace,
    catalogue: Catalogue,
    train: Sequence[Kept],
    held: Sequence[Kept],
    before: Sequence[HeldOut],
    workers: engine.Workers,
) -> dict[str, object]:
    """Recordings of train that sound like a held-out one, with what stands for its audio.

    Only those of nearly equal length are listened to; and a release that comes in splits is trusted
    not to have a recording in two.
    """
    ours = {item.media.id: item.media for item in train}
    theirs = {item.media.id: item.media for item in held if item.media.id not in ours}
    foreign = [row for row in before if not (row.recording in ours or row.recording in theirs)]
    lengths: dict[str, list[int]] = defaultdict(list)
    for media in theirs.values():
        lengths[_release(media)].append(media.duration_ms)
    lengths[""] += [round(row.seconds * 1000) for row in foreign]
    releases = {_release(media) for media in ours.values()}
    to_others = {
        release: sorted(
            length
            for other, some in lengths.items()
            if not release or other != release
            for length in some
        )
        for release in releases
    }
    candidates = [
        media for media in ours.values() if _is_near(media.duration_ms, to_others[_release(media)])
    ]
    if not candidates:
        return {}
    near = sorted({media.duration_ms for media in candidates})
    wanted = [media for media in theirs.values() if _is_near(media.duration_ms, near)]
    found = _fingerprints(workspace, catalogue, [*wanted, *candidates], workers)
    keys: dict[str, object] = {media.id: media.content for media in wanted} | {
        row.id: row.id for row in foreign
    }
    index = FingerprintIndex(
        [
            *((media.id, found[media.id]) for media in wanted if media.id in found),
            *(
                (row.id, fingerprint(audio.decode(flac)))
                for row, flac in held_out_audio(foreign)
                if _is_near(round(row.seconds * 1000), near)
            ),
        ]
    )
    matches = {m.id: index.find(found[m.id]) for m in candidates if m.id in found}
    return {item: keys[match] for item, match in matches.items() if match is not None}


def _release(media: Media) -> str:
    """The release that a recording came in with a split of its own; empty where it did not."""
    return media.source if media.split else ""


def _is_near(length_ms: int, others: Sequence[int]) -> bool:
    """Whether one of these sorted lengths (ms) could be that of a copy."""
    at = bisect_left(others, length_ms - SAME_AUDIO_MS)
    return at < len(others) and others[at] <= length_ms + SAME_AUDIO_MS


def _fingerprints(
    workspace: Workspace,
    catalogue: Catalogue,
    wanted: Sequence[Media],
    workers: engine.Workers,
) -> dict[str, Fingerprint]:
    paths = media_paths(workspace, catalogue, [media.id for media in wanted])
    found: dict[str, Fingerprint] = {}
    engine.run(
        list(paths.items()),
        _listen,
        lambda item, bits: found.__setitem__(item[0], bits),
        lambda item, error: None,  # `check_media` tells what cannot be read
        desc="fingerprint",
        unit="recording",
        workers=workers,
    )
    return found


def _listen(item: tuple[str, Path]) -> Fingerprint:
    from corpus.fingerprint import MAX_SECONDS as LISTENED_SECONDS

    return fingerprint(audio.read_span(item[1], 0, round(LISTENED_SECONDS * 1000)))


def media_paths(workspace: Workspace, catalogue: Catalogue, ids: Sequence[str]) -> dict[str, Path]:
    """Where the media of recordings lie."""
    paths: dict[str, Path] = {}
    with catalogue.session() as session:
        for some in engine.batches(ids, 500):
            query = select(Recording.id, Recording.media_path).where(Recording.id.in_(some))
            paths |= {item: workspace.path(path) for item, path in session.execute(query)}
    return paths


def _without(items: Sequence[Kept], leaked: set[str]) -> Sequence[Kept]:
    """The other segments; what is held out is no prompt either."""
    if not leaked:
        return items
    return [
        item._replace(after=None, previous_text=None) if item.after in leaked else item
        for item in items
        if item.id not in leaked
    ]


# --- windows ------------------------------------------------------------------------------------


def _draw(train: Sequence[Kept], wanted: mix.Mix, seed: int) -> mix.Drawn:
    if wanted == mix.Mix():
        return mix.Drawn([1] * len(train), Counter())
    portions = [
        mix.Portion(item.id, item.media.source, item.label_kind, item.seconds) for item in train
    ]
    try:
        return mix.draw(portions, wanted, seed=seed)
    except ValueError as error:
        raise UserError(f"[build] of corpus.toml: {error}") from None


def runs(items: Iterable[Kept]) -> Iterator[Run]:
    """Segments of train, joined to those said just before as far as a window holds them.

    What is joined keeps its pauses: it is a window as Whisper meets them in a long recording.

    Args:
        items: sorted by recording and time.
    """
    run: list[Kept] = []
    tokens = 0
    for item in items:
        more = item.tokens + pack.TIMESTAMP_TOKENS
        joins = (
            run
            and item.after is not None
            and item.after == run[-1].id
            and item.text
            and run[-1].text
            and item.end_ms - run[0].start_ms <= MAX_MS
            and tokens + more <= ROOM_TOKENS
        )
        if run and not joins:
            yield tuple(run)
            run, tokens = [], -pack.TIMESTAMP_TOKENS
        elif not run:
            tokens = -pack.TIMESTAMP_TOKENS
        run.append(item)
        tokens += more
    if run:
        yield tuple(run)


def _train_windows(
    train: Sequence[Kept], copies: Sequence[int], settings: BuildConfig
) -> list[Window]:
    """The windows of train: those of some hours together, in an order that is drawn.

    What is taken again is packed again, on its own: a window never holds a segment twice. Where
    nothing is said, a window is alone, to be told by its token. What may be handed on shares no
    window with what may not, so that a dataset can be published without taking windows apart.
    """
    windows: list[Window] = []
    for turn in range(max(copies, default=0)):
        taken = [item for item, count in zip(train, copies, strict=True) if count > turn]
        seed = settings.seed + turn
        # A voice stays together, the voices of one source do not.
        place = cache(partial(_place, seed=seed))
        found = sorted(runs(taken), key=lambda run: place(run[0].media.group))
        for free in (True, False):
            of_kind = (run for run in found if run[0].media.redistributable is free)
            # Packed by themselves, so that a change to some hours leaves the others' windows alone.
            for neighbours in chunks(
                of_kind, key=lambda run: run[0].id, size=run_seconds, limit=SHARD_SECONDS
            ):
                windows += _pack(list(neighbours), settings, seed)
    return windows


def _place(group: str, seed: int) -> tuple[float, str]:
    """Where a speaker stands among the others, whoever those are."""
    return draw(f"{seed} {group}"), group


def _pack(found: Sequence[Run], settings: BuildConfig, seed: int) -> list[Window]:
    windows: list[Window] = [(run,) for run in found if not run[0].text]
    pieces = (_piece(index, run) for index, run in enumerate(found) if run[0].text)
    packed = pack.pack_by_speaker(
        pieces, seed=seed, single_share=settings.single_share, gap_seconds=settings.gap_seconds
    )
    windows += [tuple([found[piece.id] for piece in window]) for window in packed]
    random.Random(seed).shuffle(windows)
    return windows


def run_seconds(run: Run) -> float:
    """Length of a run with its pauses, in seconds."""
    return (run[-1].end_ms - run[0].start_ms) / 1000


def _piece(place: int, run: Run) -> pack.Piece:
    media = run[0].media
    tokens = sum([item.tokens for item in run]) + pack.TIMESTAMP_TOKENS * (len(run) - 1)
    return pack.Piece(place, run_seconds(run), tokens, media.language, media.group)


def _fingerprint(rows: Mapping[str, Sequence[Window]], settings: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for split, windows in rows.items():
        digest.update(f"\n\n{split}".encode())
        for window in windows:
            items = [
                f"\0{item.id}\0{item.start_ms}\0{item.end_ms}\0{item.label_kind}\0{item.text}"
                for run in window
                for item in run
            ]
            digest.update("\n".join(["", "".join(items)]).encode())
    return digest.hexdigest()
