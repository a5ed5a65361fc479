"""Take recordings down: everything derived from them goes, and a tombstone keeps them away.

The rows go first, in one transaction with the tombstones, which remember the files; the files
follow. So a kill leaves at most files that no row names, and the next removal deletes those.
Deleted are only files that this program has made, those below the workspace's ``media/``: a
release's clips and people's own originals stay.

Datasets are frozen and are not touched, nor are exports. Those that hold what is removed are found
by the ids of their segments and told, each with the command that makes it anew.
"""

import json
import shlex
import shutil
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from corpus import console
from corpus.catalogue import (
    CHANNEL_PREFIX,
    Catalogue,
    Failure,
    Recording,
    Segment,
    Tombstone,
    recording_of,
)
from corpus.dataset import read_manifest
from corpus.errors import UserError
from corpus.export.core import RECORDINGS, places
from corpus.sources import sites
from corpus.workspace import Workspace

_BATCH = 500  # ids in one statement; SQLite takes some 32,000


@dataclass(frozen=True)
class Takedown:
    """What is to be removed: recordings that are here, and ids that are to be kept away."""

    recordings: tuple[Recording, ...]
    items: frozenset[str]
    """Every tombstone that is wanted: ids of recordings (here, refused or gone), and channels."""
    segments: int


@dataclass(frozen=True)
class Holding:
    """A dataset, or an export of one, that holds segments of removed recordings."""

    folder: Path
    recordings: tuple[str, ...]
    rebuild: str
    """The shell command that makes it without them."""


def find(
    catalogue: Catalogue, ids: Sequence[str], channels: Sequence[str], urls: Sequence[str]
) -> Takedown:
    """What is meant by ids of recordings, ids of channels and addresses; changes nothing.

    What was removed already is found again, so that a removal that was cut off can be finished.

    Raises:
        UserError: nothing was asked for, or something is not known here.
    """
    if not (ids or channels or urls):
        raise UserError("nothing to remove; give IDs, --channel or --url")
    recordings: dict[str, Recording] = {}
    items: set[str] = set()
    with catalogue.session() as session:
        wishes = [
            *((f"recording {id}", "id", id, {id}) for id in ids),
            *((f"channel {id}", "channel_id", id, {CHANNEL_PREFIX + id}) for id in channels),
            *((f"recording from {url}", "url", url, _video(url)) for url in urls),
        ]
        for what, column, value, names in wishes:
            matches = getattr(Recording, column) == value
            here = session.scalars(select(Recording).filter(matches | Recording.id.in_(names)))
            found = {recording.id: recording for recording in here}
            if column != "id":  # what an earlier removal has taken
                names |= set(session.scalars(select(Tombstone.item).filter_by(**{column: value})))
            if not found and not _known(session, names):
                raise UserError(f"there is no {what} here; `corpus status --json` tells what is")
            recordings |= found
            items |= names
        segments = sum(
            session.scalar(
                select(func.count()).select_from(Segment).filter(Segment.recording_id.in_(batch))
            )
            or 0
            for batch in _batches(recordings)
        )
    return Takedown(tuple(recordings.values()), frozenset(items | recordings.keys()), segments)


def _video(url: str) -> set[str]:
    """The id that the video at an address has, if it is one: a video has many addresses."""
    id = sites.video_id(url)
    return set() if id is None else {id}


def _known(session: Session, items: Collection[str]) -> bool:
    """Whether anything was refused or removed under one of these names."""
    return bool(
        session.scalar(select(Tombstone.item).filter(Tombstone.item.in_(items)).limit(1))
        or session.scalar(select(Failure.item).filter(Failure.item.in_(items)).limit(1))
    )


def remove(workspace: Workspace, catalogue: Catalogue, takedown: Takedown) -> None:
    """Remove the rows and leave tombstones, in one transaction; then delete the files.

    Files that an earlier removal was kept from deleting are deleted too.

    Raises:
        UserError: another command is writing the media, or a file cannot be deleted.
    """
    with workspace.lock("media"):
        with catalogue.session() as session:
            standing = set(session.scalars(select(Tombstone.item)))
            for recording in takedown.recordings:
                session.merge(
                    Tombstone(
                        item=recording.id,
                        url=recording.url,
                        channel_id=recording.channel_id,
                        files=_own_files(workspace, recording),
                    )
                )
            bare = takedown.items - standing - {r.id for r in takedown.recordings}
            session.add_all(
                Tombstone(
                    item=item,
                    channel_id=(
                        item.removeprefix(CHANNEL_PREFIX)
                        if item.startswith(CHANNEL_PREFIX)
                        else None
                    ),
                    files=[],
                )
                for item in bare
            )
            _forget_failures(session, takedown)
            for batch in _batches(r.id for r in takedown.recordings):
                session.execute(delete(Recording).filter(Recording.id.in_(batch)))
        _delete_files(workspace, catalogue)


def _own_files(workspace: Workspace, recording: Recording) -> list[str]:
    """The recording's files that this program has made, relative to the workspace."""
    return [
        path
        for path in (recording.media_path, recording.subtitle_path)
        if path is not None
        and not Path(path).is_absolute()
        and workspace.path(path).resolve().is_relative_to(workspace.media.resolve())
    ]


def _forget_failures(session: Session, takedown: Takedown) -> None:
    """Delete what was noted about the recordings, their segments and the files they came from."""
    sources = {_local_path(r.url) for r in takedown.recordings if r.url} - {None}

    def meant(item: str) -> bool:
        return item in takedown.items or item in sources or recording_of(item) in takedown.items

    failed = {item for item in session.scalars(select(Failure.item)) if meant(item)}
    for batch in _batches(failed):
        session.execute(delete(Failure).filter(Failure.item.in_(batch)))


def _local_path(url: str) -> str | None:
    parts = urllib.parse.urlsplit(url)
    return urllib.request.url2pathname(parts.path) if parts.scheme == "file" else None


def _delete_files(workspace: Workspace, catalogue: Catalogue) -> None:
    with catalogue.session() as session:
        unfinished = [t for t in session.scalars(select(Tombstone)) if t.files]
    for tombstone in unfinished:
        for name in tombstone.files:
            try:
                workspace.path(name).unlink(missing_ok=True)
            except OSError as error:
                raise UserError(
                    f"{workspace.path(name)} cannot be deleted ({error.strerror}); the catalogue "
                    "has forgotten it: put that right and run the same command again"
                ) from None
        with catalogue.session() as session:
            session.get_one(Tombstone, tombstone.item).files = []
    # Parts of downloads: what is in there is begun anew when it is wanted.
    shutil.rmtree(workspace.media / ".stage", ignore_errors=True)


def holdings(workspace: Workspace, items: Collection[str]) -> Iterator[Holding]:
    """The datasets of the workspace, and their exports, with segments of these recordings.

    Of each Parquet file only the column of segment ids is read. A file that cannot be read is told
    on stderr: whether it holds something must be seen by hand.
    """
    for folder in sorted(workspace.datasets.glob("[!.]*")):
        if held := _held(folder, items):
            yield Holding(folder, held, _rebuild(workspace, folder))
    for folder in places(workspace):
        if held := _held(folder, items):
            yield Holding(folder, held, _export_again(workspace, folder))


def _held(folder: Path, items: Collection[str]) -> tuple[str, ...]:
    """Which of these recordings a dataset or an export has."""
    held: set[str] = set()
    for file in sorted([*folder.glob("*.parquet"), *folder.glob(RECORDINGS)]):
        try:
            held |= _recordings_in(file) & set(items)
        except (OSError, KeyError, ValueError) as error:
            console.say(f"warning: {file} cannot be read ({error}); look into it by hand")
    return tuple(sorted(held))


def _recordings_in(file: Path) -> set[str]:
    if file.name == RECORDINGS:
        return set(file.read_text(encoding="utf-8").splitlines())
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: set[str] = set()
    with pq.ParquetFile(file) as shard:
        for batch in shard.iter_batches(columns=["segments.list.element.segment_id"]):
            segments = pc.struct_field(pc.list_flatten(batch.column("segments")), "segment_id")
            found |= {recording_of(id) for id in pc.unique(segments).to_pylist()}
    return found


def _rebuild(workspace: Workspace, folder: Path) -> str:
    """`corpus build` with the settings of the dataset's manifest, after the old folder is gone."""
    try:
        settings = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError):
        settings = {}
    words = ["corpus", "build", folder.name]
    for name in ("tokenizer", "dev_hours", "test_hours", "seed"):
        if settings.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(settings[name])]
    words += ["--workspace", str(workspace.root)]
    return f"rm -r {shlex.quote(str(folder))} && {shlex.join(words)}"


def _export_again(workspace: Workspace, folder: Path) -> str:
    """`corpus export` of the dataset once it is built anew, after the old folder is gone."""
    made = read_manifest(folder)
    name, form = made.get("dataset", "NAME"), made.get("to", "FORM")
    words = ["corpus", "export", name, "--to", form, "--output", str(folder)]
    words += ["--workspace", str(workspace.root)]
    return f"rm -r {shlex.quote(str(folder))} && {shlex.join(words)}"


def _batches(ids: Collection[str] | Iterator[str]) -> Iterator[list[str]]:
    listed = list(ids)
    return (listed[i : i + _BATCH] for i in range(0, len(listed), _BATCH))
