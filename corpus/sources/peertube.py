"""PeerTube: many sites of one kind, with licence, language and captions in an API.

A caption may be what Whisper heard: the API marks those, yt-dlp does not look, so the captions are
asked for here.
"""

import json
import re
import urllib.parse
import uuid
from typing import Any

from corpus.sources.video import Entry, Info
from corpus.sources.ytdlp import extract

_UUID = r"[\da-fA-F]{8}(?:-[\da-fA-F]{4}){3}-[\da-fA-F]{12}"
_NAME = rf"(?P<name>{_UUID}|[1-9a-km-zA-HJ-NP-Z]{{22}})"
_ADDRESS = re.compile(
    rf"peertube:(?P<own>[\w.-]+):{_NAME}"
    rf"|https://(?P<host>[\w.-]+)/(?:w|videos/watch|videos/embed)/{_NAME.replace('name', 'other')}"
    r"(?:[?#;/].*)?"
)
_MEANING = {
    "401": "the video is private",
    "403": "the video is private",
    "404": "the video does not exist",
    "410": "the video does not exist",
}
_DIGITS = "123456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"


def entry(url: str) -> Entry | None:
    """The video at an address of PeerTube's forms, on any host; None for any other address.

    The form with a short id and that with a UUID are the same video and give the same entry.
    """
    match = _ADDRESS.fullmatch(url)
    if match is None:
        return None
    host = (match["own"] or match["host"]).lower()
    name = match["name"] or match["other"]
    video = _long(name) if len(name) == 22 else name.lower()
    return Entry(f"peertube:{host}:{video}", f"https://{host}/videos/watch/{video}", None)


def _long(short: str) -> str:
    """The UUID that a short id stands for: base 58 with the digits of Flickr's short addresses."""
    number = 0
    for digit in short:
        number = number * len(_DIGITS) + _DIGITS.index(digit)
    return str(uuid.UUID(int=number % 2**128))


def read(ydl: Any, entry: Entry) -> tuple[Info, str]:
    """What a PeerTube site tells about a video; see `video.Reader`."""
    _, host, name = entry.id.split(":")
    api = f"https://{host}/api/v1/videos/{name}"
    info = _extracted(ydl, entry)
    human: dict[str, list[Info]] = {}
    automatic: dict[str, list[Info]] = {}
    for caption in _captions(ydl, f"{api}/captions"):
        address = caption.get("fileUrl") or caption.get("captionPath")
        if address:
            tracks = automatic if caption.get("automaticallyGenerated") else human
            track = {"url": urllib.parse.urljoin(api, address), "ext": "vtt"}
            tracks.setdefault(caption["language"]["id"], []).append(track)
    info |= {
        "subtitles": human,
        "automatic_captions": automatic,
        "channel": info.get("channel") or info.get("uploader") or host,
        "channel_id": f"peertube:{host}:{info.get('channel_id')}",
    }
    return info, f"{api} (licence)"


def _extracted(ydl: Any, entry: Entry) -> Info:
    """What yt-dlp finds; the id is its own form of address, for any host.

    What a status means in this API is said in words: elsewhere 403 and 404 may well pass.
    """
    from yt_dlp.utils import YoutubeDLError

    try:
        return extract(ydl, entry.id)
    except YoutubeDLError as error:
        status = re.search(r"HTTP Error (4\d\d)", str(error))
        said = _MEANING.get(status[1]) if status else None
        if said is None:
            raise
        raise YoutubeDLError(said) from error


def _captions(ydl: Any, url: str) -> list[Info]:
    from yt_dlp.utils import YoutubeDLError

    try:
        found: list[Info] = json.loads(ydl.urlopen(url).read())["data"]
    except (ValueError, LookupError, TypeError) as error:
        raise YoutubeDLError(f"the captions of {url} cannot be listed: {error}") from error
    return found
