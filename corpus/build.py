"""From a plan to a frozen dataset: see that the media are there, cut and join, write the rows.

Rows are read, decoded and encoded by worker processes and come back in the order of the plan, so
the files are the same bytes whoever made them. What is in memory is the plan and a row for each
worker, however large the corpus is.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from corpus import __version__, audio, console, engine, leaks, pack
from corpus.catalogue import Catalogue, Recording, Segment, Verdict
from corpus.dataset import (
    GRID_SAMPLES,
    Credit,
    LabelledSegment,
    Row,
    SplitTotals,
    attribution_md,
    dataset_card,
    window_row,
    write_dataset,
)
from corpus.errors import ItemError, UserError
from corpus.pieces import faded
from corpus.plan import Kept, Plan, Run, Window, make_plan, media_paths
from corpus.segment import MAX_SECONDS
from corpus.workspace import BuildConfig, Workspace

GRID_MS = 1000 // pack.STEPS_PER_SECOND

AHEAD_ROWS = 200
"""Rows whose media are looked up at a time."""


class FrozenError(UserError):
    """A dataset of this name was built from another state of the corpus."""


# --- media --------------------------------------------------------------------------------------


def check_media(
    workspace: Workspace, catalogue: Catalogue, workers: engine.Workers = engine.HERE
) -> engine.Counts:
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

    def save(clip: _Clip, digest: str | None) -> None:
        with catalogue.session() as session:
            session.get_one(Recording, clip.id).sha256 = digest
            if digest:
                catalogue.clear_failure(session, stage="build", item=clip.id)

    note = catalogue.failure_noter("build")

    def fail(clip: _Clip, error: ItemError) -> None:
        note(clip.id, error)
        save(clip, None)

    clips = [_Clip(item, paths[item]) for item in waiting]
    return engine.run(clips, _digest, save, fail, desc="check", unit="clip", workers=workers)


@dataclass(frozen=True)
class _Clip:
    id: str
    path: Path


def _digest(clip: _Clip) -> str:
    """The SHA-256 of a clip that can be decoded."""
    audio.read_span(clip.path, 0, round(MAX_SECONDS * 1000))
    with clip.path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


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
    names = _manifest(workspace.datasets / settings.name).get("settings", {}).get("against")
    if names is None:
        names = [
            path.name for path in workspace.datasets.glob("[!.]*") if path.name != settings.name
        ]
    return make_plan(workspace, catalogue, settings, against=sorted(names), workers=workers)


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
    if not name or Path(name).name != name or name.startswith("."):
        raise UserError(f"{name!r} is no name for a dataset; use letters, digits, - and _")
    folder = workspace.datasets / name
    if folder.exists():
        if _manifest(folder).get("fingerprint") == plan.fingerprint:
            return folder, False
        raise FrozenError(
            f"{folder} was built from another state of the corpus or with other settings, and a "
            "dataset is frozen; build under another name"
        )
    totals = {split: split_totals(windows) for split, windows in plan.rows.items()}
    seconds = _seconds_by(plan, lambda item: item.label_kind)
    write_dataset(
        folder,
        {
            split: _rows(workspace, catalogue, split, windows, plan, workers)
            for split, windows in plan.rows.items()
            if windows
        },
        readme=dataset_card(
            name,
            languages=sorted({item.media.language for item in plan.kept}),
            splits=totals,
            licences=_seconds_by(plan, lambda item: item.media.licence),
            label_kinds=seconds,
            redistributable=all(item.media.redistributable for item in plan.kept),
        ),
        attribution=attribution_md(name, _credits(catalogue, plan)),
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
            "hours_by_label_kind": {kind: value / 3600 for kind, value in seconds.items()},
            "splits": {split: vars(total) for split, total in totals.items()},
        },
    )
    return folder, True


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def split_totals(windows: Sequence[Window]) -> SplitTotals:
    """Rows, segments, seconds of audio and of speech of a split."""
    steps = sum(pack.grid_steps(_run_seconds(run)) for window in windows for run in window)
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
            "previous_text": window[0][0].previous_text if len(window) == 1 else None,
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


def _run_seconds(run: Run) -> float:
    return (run[-1].end_ms - run[0].start_ms) / 1000


def _seconds_by(plan: Plan, key: Callable[[Kept], str]) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    for item in plan.kept:
        seconds[key(item)] += item.seconds
    return dict(sorted(seconds.items()))


def _credits(catalogue: Catalogue, plan: Plan) -> Iterator[Credit]:
    used: dict[str, float] = defaultdict(float)
    for item in plan.kept:
        used[item.media.id] += item.seconds
    # One line for each video, one for a release of a hundred thousand clips, one for own files.
    credits: dict[str, Credit] = {}
    with catalogue.session() as session:
        for ids in engine.batches(sorted(used), 500):
            query = select(
                Recording.id,
                Recording.url,
                Recording.title,
                Recording.channel,
                Recording.source,
                Recording.licence,
            ).where(Recording.id.in_(ids))
            for recording, url, title, channel, source, licence in session.execute(query):
                # The place of a file on a disk is nobody's business.
                link = url if url and url.startswith("http") else ""
                work = link or source
                before = credits[work].seconds if work in credits else 0.0
                credits[work] = Credit(
                    title=(title if link else None) or work,
                    author=channel or "",
                    url=link,
                    licence=licence,
                    seconds=before + used[recording],
                )
    yield from (credits[work] for work in sorted(credits))


# --- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Order:
    """A row to be made, with all that a worker needs for it."""

    index: int
    id: str
    runs: tuple[tuple[Path, Run], ...]
    previous_text: str | None
    gap_samples: int


def _rows(
    workspace: Workspace,
    catalogue: Catalogue,
    split: str,
    windows: Sequence[Window],
    plan: Plan,
    workers: engine.Workers,
) -> Iterator[Row]:
    gap_samples = pack.grid_steps(plan.settings["gap_seconds"]) * GRID_SAMPLES

    def orders() -> Iterator[_Order]:
        for start in range(0, len(windows), AHEAD_ROWS):
            some = windows[start : start + AHEAD_ROWS]
            ids = sorted({run[0].media.id for window in some for run in window})
            paths = media_paths(workspace, catalogue, ids)
            for index, window in enumerate(some, start=start):
                yield _Order(
                    index,
                    f"{split}-{index:07d}" if split == "train" else window[0][0].id,
                    tuple((paths[run[0].media.id], run) for run in window),
                    # A prompt is what was said just before; windows of strangers have none.
                    window[0][0].previous_text if len(window) == 1 else None,
                    gap_samples,
                )

    made = engine.outcomes(
        ([order] for order in orders()), engine.Each(_make_row), most=len(windows), workers=workers
    )
    rows = _in_order(made)
    yield from console.progress(rows, total=len(windows), desc=f"build {split}", unit="row")


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
                early[order.index] = row
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
