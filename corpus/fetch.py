"""`corpus fetch`: take Creative-Commons videos with their human subtitles, or tell which it would.

Each video is one commit, made when its media lies decoded in the workspace. What is refused is
noted with its reason; what failed for a passing reason is tried again by the next run.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select

from corpus import audio, console, engine
from corpus.catalogue import CHANNEL_PREFIX, Catalogue, Cue, Failure, Recording
from corpus.collect import Removed, read_cues, removed_items
from corpus.errors import ItemError, UserError
from corpus.files import file_sha256
from corpus.sources import licences, sites
from corpus.sources.video import Entry, Fetched, FetchOptions, RateLimited, Reason, Refused
from corpus.subtitles import clean
from corpus.workspace import Workspace

SHORTFALL_SHARE, SHORTFALL_SECONDS = 0.02, 1.5
"""A download this much shorter than announced (both together) was cut off on its way."""

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

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


@dataclass(frozen=True)
class _Listing:
    """What is listed, and what earlier runs and removals have decided about it.

    `here` has the length (ms) of each video that was taken, `refused` the refusals that still
    stand. `unlisted` is to be said at the end about what cannot be listed.
    """

    entries: list[Entry]
    unlisted: UserError | None
    here: dict[str, int]
    refused: dict[str, Failure]
    removed: set[str]
    options: FetchOptions

    @property
    def waiting(self) -> list[Entry]:
        """The videos to decide about."""
        return [e for e in self.entries if e.id not in self.here and e.id not in self.refused]

    @property
    def seconds(self) -> float:
        """Length of those that are here."""
        return sum(self.here.get(entry.id, 0) for entry in self.entries) / 1000

    def tombstone(self, entry: Entry) -> Refused | None:
        """The refusal of a video that was taken down; None for all others."""
        if entry.id not in self.removed:
            return None
        return Refused(entry.id, entry.url, Reason.REMOVED, str(Removed(entry.id)))


def _list(
    catalogue: Catalogue,
    urls: Sequence[str],
    search: Sequence[str],
    options: FetchOptions,
    max_videos: int | None,
) -> _Listing:
    if not urls and not search:
        raise UserError("nothing to fetch; give URLs, --from-file or --search WORDS")
    entries: list[Entry] = []
    unlisted = None
    try:
        for entry in sites.list_videos(urls, search, options, max_videos):
            entries.append(entry)
    except RateLimited:
        raise
    except UserError as error:
        unlisted = error
    with catalogue.session() as session:
        here = session.execute(select(Recording.id, Recording.duration_ms).filter(FETCHED)).all()
        refused = session.scalars(select(Failure).filter_by(stage="fetch", transient=False)).all()
    removed = removed_items(catalogue)
    channels = (i.removeprefix(CHANNEL_PREFIX) for i in removed if i.startswith(CHANNEL_PREFIX))
    return _Listing(
        entries,
        unlisted,
        here={row.id: row.duration_ms for row in here},
        refused={failure.item: failure for failure in refused if _stands(failure, options)},
        removed=removed,
        options=replace(options, removed_channels=frozenset(channels)),
    )


def _stands(failure: Failure, options: FetchOptions) -> bool:
    """Whether a refusal holds under these options: some asked for more than others do."""
    match failure.kind:
        case Reason.NO_SUBTITLES:
            return options.subtitles_only
        case Reason.NON_COMMERCIAL:
            return not options.allow_nc
        case Reason.OTHER_LANGUAGE:
            return not options.any_language
        case Reason.AGE | Reason.PRIVATE:
            return options.cookies is None
        case Reason.GEO:
            return options.proxy is None
        case Reason.DURATION:
            return failure.message.endswith(f"wanted: {options.wanted_length}")
    return True


def fetch(
    workspace: Workspace,
    catalogue: Catalogue,
    urls: Sequence[str],
    search: Sequence[str],
    options: FetchOptions,
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
        listing = _list(catalogue, urls, search, options, max_videos)
        waiting, seconds = listing.waiting, listing.seconds
        console.say(
            f"{len(listing.entries)} videos listed, {len(waiting)} of them new or to be retried"
        )
        stage = workspace.media / ".stage"

        def enough() -> bool:
            return max_hours is not None and seconds >= max_hours * 3600

        def take(entry: Entry) -> Recording:
            outcome = listing.tombstone(entry) or sites.fetch_video(entry, listing.options, stage)
            if isinstance(outcome, Refused):
                raise _NotTaken(outcome)
            try:
                return _decoded(workspace, entry, outcome, credits)
            finally:
                shutil.rmtree(outcome.media.parent, ignore_errors=True)

        def save(entry: Entry, recording: Recording) -> None:
            nonlocal seconds
            with catalogue.session() as session:
                session.add(recording)
                catalogue.clear_failure(session, stage="fetch", item=entry.id)
            seconds += recording.duration_ms / 1000

        def fail(entry: Entry, error: ItemError) -> None:
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
    if listing.unlisted is not None:
        raise listing.unlisted
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
    options: FetchOptions,
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
    listing = _list(catalogue, urls, search, options, max_videos)
    seconds = listing.seconds
    entries = listing.entries
    for entry in console.progress(entries, total=len(entries), desc="look", unit="video"):
        told = (entry.id, entry.url, entry.title, entry.seconds)
        if entry.id in listing.here:
            yield Planned(*told, outcome="here")
        elif failure := listing.refused.get(entry.id):
            yield Planned(*told, outcome=failure.kind, why=failure.message)
        elif max_hours is not None and seconds >= max_hours * 3600:
            yield Planned(*told, outcome="max_hours")
        else:
            found = listing.tombstone(entry) or sites.preview_video(entry, listing.options)
            if isinstance(found, Refused):
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
    if listing.unlisted is not None:
        raise listing.unlisted


def _decoded(
    workspace: Workspace, entry: Entry, fetched: Fetched, credits: tuple[str, ...]
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
    cues: list[Cue] = []
    subtitle_path, note = None, fetched.subtitles_note
    if fetched.subtitles is not None:
        path = target.with_name(f"{name}.{fetched.subtitles.file_name}")
        path.write_bytes(fetched.subtitles.raw)
        subtitle_path = path
        cues, note = read_cues(
            fetched.subtitles.raw,
            info.duration_ms,
            clean.credits_for(fetched.language, credits),
            fetched.subtitles,
        )
    return Recording(
        id=fetched.id,
        source=entry.site,
        url=fetched.url,
        title=fetched.title,
        channel_id=fetched.channel_id,
        channel=fetched.channel,
        uploader=fetched.uploader,
        language=fetched.language,
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
        sha256=file_sha256(target),
        duration_ms=info.duration_ms,
        subtitle_path=str(subtitle_path.relative_to(workspace.root)) if subtitle_path else None,
        subtitle_note=note,
        cues=cues,
    )
