"""Every place that videos come from: which module knows it, and how its videos are named.

YouTube, Wikimedia Commons and PeerTube are known well. Of any other site that yt-dlp knows, a video
is taken if its licence field names an open licence.
"""

import re
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.sources import commons, peertube, youtube, ytdlp
from corpus.sources.video import (
    Entry,
    Fetched,
    FetchOptions,
    Info,
    Preview,
    Reader,
    Refused,
    Stated,
)

_OWNERS = ("channel", "uploader", "creator", "artist")

READERS: dict[str, Reader] = {
    "youtube": youtube.read,
    "commons": commons.read,
    "peertube": peertube.read,
}


def list_videos(
    urls: Sequence[str],
    search: Sequence[str],
    options: FetchOptions,
    max_videos: int | None = None,
) -> Iterator[Entry]:
    """The videos behind addresses at any site, and behind search words at YouTube, each once.

    Raises:
        RateLimited: a site asks for a pause.
        UserError: for an address that no site here has, before anything is asked; for addresses
            that cannot be listed, after all others were.
    """
    urls = [f"https://www.youtube.com/{url}" if url.startswith("@") else url for url in urls]
    for url in urls:
        if not (_is_youtube(url) or commons.page(url) or peertube.entry(url) or _extractor(url)):
            raise UserError(
                f"{url} is at no site that tells its licences; download it yourself and use "
                "`corpus add`"
            )
    addresses = [(url, True) for url in urls]
    addresses += [(youtube.search_url(words, options), False) for words in search]
    yield from ytdlp.list_videos(addresses, options, _listed, max_videos)


def fetch_video(entry: Entry, options: FetchOptions, stage: Path) -> Fetched | Refused:
    """Fetch one video of any site; see `ytdlp.fetch_video`."""
    return ytdlp.fetch_video(entry, options, stage, READERS.get(entry.site, _read))


def preview_video(entry: Entry, options: FetchOptions) -> Preview | Refused:
    """Look at one video of any site; see `ytdlp.preview_video`."""
    return ytdlp.preview_video(entry, options, READERS.get(entry.site, _read))


def read_licence(entry: Entry, options: FetchOptions) -> Stated | Refused:
    """Ask for the licence of one video of any site; see `ytdlp.read_licence`."""
    return ytdlp.read_licence(entry, options, READERS.get(entry.site, _read))


def video_id(url: str) -> str | None:
    """The id of the video at an address; None where the address alone does not tell it."""
    if _is_youtube(url):
        return youtube.video_id(url)
    video = _video(url)
    return video.id if video else None


def _is_youtube(url: str) -> bool:
    try:
        host = urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        raise UserError(f"{url} is no address; correct it") from None
    return re.fullmatch(r"(.+\.)?youtube\.com|youtu\.be", host) is not None


def _extractor(url: str) -> Any | None:
    """The class of yt-dlp's that knows an address; None where only its guess at any page would."""
    from yt_dlp.extractor import gen_extractor_classes

    if not re.match(r"https?://", url):
        return None
    known = (kind for kind in gen_extractor_classes() if kind.ie_key() != "Generic")
    return next((kind for kind in known if kind.suitable(url)), None)


def _listed(ydl: Any, url: str, follow: bool) -> Iterator[Entry]:
    if _is_youtube(url):
        yield from youtube.listed(ydl, url, follow)
    elif video := _video(url):
        yield video
    elif page := commons.page(url):
        yield from commons.in_category(ydl, page)
    elif _extractor(url):
        yield from _unfolded(ydl, ytdlp.extract(ydl, url, process=False), url)


def _video(url: str) -> Entry | None:
    """The video at an address elsewhere, where the address alone tells which one it is."""
    if video := commons.entry(url) or peertube.entry(url):
        return video
    kind = _extractor(url)
    name = kind.get_temp_id(url) if kind and kind.is_single_video(url) else None
    return Entry(f"{kind.ie_key().lower()}:{name}", url, None) if kind and name else None


def _unfolded(ydl: Any, found: Info, url: str) -> Iterator[Entry]:
    """The videos in what yt-dlp found at `url`: one, a list, or where to look for it."""
    match found.get("_type", "video"):
        case "playlist" | "multi_video":
            for item in found["entries"]:
                yield from _unfolded(ydl, item, item.get("webpage_url") or url)
        case "url" | "url_transparent":
            yield from _listed(ydl, found["url"], True)
        case "video" if found.get("extractor_key"):
            yield Entry(f"{found['extractor_key'].lower()}:{found['id']}", url, found.get("title"))


def _read(ydl: Any, entry: Entry) -> tuple[Info, str]:
    """What any other site tells about a video; see `video.Reader`."""
    info = ytdlp.extract(ydl, entry.url)
    if info.get("_type", "video") != "video":
        info = {}  # without a channel its licence counts as unknown
    else:
        owner = info.get("channel_id") or info.get("uploader_id") or info["id"]
        info |= {
            "channel": next((info[k] for k in _OWNERS if info.get(k)), info["extractor"]),
            "channel_id": f"{entry.site}:{owner}",
        }
    return info, f"{entry.url} (licence field of yt-dlp's {info.get('extractor')})"
