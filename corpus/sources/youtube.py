"""YouTube: addresses, playlists, channels and searches, and the page that tells a licence."""

import base64
import math
import urllib.parse
from collections.abc import Iterator
from typing import Any

from corpus.sources.video import Entry, FetchOptions, Info
from corpus.sources.ytdlp import extract

SHORT_SECONDS, LONG_SECONDS = 4 * 60, 20 * 60
"""The lengths that a search can tell apart: below 4 minutes, between, above 20 minutes."""


def read(ydl: Any, entry: Entry) -> tuple[Info, str]:
    """What YouTube tells about a video; see `video.Reader`."""
    _read_british(ydl)
    return extract(ydl, entry.url), f"{entry.url} (row 'License')"


def search_url(words: str, options: FetchOptions) -> str:
    """The address of the results of a search."""
    query = urllib.parse.urlencode({"search_query": words, "sp": search_filter(options)})
    return f"https://www.youtube.com/results?{query}"


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


def _entry(video: str, title: str | None, seconds: float | None = None) -> Entry:
    return Entry(f"youtube:{video}", f"https://www.youtube.com/watch?v={video}", title, seconds)
