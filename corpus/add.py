"""`corpus add`: own audio and video, with subtitles beside it or a manifest of what is said.

Each file is one commit, made when its media lies decoded in the workspace. The files themselves
stay untouched.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from corpus import audio, console, engine
from corpus.catalogue import Catalogue, Cue, Recording
from corpus.collect import Removed, add_segment, read_cues, removed_items, take_whole
from corpus.errors import ItemError, UserError
from corpus.files import as_text, file_sha256
from corpus.manifest import MANIFEST_SUFFIXES, Line, OwnFile, read_manifest
from corpus.pieces import speech_bounds
from corpus.segment import MAX_SECONDS
from corpus.sources import licences
from corpus.subtitles import clean
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

END_TOLERANCE_MS = 50
"""A manifest's last span may end this much after the file: other tools round lengths up."""


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
    # Cameras and Windows write suffixes in capitals.
    suffixes = (spelt for suffix in SUBTITLE_SUFFIXES for spelt in (suffix, suffix.upper()))
    beside = (path.with_suffix(suffix) for suffix in suffixes)
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
        removed = removed_items(catalogue)

        def decode(file: OwnFile) -> Recording | None:
            if not file.path.is_file():
                raise ItemError(f"{file.path}: no such file")
            with _reading(file.path):
                digest = file_sha256(file.path)
            identity = f"file:{digest[:16]}"
            if identity in done:
                known.append(file.path)
                return None
            if identity in removed:
                raise Removed(str(file.path))
            recording = _own_recording(workspace, file, identity, digest, licence, credits)
            done.add(identity)
            return recording

        def save(file: OwnFile, recording: Recording | None) -> None:
            with catalogue.session() as session:
                if recording is not None:
                    session.add(recording)
                catalogue.clear_failure(session, stage="add", item=as_text(file.path.resolve()))

        def fail(file: OwnFile, error: ItemError) -> None:
            with catalogue.session() as session:
                catalogue.record_failure(
                    session,
                    stage="add",
                    item=as_text(file.path.resolve()),
                    kind="removed" if isinstance(error, Removed) else "bad_media",
                    message=as_text(str(error)),
                    transient=not isinstance(error, Removed),
                )

        counts = engine.run(files, decode, save, fail, desc="add", unit="file")
    if known:
        console.say(f"{len(known)} of these were there already and stay as they are")
    return counts


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ItemError(f"{path}: cannot be read ({error.strerror})") from error


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
        with _reading(file.subtitles):
            raw = file.subtitles.read_bytes()
        cues, note = read_cues(raw, info.duration_ms, clean.credits_for(language, credits))
    identifier = licences.spdx(licence) or licence
    recording = Recording(
        id=identity,
        source="files",
        url=file.path.resolve().as_uri(),
        title=as_text(file.path.stem),
        speaker=file.speaker,
        language=language,
        licence_raw=licence,
        licence=identifier,
        licence_evidence={"stated_by": "user"},
        attribution=as_text(file.path.name),
        redistributable=licences.is_open(identifier),
        media_path=str(target.relative_to(workspace.root)),
        sha256=file_sha256(target),
        duration_ms=info.duration_ms,
        subtitle_path=as_text(file.subtitles.name) if file.subtitles else None,
        subtitle_note=note,
        split=file.split,
        cues=cues,
    )
    try:
        if len(file.lines) == 1 and file.lines[0].start_ms is None:
            window = audio.read_span(target, 0, round(MAX_SECONDS * 1000))
            take_whole(recording, file.lines[0].text, "manifest", speech_bounds(window))
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
        add_segment(recording, start, min(end, recording.duration_ms), line.text, "manifest")
