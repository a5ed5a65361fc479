"""A video at any site: what is asked of it, what is told of it, and whether it may be taken.

Nothing here asks a site for anything. The order of the questions is the same everywhere: licence,
whether it is over and of a wanted length, the language that is spoken, the choice of subtitles.
"""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.sources.licences import is_non_commercial, is_open, spdx
from corpus.text import base_language

Info = dict[str, Any]
"""What yt-dlp tells about a video."""


class Reason(StrEnum):
    """Why a video was refused."""

    NOT_CC = "not_cc"
    NON_COMMERCIAL = "non_commercial"
    LICENCE_UNKNOWN = "licence_unknown"
    DURATION = "duration"
    NO_SUBTITLES = "no_subtitles"
    SUBTITLES_FAILED = "subtitles_failed"
    PRIVATE = "private"
    GONE = "gone"
    LIVE = "live"
    AGE = "age"
    GEO = "geo"
    OTHER_LANGUAGE = "other_language"
    RATE_LIMITED = "rate_limited"
    BOT_CHECK = "bot_check"
    NO_MEDIA = "no_media"
    REMOVED = "removed"
    NETWORK = "network"
    EXTRACTOR = "extractor"


TRANSIENT = {
    Reason.LICENCE_UNKNOWN,
    Reason.SUBTITLES_FAILED,
    Reason.LIVE,
    Reason.RATE_LIMITED,
    Reason.BOT_CHECK,
    Reason.NO_MEDIA,  # which an old yt-dlp, or one without a JS runtime, says of any video
    Reason.NETWORK,
    Reason.EXTRACTOR,
}
"""Worth another try on another day. All others stay as they are, unless other options are given."""


class RateLimited(UserError):
    """The site asks for a pause. The run must stop here: whatever follows would fail as well."""


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch.

    `language` is the code of the language that is collected; a video that is told to be spoken in
    another is refused, unless `any_language` says that the site does not know and all counts as
    the language that is collected. `rate_limit` is in bytes per second.
    `sleep` keeps the pauses that a public site expects; without them only a site on this machine
    should be asked. With `subtitles_only`, a video without a human transcript is refused; so is
    one shorter than `min_seconds` or longer than `max_seconds`, one under a non-commercial licence
    unless `allow_nc` is set, and everything of the channels whose ids are in `removed_channels`.
    `newest_first` orders what a search finds.
    """

    language: str
    any_language: bool = False
    proxy: str | None = None
    check_certificate: bool = True
    cookies: Path | None = None
    rate_limit: int | None = None
    sleep: bool = True
    subtitles_only: bool = False
    min_seconds: float | None = None
    max_seconds: float | None = None
    allow_nc: bool = False
    newest_first: bool = False
    removed_channels: frozenset[str] = frozenset()

    @property
    def wanted_length(self) -> str:
        """The limits on length in words."""
        if self.min_seconds is None and self.max_seconds is None:
            return "any length"
        least = f"{self.min_seconds or 0:g} s"
        return f"{least} to {self.max_seconds:g} s" if self.max_seconds else f"{least} and more"


@dataclass(frozen=True)
class Entry:
    """A listed video.

    `id` is ``youtube:ID``, or of that form for another site; `seconds` its length where the listing
    tells it.
    """

    id: str
    url: str
    title: str | None
    seconds: float | None = None

    @property
    def site(self) -> str:
        """What `id` begins with."""
        return self.id.partition(":")[0]

    @property
    def file_name(self) -> str:
        """What its files are called."""
        return plain_name(self.id.partition(":")[2])


def plain_name(name: str) -> str:
    """A name from the network as a file name: itself where it is plain, else a hash of it."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:16]


Reader = Callable[[Any, Entry], tuple[Info, str]]
"""Asks a site about a video (with yt-dlp): its data, and the place where its licence is told.

The data has yt-dlp's names, and the meaning they have for YouTube: `license` as written, `channel`
missing where the licence could not be read, `subtitles` made by people, `automatic_captions` not.
"""


@dataclass(frozen=True)
class Subtitles:
    """A human subtitle track as it came: the bytes, its key (``cs``, ``cs-Abc``), srt or vtt, the
    name that its makers gave it and its address."""

    raw: bytes
    language: str
    format: str
    name: str
    url: str

    @property
    def file_name(self) -> str:
        """What the file is called, after the video's name."""
        return f"{plain_name(self.language)}.{self.format}"


@dataclass(frozen=True)
class Fetched:
    """A video that was taken.

    `language` is the code of the options. `subtitles_note` says why there are no subtitles.
    `media` is the file as downloaded, in the stage folder; a caller that cannot
    decode it, or finds it shorter than `announced_seconds`, deletes it, and the next fetch starts
    afresh.
    """

    id: str
    url: str
    title: str
    channel: str
    channel_id: str | None
    uploader: str | None
    language: str
    licence_raw: str
    licence: str
    licence_evidence: dict[str, str]
    media: Path
    announced_seconds: float | None
    subtitles: Subtitles | None
    subtitles_note: str | None


@dataclass(frozen=True)
class Preview:
    """What is known of a video that would be taken, before its subtitles and media are read.

    `subtitles` is the key of the human track, or else `subtitles_note` says why there is none.
    """

    id: str
    url: str
    title: str
    channel: str
    licence: str
    seconds: float | None
    subtitles: str | None
    subtitles_note: str | None


@dataclass(frozen=True)
class Stated:
    """What is said of a video's licence and where: as written, as an SPDX id, None for neither."""

    where: str
    raw: str | None
    licence: str | None


@dataclass(frozen=True)
class Refused:
    """A video that was not taken; `transient` where another try may end differently."""

    id: str
    url: str
    reason: Reason
    message: str

    @property
    def transient(self) -> bool:
        """Whether a later run should try again."""
        return self.reason in TRANSIENT


class Refusal(Exception):
    """Raised where a video turns out not to be taken; carries what becomes a `Refused`."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def wrong_length(seconds: float | None, options: FetchOptions) -> str | None:
    """Why a length (s) is not wanted. The limits stand at the end, so that others ask again."""
    least, most = options.min_seconds or 0.0, options.max_seconds or math.inf
    if seconds is None or least <= seconds <= most:
        return None
    return f"it is {seconds:.0f} s long; wanted: {options.wanted_length}"


@dataclass(frozen=True)
class Decided:
    """What the pages of a video that may be taken say."""

    licence_raw: str
    licence: str
    subtitles: str | None
    subtitles_note: str | None


def decide(info: Info, options: FetchOptions) -> Decided:
    """Everything that can be decided before subtitles and media are asked for.

    Raises:
        Refusal: the video is not to be taken.
    """
    if info.get("channel_id") in options.removed_channels:
        raise Refusal(Reason.REMOVED, "its channel was taken down here (`corpus remove`)")
    raw, licence = _licence(info, options.allow_nc)
    if info.get("live_status") in {"is_live", "is_upcoming", "post_live"}:
        raise Refusal(Reason.LIVE, "it is a live stream that is not yet a recording")
    if message := wrong_length(info.get("duration"), options):
        raise Refusal(Reason.DURATION, message)
    spoken, wanted = _spoken_language(info), base_language(options.language)
    if not options.any_language and spoken not in {None, wanted}:
        raise Refusal(
            Reason.OTHER_LANGUAGE,
            f"{spoken} is spoken, says the site; --language any takes it all the same",
        )
    return Decided(raw, licence, *_choose_subtitles(info, options.language))


def need_subtitles(note: str | None, options: FetchOptions) -> None:
    """See that there is a human transcript, where only such videos were asked for.

    Raises:
        Refusal: there is none.
    """
    if note is not None and options.subtitles_only:
        raise Refusal(Reason.NO_SUBTITLES, note)


def stated_licence(info: Info) -> tuple[str | None, str | None]:
    """The licence as written and as an SPDX identifier; None where none is stated or known.

    The row with the licence and the channel's name come from the same data. Without a name, that
    data could not be read, and a missing licence then means nothing.

    Raises:
        Refusal: that data could not be read.
    """
    if not info.get("channel"):
        raise Refusal(Reason.LICENCE_UNKNOWN, "the page that tells the licence could not be read")
    raw = info.get("license")
    return raw, spdx(raw)


def _licence(info: Info, allow_nc: bool) -> tuple[str, str]:
    """The licence as written and as an SPDX identifier, if it is one that may be taken."""
    raw, licence = stated_licence(info)
    if raw and licence and is_non_commercial(licence):
        if allow_nc:
            return raw, licence
        raise Refusal(Reason.NON_COMMERCIAL, f"its licence is {raw}; --allow-nc takes it")
    if not raw or not licence or not is_open(licence):
        told = f"its licence is {raw}" if raw else "it names no open licence"
        raise Refusal(Reason.NOT_CC, told)
    return raw, licence


def _spoken_language(info: Info) -> str | None:
    """The language of the chosen track, or else that of the original automatic captions."""
    captions = info.get("automatic_captions") or {}
    original = next((key for key in captions if key.endswith("-orig")), None)
    marked = info.get("language") or original
    return base_language(marked) if marked else None


def _choose_subtitles(info: Info, language: str) -> tuple[str | None, str | None]:
    """The key of the human track that transcribes what is said; or None and why there is none.

    Automatic captions are never taken. That the language of the track is the spoken one, and the
    track no translation, has been seen to before.
    """
    wanted = base_language(language)
    keys = [
        key
        for key in info.get("subtitles") or {}
        if key != "live_chat" and base_language(key) == wanted
    ]
    if not keys:
        automatic = {base_language(key) for key in info.get("automatic_captions") or {}}
        note = "only automatic captions" if wanted in automatic else f"no subtitles in {wanted}"
        return None, note
    return min(keys, key=lambda key: (key != language, len(key), key)), None
