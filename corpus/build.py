"""From verdicts to a frozen dataset: plan the splits and windows, then write the rows.

The plan comes first and needs no audio. Its fingerprint covers every segment, text and setting, so
an equal second build knows that there is nothing to do.
"""

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from corpus import __version__, audio, console, engine, pack
from corpus.card import Credit, Speech, SplitTotals, attribution_md, dataset_card
from corpus.catalogue import Catalogue, Recording, Segment, Transcript, Verdict
from corpus.chunks import chunks, draw
from corpus.dataset import (
    SHARD_SECONDS,
    LabelledSegment,
    PlannedRow,
    PlannedSplit,
    Row,
    read_manifest,
    window_row,
    write_dataset,
)
from corpus.errors import ItemError, UserError
from corpus.segment import HARD_GAP_SECONDS, MAX_SECONDS
from corpus.split import Split, assign_splits
from corpus.verdict import read_thresholds
from corpus.workspace import Workspace

SPLITS = ("train", "dev", "test")
HELD_OUT = ("dev", "test")


class FrozenError(UserError):
    """A dataset of this name was built from another state of the corpus."""


@dataclass(frozen=True)
class Kept:
    """A segment that the verdict keeps, with the transcript it is trained on."""

    id: str
    recording_id: str
    start_ms: int
    end_ms: int
    text: str
    label_kind: str
    tokens: int
    recording: Recording
    previous_text: str | None

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end_ms - self.start_ms) / 1000


@dataclass(frozen=True)
class Plan:
    """What a dataset will hold, before any audio is read."""

    rows: dict[str, list[tuple[Kept, ...]]]
    left_out: dict[str, int]
    """Number of segments by the reason why they are in no split."""
    warnings: list[str]
    settings: dict[str, Any]
    fingerprint: str

    @property
    def kept(self) -> Iterator[Kept]:
        """All segments in all rows."""
        return (item for rows in self.rows.values() for row in rows for item in row)


def count_tokens(tokenizer: str | None) -> Callable[[str], int]:
    """How many tokens a text has: exactly with a tokenizer's folder or name, else at most.

    Raises:
        UserError: there is no tokenizer at that place.
    """
    if tokenizer is None:
        return pack.token_bound
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
    return lambda text: len(loaded.encode(f" {text}", add_special_tokens=False).ids)


def check_media(workspace: Workspace, catalogue: Catalogue) -> engine.Counts:
    """See that the media of all kept segments can be read.

    A clip that still lies where its release put it is decoded and hashed, once. What is gone or
    cannot be decoded loses its hash, is noted, and is left out of datasets until it is back.
    """
    with catalogue.session() as session:
        recordings = session.execute(
            select(Recording.id, Recording.media_path, Recording.sha256)
            .join(Recording.segments)
            .join(Segment.verdict)
            .filter(Verdict.verdict == "keep")
            .distinct()
            .order_by(Recording.id)
        ).all()
    paths = {item: workspace.path(path) for item, path, _ in recordings}
    waiting = [item for item, _, digest in recordings if not digest or not paths[item].exists()]

    def check(recording_id: str) -> str:
        audio.read_span(paths[recording_id], 0, round(MAX_SECONDS * 1000))
        with paths[recording_id].open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    def save(recording_id: str, digest: str | None) -> None:
        with catalogue.session() as session:
            session.get_one(Recording, recording_id).sha256 = digest
            if digest:
                catalogue.clear_failure(session, stage="build", item=recording_id)

    note = catalogue.failure_noter("build")

    def fail(recording_id: str, error: ItemError) -> None:
        note(recording_id, error)
        save(recording_id, None)

    return engine.run(waiting, check, save, fail, desc="check", unit="clip")


def make_plan(
    catalogue: Catalogue,
    *,
    tokenizer: str | None,
    dev_hours: float,
    test_hours: float,
    seed: int,
) -> Plan:
    """Assign every kept segment to a split, and the train segments to windows.

    A speaker, channel or recording is in one split only: a source's own, else by hash. Dev and
    test hold single segments, and none that only a model has labelled: a WER is measured against
    people's words.

    Raises:
        UserError: there is nothing to build from.
    """
    kept, left_out = _kept_segments(catalogue, count_tokens(tokenizer))
    if not kept:
        raise UserError(
            "no segment is kept: see `corpus status`; then review some, or choose another "
            "`corpus verdict --preset`"
        )
    seconds: dict[str, float] = defaultdict(float)
    given: dict[str, set[str]] = defaultdict(set)
    for item in kept:
        seconds[item.recording.group] += item.seconds
        if item.recording.split:
            given[item.recording.group].add(item.recording.split)
    # What a source puts into test stays out of train wherever else the same speaker turns up.
    fixed = {group: cast(Split, max(splits, key=SPLITS.index)) for group, splits in given.items()}
    assigned = assign_splits(
        seconds,
        dev_seconds=dev_hours * 3600,
        test_seconds=test_hours * 3600,
        fixed=fixed,
        salt=str(seed),
    )
    placed = [(i, i.recording.split or assigned.splits[i.recording.group]) for i in kept]
    held_out_audio = {item.recording.sha256 for item, split in placed if split in HELD_OUT}
    singles: dict[str, list[Kept]] = {split: [] for split in SPLITS}
    for item, split in placed:
        if split == "train" and item.recording.sha256 in held_out_audio:
            left_out["train: the same audio is held out"] += 1
        elif split in HELD_OUT and item.label_kind == "pseudo":
            left_out[f"{split}: labelled by a model only"] += 1
        else:
            singles[split].append(item)
    rows: dict[str, list[tuple[Kept, ...]]] = {
        "train": _windows(singles["train"], seed),
        "dev": [(item,) for item in singles["dev"]],
        "test": [(item,) for item in singles["test"]],
    }
    settings = {
        # By name: the place of a folder must not make another dataset of the same windows.
        "tokenizer": Path(tokenizer).name if tokenizer and Path(tokenizer).is_dir() else tokenizer,
        "dev_hours": dev_hours,
        "test_hours": test_hours,
        "seed": seed,
        "thresholds": sorted(_thresholds(catalogue)),
    }
    return Plan(
        rows=rows,
        left_out=dict(left_out),
        warnings=[
            *(assigned.warnings or _missing(rows, {"dev": dev_hours, "test": test_hours})),
            *_shared_speakers(given),
            *_emptied(singles, left_out),
        ],
        settings=settings,
        fingerprint=_fingerprint(rows, settings),
    )


def _missing(rows: dict[str, list[tuple[Kept, ...]]], asked: dict[str, float]) -> Iterator[str]:
    for split, hours in asked.items():
        if hours and not rows[split]:
            yield f"{split} is empty: the sources bring none, and no other speaker is left for it"


def _shared_speakers(given: dict[str, set[str]]) -> Iterator[str]:
    shared = sum(len(splits) > 1 for splits in given.values())
    if shared:
        yield f"{shared} speaker(s) are in more than one split of their own source; kept so"


def _emptied(singles: dict[str, list[Kept]], left_out: Counter[str]) -> Iterator[str]:
    for split in HELD_OUT:
        out = left_out[f"{split}: labelled by a model only"]
        if out and not singles[split]:
            yield f"{split} is empty: only a model has labelled its {out} segments; review some"


def _kept_segments(
    catalogue: Catalogue, tokens_in: Callable[[str], int]
) -> tuple[list[Kept], Counter[str]]:
    room = pack.MAX_TOKENS - pack.SPECIAL_TOKENS - pack.TIMESTAMP_TOKENS
    left_out: Counter[str] = Counter()
    kept: list[Kept] = []
    with catalogue.session() as session:
        rows = session.execute(
            select(Segment, Verdict, Transcript)
            .outerjoin(Segment.verdict)
            .outerjoin(Transcript, Transcript.id == Verdict.transcript_id)
            .join(Segment.recording)
            .options(joinedload(Segment.recording))
            .order_by(Recording.id, Segment.start_ms)
        ).all()
    before: Kept | None = None
    for segment, verdict, transcript in rows:
        reason = _unfit(segment.recording, verdict, transcript)
        tokens = 0 if reason else tokens_in(transcript.text)
        if tokens > room:
            reason = f"more than {room} tokens"
        if reason:
            left_out[reason] += 1
            before = None  # something was said here, so what follows has no known predecessor
            continue
        follows = (
            before is not None
            and before.recording_id == segment.recording_id
            and segment.start_ms - before.end_ms <= HARD_GAP_SECONDS * 1000
        )
        before = Kept(
            id=segment.id,
            recording_id=segment.recording_id,
            start_ms=segment.start_ms,
            end_ms=segment.end_ms,
            text=transcript.text,
            label_kind=transcript.kind,
            tokens=tokens,
            recording=segment.recording,
            previous_text=before.text if follows and before else None,
        )
        kept.append(before)
    return kept, left_out


def _unfit(
    recording: Recording, verdict: Verdict | None, transcript: Transcript | None
) -> str | None:
    """Why a segment cannot be in a dataset; None where it can."""
    if verdict is None:
        return "no verdict yet"
    if verdict.verdict != "keep":
        return f"verdict {verdict.verdict}"
    if recording.sha256 is None:
        return "media cannot be read"
    return None if transcript and transcript.text else "no text"


def _thresholds(catalogue: Catalogue) -> Sequence[str]:
    with catalogue.session() as session:
        return session.scalars(select(Verdict.thresholds).distinct()).all()


def _windows(items: Sequence[Kept], seed: int) -> list[tuple[Kept, ...]]:
    """Pack neighbourhoods of some hours, each by itself: a change leaves the others' windows alone.

    What may be handed on never shares a window with what may not, so that a dataset can be
    published without taking windows apart.
    """
    by_id = {item.id: item for item in items}
    # A voice stays together, voices of one source do not.
    ordered = sorted(items, key=lambda item: (draw(item.recording.group), item.recording.group))
    return [
        tuple(by_id[piece.id] for piece in window)
        for shared in (True, False)
        for neighbourhood in chunks(
            (item for item in ordered if item.recording.redistributable is shared),
            key=lambda item: item.id,
            size=lambda item: item.seconds,
            limit=SHARD_SECONDS,
        )
        for window in pack.pack(_pieces(list(neighbourhood), seed), seed=seed)
    ]


def _pieces(items: Sequence[Kept], seed: int) -> Iterator[pack.Piece]:
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    for item in shuffled:
        yield pack.Piece(
            id=item.id,
            seconds=item.seconds,
            tokens=item.tokens,
            language=item.recording.language,
            speaker=item.recording.group,
        )


def _fingerprint(rows: dict[str, list[tuple[Kept, ...]]], settings: dict[str, Any]) -> str:
    content = [
        [split, [[(item.id, item.text, item.label_kind) for item in row] for row in split_rows]]
        for split, split_rows in rows.items()
    ]
    document = json.dumps([content, settings], ensure_ascii=False, sort_keys=True)
    return _hash(document)


def build(workspace: Workspace, name: str, plan: Plan) -> tuple[Path, bool]:
    """Write the planned dataset, unless it is there already.

    Returns:
        The dataset's folder, and whether it was written now.

    Raises:
        FrozenError: another state of the corpus was built under this name.
        UserError: the name is none, or a media file is gone.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise UserError(f"{name!r} is no name for a dataset; use letters, digits, - and _")
    folder = workspace.datasets / name
    if folder.exists():
        if read_manifest(folder).get("fingerprint") == plan.fingerprint:
            return folder, False
        raise FrozenError(
            f"{folder} was built from another state of the corpus or with other settings, and a "
            "dataset is frozen; build under another name"
        )
    totals = {split: _totals(rows) for split, rows in plan.rows.items()}
    languages = sorted({item.recording.language for item in plan.kept})
    speech = _speech(plan)
    credits = list(_credits(plan))
    thresholds = {version: _values(version) for version in plan.settings["thresholds"]}
    linked = write_dataset(
        folder,
        {split: _planned(workspace, split, rows) for split, rows in plan.rows.items() if rows},
        reuse=sorted(workspace.datasets.glob("[!.]*")),
        readme=dataset_card(
            name,
            languages=languages,
            splits=totals,
            speech=speech,
            left_out=plan.left_out,
            settings=plan.settings,
            thresholds=thresholds,
        ),
        attribution=attribution_md(name, credits),
        manifest={
            "name": name,
            "version": __version__,
            "fingerprint": plan.fingerprint,
            "settings": plan.settings,
            "left_out": plan.left_out,
            "warnings": plan.warnings,
            "languages": languages,
            "speech": [asdict(part) for part in speech],
            "works": [asdict(credit) for credit in credits],
            "thresholds": thresholds,
            "splits": {split: asdict(total) for split, total in totals.items()},
        },
    )
    if linked:
        console.say(f"{linked} of its files are those of an earlier dataset")
    return folder, True


def _values(version: str) -> dict[str, Any]:
    """The thresholds of a built-in preset; those of one's own file are known by their hash only."""
    preset = version.split("@")[0]
    try:
        thresholds = read_thresholds(preset)
    except UserError:
        return {}
    return asdict(thresholds) if thresholds.version(preset) == version else {}


def _totals(rows: Sequence[tuple[Kept, ...]]) -> SplitTotals:
    steps = sum(pack.grid_steps(item.seconds) for row in rows for item in row)
    return SplitTotals(
        rows=len(rows),
        segments=sum(len(row) for row in rows),
        seconds=steps / pack.STEPS_PER_SECOND,
        speech_seconds=sum(item.seconds for row in rows for item in row),
    )


def _speech(plan: Plan) -> list[Speech]:
    """How much speech there is of each kind."""
    counts: Counter[tuple[str, str, str, str, bool]] = Counter()
    seconds: dict[tuple[str, str, str, str, bool], float] = defaultdict(float)
    for split, rows in plan.rows.items():
        for item in (item for row in rows for item in row):
            of = item.recording
            kind = (split, of.source, of.licence, item.label_kind, of.redistributable)
            counts[kind] += 1
            seconds[kind] += item.seconds
    return [Speech(*kind, counts[kind], seconds[kind]) for kind in sorted(counts)]


def _credits(plan: Plan) -> Iterator[Credit]:
    seconds: dict[tuple[str, str, bool], float] = defaultdict(float)
    recordings: dict[tuple[str, str, bool], Recording] = {}
    for item in plan.kept:
        of = item.recording
        work = (_work(of), of.licence, of.redistributable)
        seconds[work] += item.seconds
        recordings[work] = of
    for work, of in sorted(recordings.items()):
        yield Credit(
            title=(of.title if _link(of) else None) or work[0],
            author=of.channel or of.uploader or "",
            url=_link(of),
            licence=of.licence,
            seconds=seconds[work],
            redistributable=of.redistributable,
        )


def _work(recording: Recording) -> str:
    """What a recording is credited as: each video, each own file that asks for credit (CC BY).

    A release of a hundred thousand clips is one work, and so are own files without conditions.
    """
    if link := _link(recording):
        return link
    asks = recording.licence.startswith("CC-BY")
    return (recording.title if asks else None) or recording.source


def _link(recording: Recording) -> str:
    """Where a recording is published; the place of a file on a disk is nobody's business."""
    return recording.url if recording.url and recording.url.startswith("http") else ""


def _planned(workspace: Workspace, split: str, rows: Sequence[tuple[Kept, ...]]) -> PlannedSplit:
    plans = [_plan_row(split, row) for row in rows]

    def read(start: int, stop: int) -> Iterator[Row]:
        wanted = list(zip(plans, rows, strict=True))[start:stop]
        for plan, row in console.progress(wanted, desc=f"build {split}", unit="row"):
            yield window_row(
                plan.id,
                [_labelled(workspace, item) for item in row],
                language=row[0].recording.language,
                previous_text=_previous_text(row),
            )

    return PlannedSplit(plans, read)


def _plan_row(split: str, row: tuple[Kept, ...]) -> PlannedRow:
    ids = " ".join(item.id for item in row)
    # By content: a number would change with every row before it.
    row_id = f"{split}-{_hash(ids)[:16]}" if split == "train" else ids
    made_of: list[Any] = [row_id, row[0].recording.language, _previous_text(row)]
    for item in row:
        made_of += [item.recording.sha256, _labels(item)]
    return PlannedRow(
        id=row_id,
        seconds=sum(pack.grid_steps(item.seconds) for item in row) / pack.STEPS_PER_SECOND,
        fingerprint=_hash(json.dumps(made_of, sort_keys=True)),
    )


def _previous_text(row: tuple[Kept, ...]) -> str | None:
    """A prompt is what was said just before; windows of strangers have none."""
    return row[0].previous_text if len(row) == 1 else None


def _labelled(workspace: Workspace, item: Kept) -> LabelledSegment:
    path = workspace.path(item.recording.media_path)
    return LabelledSegment(pcm=audio.read_span(path, item.start_ms, item.end_ms), **_labels(item))


def _labels(item: Kept) -> dict[str, Any]:
    """All of a `LabelledSegment` but its sound."""
    return {
        "text": item.text,
        "speaker": item.recording.group,
        "source": item.recording.source,
        "segment_id": item.id,
        "licence": item.recording.licence,
        "label_kind": item.label_kind,
        "redistributable": item.recording.redistributable,
        "cut_before": item.start_ms > 0,
        "cut_after": item.end_ms < item.recording.duration_ms,
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
