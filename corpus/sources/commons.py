"""Wikimedia Commons: free media with full licence names and subtitles that people wrote.

yt-dlp knows the files and their TimedText. The address of the licence and the author are read from
the MediaWiki API here, and categories are listed by it.
"""

import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

from corpus.sources.licences import spdx
from corpus.sources.video import Entry, Info
from corpus.sources.ytdlp import extract

HOST = "commons.wikimedia.org"
API = f"https://{HOST}/w/api.php"

MEDIA = re.compile(r"(?i).+\.(flac|mp3|mpe?g|og[agv]|opus|wav|webm)")


def page(url: str) -> str | None:
    """The page at an address, if it is a file or a category, such as ``Category:Speeches``."""
    parts = urllib.parse.urlsplit(url)
    name = urllib.parse.unquote(parts.path).removeprefix("/wiki/").replace(" ", "_")
    known = parts.hostname in {HOST, "commons.m.wikimedia.org"}
    return name if known and re.match(r"(File|Category):.", name) else None


def entry(url: str) -> Entry | None:
    """The file at an address; None for any other address."""
    kind, _, name = (page(url) or "").partition(":")
    return _entry(name) if kind == "File" else None


def _entry(name: str) -> Entry:
    """The file of that name. MediaWiki makes the first letter a capital."""
    name = name[0].upper() + name[1:].replace(" ", "_")
    return Entry(f"commons:{name}", f"https://{HOST}/wiki/File:{urllib.parse.quote(name)}", None)


def in_category(ydl: Any, category: str) -> Iterator[Entry]:
    """The category's own files, page after page; not those of the categories within it."""
    query = {"list": "categorymembers", "cmtitle": category, "cmtype": "file", "cmlimit": "500"}
    more: dict[str, str] | None = {}
    while more is not None:
        answer = _asked(ydl, {**query, **more})
        for member in answer["query"]["categorymembers"]:
            name = member["title"].removeprefix("File:")
            if MEDIA.fullmatch(name):
                yield _entry(name)
        more = answer.get("continue")


def read(ydl: Any, entry: Entry) -> tuple[Info, str]:
    """What Commons tells about a file; see `video.Reader`."""
    from yt_dlp.utils import YoutubeDLError

    title = "File:" + entry.id.partition(":")[2]
    answer = _asked(ydl, {"titles": title, "prop": "imageinfo", "iiprop": "extmetadata"})
    (page,) = answer["query"]["pages"]
    if "imageinfo" not in page:
        raise YoutubeDLError(f"{title} does not exist")
    metadata = page["imageinfo"][0]["extmetadata"]
    names = ("LicenseUrl", "UsageTerms", "LicenseShortName")
    told = {name: metadata[name]["value"] for name in names if name in metadata}
    # The address is the most exact; public domain has none.
    name = next((name for name in told if spdx(told[name])), "UsageTerms")
    author = _plain(metadata.get("Artist", {}).get("value", ""))
    info = extract(ydl, entry.url)
    info |= {
        "license": told.get(name),
        "channel": author or info.get("uploader"),
        "channel_id": f"commons:{info.get('uploader')}",
        "automatic_captions": {},
    }
    return info, f"{entry.url} ({name} in the MediaWiki API)"


def _plain(html: str) -> str:
    from yt_dlp.utils import clean_html

    return " ".join((clean_html(html) or "").split())


def _asked(ydl: Any, query: dict[str, str]) -> Info:
    """The API's answer. Wikimedia refuses programs that claim to be a browser, as yt-dlp does."""
    from yt_dlp.networking import Request
    from yt_dlp.utils import YoutubeDLError
    from yt_dlp.version import __version__

    fields = {"action": "query", "format": "json", "formatversion": "2", **query}
    agent = f"yt-dlp/{__version__} (https://github.com/yt-dlp/yt-dlp)"
    request = Request(API, query=fields, headers={"User-Agent": agent})
    try:
        answer: Info = json.loads(ydl.urlopen(request).read())
    except ValueError as error:
        raise YoutubeDLError(f"the MediaWiki API's answer is no JSON: {error}") from error
    if "query" not in answer:
        raise YoutubeDLError(f"the MediaWiki API says {answer.get('error', answer)}")
    return answer
