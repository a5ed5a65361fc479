"""A video site on the loopback interface that yt-dlp takes for YouTube.

It is an HTTP proxy that answers CONNECT itself: whatever host is asked for, the connection ends
here, over TLS with a certificate made at the start. yt-dlp's own YouTube extractor then works
unchanged, given the options it offers everybody: ``proxy`` and ``nocheckcertificate``. Served are
watch pages, the player, next, search and browse calls, playlists, channels, captions and ranged
media; faults can be ordered for any of them, and every request is kept in a log. The same videos
can be asked for at three other places: Wikimedia Commons, a PeerTube host and Arnes Video.

Nothing leaves this machine: the server listens on 127.0.0.1 and forwards nothing.
"""

import json
import re
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Json = dict[str, Any]

COMMONS, UPLOAD = "commons.wikimedia.org", "upload.wikimedia.org"
PEERTUBE = "framatube.org"
ARNES = "video.arnes.si"
HOSTS = ("youtube.com", "*.youtube.com", "*.googlevideo.com", COMMONS, UPLOAD, PEERTUBE, ARNES)
CLIENT_VERSION = "2.20260708.00.00"

LICENCES = {
    "cc": "Creative Commons Attribution license (reuse allowed)",
    "standard": "Standard YouTube License",
    "nc": "Creative Commons Attribution-NonCommercial 4.0",  # YouTube itself does not offer it
}

# What the player answers for a video that it does not play: status, reason, and the second line.
REFUSALS = {
    "private": ("LOGIN_REQUIRED", "Private video", "Sign in if you've been granted access"),
    "deleted": ("ERROR", "Video unavailable", "This video has been removed by the uploader"),
    "age": ("LOGIN_REQUIRED", "Sign in to confirm your age", "This video may be inappropriate"),
    "geo": (
        "UNPLAYABLE",
        "Video unavailable",
        "The uploader has not made this video available in your country",
    ),
    "members": ("UNPLAYABLE", "Join this channel to get access to members-only content", ""),
    "upcoming": ("LIVE_STREAM_OFFLINE", "This live event will begin in 2 hours.", ""),
    "bot": ("LOGIN_REQUIRED", "Sign in to confirm you\u2019re not a bot", ""),
    "limited": (
        "UNPLAYABLE",
        "Video unavailable",
        "This content isn't available, try again later.",
    ),
}


@dataclass(frozen=True)
class Video:
    """One video of the site.

    `duration_s` is the length that the site announces (seconds); the file may hold less.
    `language` is the language spoken, announced only through `automatic` captions or `dubs`, as
    on the real site. `subtitles` are human tracks, language key -> SRT text; a key such as
    ``cs-Abc`` is a named second track. `dubs` are other audio tracks, language -> file.
    `itag` numbers its format; None is the usual number for the file.
    `state` is ``public``, ``live`` or a key of `REFUSALS`. `licence` is a key of `LICENCES`; the
    other places show it as it is written here.
    """

    id: str
    title: str
    audio: Path
    duration_s: float
    language: str = "en"
    licence: str | None = "cc"
    subtitles: Mapping[str, str] = field(default_factory=dict)
    automatic: str | None = None
    dubs: Mapping[str, Path] = field(default_factory=dict)
    channel: str = "Open Lectures"
    channel_id: str = "UCopenlectures0000000000"
    handle: str = "@openlectures"
    tab: str = "videos"
    state: str = "public"
    itag: int | None = None


class Request(NamedTuple):
    """One request as it arrived; `params` are the query's and the JSON body's fields together."""

    host: str
    path: str
    video: str | None
    params: Json
    byte_range: str | None
    agent: str = ""
    cookie: str | None = None


@dataclass
class _Fault:
    path: str
    video: str | None
    times: int | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    truncate: int | None = None
    reset: bool = False
    delay_s: float = 0.0


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class VideoSite:
    """The running site: a context manager. Give `proxy_url` to yt-dlp as its proxy."""

    def __init__(
        self,
        videos: Sequence[Video],
        playlists: Mapping[str, Sequence[str]] | None = None,
        *,
        page_size: int = 20,
    ) -> None:
        """Serve `videos`; `playlists` maps a playlist's id to the ids of its videos, in order."""
        self.videos = {video.id: video for video in videos}
        self.playlists = dict(playlists or {})
        self.page_size = page_size
        self.requests: list[Request] = []
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()

    def __enter__(self) -> "VideoSite":
        self.tls = _tls_context()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.site = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def proxy_url(self) -> str:
        """The address to give as the proxy, such as ``http://127.0.0.1:40123``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fail(
        self,
        path: str,
        *,
        video: str | None = None,
        times: int | None = 1,
        status: int = 200,
        retry_after: int | None = None,
        body: bytes | None = None,
        truncate: int | None = None,
        reset: bool = False,
        delay_s: float = 0.0,
    ) -> None:
        """Order a fault for the next `times` requests (None: all) whose path starts with `path`.

        Args:
            path: start of the path, such as ``/youtubei/v1/player``.
            video: only for requests about this video.
            times: how often; None for ever.
            status: the HTTP status to answer with.
            retry_after: seconds, for the header of that name.
            body: answer with this body instead of the true one, its length told correctly.
            truncate: announce the true length, send this many bytes, and close.
            reset: break the connection at once (TCP reset).
            delay_s: wait this long (seconds) before anything is answered.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        fault = _Fault(path, video, times, status, headers, body, truncate, reset, delay_s)
        with self._lock:
            self._faults.append(fault)

    def mend(self) -> None:
        """Forget all faults that were ordered."""
        with self._lock:
            self._faults.clear()

    def requested(self, path: str, video: str | None = None) -> int:
        """How many requests came whose path starts with `path` (about `video`)."""
        return sum(
            request.path.startswith(path) and video in (None, request.video)
            for request in self.requests
        )

    def _take_fault(self, request: Request) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if (
                    fault.times != 0
                    and request.path.startswith(fault.path)
                    and fault.video in (None, request.video)
                ):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    # Pages and calls, each a pure function of the request.

    def answer(self, request: Request) -> _Answer:
        """The faultless answer to a request."""
        path, params = request.path, request.params
        video = self.videos.get(request.video or "")
        if request.host == COMMONS and "list" in params:
            return _json(self._category(params))
        if request.host in {COMMONS, UPLOAD, PEERTUBE, ARNES}:
            if request.host == PEERTUBE and (channel := self._peertube_channel(path, params)):
                return _json(channel)
            if request.host == COMMONS and (not video or video.state != "public"):
                return _json({"query": {"pages": [{"title": "File:Missing", "missing": True}]}})
            return _elsewhere(video, request) if video else _not_found()
        if request.host.endswith(".googlevideo.com"):
            return _media(video, params, request.byte_range) if video else _not_found()
        match path:
            case "/":
                return _html()
            case "/watch" if video:
                return _html(
                    ytInitialData=_next(video), ytInitialPlayerResponse=_player(video, page=True)
                )
            case "/youtubei/v1/next" if video:
                return _json(_next(video))
            case "/youtubei/v1/player" if video:
                return _json(_player(video, page=False))
            case "/api/timedtext" if video:
                return _timedtext(video, params)
            case "/youtubei/v1/search":
                return _json(self._search(params))
            case "/playlist":
                data = self._playlist(params.get("list", ""))
                return _html(ytInitialData=data) if data else _not_found()
            case "/youtubei/v1/browse":
                data = self._browse(params)
                return _json(data) if data else _not_found()
            case "/iframe_api":
                return _Answer(200, {"Content-Type": "text/javascript"}, b"// player\\/00000000\\/")
        if path.startswith("/embed/"):
            return _html()
        if path.startswith("/s/player/"):
            return _Answer(200, {"Content-Type": "text/javascript"}, b"signatureTimestamp:20000;")
        data = self._channel(path)
        return _html(ytInitialData=data) if data else _not_found()

    def _page(
        self, ids: Sequence[str], listing: str, start: int
    ) -> tuple[list[Video], Json | None]:
        """One page of a listing, and the item that leads to the next one."""
        stop = start + self.page_size
        more = None
        if stop < len(ids):
            token = f"{listing}|{stop}"
            more = {
                "continuationItemRenderer": {
                    "continuationEndpoint": {"continuationCommand": {"token": token}}
                }
            }
        return [self.videos[id] for id in ids[start:stop]], more

    def _items(self, listing: str, start: int) -> list[Json] | None:
        """The items of one page, in the shape that this kind of listing uses."""
        kind, _, name = listing.partition(":")
        if kind == "playlist":
            ids = list(self.playlists.get(name, ()))
            shape = "playlistVideoRenderer"
        else:  # a tab of a channel, "channel_id/tab"
            channel, _, tab = name.partition("/")
            ids = [v.id for v in self.videos.values() if (v.channel_id, v.tab) == (channel, tab)]
            shape = "videoRenderer"
        if not ids:
            return None
        videos, more = self._page(ids, listing, start)
        items: list[Json] = [{shape: _listed(video)} for video in videos]
        if kind == "channel":
            items = [{"richItemRenderer": {"content": item}} for item in items]
        return items + ([more] if more else [])

    def _search(self, params: Json) -> Json:
        listing, _, start = params.get("continuation", f"{params.get('query')}|0").rpartition("|")
        words = listing.casefold().split()
        ids = [v.id for v in self.videos.values() if all(w in v.title.casefold() for w in words)]
        videos, more = self._page(ids, listing, int(start))
        contents: list[Json] = [
            {"itemSectionRenderer": {"contents": [{"videoRenderer": _listed(v)} for v in videos]}}
        ]
        contents += [more] if more else []
        if "continuation" in params:
            append = {"appendContinuationItemsAction": {"continuationItems": contents}}
            return {"onResponseReceivedCommands": [append]}
        section = {"sectionListRenderer": {"contents": contents}}
        return {"contents": {"twoColumnSearchResultsRenderer": {"primaryContents": section}}}

    def _playlist(self, name: str) -> Json | None:
        items = self._items(f"playlist:{name}", 0)
        if items is None:
            return None
        listed = {"playlistVideoListRenderer": {"contents": items}}
        section = {"itemSectionRenderer": {"contents": [listed]}}
        tab = {"selected": True, "content": {"sectionListRenderer": {"contents": [section]}}}
        return {
            "contents": {"twoColumnBrowseResultsRenderer": {"tabs": [{"tabRenderer": tab}]}},
            "metadata": {"playlistMetadataRenderer": {"title": name}},
        }

    def _channel(self, path: str) -> Json | None:
        match = re.fullmatch(r"/(?:channel/(UC[\w-]{22})|(@[\w.-]+))(?:/(\w+))?", path)
        if match is None:
            return None
        ours = [v for v in self.videos.values() if match[1] == v.channel_id or match[2] == v.handle]
        if not ours:
            return None
        selected = match[3] or "videos"
        tabs = []
        for name in dict.fromkeys(["videos", *(v.tab for v in ours)]):
            tab: Json = {
                "title": {"streams": "Live"}.get(name, name.title()),
                "selected": name == selected,
                "endpoint": {
                    "commandMetadata": {"webCommandMetadata": {"url": f"/{ours[0].handle}/{name}"}}
                },
            }
            if name == selected:
                items = self._items(f"channel:{ours[0].channel_id}/{name}", 0) or []
                tab["content"] = {"richGridRenderer": {"contents": items}}
            tabs.append({"tabRenderer": tab})
        metadata = {
            "title": ours[0].channel,
            "externalId": ours[0].channel_id,
            "vanityChannelUrl": f"https://www.youtube.com/{ours[0].handle}",
        }
        return {
            "contents": {"twoColumnBrowseResultsRenderer": {"tabs": tabs}},
            "metadata": {"channelMetadataRenderer": metadata},
        }

    def _category(self, params: Json) -> Json:
        ids = self.playlists.get(params["cmtitle"], ())
        start = int(params.get("cmcontinue", 0))
        stop = start + self.page_size
        members = [{"ns": 6, "title": f"File:{id.replace('_', ' ')}"} for id in ids[start:stop]]
        more = {"continue": {"cmcontinue": str(stop)}} if stop < len(ids) else {}
        return {"query": {"categorymembers": members}, **more}

    def _peertube_channel(self, path: str, params: Json) -> Json | None:
        match = re.fullmatch(r"/api/v1/video-channels/(\w+)(/videos)?", path)
        if match is None or match[1] not in self.playlists:
            return None
        if not match[2]:
            return {"displayName": match[1], "id": 1}
        start = int(params["start"])
        ids = self.playlists[match[1]][start : start + int(params["count"])]
        return {"data": [{"shortUUID": _short(id), "name": self.videos[id].title} for id in ids]}

    def _browse(self, params: Json) -> Json | None:
        if "continuation" in params:
            listing, _, start = params["continuation"].rpartition("|")
            append = {"continuationItems": self._items(listing, int(start))}
            return {"onResponseReceivedActions": [{"appendContinuationItemsAction": append}]}
        # A playlist asked for again, this time with the videos that are gone.
        return self._playlist(params.get("browseId", "").removeprefix("VL"))


def encode_opus(pcm: npt.NDArray[np.int16], path: Path, *, bit_rate: int = 32_000) -> None:
    """Write int16 mono [samples] at 16 kHz as Opus; the suffix (.webm, .ogg) names the container.

    `bit_rate` is in bits per second.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=16_000, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _text(text: str) -> Json:
    return {"runs": [{"text": text}]}


def _listed(video: Video) -> Json:
    title = {"private": "[Private video]", "deleted": "[Deleted video]"}.get(
        video.state, video.title
    )
    return {"videoId": video.id, "title": _text(title), "lengthSeconds": f"{video.duration_s:.0f}"}


def _next(video: Video) -> Json:
    """What stands below the player: the owner and, where it is told, the licence."""
    if video.state in REFUSALS:
        return {"contents": {"twoColumnWatchNextResults": {}}}
    browse = {"browseId": video.channel_id, "canonicalBaseUrl": f"/{video.handle}"}
    owner = {
        "title": _text(video.channel),
        "navigationEndpoint": {"browseEndpoint": browse},
    }
    rows = [
        {"metadataRowRenderer": {"title": _text("License"), "contents": [_text(LICENCES[raw])]}}
        for raw in [video.licence]
        if raw is not None
    ]
    contents = [
        {"videoPrimaryInfoRenderer": {"title": _text(video.title)}},
        {
            "videoSecondaryInfoRenderer": {
                "owner": {"videoOwnerRenderer": owner},
                "metadataRowContainer": {"metadataRowContainerRenderer": {"rows": rows}},
            }
        },
    ]
    return {
        "contents": {"twoColumnWatchNextResults": {"results": {"results": {"contents": contents}}}}
    }


def _player(video: Video, *, page: bool) -> Json:
    """The player's data: the copy in the watch page (`page`) has no media addresses."""
    if video.state in REFUSALS:
        status, reason, more = REFUSALS[video.state]
        message = {"reason": _text(reason), **({"subreason": _text(more)} if more else {})}
        return {
            "playabilityStatus": {
                "status": status,
                "reason": reason,
                "errorScreen": {"playerErrorMessageRenderer": message},
            },
            "videoDetails": {"videoId": video.id},
        }
    return {
        "playabilityStatus": {"status": "OK", "playableInEmbed": True},
        "videoDetails": {
            "videoId": video.id,
            "title": video.title,
            "lengthSeconds": f"{video.duration_s:.0f}",
            "channelId": video.channel_id,
            "author": video.channel,
            "shortDescription": "",
            "isPrivate": False,
            "isLiveContent": video.state == "live",
            **({"isLive": True} if video.state == "live" else {}),
        },
        "microformat": {
            "playerMicroformatRenderer": {
                "title": {"simpleText": video.title},
                "isFamilySafe": True,
                "isUnlisted": False,
                "uploadDate": "2026-01-02T03:04:05-08:00",
            }
        },
        "captions": {"playerCaptionsTracklistRenderer": {"captionTracks": _caption_tracks(video)}},
        **({} if page else {"streamingData": {"adaptiveFormats": _formats(video)}}),
    }


def _caption_tracks(video: Video) -> list[Json]:
    keys = [(key, "") for key in video.subtitles]
    if video.automatic:
        keys.append((video.automatic, "asr"))
    tracks = []
    for key, kind in keys:
        query = urllib.parse.urlencode({"v": video.id, "lang": key, "kind": kind})
        track = {
            "baseUrl": f"https://www.youtube.com/api/timedtext?{query}",
            "vssId": f"a.{key}" if kind else "." + key.replace("-", ".", 1),
            "languageCode": key,
            "name": _text(f"{key} (auto-generated)" if kind else key),
            "isTranslatable": True,
        }
        tracks.append({**track, "kind": kind} if kind else track)
    return tracks


def _formats(video: Video) -> list[Json]:
    tracks = [("", video.audio), *video.dubs.items()]
    formats = []
    for dub, path in tracks:
        opus = path.suffix in {".webm", ".ogg"}
        query = urllib.parse.urlencode({"id": video.id, "dub": dub})
        media: Json = {
            "itag": video.itag or (251 if opus else 140),
            "url": f"https://rr1---sn-demo.googlevideo.com/videoplayback?{query}",
            "mimeType": 'audio/webm; codecs="opus"' if opus else 'audio/mp4; codecs="mp4a.40.2"',
            "bitrate": 64_000,
            "averageBitrate": 64_000,
            "contentLength": str(path.stat().st_size),
            "quality": "tiny",
            "audioQuality": "AUDIO_QUALITY_MEDIUM",
            "approxDurationMs": f"{video.duration_s * 1000:.0f}",
            "audioSampleRate": "48000",
            "audioChannels": 1,
        }
        if video.dubs:  # only a video of several tracks names them
            media["audioTrack"] = {
                "id": f"{dub or video.language}.4",
                "displayName": dub or f"{video.language} original",
                "audioIsDefault": bool(dub),
            }
        formats.append(media)
    return formats


def _timedtext(video: Video, params: Json) -> _Answer:
    text = video.subtitles.get(params.get("lang", ""))
    if params.get("kind") == "asr":
        text = "1\n00:00:00,000 --> 00:00:01,000\nautomatic\n"
    if text is None:
        return _not_found()
    if params.get("fmt") == "vtt":
        text = "WEBVTT\n\n" + re.sub(r"(?<=:\d\d),(?=\d{3})", ".", text)
    return _Answer(200, {"Content-Type": "text/plain; charset=utf-8"}, text.encode())


def _media(video: Video, params: Json, byte_range: str | None) -> _Answer:
    path = video.dubs.get(params.get("dub", ""), video.audio)
    data = path.read_bytes()
    headers = {"Content-Type": "audio/webm" if path.suffix == ".webm" else "audio/mp4"}
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", byte_range or "")
    if match is None:
        return _Answer(200, headers, data)
    start, stop = int(match[1]), int(match[2] or len(data) - 1) + 1
    if start >= len(data):
        return _Answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
    part = data[start:stop]
    content_range = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
    return _Answer(206, {**headers, "Content-Range": content_range}, part)


def _elsewhere(video: Video, request: Request) -> _Answer:
    """What another place than YouTube answers about a video."""
    path, params = request.path, request.params
    at = f"https://{UPLOAD if request.host == COMMONS else request.host}/static/media"
    media = f"{at}?{urllib.parse.urlencode({'id': video.id})}"
    if path == "/static/media":
        return _media(video, params, request.byte_range)
    if "lang" in params:
        return _timedtext(video, params)
    if video.state != "public":
        return _Answer({"private": 403}.get(video.state, 404), {}, b"{}")
    if request.host == COMMONS:
        return _json(_commons(video, media, formatversion=int(params.get("formatversion", 1))))
    if path.endswith("/captions"):
        return _json({"total": 1, "data": _peertube_captions(video)})
    return _json(_arnes(video) if request.host == ARNES else _peertube(video, media))


def _commons(video: Video, media: str, *, formatversion: int) -> Json:
    """The MediaWiki API on a file; its licence is ``name`` or ``name | address``."""
    name, _, address = (video.licence or "").partition(" | ")
    metadata = {
        "ObjectName": video.title,
        "Artist": f"<a href='/wiki/User:X'>{video.channel}</a>",
        **({"UsageTerms": name} if name else {}),
        **({"LicenseUrl": address} if address else {}),
    }
    texts = [
        {
            "src": f"https://{COMMONS}/w/api.php?"
            + urllib.parse.urlencode({"id": video.id, "lang": lang, "fmt": kind}),
            "type": {"srt": "text/x-srt", "vtt": "text/vtt"}[kind],
            "srclang": lang,
        }
        for lang in video.subtitles
        for kind in ("vtt", "srt")
    ]
    told = {
        "url": media,
        "user": video.handle.removeprefix("@"),
        "duration": video.duration_s,
        "extmetadata": {key: {"value": value} for key, value in metadata.items()},
        "timedtext": texts,
    }
    page = {"pageid": 1, "videoinfo": [told], "imageinfo": [told]}
    return {"query": {"pages": [page] if formatversion == 2 else {"1": page}}}


def _peertube(video: Video, media: str) -> Json:
    return {
        "name": video.title,
        "duration": round(video.duration_s),
        "licence": {"id": 1, "label": video.licence or "Unknown"},
        "language": {"id": video.language},
        "channel": {"displayName": video.channel, "id": 7},
        "account": {"displayName": video.channel, "id": 7},
        "files": [{"fileUrl": media, "resolution": {"label": "0p"}}],
    }


def _peertube_captions(video: Video) -> list[Json]:
    """Version 8 tells addresses, older ones paths: here the human ones have addresses."""
    human = dict.fromkeys(video.subtitles, False)
    tracks = {**({video.automatic: True} if video.automatic else {}), **human}
    captions = []
    for language, automatic in tracks.items():
        query = urllib.parse.urlencode({"id": video.id, "lang": language, "fmt": "vtt"})
        path = f"/lazy-static/video-captions/captions.vtt?{query}"
        place = {"captionPath": path} if automatic else {"fileUrl": f"https://{PEERTUBE}{path}"}
        captions.append(
            {"language": {"id": language}, "automaticallyGenerated": automatic, **place}
        )
    return captions


def _arnes(video: Video) -> Json:
    query = urllib.parse.urlencode({"id": video.id})
    return {
        "data": {
            "title": video.title,
            "license": video.licence,
            "author": video.channel,
            "thumbnailUrl": "/static/picture",
            "duration": video.duration_s * 1000,
            "media": [{"url": f"/static/media?{query}", "format": "FORMAT_AUDIO"}],
        }
    }


def _short(name: str) -> str:
    """PeerTube's short id of a UUID: base 58, 22 digits."""
    digits, short = "123456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ", ""
    number = uuid.UUID(name).int
    for _ in range(22):
        number, digit = divmod(number, 58)
        short = digits[digit] + short
    return short


def _not_found() -> _Answer:
    return _Answer(404, {"Content-Type": "text/plain"}, b"not found")


def _json(data: Json) -> _Answer:
    return _Answer(200, {"Content-Type": "application/json"}, json.dumps(data).encode())


def _html(**scripts: Json) -> _Answer:
    """A page with the site's configuration and the given global variables of its script."""
    client = {"clientName": "WEB", "clientVersion": CLIENT_VERSION, "hl": "en"}
    config = {"INNERTUBE_CONTEXT": {"client": client}, "STS": 20000}
    lines = [f"ytcfg.set({json.dumps(config)});"]
    lines += [f"var {name} = {json.dumps(data)};" for name, data in scripts.items()]
    body = "".join("<script>{}</script>\n".format(line.replace("</", "<\\/")) for line in lines)
    page = f"<!DOCTYPE html><html><body>\n{body}</body></html>"
    return _Answer(200, {"Content-Type": "text/html; charset=utf-8"}, page.encode())


def _tls_context() -> ssl.SSLContext:
    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(*HOSTS).configure_cert(context)
    return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an idle keep-alive connection must not hold up the end
    site: VideoSite

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent when a client breaks off; anything else is a mistake in the site."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    host = ""

    def do_CONNECT(self) -> None:
        self.host = self.path.rpartition(":")[0]
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.connection = self.server.site.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def do_GET(self) -> None:
        self._respond({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._respond(json.loads(body or b"{}"))

    def _respond(self, body: Json) -> None:
        site = self.server.site
        url = urllib.parse.urlsplit(self.path)
        params = {**dict(urllib.parse.parse_qsl(url.query)), **body}
        video = params.get("videoId") or params.get("v") or params.get("id")
        if file := params.get("titles"):  # Commons
            video = file.removeprefix("File:").replace(" ", "_")
        elif match := re.match(r"/api/(?:v1/videos|public/video)/([\w-]+)", url.path):
            video = match[1]  # PeerTube, Arnes
        request = Request(
            self.host,
            url.path,
            video,
            params,
            self.headers.get("Range"),
            self.headers.get("User-Agent", ""),
            self.headers.get("Cookie"),
        )
        site.requests.append(request)
        fault = site._take_fault(request)
        if fault and fault.delay_s:
            time.sleep(fault.delay_s)
        if fault and fault.reset:
            linger = struct.pack("ii", 1, 0)  # on, 0 s: close() sends a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        if fault and fault.status >= 400:
            answer = _Answer(fault.status, fault.headers, fault.body or b"")
        elif fault and fault.body is not None:
            answer = _Answer(fault.status, fault.headers, fault.body)
        else:
            answer = site.answer(request)
        sent = answer.body
        if fault and fault.truncate is not None:
            sent = sent[: fault.truncate]
            self.close_connection = True
        self.send_response(answer.status, HTTPStatus(answer.status).phrase)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the requests are in the site's own log."""
