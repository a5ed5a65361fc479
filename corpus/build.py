"""From a plan to a frozen dataset: see that the media are there, cut and join, write the rows.

Rows are read, decoded and encoded by worker processes and come back in the order of the plan, so
the files are the same bytes whoever made them. What is in memory is the plan and a few rows for
each worker, however large the corpus is.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select, update

from corpus import __version__, audio, console, engine, leaks, pack
from corpus.card import Credit, Speech, SplitTotals, attribution_md, dataset_card
from corpus.catalogue import Catalogue, Recording, Segment, Verdict
from corpus.dataset import (
    GRID_SAMPLES,
    LabelledSegment,
    PlannedRow,
    PlannedSplit,
    Row,
    read_manifest,
    window_row,
    write_dataset,
)
from corpus.errors import ItemError, UserError
from corpus.files import file_sha256
from corpus.kept import Kept, media_paths, unreadable
from corpus.pieces import faded
from corpus.plan import Plan, Run, Window, make_plan, run_seconds
from corpus.segment import MAX_SECONDS
from corpus.thresholds import read_thresholds
from corpus.workspace import BuildConfig, Workspace

GRID_MS = 1000 // pack.STEPS_PER_SECOND

AHEAD_ROWS = 200
"""Rows whose media are looked up at a time."""

ROWS_AT_ONCE = 8
"""Rows that a worker makes before it answers: it waits while its answer is taken, and a few rows
of audio, 5 MB, cost hardly more waiting than one."""


class FrozenError(UserError):
    """A dataset of this name was built from another state of the corpus."""


# --- media --------------------------------------------------------------------------------------


def check_media(
    workspace: Workspace, catalogue: Catalogue, workers: engine.Workers = engine.HERE
) -> engine.Counts:
    """See that the media of all kept segments can be read.

    A clip that still lies where its release put it is decoded and hashed, once. What is gone, is
    another file than it was or cannot be decoded is noted, and left out of datasets until it is
    back.
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
        failed = unreadable(session)
    paths = {item: workspace.path(path) for item, path, _ in recordings}
    waiting = [
        _Clip(item, paths[item], digest)
        for item, _, digest in recordings
        if not digest or item in failed or not paths[item].exists()
    ]

    def save(clip: _Clip, digest: str) -> None:
        with catalogue.session() as session:
            if recording := session.get(Recording, clip.id):  # else removed in the meantime
                recording.sha256 = digest
            catalogue.clear_failure(session, stage="build", item=clip.id)

    note = catalogue.failure_noter("build")
    return engine.run(
        waiting,
        _digest,
        save,
        lambda clip, error: note(clip.id, error),
        desc="check",
        unit="clip",
        workers=workers,
    )


@dataclass(frozen=True)
class _Clip:
    id: str
    path: Path
    sha256: str | None


def _digest(clip: _Clip) -> str:
    """The SHA-256 of a clip that can be decoded, and is the one it was."""
    audio.read_span(clip.path, 0, round(MAX_SECONDS * 1000))
    digest = file_sha256(clip.path)
    if clip.sha256 not in {None, digest}:
        raise audio.MediaError(f"{clip.path} is not the file it was; restore it")
    return digest


# --- building -----------------------------------------------------------------------------------


def plan_dataset(
    workspace: Workspace,
    catalogue: Catalogue,
    settings: BuildConfig,
    workers: engine.Workers = engine.HERE,
) -> Plan:
    """The plan of the dataset `settings.name`, leaving out what other datasets test on.

    One that is there already is planned against those that were there before it.
    """
    names = read_manifest(workspace.datasets / settings.name).get("settings", {}).get("against")
    if names is None:
        names = [
            path.name for path in workspace.datasets.glob("[!.]*") if path.name != settings.name
        ]
    return make_plan(workspace, catalogue, settings, against=sorted(names), workers=workers)


def check_name(name: str) -> None:
    """See that a dataset can be called `name`.

    Raises:
        UserError: it cannot.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise UserError(f"{name!r} is no name for a dataset; use letters, digits, - and _")


def build(
    workspace: Workspace,
    catalogue: Catalogue,
    name: str,
    plan: Plan,
    workers: engine.Workers = engine.HERE,
) -> tuple[Path, bool]:
    """Write the planned dataset, unless it is there already.

    Returns:
        The dataset's folder, and whether it was written now.

    Raises:
        FrozenError: another state of the corpus was built under this name.
        UserError: the name is none, or a media file is gone.
    """
    check_name(name)
    folder = workspace.datasets / name
    if folder.exists():
        if read_manifest(folder).get("fingerprint") == plan.fingerprint:
            _note_held_out(catalogue, plan)
            return folder, False
        raise FrozenError(
            f"{folder} was built from another state of the corpus or with other settings, and a "
            "dataset is frozen; build under another name"
        )
    totals = {split: split_totals(windows) for split, windows in plan.rows.items()}
    languages = sorted({item.media.language for item in plan.kept})
    speech = _speech(plan)
    credits = list(_credits(catalogue, plan))
    thresholds = {version: _values(version) for version in plan.settings["thresholds"]}
    linked = write_dataset(
        folder,
        {
            split: _planned(workspace, catalogue, split, windows, plan, workers)
            for split, windows in plan.rows.items()
            if windows
        },
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
            "leaks": {
                "counts": leaks.counts(plan.leaks),
                "segments": [leak._asdict() for leak in plan.leaks],
            },
            "repeated": plan.repeated,
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
    _note_held_out(catalogue, plan)
    return folder, True


def _note_held_out(catalogue: Catalogue, plan: Plan) -> None:
    """Note which recordings are tested on; reviewers hear them first."""
    with catalogue.session() as session:
        for some in engine.batches(sorted(plan.held_out), 500):
            session.execute(update(Recording).filter(Recording.id.in_(some)).values(held_out=True))


def _values(version: str) -> dict[str, Any]:
    """The thresholds of a built-in preset; those of one's own file are known by their hash only."""
    preset = version.split("@")[0]
    try:
        thresholds = read_thresholds(preset)
    except UserError:
        return {}
    return asdict(thresholds) if thresholds.version(preset) == version else {}


def split_totals(windows: Sequence[Window]) -> SplitTotals:
    """Rows, segments, seconds of audio and of speech of a split."""
    steps = sum(pack.grid_steps(run_seconds(run)) for window in windows for run in window)
    items = [item for window in windows for run in window for item in run]
    return SplitTotals(
        rows=len(windows),
        segments=len(items),
        seconds=steps / pack.STEPS_PER_SECOND,
        speech_seconds=sum(item.seconds for item in items if item.text),
    )


def plan_totals(plan: Plan) -> Iterator[tuple[str, int, int, float, str]]:
    """Of each split its rows, segments, hours of audio, and how full the rows are."""
    for split, windows in plan.rows.items():
        total = split_totals(windows)
        room = total.rows * pack.WINDOW_SECONDS
        filled = f"{total.seconds / room:.1%}" if room else ""
        yield split, total.rows, total.segments, total.seconds / 3600, filled


def plan_rows(windows: Iterable[Window]) -> Iterator[dict[str, Any]]:
    """The rows of a split as they are planned: what lies where in the recordings (seconds)."""
    for window in windows:
        yield {
            "language": window[0][0].media.language,
            "previous_text": _previous_text(window),
            "segments": [
                {
                    "segment_id": item.id,
                    "start": item.start_ms / 1000,
                    "end": item.end_ms / 1000,
                    "text": item.text,
                    "tokens": item.tokens,
                }
                for run in window
                for item in run
            ],
        }


def _speech(plan: Plan) -> list[Speech]:
    """How much speech there is of each kind."""
    counts: Counter[tuple[str, str, str, str, bool]] = Counter()
    seconds: dict[tuple[str, str, str, str, bool], float] = defaultdict(float)
    for split, windows in plan.rows.items():
        for item in (item for window in windows for run in window for item in run):
            media = item.media
            kind = (split, media.source, media.licence, item.label_kind, media.redistributable)
            counts[kind] += 1
            seconds[kind] += item.seconds if item.text else 0.0
    return [Speech(*kind, counts[kind], seconds[kind]) for kind in sorted(counts)]


def _credits(catalogue: Catalogue, plan: Plan) -> Iterator[Credit]:
    """Each video, each own file that asks for credit (CC BY), each release or own collection."""
    used: dict[str, float] = defaultdict(float)
    for item in plan.kept:
        used[item.media.id] += item.seconds
    credits: dict[tuple[str, str, bool], Credit] = {}
    with catalogue.session() as session:
        for ids in engine.batches(sorted(used), 500):
            query = select(
                Recording.id,
                Recording.url,
                Recording.title,
                Recording.channel,
                Recording.uploader,
                Recording.source,
                Recording.licence,
                Recording.redistributable,
            ).where(Recording.id.in_(ids))
            for of in session.execute(query):
                # The place of a file on a disk is nobody's business.
                link = of.url if of.url and of.url.startswith("http") else ""
                asks = link or of.licence.startswith("CC-BY")
                title = (of.title if asks else None) or link or of.source
                work = (link or title, of.licence, of.redistributable)
                before = credits[work].seconds if work in credits else 0.0
                credits[work] = Credit(
                    title=title,
                    author=of.channel or of.uploader or "",
                    url=link,
                    licence=of.licence,
                    seconds=before + used[of.id],
                    redistributable=of.redistributable,
                )
    yield from (credits[work] for work in sorted(credits))


# --- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Order:
    """A row to be made, with all that a worker needs for it."""

    turn: int
    """Its place among the rows that are asked for."""
    id: str
    runs: tuple[tuple[Path, Run], ...]
    previous_text: str | None
    gap_samples: int


def _planned(
    workspace: Workspace,
    catalogue: Catalogue,
    split: str,
    windows: Sequence[Window],
    plan: Plan,
    workers: engine.Workers,
) -> PlannedSplit:
    gap_samples = pack.grid_steps(plan.settings["gap_seconds"]) * GRID_SAMPLES
    rows = _plan_rows(split, windows, gap_samples)

    def orders(wanted: Sequence[int]) -> Iterator[_Order]:
        for some in engine.batches(enumerate(wanted), AHEAD_ROWS):
            ids = sorted({run[0].media.id for _, index in some for run in windows[index]})
            paths = media_paths(workspace, catalogue, ids)
            for turn, index in some:
                yield _Order(
                    turn,
                    rows[index].id,
                    tuple((paths[run[0].media.id], run) for run in windows[index]),
                    _previous_text(windows[index]),
                    gap_samples,
                )

    def read(wanted: Sequence[int]) -> Generator[Row, None, None]:
        made = engine.outcomes(
            engine.batches(orders(wanted), ROWS_AT_ONCE),
            engine.Each(_make_row),
            most=math.ceil(len(wanted) / ROWS_AT_ONCE),
            workers=workers,
        )
        yield from console.progress(
            _in_order(made), total=len(wanted), desc=f"build {split}", unit="row"
        )

    return PlannedSplit(rows, read)


def _plan_rows(split: str, windows: Sequence[Window], gap_samples: int) -> list[PlannedRow]:
    seen: Counter[str] = Counter()
    rows = []
    for window in windows:
        row_id = window[0][0].id
        if split == "train":
            # By content, since a number would change with every row before it; what is taken
            # twice is counted.
            held = _hash("\0".join(item.id for run in window for item in run))[:16]
            seen[held] += 1
            row_id = f"train-{held}-{seen[held]}"
        items = [[_made_of(item) for item in run] for run in window]
        made_of = [row_id, _previous_text(window), gap_samples, items]
        rows.append(PlannedRow(row_id, _seconds(window, gap_samples), _hash(repr(made_of))))
    return rows


def _made_of(item: Kept) -> tuple[object, ...]:
    """All of a segment and its recording that is in a row, or changes its sound."""
    # How the recording was split, what came before and how many tokens it has are not.
    return (*item.media._replace(split=None), *item[1:6])


def _seconds(window: Window, gap_samples: int) -> float:
    """Length of a row's audio in seconds."""
    steps = sum(pack.grid_steps(run_seconds(run)) for run in window)
    return steps / pack.STEPS_PER_SECOND + (len(window) - 1) * gap_samples / audio.SAMPLE_RATE


def _previous_text(window: Window) -> str | None:
    """A prompt is what was said just before; windows of strangers have none."""
    return window[0][0].previous_text if len(window) == 1 else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _in_order(
    made: Generator[tuple[list[_Order], list[Row | ItemError]], None, None],
) -> Iterator[Row]:
    """The rows in the order in which they were asked for; the first that failed ends it."""
    early: dict[int, Row] = {}
    turn = 0
    with closing(made):
        for orders, rows in made:
            for order, row in zip(orders, rows, strict=True):
                if isinstance(row, ItemError):
                    raise row
                early[order.turn] = row
            while turn in early:
                yield early.pop(turn)
                turn += 1


def _make_row(order: _Order) -> Row:
    segments: list[LabelledSegment] = []
    for position, (path, run) in enumerate(order.runs):
        segments += _cut(path, run, order.gap_samples if position < len(order.runs) - 1 else 0)
    return window_row(
        order.id,
        segments,
        language=order.runs[0][1][0].media.language,
        previous_text=order.previous_text,
    )


def _cut(path: Path, run: Run, gap_samples: int) -> Iterable[LabelledSegment]:
    """The segments of a run, each with the pause after it, cut where the 0.02 s grid is.

    The audio of a run is whole: nothing is added or faded between its segments. `gap_samples` of
    silence follow the last one.
    """
    media, first = run[0].media, run[0].start_ms
    pcm = audio.read_span(path, first, run[-1].end_ms)
    starts = [(item.start_ms - first) // GRID_MS * GRID_SAMPLES for item in run]
    for position, item in enumerate(run):
        is_last = position == len(run) - 1
        stop = pcm.size if is_last else starts[position + 1]
        piece = pcm[starts[position] : stop]
        end = -((first - item.end_ms) // GRID_MS) * GRID_SAMPLES
        pause = 0 if is_last else max(0, stop - end)
        if is_last and gap_samples:
            piece = faded(piece, into=False, out=item.end_ms < media.duration_ms)
            piece = np.pad(piece, (0, -piece.size % GRID_SAMPLES + gap_samples))
            pause = gap_samples
        yield LabelledSegment(
            pcm=piece,
            text=item.text,
            speaker=media.group,
            source=media.source,
            segment_id=item.id,
            licence=media.licence,
            label_kind=item.label_kind,
            redistributable=media.redistributable,
            cut_before=position == 0 and item.start_ms > 0,
            cut_after=is_last and not pause and item.end_ms < media.duration_ms,
            pause_samples=pause,
        )
