"""What is asked of a site through yt-dlp: pages, subtitles and media, one video at a time.

For each video the order is: pages, licence, choice of subtitles, subtitles, media. What is refused
costs two small requests, and media comes only after everything else has succeeded.

yt-dlp alone does not suffice for a speech corpus. It prefers a dubbed track with the nicer codec;
a licence that could not be read looks like no licence; and an empty subtitle file loses the video.
Known to nobody here: the catalogue. Not done here: decoding, which alone shows whether media is
whole (a truncated body of consistent length counts as a success in any downloader).
"""

import contextlib
import re
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.sources.video import (
    Entry,
    Fetched,
    FetchOptions,
    Info,
    Preview,
    RateLimited,
    Reader,
    Reason,
    Refusal,
    Refused,
    Stated,
    Subtitles,
    decide,
    need_subtitles,
    stated_licence,
    wrong_length,
)
from corpus.subtitles.reader import read_subtitles

AUDIO_BITRATE_KBPS = 96
"""The original track nearest to this is taken: plenty for 16 kHz, half the traffic of the best."""

REQUEST_PAUSE_S = 0.75
SUBTITLE_PAUSE_S = 5.0
MEDIA_PAUSE_S = (10.0, 20.0)
"""The pauses of yt-dlp's ``-t sleep`` preset. YouTube stops guests at some 300 videos an hour."""

SUBTITLE_FORMATS = ("srt", "vtt", "ttml", "dfxp")
"""Those that are read here, the best first: YouTube's .srt has no times inside the text."""

SUBTITLE_TRIES = 5
LONGEST_WAIT_S = 120.0

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


Lister = Callable[[Any, str, bool], Iterator[Entry]]
"""Lists, with yt-dlp, the videos at an address; the flag says whether to enter playlists in it."""


def list_videos(
    addresses: Sequence[tuple[str, bool]],
    options: FetchOptions,
    lister: Lister,
    max_videos: int | None = None,
) -> Iterator[Entry]:
    """The videos behind addresses, each once, page after page as they are used.

    Beside each address stands whether playlists among what it lists are entered too. Private and
    deleted videos are listed like any other: only `fetch_video` can tell.

    Raises:
        RateLimited: the site asks for a pause.
        UserError: after all others were listed, for addresses that cannot be.
    """
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


def preview_video(entry: Entry, options: FetchOptions, reader: Reader) -> Preview | Refused:
    """Say whether `fetch_video` would take a video; asks for its pages and writes nothing.

    Raises:
        RateLimited: the site asks for a pause.
    """
    if message := wrong_length(entry.seconds, options):
        return Refused(entry.id, entry.url, Reason.DURATION, message)
    log = _Log()
    outcome: Preview | Refused
    with _downloader(options, log) as ydl, _trouble(log, entry.url) as trouble:
        info, _ = reader(ydl, entry)
        decided = decide(info, options)
        need_subtitles(decided.subtitles_note, options)
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


def read_licence(entry: Entry, options: FetchOptions, reader: Reader) -> Stated | Refused:
    """Ask for the licence of a video alone; refused is one that is gone or cannot be asked for.

    Raises:
        RateLimited: the site asks for a pause.
    """
    log = _Log()
    outcome: Stated | Refused
    with _downloader(options, log) as ydl, _trouble(log, entry.url) as trouble:
        info, place = reader(ydl, entry)
        outcome = Stated(place, *stated_licence(info))
    if trouble:
        outcome = Refused(entry.id, entry.url, trouble[0].reason, trouble[0].message)
    if options.sleep:
        time.sleep(MEDIA_PAUSE_S[0])
    return outcome


def fetch_video(
    entry: Entry, options: FetchOptions, stage: Path, reader: Reader
) -> Fetched | Refused:
    """Fetch one video into its own folder in `stage`, or say why not.

    `reader` asks its site about it. A download that was cut off goes on where it
    stopped when the same `stage` is given again.

    Raises:
        RateLimited: the site asks for a pause; nothing is known about this video.
        UserError: the stage folder cannot be written to.
    """
    if message := wrong_length(entry.seconds, options):  # known from the listing: costs nothing
        return Refused(entry.id, entry.url, Reason.DURATION, message)
    log = _Log()
    folder = stage / entry.file_name
    with _downloader(options, log, folder) as ydl, _trouble(log, entry.url) as trouble:
        return _fetch(ydl, entry, options, folder, reader)
    if options.sleep:  # a refused video has cost the site as much as any other
        time.sleep(MEDIA_PAUSE_S[0])
    return Refused(entry.id, entry.url, trouble[0].reason, trouble[0].message)


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

    return yt_dlp.YoutubeDL(ydl_options(options, stage) | {"logger": log})


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
def _trouble(log: _Log, url: str) -> Iterator[list[Refusal]]:
    """Turn whatever goes wrong with `url` into one `Refusal`, or into `RateLimited`."""
    from yt_dlp.networking.exceptions import RequestError
    from yt_dlp.utils import YoutubeDLError

    trouble: list[Refusal] = []
    try:
        yield trouble
    except Refusal as refusal:
        trouble.append(refusal)
    except (YoutubeDLError, RequestError) as error:
        trouble.append(_classified(str(error), log.warnings))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # When a site changes, a reader may stumble over what it did not expect; that ends this
        # video and not the run.
        trouble.append(_classified(f"{type(error).__name__}: {error}", log.warnings))
    if trouble and trouble[0].reason in {Reason.RATE_LIMITED, Reason.BOT_CHECK}:
        raise RateLimited(
            f"{urllib.parse.urlsplit(url).hostname} limits this address ({trouble[0].message}); "
            "wait an hour and run the same command again: it goes on where it stopped"
        )


def _classified(message: str, warnings: Iterable[str]) -> Refusal:
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
                return Refusal(Reason.RATE_LIMITED, "HTTP Error 429: Too Many Requests")
    if reason is None:
        import yt_dlp

        version = yt_dlp.version.__version__
        return Refusal(Reason.EXTRACTOR, f"{text} (yt-dlp {version}; a newer one may know more)")
    return Refusal(reason, text)


def _sign(text: str) -> Reason | None:
    return next((r for r, pattern in _SIGNS if re.search(pattern, text, re.IGNORECASE)), None)


def extract(ydl: Any, url: str, *, process: bool = True) -> Info:
    """What yt-dlp finds at an address."""
    info: Info = ydl.extract_info(url, download=False, process=process)
    return info


def _fetch(ydl: Any, entry: Entry, options: FetchOptions, folder: Path, reader: Reader) -> Fetched:
    info, licence_place = reader(ydl, entry)
    decided = decide(info, options)
    subtitles, note = None, decided.subtitles_note
    if key := decided.subtitles:
        subtitles, note = _fetch_subtitles(ydl, key, info["subtitles"][key], options)
    need_subtitles(note, options)
    media = _fetch_media(ydl, info, folder, lambda: reader(ydl, entry)[0])
    return Fetched(
        id=entry.id,
        url=entry.url,
        title=info["title"],
        channel=info["channel"],
        channel_id=info.get("channel_id"),
        uploader=info.get("uploader_id"),
        language=options.language,
        licence_raw=decided.licence_raw,
        licence=decided.licence,
        licence_evidence=evidence(licence_place),
        media=media,
        announced_seconds=info.get("duration"),
        subtitles=subtitles,
        subtitles_note=note,
    )


def evidence(place: str) -> dict[str, str]:
    """Where, when (UTC) and by what a licence was read just now."""
    import yt_dlp

    return {
        "where": place,
        "when": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "reader": f"yt-dlp {yt_dlp.version.__version__}",
    }


def _fetch_subtitles(
    ydl: Any, key: str, formats: list[Info], options: FetchOptions
) -> tuple[Subtitles | None, str | None]:
    """The track's text, or a note why it cannot be used.

    yt-dlp gives up on the whole video at the first 429 here, so this is done by its connection
    but with own patience. An empty answer counts as a failure: a human track is never empty.
    """
    tracks = {track["ext"]: track for track in formats}
    kind = next((kind for kind in SUBTITLE_FORMATS if kind in tracks), None)
    if kind is None:
        return None, f"the subtitles in {key} come in no known format"
    if options.sleep:
        time.sleep(SUBTITLE_PAUSE_S)
    body = _patient_get(ydl, tracks[kind], options)
    if body is None:
        return None, f"the subtitles in {key} are announced but missing"
    if not read_subtitles(body).items:
        return None, f"the subtitles in {key} hold no readable cue"
    track = tracks[kind]
    return Subtitles(body, key, kind, track.get("name") or "", track["url"]), None


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
                raise Refusal(Reason.SUBTITLES_FAILED, f"subtitles: {error}") from None
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
    raise Refusal(Reason.RATE_LIMITED if limited else Reason.SUBTITLES_FAILED, f"subtitles: {said}")


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
    raise Refusal(Reason.NO_MEDIA, "no audio was downloaded")
