"""Creative-Commons videos from YouTube, one at a time, by yt-dlp.

`list_videos` turns playlists, channels and searches into entries and asks for nothing else;
`fetch_video` decides about one of them and brings its media and subtitles. For each video the
order is: extract, licence, choice of subtitles, subtitles, media. What is refused costs two small
requests, and media comes only after everything else has succeeded.

yt-dlp alone does not suffice for a speech corpus. It prefers a dubbed track with the nicer codec;
a licence that could not be read looks like no licence; and an empty subtitle file loses the video.
Known to nobody here: the catalogue. Not done here: decoding, which alone shows whether media is
whole (a truncated body of consistent length counts as a success in any downloader).
"""

import base64
import contextlib
import hashlib
import math
import re
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.sources.licences import is_non_commercial, is_open, spdx
from corpus.subtitles.reader import read_subtitles

Info = dict[str, Any]

SHORT_SECONDS, LONG_SECONDS = 4 * 60, 20 * 60
"""The lengths that a search can tell apart: below 4 minutes, between, above 20 minutes."""

AUDIO_BITRATE_KBPS = 96
"""The original track nearest to this is taken: plenty for 16 kHz, half the traffic of the best."""

REQUEST_PAUSE_S = 0.75
SUBTITLE_PAUSE_S = 5.0
MEDIA_PAUSE_S = (10.0, 20.0)
"""The pauses of yt-dlp's ``-t sleep`` preset. YouTube stops guests at some 300 videos an hour."""

SUBTITLE_TRIES = 5
LONGEST_WAIT_S = 120.0


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
    Reason.NETWORK,
    Reason.EXTRACTOR,
}
"""Worth another try on another day. All others stay as they are until somebody asks again."""

# What yt-dlp or YouTube says, in the order in which it is looked for.
_SIGNS = (
    (Reason.BOT_CHECK, r"not a bot|captcha"),
    (Reason.RATE_LIMITED, r"try again later|rate.?limited|HTTP Error 429|Too Many Requests"),
    (Reason.GEO, r"not made this video available in your country|geo.?restrict"),
    (Reason.AGE, r"confirm your age|age.?restricted|inappropriate for some users"),
    (Reason.LIVE, r"live event|premieres? (in|will)|live stream recording"),
    (Reason.PRIVATE, r"private|members.only|join this channel|requires payment|premium"),
    (Reason.GONE, r"video unavailable|removed|terminated|does not exist|no longer available"),
    (
        Reason.NETWORK,
        r"HTTP Error \d|unable to (download|connect)|timed? ?out|connection|SSL|bytes read",
    ),
    (Reason.NO_MEDIA, r"no video formats|requested format|DRM"),
)

# Around the message proper: yt-dlp's prefix, and its advice on options of its own command line.
_PREFIX = re.compile(r"^(ERROR: )?(\[[\w:]+\] )?([\w-]{11}: )?")
_ADVICE = re.compile(r"; please report|\. (?:Use|See) +(?:--|http)|\. The current session|\n")

# No fault of the video: the next one would fail in the same way.
_DISK = re.compile(
    r"^unable to (create|open|write)|No space left|File too large|Read-only file|disk quota",
    re.IGNORECASE,
)

# Codes of one language: what YouTube may write, and what Whisper writes.
_LANGUAGE_ALIASES = {"iw": "he", "in": "id", "ji": "yi", "jv": "jw", "nb": "no", "fil": "tl"}


class RateLimited(UserError):
    """The site asks for a pause. The run must stop here: whatever follows would fail as well."""


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch.

    `language` is the code of the language that is collected. `rate_limit` is in bytes per second.
    `sleep` keeps the pauses that a public site expects; without them only a site on this machine
    should be asked. With `subtitles_only`, a video without a human transcript is refused; so is
    one shorter than `min_seconds` or longer than `max_seconds`, one under a non-commercial licence
    unless `allow_nc` is set, and everything of the channels whose ids are in `removed_channels`.
    `newest_first` orders what a search finds.
    """

    language: str
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
        return _plain(self.id.partition(":")[2])


def _plain(name: str) -> str:
    """A name from the network as a file name: itself where it is plain, else a hash of it."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:16]


Reader = Callable[[Any, Entry], tuple[Info, str]]
"""Asks a site about a video (with yt-dlp): its data, and the place where its licence is told.

The data has yt-dlp's names, and the meaning they have for YouTube: `license` as written, `channel`
missing where the licence could not be read, `subtitles` made by people, `automatic_captions` not.
"""


def read(ydl: Any, entry: Entry) -> tuple[Info, str]:
    """What YouTube tells about a video; see `Reader`."""
    return extract(ydl, entry.url), f"{entry.url} (row 'License')"


@dataclass(frozen=True)
class Subtitles:
    """A human subtitle track as it came: UTF-8 bytes, its key (``cs``, ``cs-Abc``), srt or vtt."""

    raw: bytes
    language: str
    format: str

    @property
    def file_name(self) -> str:
        """What the file is called, after the video's name."""
        return f"{_plain(self.language)}.{self.format}"


@dataclass(frozen=True)
class Fetched:
    """A video that was taken.

    `language` is the spoken language as far as the site tells it, in the code of the options where
    it is the same. `subtitles_note` says why there
    are no subtitles. `media` is the file as downloaded, in the stage folder; a caller that cannot
    decode it, or finds it shorter than `announced_seconds`, deletes it, and the next fetch starts
    afresh.
    """

    id: str
    url: str
    title: str
    channel: str
    channel_id: str | None
    uploader: str | None
    language: str | None
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


def list_videos(
    urls: Sequence[str],
    search: Sequence[str],
    options: FetchOptions,
    max_videos: int | None = None,
    lister: "Lister | None" = None,
) -> Iterator[Entry]:
    """The videos behind addresses and search words, each once, page after page as they are used.

    An address is a video (also when it names a playlist besides), a playlist, or a channel with
    all its tabs. Private and deleted videos are listed like any other: only `fetch_video` can tell.
    `lister` lists an address at other sites too.

    Raises:
        RateLimited: the site asks for a pause.
        UserError: after all others were listed, for addresses that cannot be.
    """
    sp = search_filter(options)
    lister = lister or listed
    addresses = [(url, True) for url in urls]
    for words in search:
        query = urllib.parse.urlencode({"search_query": words, "sp": sp})
        addresses.append((f"https://www.youtube.com/results?{query}", False))
    seen: set[str] = set()
    failures: list[str] = []
    for url, follow in addresses:
        log = _Log()
        with _downloader(options, log) as ydl, _trouble(log, url) as trouble:
            for entry in lister(ydl, url, follow):
                if entry.id not in seen:
                    seen.add(entry.id)
                    yield entry
                if max_videos is not None and len(seen) >= max_videos:
                    return
        if trouble:
            failures.append(f"{url} ({trouble[0].message})")
    if failures:
        raise UserError(f"cannot list {'; '.join(failures)}; check the address and the network")


def check_cookies(path: Path) -> None:
    """See that a file of cookies can be read.

    Raises:
        UserError: it is absent or in another format.
    """
    from http.cookiejar import LoadError

    from yt_dlp.cookies import YoutubeDLCookieJar

    try:
        YoutubeDLCookieJar(str(path)).load()
    except (OSError, UnicodeDecodeError, LoadError):
        raise UserError(
            f"{path} holds no cookies; export them from a browser in Netscape format (cookies.txt)"
        ) from None


def search_filter(options: FetchOptions) -> str:
    """The ``sp`` parameter of a search: base64 of a protobuf message.

    Field 1 is the order (2: newest first); field 2 holds the filters: 2 type (1: video), 3 length
    (1 short, 2 long, 3 between), 5 subtitles, 6 Creative Commons. All that is only a hint: YouTube
    returns others too.
    """
    least, most = options.min_seconds or 0.0, options.max_seconds or math.inf
    filters = [0x10, 1]
    if most < SHORT_SECONDS:
        filters += [0x18, 1]
    elif least > LONG_SECONDS:
        filters += [0x18, 2]
    elif least >= SHORT_SECONDS and most <= LONG_SECONDS:
        filters += [0x18, 3]
    if options.subtitles_only:
        filters += [0x28, 1]
    filters += [0x30, 1]
    order = [0x08, 2] if options.newest_first else []
    return base64.b64encode(bytes([*order, 0x12, len(filters), *filters])).decode()


def preview_video(entry: Entry, options: FetchOptions, reader: Reader = read) -> Preview | Refused:
    """Say whether `fetch_video` would take a video; asks for its pages and writes nothing.

    Raises:
        RateLimited: the site asks for a pause.
    """
    if message := _wrong_length(entry.seconds, options):
        return Refused(entry.id, entry.url, Reason.DURATION, message)
    log = _Log()
    outcome: Preview | Refused
    with _downloader(options, log) as ydl, _trouble(log, entry.url) as trouble:
        info, _ = reader(ydl, entry)
        decided = _decide(info, options)
        _need_subtitles(decided.subtitles_note, options)
        outcome = Preview(
            id=entry.id,
            url=entry.url,
            title=info["title"],
            channel=info["channel"],
            licence=decided.licence,
            seconds=info.get("duration"),
            subtitles=decided.subtitles,
            subtitles_note=decided.subtitles_note,
        )
    if trouble:
        outcome = Refused(entry.id, entry.url, trouble[0].reason, trouble[0].message)
    if options.sleep:
        time.sleep(MEDIA_PAUSE_S[0])
    return outcome


def read_licence(entry: Entry, options: FetchOptions, reader: Reader = read) -> Stated | Refused:
    """Ask for the licence of a video alone; refused is one that is gone or cannot be asked for.

    Raises:
        RateLimited: the site asks for a pause.
    """
    log = _Log()
    outcome: Stated | Refused
    with _downloader(options, log) as ydl, _trouble(log, entry.url) as trouble:
        info, place = reader(ydl, entry)
        outcome = Stated(place, *_stated_licence(info))
    if trouble:
        outcome = Refused(entry.id, entry.url, trouble[0].reason, trouble[0].message)
    if options.sleep:
        time.sleep(MEDIA_PAUSE_S[0])
    return outcome


def fetch_video(
    entry: Entry, options: FetchOptions, stage: Path, reader: Reader = read
) -> Fetched | Refused:
    """Fetch one video into its own folder in `stage`, or say why not.

    `reader` asks another site than YouTube about it. A download that was cut off goes on where it
    stopped when the same `stage` is given again.

    Raises:
        RateLimited: the site asks for a pause; nothing is known about this video.
        UserError: the stage folder cannot be written to.
    """
    if message := _wrong_length(entry.seconds, options):  # known from the listing: costs nothing
        return Refused(entry.id, entry.url, Reason.DURATION, message)
    log = _Log()
    folder = stage / entry.file_name
    with _downloader(options, log, folder) as ydl, _trouble(log, entry.url) as trouble:
        return _fetch(ydl, entry, options, folder, reader)
    if options.sleep:  # a refused video has cost the site as much as any other
        time.sleep(MEDIA_PAUSE_S[0])
    return Refused(entry.id, entry.url, trouble[0].reason, trouble[0].message)


class _Refusal(Exception):
    """Leaves `_fetch`; carries what becomes a `Refused`."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class _Log:
    """yt-dlp's logger: keeps warnings, since some causes are told nowhere else."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        """Nothing: ordinary messages come here too."""

    def warning(self, message: str) -> None:
        """Keep it for the classification of a failure."""
        self.warnings.append(message)

    def error(self, message: str) -> None:
        """Nothing: errors come as exceptions."""


def _downloader(options: FetchOptions, log: _Log, stage: Path | None = None) -> Any:
    import yt_dlp

    ydl = yt_dlp.YoutubeDL(ydl_options(options, stage) | {"logger": log})
    _read_british(ydl)
    return ydl


def _read_british(ydl: Any) -> None:
    """Let yt-dlp see the row 'Licence', the British name of the one that it reads, 'License'.

    It asks for an American page, and does not always get one. The row stands in data that it keeps
    to itself, so the row is renamed there, on its way; what the row says stays as it is. A version
    that reads its data in another way is left alone.
    """
    extractor = ydl.get_info_extractor("Youtube")
    original = getattr(extractor, "_download_initial_data", None)
    if original is None:
        return
    path = (
        *("contents", "twoColumnWatchNextResults", "results", "results", "contents", ...),
        *("videoSecondaryInfoRenderer", "metadataRowContainer", "metadataRowContainerRenderer"),
        *("rows", ..., "metadataRowRenderer", "title", ("runs", None), ..., {dict}),
    )

    def renamed(*arguments: Any, **more: Any) -> Any:
        from yt_dlp.utils import traverse_obj

        data = original(*arguments, **more)
        for title in traverse_obj(data, path):
            if title.get("text") == "Licence":
                title["text"] = "License"
        return data

    extractor._download_initial_data = renamed


def ydl_options(options: FetchOptions, stage: Path | None = None) -> dict[str, Any]:
    """The options for `yt_dlp.YoutubeDL`, which takes unknown names without a word."""
    chosen: dict[str, Any] = {
        "color": "no_color",
        "noprogress": True,
        "cachedir": False,
        # No title in a file name: it may be too long. The format must be in it: yt-dlp would
        # continue a file of one format with the bytes of another.
        "outtmpl": {"default": "media.%(format_id)s.%(ext)s"},
        "format": "bestaudio/worst[acodec!=?none]",
        "format_sort": ["lang", f"abr~{AUDIO_BITRATE_KBPS}"],  # the original before any dub
        "fixup": "never",
        "overwrites": False,
        "noplaylist": True,
        "retries": 10,
        "extractor_retries": 3,
        "socket_timeout": 20,
        "retry_sleep_functions": dict.fromkeys(
            ("http", "extractor"), lambda n: _backoff(n) if options.sleep else 0
        ),
        "js_runtimes": {"deno": {}, "node": {}, "bun": {}, "quickjs": {}},
        "proxy": options.proxy,
        "nocheckcertificate": not options.check_certificate,
        "ratelimit": options.rate_limit,
        "cookiefile": str(options.cookies) if options.cookies else None,
    }
    if stage is not None:
        chosen["paths"] = {"home": str(stage)}
    if options.sleep:
        shortest, longest = MEDIA_PAUSE_S
        chosen |= {
            "sleep_interval_requests": REQUEST_PAUSE_S,
            "sleep_interval": shortest,
            "max_sleep_interval": longest,
        }
    return chosen


def _backoff(n: int) -> float:
    """Seconds before the retry after failure `n` (from 0): 2, 4, 8, ... at most two minutes."""
    return min(2.0 ** (n + 1), LONGEST_WAIT_S)


@contextlib.contextmanager
def _trouble(log: _Log, url: str) -> Iterator[list[_Refusal]]:
    """Turn whatever yt-dlp raises about `url` into one `_Refusal`, or into `RateLimited`."""
    from yt_dlp.networking.exceptions import RequestError
    from yt_dlp.utils import YoutubeDLError

    trouble: list[_Refusal] = []
    try:
        yield trouble
    except _Refusal as refusal:
        trouble.append(refusal)
    except (YoutubeDLError, RequestError) as error:
        trouble.append(_classified(str(error), log.warnings))
    if trouble and trouble[0].reason in {Reason.RATE_LIMITED, Reason.BOT_CHECK}:
        raise RateLimited(
            f"{urllib.parse.urlsplit(url).hostname} limits this address ({trouble[0].message}); "
            "wait an hour and run the same command again: it goes on where it stopped"
        )


def _classified(message: str, warnings: Iterable[str]) -> _Refusal:
    """The class of a failure by what was said about it.

    When the player call is answered with 429, yt-dlp swallows that as a warning and then finds no
    formats: hence the warnings count wherever the error itself says no more than that.
    """
    text = _ADVICE.split(_PREFIX.sub("", message))[0]
    text = " ".join(text.split())
    if _DISK.search(text):
        raise UserError(f"{text}; make room, or check the folder, and run the same command again")
    reason = _sign(text)
    if reason in {None, Reason.NO_MEDIA, Reason.NETWORK}:
        for warning in warnings:
            if _sign(warning) in {Reason.RATE_LIMITED, Reason.BOT_CHECK}:
                return _Refusal(Reason.RATE_LIMITED, "HTTP Error 429: Too Many Requests")
    if reason is None:
        import yt_dlp

        version = yt_dlp.version.__version__
        return _Refusal(Reason.EXTRACTOR, f"{text} (yt-dlp {version}; a newer one may know more)")
    return _Refusal(reason, text)


def _sign(text: str) -> Reason | None:
    return next((r for r, pattern in _SIGNS if re.search(pattern, text, re.IGNORECASE)), None)


Lister = Callable[[Any, str, bool], Iterator[Entry]]


def video_id(url: str) -> str | None:
    """The id (``youtube:ID``) of the video at an address; None where it is no video's address."""
    from yt_dlp.extractor import get_info_extractor

    extractor = get_info_extractor("Youtube")
    # yt-dlp takes eleven bare characters for a video too.
    known = "://" in url and extractor.suitable(url)
    return f"youtube:{extractor.get_temp_id(url)}" if known else None


def listed(ydl: Any, url: str, follow: bool) -> Iterator[Entry]:
    """The videos at an address, without asking for any of them.

    Unprocessed results page lazily: the next page is asked for when its first entry is wanted.
    `follow` says whether playlists among the entries are entered too.
    """
    if video := video_id(url):
        yield _entry(video.removeprefix("youtube:"), None)
    else:
        result = extract(ydl, url, process=False)
        yield from _flattened(ydl, result, follow)


def _flattened(ydl: Any, result: Info, follow: bool) -> Iterator[Entry]:
    if result.get("ie_key") == "Youtube":
        yield _entry(result["id"], result.get("title"), result.get("duration"))
    elif result.get("_type") == "playlist":
        for item in result["entries"]:
            if follow or item.get("ie_key") == "Youtube":
                yield from _flattened(ydl, item, follow)
    elif url := result.get("url"):
        yield from listed(ydl, url, follow)


def extract(ydl: Any, url: str, *, process: bool = True) -> Info:
    """What yt-dlp finds at an address.

    When the site changes, an extractor may stumble over what it did not expect. That is told like
    any other failure of yt-dlp, so that it ends this video and not the run.
    """
    from yt_dlp.utils import YoutubeDLError

    try:
        info: Info = ydl.extract_info(url, download=False, process=process)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise YoutubeDLError(f"{type(error).__name__}: {error}") from error
    return info


def _entry(video: str, title: str | None, seconds: float | None = None) -> Entry:
    return Entry(f"youtube:{video}", f"https://www.youtube.com/watch?v={video}", title, seconds)


def _wrong_length(seconds: float | None, options: FetchOptions) -> str | None:
    """Why a length (s) is not wanted. The limits stand at the end, so that others ask again."""
    least, most = options.min_seconds or 0.0, options.max_seconds or math.inf
    if seconds is None or least <= seconds <= most:
        return None
    return f"it is {seconds:.0f} s long; wanted: {options.wanted_length}"


@dataclass(frozen=True)
class _Decided:
    """What the pages of a video that may be taken say."""

    licence_raw: str
    licence: str
    subtitles: str | None
    subtitles_note: str | None


def _decide(info: Info, options: FetchOptions) -> _Decided:
    """Everything that can be decided before subtitles and media are asked for."""
    if info.get("channel_id") in options.removed_channels:
        raise _Refusal(Reason.REMOVED, "its channel was taken down here (`corpus remove`)")
    raw, licence = _licence(info, options.allow_nc)
    if info.get("live_status") in {"is_live", "is_upcoming", "post_live"}:
        raise _Refusal(Reason.LIVE, "it is a live stream that is not yet a recording")
    if message := _wrong_length(info.get("duration"), options):
        raise _Refusal(Reason.DURATION, message)
    return _Decided(raw, licence, *_choose_subtitles(info, options.language))


def _need_subtitles(note: str | None, options: FetchOptions) -> None:
    """Refuse a video that has no human transcript, where one was asked for."""
    if note is not None and options.subtitles_only:
        raise _Refusal(Reason.NO_SUBTITLES, note)


def _fetch(ydl: Any, entry: Entry, options: FetchOptions, folder: Path, reader: Reader) -> Fetched:
    info, licence_place = reader(ydl, entry)
    decided = _decide(info, options)
    subtitles, note = None, decided.subtitles_note
    spoken = _spoken_language(info)
    if key := decided.subtitles:
        subtitles, note = _fetch_subtitles(ydl, key, info["subtitles"][key], options)
    _need_subtitles(note, options)
    media = _fetch_media(ydl, info, folder, lambda: reader(ydl, entry)[0])
    return Fetched(
        id=entry.id,
        url=entry.url,
        title=info["title"],
        channel=info["channel"],
        channel_id=info.get("channel_id"),
        uploader=info.get("uploader_id"),
        language=options.language if spoken == _language(options.language) else spoken,
        licence_raw=decided.licence_raw,
        licence=decided.licence,
        licence_evidence=evidence(licence_place),
        media=media,
        announced_seconds=info.get("duration"),
        subtitles=subtitles,
        subtitles_note=note,
    )


def _stated_licence(info: Info) -> tuple[str | None, str | None]:
    """The licence as written and as an SPDX identifier; None where none is stated or known.

    The row with the licence and the channel's name come from the same data. Without a name, that
    data could not be read, and a missing licence then means nothing.
    """
    if not info.get("channel"):
        raise _Refusal(Reason.LICENCE_UNKNOWN, "the page that tells the licence could not be read")
    raw = info.get("license")
    return raw, spdx(raw)


def _licence(info: Info, allow_nc: bool) -> tuple[str, str]:
    """The licence as written and as an SPDX identifier, if it is one that may be taken."""
    raw, licence = _stated_licence(info)
    if raw and licence and is_non_commercial(licence):
        if allow_nc:
            return raw, licence
        raise _Refusal(Reason.NON_COMMERCIAL, f"its licence is {raw}; --allow-nc takes it")
    if not raw or not licence or not is_open(licence):
        told = f"its licence is {raw}" if raw else "it names no open licence"
        raise _Refusal(Reason.NOT_CC, told)
    return raw, licence


def evidence(place: str) -> dict[str, str]:
    """Where, when (UTC) and by what a licence was read just now."""
    import yt_dlp

    return {
        "where": place,
        "when": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "reader": f"yt-dlp {yt_dlp.version.__version__}",
    }


def _language(key: str) -> str:
    """The language of a key such as ``pt-BR``, ``cs-Abc`` or ``iw``, one code for each."""
    primary = key.partition("-")[0].casefold()
    return _LANGUAGE_ALIASES.get(primary, primary)


def _spoken_language(info: Info) -> str | None:
    """The language of the chosen track, or else that of the original automatic captions."""
    captions = info.get("automatic_captions") or {}
    original = next((key for key in captions if key.endswith("-orig")), None)
    marked = info.get("language") or original
    return _language(marked) if marked else None


def _choose_subtitles(info: Info, language: str) -> tuple[str | None, str | None]:
    """The key of the human track that transcribes what is said; or None and why there is none.

    Automatic captions are never taken, nor subtitles in another language than the spoken one:
    those are a translation. Where the site does not tell what is spoken, the track is taken.
    """
    wanted, spoken = _language(language), _spoken_language(info)
    keys = [
        key
        for key in info.get("subtitles") or {}
        if key != "live_chat" and _language(key) == wanted
    ]
    if not keys:
        automatic = {_language(key) for key in info.get("automatic_captions") or {}}
        note = "only automatic captions" if wanted in automatic else f"no subtitles in {wanted}"
        return None, note
    if spoken not in {None, wanted}:
        return None, f"the subtitles in {wanted} are a translation: {spoken} is spoken"
    return min(keys, key=lambda key: (key != language, len(key), key)), None


def _fetch_subtitles(
    ydl: Any, key: str, formats: list[Info], options: FetchOptions
) -> tuple[Subtitles | None, str | None]:
    """The track's text, or a note why it cannot be used.

    yt-dlp gives up on the whole video at the first 429 here, so this is done by its connection
    but with own patience. An empty answer counts as a failure: a human track is never empty.
    """
    tracks = {track["ext"]: track for track in formats}
    kind = next((kind for kind in ("srt", "vtt") if kind in tracks), None)
    if kind is None:
        return None, f"the subtitles in {key} come in no known format"
    if options.sleep:
        time.sleep(SUBTITLE_PAUSE_S)
    body = _patient_get(ydl, tracks[kind], options)
    if body is None:
        return None, f"the subtitles in {key} are announced but missing"
    if not read_subtitles(body).items:
        return None, f"the subtitles in {key} hold no readable cue"
    return Subtitles(body, key, kind), None


def _patient_get(ydl: Any, track: Info, options: FetchOptions) -> bytes | None:
    """The body of a track; None where the server says that there is nothing (404, 410).

    Tried again after 429, 5xx, broken connections and empty answers.
    """
    from yt_dlp.networking import Request
    from yt_dlp.networking.exceptions import HTTPError, TransportError

    said = ""
    for attempt in range(SUBTITLE_TRIES):
        wait = _backoff(attempt) if options.sleep else 0.0
        try:
            request = Request(track["url"], headers=track.get("http_headers") or {})
            body: bytes = ydl.urlopen(request).read()
            if body.strip():
                return body
            said = "the answer was empty"
        except HTTPError as error:
            if error.status in {404, 410}:
                return None
            if error.status not in {429, *range(500, 600)}:
                raise _Refusal(Reason.SUBTITLES_FAILED, f"subtitles: {error}") from None
            said = str(error)
            asked = error.response.headers.get("Retry-After", "")
            wait = max(wait, float(asked)) if asked.isdecimal() else wait
        except TransportError as error:
            said = str(error)
        if wait > LONGEST_WAIT_S:
            break
        if attempt + 1 < SUBTITLE_TRIES:
            time.sleep(wait)
    limited = _sign(said) == Reason.RATE_LIMITED
    raise _Refusal(
        Reason.RATE_LIMITED if limited else Reason.SUBTITLES_FAILED, f"subtitles: {said}"
    )


def _fetch_media(ydl: Any, info: Info, folder: Path, anew: Callable[[], Info]) -> Path:
    """Download the chosen format. A refused address (403) is asked for `anew`, once.

    So is a partial file that is longer than the whole (416): yt-dlp would ask for the bytes behind
    its end again and again, so that file is deleted first.
    """
    from yt_dlp.utils import DownloadError

    try:
        done = ydl.process_ie_result(info, download=True)
    except DownloadError as error:
        if not re.search(r"HTTP Error (403|416)", str(error)):
            raise
        for part in folder.glob("*.part"):
            part.unlink()
        done = ydl.process_ie_result(anew(), download=True)
    for download in done.get("requested_downloads") or ():
        path = Path(download.get("filepath") or "")
        if path.is_file():
            return path
    raise _Refusal(Reason.NO_MEDIA, "no audio was downloaded")
