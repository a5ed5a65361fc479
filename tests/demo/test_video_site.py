"""The video site itself, as a plain HTTP client sees it. yt-dlp's view is in test_youtube.py."""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from corpus.audio import decode
from demo.video_site import Video, VideoSite, encode_opus

VIDEO = "abcdefghijk"


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "a.webm"
    time = np.arange(2 * 16_000) / 16_000
    encode_opus((8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16), path)
    return path


@pytest.fixture
def site(audio: Path) -> Iterator[VideoSite]:
    srt = "1\n00:00:00,000 --> 00:00:01,500\nHello.\n"
    with VideoSite([Video(VIDEO, "One", audio, 2.0, subtitles={"en": srt})]) as site:
        yield site


def connect(site: VideoSite, host: str) -> http.client.HTTPSConnection:
    address, _, port = site.proxy_url.removeprefix("http://").partition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, int(port), context=context, timeout=10)
    connection.set_tunnel(host)
    return connection


def get(
    site: VideoSite, path: str, *, host: str = "www.youtube.com", byte_range: str | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = connect(site, host)
    connection.request("GET", path, headers={"Range": byte_range} if byte_range else {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def media_path(site: VideoSite) -> str:
    connection = connect(site, "www.youtube.com")
    connection.request("POST", "/youtubei/v1/player", json.dumps({"videoId": VIDEO}))
    player = json.loads(connection.getresponse().read())
    connection.close()
    url = player["streamingData"]["adaptiveFormats"][0]["url"]
    assert url.startswith("https://rr1---sn-demo.googlevideo.com/")
    return str(url).partition(".com")[2]


def test_it_listens_on_the_loopback_address_alone(site: VideoSite) -> None:
    port = int(site.proxy_url.rpartition(":")[2])
    assert site.proxy_url == f"http://127.0.0.1:{port}"
    with pytest.raises(OSError, match=r"refused|timed out|reach|assign"):
        socket.create_connection(("127.0.0.2", port), timeout=1)  # reached if bound to 0.0.0.0


def test_opus_holds_the_sound_that_was_encoded(audio: Path) -> None:
    pcm = decode(audio).astype(float)
    assert abs(len(pcm) / 16_000 - 2.0) < 0.05
    peak_hz = np.argmax(np.abs(np.fft.rfft(pcm))) * 16_000 / len(pcm)
    assert abs(peak_hz - 440) < 2


def test_a_watch_page_holds_the_licence_and_the_player_s_data(site: VideoSite) -> None:
    _, body = get(site, f"/watch?v={VIDEO}")
    page = body.decode()
    assert "Creative Commons Attribution license (reuse allowed)" in page
    assert re.search(r"var ytInitialPlayerResponse = \{", page)


def test_the_watch_page_of_an_unknown_video_is_not_found(site: VideoSite) -> None:
    assert get(site, "/watch?v=kjihgfedcba")[0].status == 404


def test_media_is_served_whole_and_by_range(site: VideoSite, audio: Path) -> None:
    path, whole = media_path(site), audio.read_bytes()
    host = "rr1---sn-demo.googlevideo.com"
    assert get(site, path, host=host)[1] == whole
    response, body = get(site, path, host=host, byte_range="bytes=100-199")
    assert (response.status, body) == (206, whole[100:200])
    assert response.headers["Content-Range"] == f"bytes 100-199/{len(whole)}"
    assert get(site, path, host=host, byte_range=f"bytes={len(whole)}-")[0].status == 416


def test_captions_come_as_srt_and_as_vtt(site: VideoSite) -> None:
    assert b"00:00:01,500\nHello." in get(site, f"/api/timedtext?v={VIDEO}&lang=en&fmt=srt")[1]
    vtt = get(site, f"/api/timedtext?v={VIDEO}&lang=en&fmt=vtt")[1]
    assert vtt.startswith(b"WEBVTT")
    assert b"00:00:01.500\nHello." in vtt


def test_every_request_is_in_the_log(site: VideoSite) -> None:
    get(site, f"/watch?v={VIDEO}&x=1")
    (request,) = site.requests
    assert request[:3] == ("www.youtube.com", "/watch", VIDEO)
    assert request.params["x"] == "1"
    assert site.requested("/watch", VIDEO) == 1
    assert site.requested("/watch", "kjihgfedcba") == 0


def test_a_fault_happens_as_often_as_ordered_and_only_where_ordered(site: VideoSite) -> None:
    site.fail("/watch", status=429, retry_after=7, times=2)
    assert get(site, "/iframe_api")[0].status == 200
    first, second, third = (get(site, f"/watch?v={VIDEO}")[0] for _ in range(3))
    assert [first.status, second.status, third.status] == [429, 429, 200]
    assert first.headers["Retry-After"] == "7"


def test_a_fault_can_be_ordered_for_one_video(site: VideoSite) -> None:
    site.fail("/watch", video="kjihgfedcba", status=500)
    assert get(site, f"/watch?v={VIDEO}")[0].status == 200
    assert get(site, "/watch?v=kjihgfedcba")[0].status == 500


def test_an_answer_can_be_cut_off_replaced_or_reset(site: VideoSite) -> None:
    site.fail("/watch", truncate=10)
    with pytest.raises(http.client.IncompleteRead):
        get(site, f"/watch?v={VIDEO}")
    site.fail("/watch", body=b"log in to the hotel")
    assert get(site, f"/watch?v={VIDEO}")[1] == b"log in to the hotel"
    site.fail("/watch", reset=True)
    with pytest.raises(ConnectionError):
        get(site, f"/watch?v={VIDEO}")


def test_an_answer_can_be_slow(site: VideoSite) -> None:
    site.fail("/watch", delay_s=1)
    connection = connect(site, "www.youtube.com")
    connection.timeout = 0.3
    connection.request("GET", f"/watch?v={VIDEO}")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
