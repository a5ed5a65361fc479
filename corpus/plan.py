"""The plan of a dataset: which segments, in which split, how often, in which windows.

A plan needs the catalogue, not the audio (save of recordings that could be a held-out one under
another name), and it can be looked at before anything is written. Its fingerprint covers every
segment, text and setting, so an equal second build knows that there is nothing to do.
"""

import gc
import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from corpus import engine, leaks, mix, pack
from corpus.catalogue import Catalogue
from corpus.chunks import chunks, draw
from corpus.copies import same_audio
from corpus.dataset import SHARD_SECONDS, held_out_rows
from corpus.errors import UserError
from corpus.kept import MAX_MS, ROOM_TOKENS, Kept, Media, count_tokens, read_kept
from corpus.split import SPLITS, Split, assign_splits, carve
from corpus.verdict import applied_thresholds
from corpus.workspace import BuildConfig, Workspace

LABEL_KINDS = ("subtitle", "pseudo", "review", "release")

HELD_OUT: tuple[Split, ...] = ("dev", "test")

ONE_VOICE_SHARE = 0.5
"""A split of which one speaker or channel has more is told: its figures are that one's."""

Run = tuple[Kept, ...]
"""Segments that follow each other in one recording, kept with the pauses between them."""

Window = tuple[Run, ...]


@dataclass(frozen=True)
class Plan:
    """What a dataset will hold, before any audio is read.

    Attributes:
        rows: windows by split; those of dev and test hold one segment.
        held_out: ids of the recordings that belong to dev and test.
        left_out: number of segments by the reason why they are in no split.
        leaks: what is left out of train because it is held out, each with what it shares.
        repeated: number of segments of train that are taken more than once.
        warnings: one line for each thing that a person should know.
        settings: what the plan depends on, as the manifest tells it.
        fingerprint: equal for equal plans.
    """

    rows: dict[str, list[Window]]
    held_out: set[str]
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


@contextmanager
def _no_collections() -> Iterator[None]:
    """No garbage collector: what planning makes has no cycles, and it is looked at in vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # Into the oldest generation, which is seldom looked at, instead of the youngest.
            gc.freeze()
            gc.unfreeze()
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
    held_out = set()
    for item in kept:
        split = split_of(item.media)
        if split in HELD_OUT:
            held_out.add(item.media.id)
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
        "thresholds": sorted(applied_thresholds(catalogue)),
        "against": list(against),
    }
    del told["name"]
    return Plan(
        rows=rows,
        held_out=held_out,
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
        media = item.media
        seconds[media.group] += item.seconds
        if media.split:
            given[media.group].add(media.split)
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
    copies = same_audio(workspace, catalogue, train, held, before, workers)

    def known(items: Iterable[Kept]) -> Iterator[leaks.Known]:
        for item in items:
            media = item.media
            sound = copies.get(media.id, media.content)
            yield leaks.Known(item.id, media.id, media.group, sound, item.text)

    return leaks.find_leaks(
        known(train),
        [
            *known(held),
            *(leaks.Known(row.id, row.recording, row.speaker, row.id, row.text) for row in before),
        ],
    )


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
    tokens = run[0].tokens
    for item in run[1:]:
        tokens += pack.TIMESTAMP_TOKENS + item.tokens
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
