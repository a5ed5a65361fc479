"""Bring recordings into the catalogue: from video sites and from own files.

Each recording is one commit, made when its media lies decoded in the workspace. What is refused is
noted with its reason; what failed for a passing reason is tried again by the next run.
"""

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select

from corpus import audio, console, engine
from corpus.catalogue import (
    CHANNEL_PREFIX,
    Catalogue,
    Cue,
    Failure,
    Recording,
    Segment,
    Tombstone,
    Transcript,
    segment_id,
)
from corpus.errors import ItemError, UserError
from corpus.manifest import MANIFEST_SUFFIXES, Line, OwnFile, read_manifest
from corpus.segment import MAX_SECONDS
from corpus.sources import licences, sites, youtube
from corpus.subtitles import clean
from corpus.subtitles.reader import read_subtitles
from corpus.subtitles.suspect import judge_track
from corpus.text import clean_transcript
from corpus.workspace import Workspace

MEDIA_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("aac", "flac", "m4a", "m4b", "mka", "mp3", "oga", "ogg", "opus", "wav", "wma"),
        *("avi", "mkv", "mov", "mp4", "webm"),
    )
)
OWN = "own"
"""The licence of files that are the user's own."""

SUBTITLE_SUFFIXES = (".srt", ".vtt", ".sbv", ".ttml")

SHORTFALL_SHARE, SHORTFALL_SECONDS = 0.02, 1.5
"""A download this much shorter than announced (both together) was cut off on its way."""

END_TOLERANCE_MS = 50
"""A manifest's last span may end this much after the file: other tools round lengths up."""

FETCHED = Recording.source.not_in(["files"]) & Recording.source.not_like("%/%")
"""Which recordings came from a site: the source of others is ``files`` or names a release."""


def read_urls(path: Path) -> list[str]:
    """The addresses in a file, one a line. A ``#`` at a line's start or after a space is a comment.

    Raises:
        UserError: the file cannot be read or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    urls = [re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip() for line in lines]
    if not any(urls):
        raise UserError(f"{path}: no address in it; give one a line")
    return [url for url in urls if url]


class _NotTaken(ItemError):
    """Brings a refusal to where failures are noted."""

    def __init__(self, refused: youtube.Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


class _Removed(ItemError):
    """The item was taken down and stays away."""

    def __init__(self, item: str) -> None:
        super().__init__(f"{item} was taken down here (`corpus remove`) and is not taken again")


def fetch(
    workspace: Workspace,
    catalogue: Catalogue,
    urls: Sequence[str],
    search: Sequence[str],
    options: youtube.FetchOptions,
    *,
    max_videos: int | None = None,
    max_hours: float | None = None,
) -> engine.Counts:
    """Take the Creative-Commons videos behind URLs and searches, with their human subtitles.

    No more are taken once those listed that are here make `max_hours`. What earlier runs took
    counts too, so that a run which was cut off ends where it would have ended.

    Raises:
        UserError: nothing was asked for, or the site refuses to answer any more.
    """
    credits = clean.read_own_credits(workspace.root / clean.OWN_CREDITS)
    with workspace.lock("media"):
        entries, unlisted = _list(urls, search, options, max_videos)
        here, refused = _decided_before(catalogue, options)
        waiting = [entry for entry in entries if entry.id not in here and entry.id not in refused]
        seconds = sum(here.get(entry.id, 0) for entry in entries) / 1000
        console.say(f"{len(entries)} videos listed, {len(waiting)} of them new or to be retried")
        stage = workspace.media / ".stage"

        removed = _removed(catalogue)
        options = _without_channels(options, removed)

        def enough() -> bool:
            return max_hours is not None and seconds >= max_hours * 3600

        def take(entry: youtube.Entry) -> Recording:
            outcome = _tombstone(entry, removed) or sites.fetch_video(entry, options, stage)
            if isinstance(outcome, youtube.Refused):
                raise _NotTaken(outcome)
            try:
                return _decoded(workspace, entry, outcome, credits)
            finally:
                shutil.rmtree(outcome.media.parent, ignore_errors=True)

        def save(entry: youtube.Entry, recording: Recording) -> None:
            nonlocal seconds
            with catalogue.session() as session:
                session.add(recording)
                catalogue.clear_failure(session, stage="fetch", item=entry.id)
            seconds += recording.duration_ms / 1000

        def fail(entry: youtube.Entry, error: ItemError) -> None:
            refused = error.refused if isinstance(error, _NotTaken) else None
            if refused and not refused.transient:  # what an earlier, killed run has begun
                shutil.rmtree(stage / entry.file_name, ignore_errors=True)
            with catalogue.session() as session:
                catalogue.record_failure(
                    session,
                    stage="fetch",
                    item=entry.id,
                    kind=str(refused.reason) if refused else "bad_media",
                    message=str(error),
                    transient=refused.transient if refused else True,
                    url=entry.url,
                )

        counts = engine.run(waiting, take, save, fail, desc="fetch", unit="video", enough=enough)
    if unlisted is not None:
        raise unlisted
    return counts


@dataclass(frozen=True)
class Planned:
    """What a fetch would do with a listed video.

    `outcome` is ``take``, ``here`` (taken by an earlier run), ``max_hours`` (there is enough) or
    the reason of a refusal; `why` says more.
    """

    id: str
    url: str
    title: str | None
    seconds: float | None
    outcome: str
    why: str | None = None
    licence: str | None = None
    subtitles: str | None = None


def plan_fetch(
    catalogue: Catalogue,
    urls: Sequence[str],
    search: Sequence[str],
    options: youtube.FetchOptions,
    *,
    max_videos: int | None = None,
    max_hours: float | None = None,
) -> Iterator[Planned]:
    """What `fetch` would take and why not the rest; nothing is written.

    Videos that an earlier run took or refused for good are not asked for again. Subtitles and media
    are not read, so a video may still turn out to be broken.

    Raises:
        UserError: nothing was asked for, or the site refuses to answer any more.
    """
    entries, unlisted = _list(urls, search, options, max_videos)
    here, refused = _decided_before(catalogue, options)
    removed = _removed(catalogue)
    options = _without_channels(options, removed)
    seconds = sum(here.get(entry.id, 0) for entry in entries) / 1000
    for entry in console.progress(entries, total=len(entries), desc="look", unit="video"):
        told = (entry.id, entry.url, entry.title, entry.seconds)
        if entry.id in here:
            yield Planned(*told, outcome="here")
        elif failure := refused.get(entry.id):
            yield Planned(*told, outcome=failure.kind, why=failure.message)
        elif max_hours is not None and seconds >= max_hours * 3600:
            yield Planned(*told, outcome="max_hours")
        else:
            found = _tombstone(entry, removed) or sites.preview_video(entry, options)
            if isinstance(found, youtube.Refused):
                yield Planned(*told, outcome=str(found.reason), why=found.message)
                continue
            seconds += found.seconds or 0.0
            yield Planned(
                found.id,
                found.url,
                found.title,
                found.seconds,
                outcome="take",
                why=found.subtitles_note,
                licence=found.licence,
                subtitles=found.subtitles,
            )
    if unlisted is not None:
        raise unlisted


def _removed(catalogue: Catalogue) -> set[str]:
    with catalogue.session() as session:
        return set(session.scalars(select(Tombstone.item)))


def _without_channels(options: youtube.FetchOptions, removed: set[str]) -> youtube.FetchOptions:
    channels = (i.removeprefix(CHANNEL_PREFIX) for i in removed if i.startswith(CHANNEL_PREFIX))
    return replace(options, removed_channels=frozenset(channels))


def _tombstone(entry: youtube.Entry, removed: set[str]) -> youtube.Refused | None:
    """The refusal of a video that was taken down; None for all others."""
    if entry.id not in removed:
        return None
    return youtube.Refused(entry.id, entry.url, youtube.Reason.REMOVED, str(_Removed(entry.id)))


def _list(
    urls: Sequence[str],
    search: Sequence[str],
    options: youtube.FetchOptions,
    max_videos: int | None,
) -> tuple[list[youtube.Entry], UserError | None]:
    """What can be listed, and what is to be said at the end about what cannot."""
    if not urls and not search:
        raise UserError("nothing to fetch; give URLs, --from-file or --search WORDS")
    entries: list[youtube.Entry] = []
    try:
        for entry in sites.list_videos(urls, search, options, max_videos):
            entries.append(entry)
    except youtube.RateLimited:
        raise
    except UserError as error:
        return entries, error
    return entries, None


def _decided_before(
    catalogue: Catalogue, options: youtube.FetchOptions
) -> tuple[dict[str, int], dict[str, Failure]]:
    """The length (ms) of each video that is here, and the refusals that still stand."""
    with catalogue.session() as session:
        here = session.execute(select(Recording.id, Recording.duration_ms).filter(FETCHED)).all()
        refused = session.scalars(select(Failure).filter_by(stage="fetch", transient=False)).all()
    return (
        {row.id: row.duration_ms for row in here},
        {failure.item: failure for failure in refused if _stands(failure, options)},
    )


def _stands(failure: Failure, options: youtube.FetchOptions) -> bool:
    """Whether a refusal holds under these options: some asked for more than others do."""
    match failure.kind:
        case youtube.Reason.NO_SUBTITLES:
            return options.subtitles_only
        case youtube.Reason.NON_COMMERCIAL:
            return not options.allow_nc
        case youtube.Reason.DURATION:
            return failure.message.endswith(f"wanted: {options.wanted_length}")
    return True


def _decoded(
    workspace: Workspace, entry: youtube.Entry, fetched: youtube.Fetched, credits: tuple[str, ...]
) -> Recording:
    """Decode a download, check its length, and describe it as a recording (not yet stored)."""
    name = entry.file_name
    target = workspace.media / entry.site / f"{name}.flac"
    info = audio.decode_to_flac(fetched.media, target)
    announced = fetched.announced_seconds or 0.0
    missing = announced - info.duration_ms / 1000
    if missing > max(SHORTFALL_SECONDS, SHORTFALL_SHARE * announced):
        target.unlink()
        raise audio.MediaError(
            f"{entry.id}: {missing:.1f} s shorter than announced; it will be fetched again"
        )
    language = fetched.language or workspace.config.language
    cues: list[Cue] = []
    subtitle_path, note = None, fetched.subtitles_note
    if fetched.subtitles is not None:
        path = target.with_name(f"{name}.{fetched.subtitles.file_name}")
        path.write_bytes(fetched.subtitles.raw)
        subtitle_path = path
        cues, note = _read_cues(
            fetched.subtitles.raw,
            info.duration_ms,
            clean.credits_for(language, credits),
            key=fetched.subtitles.language,
        )
    return Recording(
        id=fetched.id,
        source=entry.site,
        url=fetched.url,
        title=fetched.title,
        channel_id=fetched.channel_id,
        channel=fetched.channel,
        language=language,
        licence_raw=fetched.licence_raw,
        licence=fetched.licence,
        licence_evidence=fetched.licence_evidence,
        attribution=licences.attribution(
            title=fetched.title,
            creator=fetched.channel,
            url=fetched.url,
            licence=fetched.licence,
        ),
        redistributable=licences.is_open(fetched.licence),
        media_path=str(target.relative_to(workspace.root)),
        sha256=_sha256(target),
        duration_ms=info.duration_ms,
        subtitle_path=str(subtitle_path.relative_to(workspace.root)) if subtitle_path else None,
        subtitle_note=note,
        cues=cues,
    )


def _read_cues(
    raw: bytes, duration_ms: int, credits: clean.Credits, *, key: str = ""
) -> tuple[list[Cue], str | None]:
    """What is said in a subtitle file, and a line about what was noticed and left out.

    The cues are in order, without overlaps, inside the recording and with some text.
    """
    track = read_subtitles(raw)
    read = [clean.Cue(item.start.ordinal, item.end.ordinal, item.text) for item in track.items]
    suspicion = judge_track(read, rolling=track.rolling, key=key)
    cleaned = clean.clean_cues(read, credits)
    cues: list[Cue] = []
    for cue in cleaned.cues:
        end, text = min(cue.end_ms, duration_ms), clean_transcript(cue.text)
        if text and end > cue.start_ms:
            cues.append(Cue(position=len(cues), start_ms=cue.start_ms, end_ms=end, text=text))
    noticed = [suspicion.note(), *track.problems, cleaned.told()]
    return cues, "; ".join(part for part in noticed if part) or None


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def find_files(paths: Iterable[Path]) -> list[OwnFile]:
    """Media files in folders, single files, and the files that manifests name.

    Raises:
        UserError: a path does not exist, is no media, or a manifest has a mistake.
    """
    files: list[OwnFile] = []
    for path in paths:
        path = path.expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES)
            files += [_with_subtitles(p) for p in inside if p.is_file()]
        elif path.suffix.lower() in MANIFEST_SUFFIXES:
            files += read_manifest(path)
        elif not path.is_file():
            raise UserError(f"{path}: no such file or folder")
        elif path.suffix.lower() not in MEDIA_SUFFIXES:
            raise UserError(
                f"{path}: not a media file; known are {' '.join(sorted(MEDIA_SUFFIXES))}"
            )
        else:
            files.append(_with_subtitles(path))
    return files


def _with_subtitles(path: Path) -> OwnFile:
    beside = (path.with_suffix(suffix) for suffix in SUBTITLE_SUFFIXES)
    return OwnFile(path, subtitles=next((p for p in beside if p.is_file()), None))


def add(
    workspace: Workspace, catalogue: Catalogue, paths: Iterable[Path], *, licence: str
) -> engine.Counts:
    """Add own audio or video; one commit per file. The files themselves stay untouched.

    Raises:
        UserError: a path or a manifest is wrong; a single unreadable file is only noted.
    """
    if licence != OWN and licences.spdx(licence) is None:
        raise UserError(f"--license {licence}: not a licence known here; give an SPDX id, or {OWN}")
    credits = clean.read_own_credits(workspace.root / clean.OWN_CREDITS)
    decoded = workspace.media.resolve()  # ours, where a folder around the workspace is given
    files = [f for f in find_files(paths) if not f.path.resolve().is_relative_to(decoded)]
    if not files:
        raise UserError("no media files there; known are " + " ".join(sorted(MEDIA_SUFFIXES)))
    with workspace.lock("media"):
        known: list[Path] = []
        with catalogue.session() as session:
            done = set(session.scalars(select(Recording.id).filter_by(source="files")))
        removed = _removed(catalogue)

        def decode(file: OwnFile) -> Recording | None:
            if not file.path.is_file():
                raise ItemError(f"{file.path}: no such file")
            digest = _sha256(file.path)
            identity = f"file:{digest[:16]}"
            if identity in done:
                known.append(file.path)
                return None
            if identity in removed:
                raise _Removed(str(file.path))
            recording = _own_recording(workspace, file, identity, digest, licence, credits)
            done.add(identity)
            return recording

        def save(file: OwnFile, recording: Recording | None) -> None:
            with catalogue.session() as session:
                if recording is not None:
                    session.add(recording)
                catalogue.clear_failure(session, stage="add", item=str(file.path.resolve()))

        def fail(file: OwnFile, error: ItemError) -> None:
            with catalogue.session() as session:
                catalogue.record_failure(
                    session,
                    stage="add",
                    item=str(file.path.resolve()),
                    kind="removed" if isinstance(error, _Removed) else "bad_media",
                    message=str(error),
                    transient=not isinstance(error, _Removed),
                )

        counts = engine.run(files, decode, save, fail, desc="add", unit="file")
    if known:
        console.say(f"{len(known)} of these were there already and stay as they are")
    return counts


def _own_recording(
    workspace: Workspace,
    file: OwnFile,
    identity: str,
    digest: str,
    licence: str,
    credits: tuple[str, ...],
) -> Recording:
    target = workspace.media / "files" / f"{digest[:16]}.flac"
    info = audio.decode_to_flac(file.path, target)
    language = file.language or workspace.config.language
    cues: list[Cue] = []
    note = None
    if file.subtitles is not None:
        cues, note = _read_cues(
            file.subtitles.read_bytes(), info.duration_ms, clean.credits_for(language, credits)
        )
    identifier = licences.spdx(licence) or licence
    recording = Recording(
        id=identity,
        source="files",
        url=file.path.resolve().as_uri(),
        title=file.path.stem,
        speaker=file.speaker,
        language=language,
        licence_raw=licence,
        licence=identifier,
        licence_evidence={"stated_by": "user"},
        attribution=file.path.name,
        redistributable=licences.is_open(identifier),
        media_path=str(target.relative_to(workspace.root)),
        sha256=_sha256(target),
        duration_ms=info.duration_ms,
        subtitle_path=file.subtitles.name if file.subtitles else None,
        subtitle_note=note,
        split=file.split,
        cues=cues,
    )
    try:
        if len(file.lines) == 1 and file.lines[0].start_ms is None:
            _take_whole(recording, file.lines[0].text, "manifest")
        elif file.lines:
            _take_lines(recording, file.lines)
    except ItemError:
        target.unlink()
        raise
    return recording


def _take_lines(recording: Recording, lines: Iterable[Line]) -> None:
    """Make each line of a manifest a segment of a recording."""
    recording.segmented_with = "manifest"
    for line in lines:
        start, end = line.start_ms or 0, line.end_ms or 0
        if end > recording.duration_ms + END_TOLERANCE_MS:
            raise ItemError(
                f"{line.where}: it ends at {end / 1000:g} s, but {recording.title} has only "
                f"{recording.duration_ms / 1000:.2f} s"
            )
        _add_segment(recording, start, min(end, recording.duration_ms), line.text, "manifest")


def _add_segment(recording: Recording, start: int, end: int, text: str, origin: str) -> None:
    """Add a segment (milliseconds) with the text that was given for it."""
    recording.segments.append(
        Segment(
            id=segment_id(recording.id, start, end),
            start_ms=start,
            end_ms=end,
            transcripts=[Transcript(kind="release", origin=origin, text=text)],
        )
    )


def _take_whole(recording: Recording, text: str, origin: str) -> None:
    """Make a short recording with a known text one segment; a longer one is left to be cut."""
    if recording.duration_ms > MAX_SECONDS * 1000:
        raise ItemError(
            f"{recording.title}: {recording.duration_ms / 1000:.1f} s with one text; "
            f"a segment has at most {MAX_SECONDS:.0f} s: cut it, or give subtitles"
        )
    recording.segmented_with = origin
    _add_segment(recording, 0, recording.duration_ms, text, origin)
