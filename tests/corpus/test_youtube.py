"""Fetching by the real yt-dlp from the video site on loopback."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus.audio import decode
from corpus.errors import UserError
from corpus.sources.sites import fetch_video, list_videos
from corpus.sources.video import Entry, Fetched, FetchOptions, RateLimited, Reason, Refused
from corpus.sources.ytdlp import ydl_options
from demo.video_site import Video, VideoSite, encode_opus

CZECH = (
    "1\n00:00:00,000 --> 00:00:01,000\nDobrý den.\n\n2\n00:00:01,000 --> 00:00:02,500\nVítejte.\n"
)
SECONDS = 3.0
PLAYLIST = "https://www.youtube.com/playlist?list=PLlectures"


@pytest.fixture(autouse=True)
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YTDLP_NO_PLUGINS", "1")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of noise: unlike a tone it makes a file of some size."""
    path = tmp_path_factory.mktemp("media") / "noise.webm"
    noise = np.random.default_rng(0).normal(scale=4000, size=int(SECONDS * 16_000))
    encode_opus(noise.astype(np.int16), path, bit_rate=64_000)
    return path


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "tone.webm"
    time = np.arange(int(SECONDS * 16_000)) / 16_000
    encode_opus((8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16), path)
    return path


def a_video(id: str, audio: Path, **changes: object) -> Video:
    values = {"language": "cs", "automatic": "cs", "subtitles": {"cs": CZECH}, **changes}
    return Video(id.ljust(11, "_"), f"Lecture {id}", audio, SECONDS, **values)  # type: ignore[arg-type]


@pytest.fixture
def site(audio: Path, tone: Path) -> Iterator[VideoSite]:
    """A site with every kind of video, in one playlist."""
    videos = [
        a_video("subtitled", audio),
        a_video("bare", audio, subtitles={}, automatic=None),
        a_video("closed", audio, licence="standard"),
        a_video("untold", audio, licence=None),
        a_video("automatic", audio, subtitles={}),
        a_video("translated", audio, language="en", automatic="en"),
        a_video("unmarked", audio, automatic=None),
        a_video("named", audio, subtitles={"cs-Abc": "wrong", "cs": CZECH, "en": CZECH}),
        a_video("garbled", audio, subtitles={"cs": "<html>no captions here</html>"}),
        a_video("dubbed", audio, automatic=None, dubs={"en": tone}),
        *(a_video(state, audio, state=state) for state in STATES),
    ]
    with VideoSite(videos, {"PLlectures": [v.id for v in videos]}, page_size=4) as site:
        yield site


STATES = {
    "private": Reason.PRIVATE,
    "deleted": Reason.GONE,
    "age": Reason.AGE,
    "geo": Reason.GEO,
    "members": Reason.PRIVATE,
    "upcoming": Reason.LIVE,
    "live": Reason.LIVE,
}


def options_for(site: VideoSite, **changes: object) -> FetchOptions:
    values = {"language": "cs", "proxy": site.proxy_url, "check_certificate": False, "sleep": False}
    return FetchOptions(**{**values, **changes})  # type: ignore[arg-type]


def an_entry(id: str) -> Entry:
    id = id.ljust(11, "_")
    return Entry(f"youtube:{id}", f"https://www.youtube.com/watch?v={id}", None)


def fetch(site: VideoSite, id: str, stage: Path, **changes: object) -> Fetched | Refused:
    return fetch_video(an_entry(id), options_for(site, **changes), stage)


def ids(entries: Iterator[Entry]) -> list[str]:
    return [entry.id.removeprefix("youtube:").rstrip("_") for entry in entries]


class TestListing:
    def test_a_playlist_gives_all_its_videos_in_order_and_asks_for_none(
        self, site: VideoSite
    ) -> None:
        listed = ids(list_videos([PLAYLIST], [], options_for(site)))
        assert listed == [id.rstrip("_") for id in site.videos]
        assert site.requested("/watch") == site.requested("/youtubei/v1/player") == 0

    def test_listing_the_same_again_gives_the_same(self, site: VideoSite) -> None:
        first, second = (list(list_videos([PLAYLIST], [], options_for(site))) for _ in range(2))
        assert first == second

    @pytest.mark.parametrize(
        "address",
        [
            "https://www.youtube.com/channel/UCopenlectures0000000000",
            "https://www.youtube.com/@openlectures",
            "@openlectures",
        ],
    )
    def test_a_channel_gives_the_videos_of_all_its_tabs_each_once(
        self, audio: Path, address: str
    ) -> None:
        tabs = ["videos", "shorts", "videos", "streams"]
        videos = [a_video(f"v{i}", audio, tab=tab) for i, tab in enumerate(tabs)]
        with VideoSite(videos, {"PLall": [v.id for v in videos]}) as site:
            both = [address, PLAYLIST.replace("lectures", "all")]
            listed = ids(list_videos(both, [], options_for(site)))
        assert sorted(listed) == ["v0", "v1", "v2", "v3"]

    def test_the_videos_tab_of_a_handle_gives_that_tab_alone(self, audio: Path) -> None:
        videos = [a_video("long", audio), a_video("short", audio, tab="shorts")]
        with VideoSite(videos) as site:
            url = "https://www.youtube.com/@openlectures/videos"
            assert ids(list_videos([url], [], options_for(site))) == ["long"]

    @pytest.mark.parametrize(
        "url",
        [
            "https://youtu.be/subtitled__",
            "https://www.youtube.com/watch?v=subtitled__",
            "https://m.youtube.com/shorts/subtitled__",
            "https://www.youtube.com/watch?v=subtitled__&list=PLlectures",
        ],
    )
    def test_the_address_of_a_video_is_that_video(self, site: VideoSite, url: str) -> None:
        (entry,) = list_videos([url], [], options_for(site))
        assert entry.id == "youtube:subtitled__"
        assert entry.url == "https://www.youtube.com/watch?v=subtitled__"
        assert not site.requests

    @pytest.mark.parametrize(
        ("changes", "sp"),
        [
            ({}, "EgQQATAB"),
            ({"subtitles_only": True}, "EgYQASgBMAE="),
            ({"subtitles_only": True, "min_seconds": 1201.0}, "EggQARgCKAEwAQ=="),
            ({"subtitles_only": True, "min_seconds": 240, "max_seconds": 1200}, "EggQARgDKAEwAQ=="),
            ({"min_seconds": 1200.0}, "EgQQATAB"),
            ({"max_seconds": 60.0}, "EgYQARgBMAE="),
            ({"subtitles_only": True, "newest_first": True}, "CAISBhABKAEwAQ=="),
        ],
    )
    def test_a_search_asks_for_creative_commons_on_every_page(
        self, site: VideoSite, changes: dict[str, Any], sp: str
    ) -> None:
        options = options_for(site, **changes)
        assert len(list(list_videos([], ["lecture"], options))) == len(site.videos)
        searches = [r.params for r in site.requests if r.path.endswith("/search")]
        assert len(searches) > 1
        assert {params["params"] for params in searches} == {sp}

    def test_no_page_is_asked_for_before_its_videos_are_wanted(self, site: VideoSite) -> None:
        listed = list_videos([], ["lecture"], options_for(site), max_videos=site.page_size)
        assert len(list(listed)) == site.page_size
        assert site.requested("/youtubei/v1/search") == 1
        list(itertools.islice(list_videos([], ["lecture"], options_for(site)), site.page_size + 1))
        assert site.requested("/youtubei/v1/search") == 3

    def test_an_address_that_cannot_be_listed_is_told_after_the_others(
        self, site: VideoSite
    ) -> None:
        missing = "https://www.youtube.com/playlist?list=PLnothing"
        listed: list[Entry] = []
        with pytest.raises(UserError, match=r"cannot list .*PLnothing"):
            listed.extend(list_videos([missing, PLAYLIST], [], options_for(site)))
        assert len(listed) == len(site.videos)

    def test_a_limit_on_listing_stops_the_run(self, site: VideoSite) -> None:
        site.fail("/playlist", status=429, times=None)
        site.fail("/youtubei/v1/browse", status=429, times=None)
        with pytest.raises(RateLimited, match="run the same command again"):
            list(list_videos([PLAYLIST], [], options_for(site)))


class TestWhatIsTaken:
    def test_a_playlist_with_every_awkward_video_ends_with_each_in_its_place(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        options = options_for(site)
        results = {
            entry.id.removeprefix("youtube:").rstrip("_"): fetch_video(entry, options, tmp_path)
            for entry in list_videos([PLAYLIST], [], options)
        }
        taken = {id: r for id, r in results.items() if isinstance(r, Fetched)}
        reasons = {id: r.reason for id, r in results.items() if isinstance(r, Refused)}
        assert reasons == {
            "closed": Reason.NOT_CC,
            "untold": Reason.NOT_CC,
            "translated": Reason.OTHER_LANGUAGE,
            **STATES,
        }
        notes = {id: r.subtitles_note for id, r in taken.items()}
        assert notes == {
            "subtitled": None,
            "bare": "no subtitles in cs",
            "automatic": "only automatic captions",
            "unmarked": None,
            "named": None,
            "garbled": "the subtitles in cs hold no readable cue",
            "dubbed": None,
        }
        for id, result in taken.items():
            assert (result.subtitles is None) == (notes[id] is not None)
            assert abs(len(decode(result.media)) / 16_000 - SECONDS) < 0.1
        refused = [id for id in results if id not in taken]
        assert all(site.requested("/videoplayback", id.ljust(11, "_")) == 0 for id in refused)

    def test_a_recording_comes_with_its_provenance(self, site: VideoSite, tmp_path: Path) -> None:
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Fetched)
        assert result.id == "youtube:subtitled__"
        assert result.url == "https://www.youtube.com/watch?v=subtitled__"
        assert (result.title, result.channel) == ("Lecture subtitled", "Open Lectures")
        assert result.channel_id == "UCopenlectures0000000000"
        assert result.uploader == "@openlectures"
        assert result.language == "cs"
        assert result.licence_raw == "Creative Commons Attribution license (reuse allowed)"
        assert result.licence == "CC-BY-3.0"
        assert result.licence_evidence["reader"].startswith("yt-dlp 20")
        assert result.announced_seconds == SECONDS
        assert result.media.is_relative_to(tmp_path)

    def test_subtitles_come_as_they_are(self, site: VideoSite, tmp_path: Path) -> None:
        result = fetch(site, "named", tmp_path)
        assert isinstance(result, Fetched)
        assert result.subtitles is not None
        assert result.subtitles.raw.decode() == CZECH
        assert (result.subtitles.language, result.subtitles.format) == ("cs", "srt")

    def test_another_language_than_the_collected_one_costs_no_media(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = fetch(site, "translated", tmp_path)
        assert isinstance(result, Refused)
        assert not result.transient
        assert result.message.startswith("en is spoken, says the site; --language any")
        assert site.requested("/videoplayback") == 0

    def test_what_a_site_wrongly_says_of_a_language_that_it_does_not_know_can_be_overruled(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = fetch(site, "translated", tmp_path, any_language=True)
        assert isinstance(result, Fetched)
        assert (result.language, result.subtitles is not None) == ("cs", True)

    def test_where_the_site_does_not_tell_the_language_it_is_the_collected_one(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = fetch(site, "unmarked", tmp_path)
        assert isinstance(result, Fetched)
        assert (result.language, result.subtitles is not None) == ("cs", True)

    def test_the_original_voice_is_taken_and_not_the_dub(
        self, site: VideoSite, audio: Path, tmp_path: Path
    ) -> None:
        result = fetch(site, "dubbed", tmp_path)
        assert isinstance(result, Fetched)
        assert result.media.read_bytes() == audio.read_bytes()
        assert result.language == "cs"

    @pytest.mark.parametrize("id", ["bare", "automatic", "garbled"])
    def test_with_subtitles_only_a_video_without_a_transcript_costs_no_media(
        self, site: VideoSite, tmp_path: Path, id: str
    ) -> None:
        result = fetch(site, id, tmp_path, subtitles_only=True)
        assert isinstance(result, Refused)
        assert result.reason == Reason.NO_SUBTITLES
        assert site.requested("/videoplayback") == 0

    def test_codes_that_differ_for_one_language_are_the_same(
        self, audio: Path, tmp_path: Path
    ) -> None:
        with VideoSite([a_video("hebrew", audio, automatic="iw", subtitles={"iw": CZECH})]) as site:
            result = fetch(site, "hebrew", tmp_path, language="he")
        assert isinstance(result, Fetched)
        assert (result.language, result.subtitles is not None) == ("he", True)


class TestFaults:
    def test_a_licence_that_could_not_be_read_is_neither_cc_nor_not(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        site.fail("/watch", status=429)
        site.fail("/youtubei/v1/next", status=429)
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Refused)
        assert (result.reason, result.transient) == (Reason.LICENCE_UNKNOWN, True)
        assert site.requested("/videoplayback") == 0
        assert isinstance(fetch(site, "subtitled", tmp_path), Fetched)

    def test_a_limited_watch_page_alone_does_no_harm(self, site: VideoSite, tmp_path: Path) -> None:
        site.fail("/watch", status=429, times=None)
        assert isinstance(fetch(site, "subtitled", tmp_path), Fetched)
        result = fetch(site, "closed", tmp_path)
        assert isinstance(result, Refused)
        assert result.reason == Reason.NOT_CC

    @pytest.mark.parametrize("path", ["/youtubei/v1/player", "/api/timedtext", "/videoplayback"])
    def test_a_lasting_limit_stops_the_run(
        self, site: VideoSite, tmp_path: Path, path: str
    ) -> None:
        site.fail(path, status=429, times=None)
        with pytest.raises(RateLimited, match="run the same command again"):
            fetch(site, "subtitled", tmp_path)

    @pytest.mark.parametrize("state", ["bot", "limited"])
    def test_being_taken_for_a_robot_stops_the_run(
        self, audio: Path, tmp_path: Path, state: str
    ) -> None:
        with (
            VideoSite([a_video("v", audio, state=state)]) as site,
            pytest.raises(RateLimited, match=r"www\.youtube\.com limits this address"),
        ):
            fetch(site, "v", tmp_path)

    def test_limited_subtitles_are_asked_for_again_after_the_time_told(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        site.fail("/api/timedtext", status=429, retry_after=1, times=2)
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Fetched)
        assert result.subtitles is not None
        assert site.requested("/api/timedtext") == 3

    def test_a_pause_longer_than_anyone_waits_stops_the_run_at_once(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        site.fail("/api/timedtext", status=429, retry_after=3600, times=None)
        with pytest.raises(RateLimited):
            fetch(site, "subtitled", tmp_path)
        assert site.requested("/api/timedtext") == 1

    @pytest.mark.parametrize("fault", [{"body": b""}, {"status": 503}, {"reset": True}])
    def test_subtitles_that_do_not_come_are_left_for_another_day(
        self, site: VideoSite, tmp_path: Path, fault: dict[str, object]
    ) -> None:
        site.fail("/api/timedtext", times=None, **fault)  # type: ignore[arg-type]
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Refused)
        assert (result.reason, result.transient) == (Reason.SUBTITLES_FAILED, True)
        assert site.requested("/videoplayback") == 0

    def test_subtitles_that_are_announced_but_missing_do_not_lose_the_video(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        site.fail("/api/timedtext", status=404)
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Fetched)
        assert result.subtitles_note == "the subtitles in cs are announced but missing"

    @pytest.mark.parametrize("path", ["/watch", "/youtubei/v1/player", "/videoplayback"])
    def test_a_server_error_is_tried_again(
        self, site: VideoSite, tmp_path: Path, path: str
    ) -> None:
        site.fail(path, status=503)
        assert isinstance(fetch(site, "subtitled", tmp_path), Fetched)

    @pytest.mark.parametrize("fault", [{"truncate": 4000}, {"reset": True}])
    def test_broken_media_is_continued_to_the_same_file(
        self, site: VideoSite, audio: Path, tmp_path: Path, fault: dict[str, object]
    ) -> None:
        site.fail("/videoplayback", times=2, **fault)  # type: ignore[arg-type]
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Fetched)
        assert result.media.read_bytes() == audio.read_bytes()

    def test_a_download_cut_off_by_a_killed_run_goes_on_where_it_stopped(
        self, site: VideoSite, audio: Path, tmp_path: Path
    ) -> None:
        whole = audio.read_bytes()
        part = tmp_path / "subtitled__" / "media.251.webm.part"
        part.parent.mkdir()
        part.write_bytes(whole[:5000])
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Fetched)
        assert result.media.read_bytes() == whole
        assert (site.requests[-1].byte_range or "").startswith("bytes=5000-")

    def test_a_partial_file_longer_than_the_whole_is_started_afresh(
        self, site: VideoSite, audio: Path, tmp_path: Path
    ) -> None:
        part = tmp_path / "subtitled__" / "media.251.webm.part"
        part.parent.mkdir()
        part.write_bytes(audio.read_bytes() * 2)
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Fetched)
        assert result.media.read_bytes() == audio.read_bytes()

    def test_an_expired_media_address_is_asked_for_anew(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        site.fail("/videoplayback", status=403)
        assert isinstance(fetch(site, "subtitled", tmp_path), Fetched)
        assert site.requested("/youtubei/v1/player") == 2

    def test_media_that_stays_forbidden_is_a_transient_refusal(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        site.fail("/videoplayback", status=403, times=None)
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Refused)
        assert (result.reason, result.transient) == (Reason.NETWORK, True)
        assert "403" in result.message

    def test_short_media_of_consistent_length_shows_against_what_was_announced(
        self, site: VideoSite, audio: Path, tmp_path: Path
    ) -> None:
        site.fail("/videoplayback", body=audio.read_bytes()[:9000])
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Fetched)
        assert result.announced_seconds == SECONDS
        assert len(decode(result.media)) / 16_000 < SECONDS / 2

    def test_an_untrusted_certificate_is_a_network_failure_and_not_a_crash(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = fetch(site, "subtitled", tmp_path, check_certificate=True)
        assert isinstance(result, Refused)
        assert (result.reason, result.transient) == (Reason.NETWORK, True)
        assert "CERTIFICATE_VERIFY_FAILED" in result.message

    def test_an_answer_that_yt_dlp_stumbles_over_ends_this_video_alone(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        strange = b'{"videoDetails": {"videoId": "subtitled__"}, "streamingData": [1]}'
        site.fail("/youtubei/v1/player", body=strange)
        result = fetch(site, "subtitled", tmp_path)
        assert isinstance(result, Refused)
        assert (result.reason, result.transient) == (Reason.EXTRACTOR, True)
        assert "a newer one may know more" in result.message

    def test_a_folder_that_cannot_be_written_stops_the_run(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        (tmp_path / "subtitled__").write_text("a file where the folder should be")
        with pytest.raises(UserError, match="check the folder"):
            fetch(site, "subtitled", tmp_path)

    def test_a_proxy_that_is_not_there_is_told_in_one_line(self, tmp_path: Path) -> None:
        options = FetchOptions(language="cs", proxy="http://127.0.0.1:9", sleep=False)
        with pytest.raises(
            UserError, match=r"cannot list .* check the address and the network"
        ) as e:
            list(list_videos([PLAYLIST], [], options))
        assert "\n" not in str(e.value)
        result = fetch_video(an_entry("v"), options, tmp_path)
        assert isinstance(result, Refused)
        assert result.reason == Reason.NETWORK


@pytest.mark.parametrize(
    ("row", "licence"),
    [
        ("Licence", "Creative Commons Attribution licence (reuse allowed)"),
        ("License", "Creative Commons Attribution license (reuse allowed)"),
    ],
)
def test_the_recorded_answers_about_a_real_video_give_its_licence_and_subtitles(
    site: VideoSite, audio: Path, tmp_path: Path, shared_data: Path, row: str, licence: str
) -> None:
    """They were recorded with a British interface; the other is what an American one would say."""
    recorded = shared_data / "infojson" / "youtube_cc_video_M4gD1WSo5mA"
    data = (recorded / "innertube_next.json").read_text(encoding="utf-8")
    assert data.count("Licence") == data.count("licence (reuse") == 1
    data = data.replace("Licence", row).replace("licence (reuse", f"{row.lower()} (reuse")
    site.fail("/watch", times=None, body=b"<html></html>")
    site.fail("/youtubei/v1/next", times=None, body=data.encode())
    player = (recorded / "innertube_player.json").read_bytes()
    site.fail("/youtubei/v1/player", times=None, body=player)
    site.fail("/api/timedtext", body=CZECH.encode())
    site.fail("/videoplayback", times=None, body=audio.read_bytes())
    result = fetch(site, "M4gD1WSo5mA", tmp_path, language="en")
    assert isinstance(result, Fetched)
    assert (result.licence_raw, result.licence) == (licence, "CC-BY-3.0")
    assert result.channel == "The Berkman Klein Center for Internet & Society"
    assert result.subtitles is not None
    assert result.subtitles.language == "en"


def test_every_option_is_known_to_yt_dlp(tmp_path: Path) -> None:
    """yt-dlp takes unknown names without a word, so a misspelt one would simply not act."""
    import yt_dlp

    known = set(yt_dlp.parse_options([]).ydl_opts)
    options = FetchOptions("cs", proxy="http://p", cookies=tmp_path / "cookies", rate_limit=1000)
    assert set(ydl_options(options, tmp_path)) <= known


def test_a_public_site_is_given_the_pauses_it_expects() -> None:
    import yt_dlp

    preset = yt_dlp.parse_options(["-t", "sleep"]).ydl_opts
    chosen = ydl_options(FetchOptions("cs"))
    for name in ("sleep_interval_requests", "sleep_interval", "max_sleep_interval"):
        assert chosen[name] == preset[name]
        assert name not in ydl_options(FetchOptions("cs", sleep=False))


@pytest.mark.network
def test_a_real_creative_commons_video_is_taken(tmp_path: Path) -> None:
    result = fetch_video(an_entry("M4gD1WSo5mA"), FetchOptions("en"), tmp_path)
    assert isinstance(result, Fetched)
    assert result.licence == "CC-BY-3.0"
