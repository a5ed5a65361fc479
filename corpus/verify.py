"""Is what the catalogue says still so: media on disk, licences at the site, datasets.

Nothing is changed or deleted here but the evidence, to which each look at a licence is added. An
uploader may take a licence back for the future; whether to remove the recording is for people.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from corpus import console, engine
from corpus.catalogue import Catalogue, Recording, Tombstone
from corpus.errors import ItemError
from corpus.fetch import FETCHED
from corpus.files import file_sha256
from corpus.remove import holdings
from corpus.sources import sites, video, ytdlp
from corpus.workspace import Workspace


@dataclass(frozen=True)
class Problem:
    """Something that is not as the catalogue says.

    `problem` is ``media_missing``, ``media_changed``, ``removed`` (a dataset still holds it),
    ``licence_changed``, ``licence_unknown`` (the site could not be asked), or why the recording is
    no longer at the site, in the words of a refused fetch: ``gone``, ``private`` and so on.
    """

    item: str
    problem: str
    message: str


def check_media(
    workspace: Workspace, catalogue: Catalogue, workers: engine.Workers = engine.HERE
) -> Iterator[Problem]:
    """Recordings whose media file is absent, or no longer the one that was decoded."""
    with catalogue.session() as session:
        recordings = session.execute(
            select(Recording.id, Recording.media_path, Recording.sha256)
        ).all()
    files = [_File(id, workspace.path(name), digest) for id, name, digest in sorted(recordings)]
    found = engine.outcomes(
        engine.batches(files, 1), engine.Each(_check), most=len(files), workers=workers
    )
    with contextlib.closing(found):
        bar = console.progress(found, total=len(files), desc="media", unit="file")
        for (file,), (problem,) in bar:
            if isinstance(problem, ItemError):
                yield Problem(file.id, "media_missing", f"{file.path}: {problem}")
            elif problem is not None:
                yield problem


@dataclass(frozen=True)
class _File:
    id: str
    path: Path
    sha256: str | None


def _check(file: _File) -> Problem | None:
    try:
        changed = file.sha256 is not None and file_sha256(file.path) != file.sha256
        missing = not file.path.is_file()
    except OSError:
        changed, missing = False, True
    if missing:
        told = f"{file.path} cannot be read; restore it, or fetch anew"
        return Problem(file.id, "media_missing", told)
    if changed:
        return Problem(file.id, "media_changed", f"{file.path} is not the file it was; restore it")
    return None


def check_datasets(workspace: Workspace, catalogue: Catalogue) -> Iterator[Problem]:
    """Datasets and exports that still hold recordings which were removed."""
    with catalogue.session() as session:
        removed = set(session.scalars(select(Tombstone.item)))
    for holding in holdings(workspace, removed) if removed else ():
        what = ", ".join(holding.recordings)
        message = f"it holds {what}, taken down; make it anew: {holding.rebuild}"
        yield Problem(str(holding.folder), "removed", message)


def check_licences(catalogue: Catalogue, options: video.FetchOptions) -> Iterator[Problem]:
    """Ask the site again for the licence of each video, those not asked for longest first.

    What it says is added to the recording's evidence, under ``checks``, one commit each.

    Raises:
        RateLimited: the site asks for a pause; the next run begins with what was left.
    """
    with catalogue.session() as session:
        recordings = session.scalars(select(Recording).filter(FETCHED)).all()
    for recording in console.progress(
        sorted(recordings, key=_last_look), total=len(recordings), desc="licences", unit="video"
    ):
        entry = video.Entry(recording.id, recording.url or "", recording.title)
        found = sites.read_licence(entry, options)
        if isinstance(found, video.Refused) and found.transient:
            yield Problem(recording.id, "licence_unknown", f"{found.message}; ask again later")
            continue
        _add_evidence(catalogue, recording.id, found)
        advice = f"corpus remove {recording.id}, if it is to go"
        if isinstance(found, video.Refused):
            yield Problem(recording.id, str(found.reason), f"{found.message}; {advice}")
        elif found.licence != recording.licence:
            now = found.raw or "not told any more"
            message = f"its licence was {recording.licence} and is now {now}; {advice}"
            yield Problem(recording.id, "licence_changed", message)


def _last_look(recording: Recording) -> str:
    """When the licence was last read, as ISO 8601 in UTC, which sorts as text."""
    evidence = recording.licence_evidence
    looks: list[dict[str, Any]] = [evidence, *evidence.get("checks", [])]
    return str(looks[-1].get("when", ""))


def _add_evidence(
    catalogue: Catalogue, recording_id: str, found: video.Stated | video.Refused
) -> None:
    said: dict[str, str | None]
    if isinstance(found, video.Refused):
        said = {"refused": str(found.reason), "message": found.message}
    else:
        said = {"licence_raw": found.raw, "licence": found.licence}
    where = found.url if isinstance(found, video.Refused) else found.where
    look = {**ytdlp.evidence(where), **said}
    with catalogue.session() as session:
        recording = session.get(Recording, recording_id)
        if recording is not None:  # removed in the meantime
            checks = [*recording.licence_evidence.get("checks", []), look]
            recording.licence_evidence = {**recording.licence_evidence, "checks": checks}
