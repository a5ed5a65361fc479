"""Bring recordings into the catalogue: from video sites, from own files, from releases.

Each recording is one commit, made when its media lies decoded in the workspace. What is refused is
noted with its reason; what failed for a passing reason is tried again by the next run.
"""

import csv
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select

from corpus import audio, console, engine
from corpus.catalogue import Catalogue, Cue, Failure, Recording, Segment, Transcript, segment_id
from corpus.errors import ItemError, UserError
from corpus.segment import MAX_SECONDS
from corpus.sources import common_voice, licences, youtube
from corpus.subtitles.reader import SubtitleTrack, read_subtitles
from corpus.text import base_language, clean_transcript, is_language_code
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

MANIFEST_COLUMNS = frozenset({"path", "text", "speaker", "language", "split"})
SUBTITLE_SUFFIXES = (".srt", ".vtt")

SHORTFALL_SHARE, SHORTFALL_SECONDS = 0.02, 1.5
"""A download this much shorter than announced (both together) was cut off on its way."""

COMMIT_ROWS = 500
"""Clips of a release that one transaction takes; each holds no work worth more than a lookup."""


class _NotTaken(ItemError):
    """Brings a refusal to where failures are noted."""

    def __init__(self, refused: youtube.Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


def fetch(
    workspace: Workspace,
    catalogue: Catalogue,
    urls: Sequence[str],
    search: Sequence[str],
    options: youtube.FetchOptions,
    *,
    max_videos: int | None,
) -> engine.Counts:
    """Take the Creative-Commons videos behind URLs and searches, with their human subtitles.

    Raises:
        UserError: nothing was asked for, or the site refuses to answer any more.
    """
    if not urls and not search:
        raise UserError("nothing to fetch; give URLs or --search WORDS")
    with workspace.lock("media"):
        entries, unlisted = _list(urls, search, options, max_videos)
        waiting = _not_yet_decided(catalogue, entries, options)
        console.say(f"{len(entries)} videos listed, {len(waiting)} of them new or to be retried")
        stage = workspace.media / ".stage"

        def take(entry: youtube.Entry) -> Recording:
            outcome = youtube.fetch_video(entry, options, stage)
            if isinstance(outcome, youtube.Refused):
                raise _NotTaken(outcome)
            try:
                return _decoded(workspace, outcome)
            finally:
                shutil.rmtree(outcome.media.parent, ignore_errors=True)

        def save(entry: youtube.Entry, recording: Recording) -> None:
            with catalogue.session() as session:
                session.add(recording)
                catalogue.clear_failure(session, stage="fetch", item=entry.id)

        def fail(entry: youtube.Entry, error: ItemError) -> None:
            refused = error.refused if isinstance(error, _NotTaken) else None
            if refused and not refused.transient:  # what an earlier, killed run has begun
                shutil.rmtree(stage / entry.id.removeprefix("youtube:"), ignore_errors=True)
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

        counts = engine.run(waiting, take, save, fail, desc="fetch", unit="video")
    if unlisted is not None:
        raise unlisted
    return counts


def _list(
    urls: Sequence[str],
    search: Sequence[str],
    options: youtube.FetchOptions,
    max_videos: int | None,
) -> tuple[list[youtube.Entry], UserError | None]:
    """What can be listed, and what is to be said at the end about what cannot."""
    entries: list[youtube.Entry] = []
    try:
        for entry in youtube.list_videos(urls, search, options, max_videos):
            entries.append(entry)
    except youtube.RateLimited:
        raise
    except UserError as error:
        return entries, error
    return entries, None


def _not_yet_decided(
    catalogue: Catalogue, entries: Sequence[youtube.Entry], options: youtube.FetchOptions
) -> list[youtube.Entry]:
    refused = select(Failure.item).filter_by(stage="fetch", transient=False)
    if not options.subtitles_only:  # what only `--subtitles-only` refused is wanted now
        refused = refused.filter(Failure.kind != youtube.Reason.NO_SUBTITLES)
    with catalogue.session() as session:
        done = set(session.scalars(select(Recording.id).filter_by(source="youtube")))
        done |= set(session.scalars(refused))
    return [entry for entry in entries if entry.id not in done]


def _decoded(workspace: Workspace, fetched: youtube.Fetched) -> Recording:
    """Decode a download, check its length, and describe it as a recording (not yet stored)."""
    name = _file_name(fetched.id.removeprefix("youtube:"))
    target = workspace.media / "youtube" / f"{name}.flac"
    info = audio.decode_to_flac(fetched.media, target)
    announced = fetched.announced_seconds or 0.0
    missing = announced - info.duration_ms / 1000
    if missing > max(SHORTFALL_SECONDS, SHORTFALL_SHARE * announced):
        target.unlink()
        raise audio.MediaError(
            f"{name}: {missing:.1f} s shorter than announced; it will be fetched again"
        )
    track, subtitle_path, note = None, None, fetched.subtitles_note
    if fetched.subtitles is not None:
        key = _file_name(fetched.subtitles.language)
        path = target.with_name(f"{name}.{key}.{fetched.subtitles.format}")
        path.write_bytes(fetched.subtitles.raw)
        track, subtitle_path = read_subtitles(fetched.subtitles.raw), path
        note = "; ".join(track.problems) or note
    return Recording(
        id=fetched.id,
        source="youtube",
        url=fetched.url,
        title=fetched.title,
        channel_id=fetched.channel_id,
        channel=fetched.channel,
        language=fetched.language or workspace.config.language,
        licence_raw=fetched.licence_raw,
        licence=fetched.licence,
        licence_evidence=fetched.licence_evidence,
        attribution=licences.attribution(
            title=fetched.title,
            creator=fetched.channel,
            url=fetched.url,
            licence=fetched.licence,
        ),
        redistributable=True,
        media_path=str(target.relative_to(workspace.root)),
        sha256=_sha256(target),
        duration_ms=info.duration_ms,
        subtitle_path=str(subtitle_path.relative_to(workspace.root)) if subtitle_path else None,
        subtitle_note=note,
        cues=_cues(track, info.duration_ms),
    )


def _file_name(name: str) -> str:
    """A name from the network as a file name: itself where it is plain, else a hash of it."""
    plain = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
    return name if plain else hashlib.sha256(name.encode()).hexdigest()[:16]


def _cues(track: SubtitleTrack | None, duration_ms: int) -> list[Cue]:
    """Cues in order, without overlaps, inside the recording and with some text."""
    cues: list[Cue] = []
    earliest = 0
    for item in track.items if track else []:
        start, end = max(item.start.ordinal, earliest), min(item.end.ordinal, duration_ms)
        text = clean_transcript(item.text)
        if text and end > start:
            cues.append(Cue(position=len(cues), start_ms=start, end_ms=end, text=text))
            earliest = end
    return cues


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class OwnFile:
    """A file of the user's: a recording with subtitles beside it, or a line of a manifest."""

    path: Path
    subtitles: Path | None = None
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    split: str | None = None


def find_files(paths: Iterable[Path]) -> list[OwnFile]:
    """Media files in folders, single files, and the lines of CSV manifests.

    A manifest has a header with ``path`` and ``text``, and may have ``speaker``, ``language`` and
    ``split`` (train, dev or test); its paths are relative to the manifest.

    Raises:
        UserError: a path does not exist, is no media, or a manifest has a mistake.
    """
    files: list[OwnFile] = []
    for path in paths:
        path = path.expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES)
            files += [_with_subtitles(p) for p in inside if p.is_file()]
        elif path.suffix.lower() == ".csv":
            files += _read_manifest(path)
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


def _read_manifest(path: Path) -> Iterator[OwnFile]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 CSV ({error})") from None
    columns = set(reader.fieldnames or ())
    if not rows or not {"path", "text"} <= columns:
        raise UserError(
            f"{path}: needs a header with path and text, separated by a comma, and a line for each "
            "file"
        )
    if unknown := columns - MANIFEST_COLUMNS:
        raise UserError(
            f"{path}: unknown column {', '.join(sorted(unknown))}; known are "
            f"{', '.join(sorted(MANIFEST_COLUMNS))}"
        )
    for number, row in rows:
        if None in row:
            raise UserError(f"{path}, line {number}: too many fields; quote a text with commas")
        if not row["path"] or not clean_transcript(row["text"] or ""):
            raise UserError(f"{path}, line {number}: path or text is missing")
        if row.get("language") and not is_language_code(row["language"]):
            raise UserError(f"{path}, line {number}: {row['language']!r} is no language code")
        if row.get("split") not in {None, "", "train", "dev", "test"}:
            raise UserError(f"{path}, line {number}: split is train, dev or test")
        yield OwnFile(
            path.parent / row["path"],
            text=clean_transcript(row["text"]),
            speaker=row.get("speaker") or None,
            language=row.get("language") or None,
            split=row.get("split") or None,
        )


def add(
    workspace: Workspace, catalogue: Catalogue, paths: Iterable[Path], *, licence: str
) -> engine.Counts:
    """Add own audio or video; one commit per file. The files themselves stay untouched.

    Raises:
        UserError: a path or a manifest is wrong; a single unreadable file is only noted.
    """
    if licence != OWN and licences.spdx(licence) is None:
        raise UserError(f"--license {licence}: not a licence known here; give an SPDX id, or {OWN}")
    decoded = workspace.media.resolve()  # ours, where a folder around the workspace is given
    files = [f for f in find_files(paths) if not f.path.resolve().is_relative_to(decoded)]
    if not files:
        raise UserError("no media files there; known are " + " ".join(sorted(MEDIA_SUFFIXES)))
    with workspace.lock("media"):
        known: list[Path] = []
        with catalogue.session() as session:
            done = set(session.scalars(select(Recording.id).filter_by(source="files")))

        def decode(file: OwnFile) -> Recording | None:
            if not file.path.is_file():
                raise ItemError(f"{file.path}: no such file")
            digest = _sha256(file.path)
            identity = f"file:{digest[:16]}"
            if identity in done:
                known.append(file.path)
                return None
            recording = _own_recording(workspace, file, identity, digest, licence)
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
                    kind="bad_media",
                    message=str(error),
                    transient=True,
                )

        counts = engine.run(files, decode, save, fail, desc="add", unit="file")
    if known:
        console.say(f"{len(known)} of these were there already and stay as they are")
    return counts


def _own_recording(
    workspace: Workspace, file: OwnFile, identity: str, digest: str, licence: str
) -> Recording:
    target = workspace.media / "files" / f"{digest[:16]}.flac"
    info = audio.decode_to_flac(file.path, target)
    track = read_subtitles(file.subtitles.read_bytes()) if file.subtitles else None
    identifier = licences.spdx(licence) or licence
    recording = Recording(
        id=identity,
        source="files",
        url=file.path.resolve().as_uri(),
        title=file.path.stem,
        speaker=file.speaker,
        language=file.language or workspace.config.language,
        licence_raw=licence,
        licence=identifier,
        licence_evidence={"stated_by": "user"},
        attribution=file.path.name,
        redistributable=licences.is_open(identifier),
        media_path=str(target.relative_to(workspace.root)),
        sha256=_sha256(target),
        duration_ms=info.duration_ms,
        subtitle_path=file.subtitles.name if file.subtitles else None,
        subtitle_note="; ".join(track.problems) or None if track else None,
        split=file.split,
        cues=_cues(track, info.duration_ms),
    )
    if file.text is not None:
        try:
            _take_whole(recording, file.text, "manifest")
        except ItemError:
            target.unlink()
            raise
    return recording


def _take_whole(recording: Recording, text: str, origin: str) -> None:
    """Make a short recording with a known text one segment; a longer one is left to be cut."""
    if recording.duration_ms > MAX_SECONDS * 1000:
        raise ItemError(
            f"{recording.title}: {recording.duration_ms / 1000:.1f} s with one text; "
            f"a segment has at most {MAX_SECONDS:.0f} s: cut it, or give subtitles"
        )
    recording.segmented_with = origin
    recording.segments.append(
        Segment(
            id=segment_id(recording.id, 0, recording.duration_ms),
            start_ms=0,
            end_ms=recording.duration_ms,
            transcripts=[Transcript(kind="release", origin=origin, text=text)],
        )
    )


def import_common_voice(workspace: Workspace, catalogue: Catalogue, folder: Path) -> engine.Counts:
    """Take the train, dev and test clips of an unpacked Common Voice release.

    The clips stay where they are and are decoded when they are needed.

    Raises:
        UserError: the folder is no release.
    """
    release = common_voice.read_release(folder)
    if base_language(release.locale) != base_language(workspace.config.language):
        raise UserError(
            f"{folder} is a release for {release.locale}, this workspace is for "
            f"{workspace.config.language}; make one with `corpus init`"
        )
    for problem in release.problems:
        console.say(f"{folder}: {problem}")
    source = f"common-voice/{release.name}"
    failed = 0
    with workspace.lock("media"):
        # A clip keeps its name from release to release.
        ours = "common-voice:"
        with catalogue.session() as session:
            done = set(session.scalars(select(Recording.id).filter(Recording.id.startswith(ours))))
            done |= set(session.scalars(select(Failure.item).filter_by(stage="import")))
        clips = [clip for clip in release.clips if _clip_id(clip) not in done]
        bar = console.progress(clips, desc="import", unit="clip")
        for batch in engine.batches(bar, COMMIT_ROWS):
            taken: list[Recording] = []
            refused: dict[str, str] = {}
            for clip in batch:
                try:
                    taken.append(_clip_recording(clip, release, source))
                except ItemError as error:
                    refused[_clip_id(clip)] = str(error)
            with catalogue.session() as session:
                session.add_all(taken)
                for item, message in refused.items():
                    catalogue.record_failure(
                        session,
                        stage="import",
                        item=item,
                        kind="not_taken",
                        message=message,
                        transient=False,
                    )
            failed += len(refused)
    return engine.Counts(len(clips) - failed, failed)


def _clip_id(clip: common_voice.Clip) -> str:
    return f"common-voice:{clip.locale}:{clip.path.stem}"


def _clip_recording(
    clip: common_voice.Clip, release: common_voice.Release, source: str
) -> Recording:
    if clip.duration_ms is None:
        clip = replace(clip, duration_ms=audio.duration_ms(clip.path))
    recording = Recording(
        id=_clip_id(clip),
        source=source,
        title=clip.path.stem,
        speaker=f"common-voice:{clip.speaker}" if clip.speaker else None,
        language=clip.locale,
        licence_raw="CC0 1.0",
        licence="CC0-1.0",
        licence_evidence={"release": release.name},
        attribution=f"Mozilla Common Voice, {release.name}",
        # The terms of the Mozilla Data Collective forbid hosting the audio elsewhere.
        redistributable=False,
        media_path=str(clip.path.resolve()),
        duration_ms=clip.duration_ms,
        split=clip.split,
    )
    _take_whole(recording, clean_transcript(clip.text), release.name)
    return recording
