"""Videos of other places than YouTube, by the real yt-dlp, from the video site on loopback."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from corpus.audio import decode
from corpus.catalogue import Catalogue, Recording
from corpus.errors import UserError
from corpus.sources import commons, peertube
from corpus.sources.sites import fetch_video, list_videos
from corpus.sources.video import Entry, Fetched, FetchOptions, RateLimited, Reason, Refused
from corpus.workspace import Workspace, init_workspace
from demo.video_site import COMMONS, Video, VideoSite, encode_opus

from .conftest import Corpus

CZECH = "1\n00:00:00,000 --> 00:00:01,500\nDobrý den, vítejte.\n"
UUIDS = [f"122d093a-1ede-43bd-bd34-59d2931ffc{n:02x}" for n in range(6)]
BY_SA = "https://creativecommons.org/licenses/by-sa/3.0/de"


@pytest.fixture(autouse=True)
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YTDLP_NO_PLUGINS", "1")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "noise.webm"
    noise = np.random.default_rng(0).normal(scale=4000, size=2 * 16_000)
    encode_opus(noise.astype(np.int16), path)
    return path


@pytest.fixture
def site(audio: Path) -> Iterator[VideoSite]:
    def video(id: str, licence: str | None, **changes: object) -> Video:
        values = {"language": "cs", "subtitles": {"cs": CZECH}, "licence": licence, **changes}
        return Video(id, f"Talk {id}", audio, 2.0, **values)  # type: ignore[arg-type]

    commons_files = [
        video("Řeč_(1).webm", f"Creative Commons Attribution-Share Alike 3.0 Germany | {BY_SA}"),
        video("Old.ogg", "Public domain"),
        video("Nd.webm", "CC BY-ND 4.0 | https://creativecommons.org/licenses/by-nd/4.0/"),
        video("Gfdl.webm", "GNU Free Documentation License"),
        video("Gone.webm", "CC0", state="deleted"),
        video("Picture.jpg", "CC0"),
    ]
    peertube_videos = [
        video(UUIDS[0], "Attribution"),
        video(UUIDS[1], "Attribution - Share Alike", subtitles={}, automatic="cs"),
        video(UUIDS[2], "Attribution - Non Commercial"),
        video(UUIDS[3], None),
        video(UUIDS[4], "Public Domain Dedication", language="en"),
        video(UUIDS[5], "Attribution", state="private"),
    ]
    others = [
        video("a1qrWTOQfVoU", "Creative Commons Attribution 4.0"),
        video("b1qrWTOQfVoU", "All rights reserved"),
    ]
    playlists = {
        "Category:Speeches": [v.id for v in commons_files],
        "lectures": [v.id for v in peertube_videos],
    }
    with VideoSite([*commons_files, *peertube_videos, *others], playlists, page_size=4) as site:
        yield site


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A fresh workspace for Czech, which the videos are in."""
    return init_workspace(tmp_path / "workspace", "cs")


def options_for(site: VideoSite, **changes: object) -> FetchOptions:
    values = {"language": "cs", "proxy": site.proxy_url, "check_certificate": False, "sleep": False}
    return FetchOptions(**{**values, **changes})  # type: ignore[arg-type]


def listed(site: VideoSite, *urls: str) -> list[Entry]:
    return list(list_videos(urls, [], options_for(site)))


def fetched(site: VideoSite, url: str, stage: Path) -> Fetched | Refused:
    (entry,) = listed(site, url)
    return fetch_video(entry, options_for(site), stage)


class TestListing:
    def test_an_address_elsewhere_is_refused_before_anything_is_asked(
        self, site: VideoSite
    ) -> None:
        urls = ["https://commons.wikimedia.org/wiki/Category:Speeches", "https://example.org/x"]
        with pytest.raises(UserError, match=r"example\.org/x is at no site that tells"):
            listed(site, *urls)
        assert not site.requests

    @pytest.mark.parametrize("scheme", ["ytsearch5:talk", "file:///etc/passwd", "-o/tmp/x"])
    def test_what_is_no_address_of_the_web_is_refused(self, site: VideoSite, scheme: str) -> None:
        with pytest.raises(UserError, match="is at no site"):
            listed(site, scheme)

    @pytest.mark.parametrize(
        "url",
        [
            "https://commons.wikimedia.org/wiki/File:Řeč_(1).webm",
            "https://commons.wikimedia.org/wiki/File:%C5%99e%C4%8D%20(1).webm",
            "https://commons.m.wikimedia.org/wiki/File:%C5%98e%C4%8D_(1).webm?uselang=cs",
        ],
    )
    def test_a_file_of_commons_has_one_id_however_its_address_is_written(
        self, site: VideoSite, url: str
    ) -> None:
        (entry,) = listed(site, url)
        assert entry.id == "commons:Řeč_(1).webm"
        assert entry.url == "https://commons.wikimedia.org/wiki/File:%C5%98e%C4%8D_%281%29.webm"
        assert not site.requests

    def test_a_category_of_commons_gives_its_media_page_after_page(self, site: VideoSite) -> None:
        entries = listed(site, "https://commons.wikimedia.org/wiki/Category:Speeches")
        names = [entry.id.removeprefix("commons:") for entry in entries]
        assert names == ["Řeč_(1).webm", "Old.ogg", "Nd.webm", "Gfdl.webm", "Gone.webm"]
        assert len(site.requests) == 2

    @pytest.mark.parametrize(
        "url",
        [
            "https://peertube2.cpy.re/w/3fbif9S3WmtTP8gGsC5HBd",
            "https://peertube2.cpy.re/videos/watch/122d093a-1ede-43bd-bd34-59d2931ffc5e?start=3s",
            "https://peertube2.cpy.re/videos/embed/122D093A-1EDE-43BD-BD34-59D2931FFC5E",
            "peertube:peertube2.cpy.re:122d093a-1ede-43bd-bd34-59d2931ffc5e",
        ],
    )
    def test_a_peertube_video_has_one_id_whatever_form_its_address_has(
        self, site: VideoSite, url: str
    ) -> None:
        (entry,) = listed(site, url)
        assert entry.id == "peertube:peertube2.cpy.re:122d093a-1ede-43bd-bd34-59d2931ffc5e"
        assert not site.requests

    def test_a_peertube_channel_gives_its_videos_and_asks_for_none(self, site: VideoSite) -> None:
        entries = listed(site, "https://framatube.org/c/lectures/videos")
        assert [entry.id for entry in entries] == [f"peertube:framatube.org:{id}" for id in UUIDS]
        assert site.requested("/api/v1/videos") == 0

    def test_a_video_of_another_site_is_known_by_its_address(self, site: VideoSite) -> None:
        (entry,) = listed(site, "https://video.arnes.si/en/watch/a1qrWTOQfVoU?t=10")
        assert entry.id == "arnes:a1qrWTOQfVoU"
        assert not site.requests


class TestCommons:
    def fetch(self, site: VideoSite, name: str, stage: Path) -> Fetched | Refused:
        return fetched(site, f"https://commons.wikimedia.org/wiki/File:{name}", stage)

    def test_a_file_comes_with_its_licence_author_and_subtitles(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = self.fetch(site, "Řeč_(1).webm", tmp_path)
        assert isinstance(result, Fetched)
        assert (result.licence_raw, result.licence) == (BY_SA, "CC-BY-SA-3.0-DE")
        assert "LicenseUrl in the MediaWiki API" in result.licence_evidence["where"]
        assert (result.channel, result.channel_id) == ("Open Lectures", "commons:openlectures")
        assert result.subtitles is not None
        assert (result.subtitles.raw.decode(), result.subtitles.format) == (CZECH, "srt")
        assert len(decode(result.media)) > 31_000

    def test_public_domain_has_no_address_and_is_taken_by_its_name(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = self.fetch(site, "Old.ogg", tmp_path)
        assert isinstance(result, Fetched)
        assert (result.licence_raw, result.licence) == ("Public domain", "CC-PDM-1.0")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("Nd.webm", Reason.NOT_CC), ("Gfdl.webm", Reason.NOT_CC), ("Nothing.webm", Reason.GONE)],
    )
    def test_what_is_not_free_enough_or_not_there_is_refused_for_good(
        self, site: VideoSite, tmp_path: Path, name: str, reason: Reason
    ) -> None:
        result = self.fetch(site, name, tmp_path)
        assert isinstance(result, Refused)
        assert (result.reason, result.transient) == (reason, False)
        assert site.requested("/static/media") == 0

    def test_wikimedia_is_not_told_that_this_is_a_browser(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        self.fetch(site, "Řeč_(1).webm", tmp_path)
        asked = [request for request in site.requests if request.host.endswith("wikimedia.org")]
        assert {request.agent.partition("/")[0] for request in asked} == {"yt-dlp"}

    @pytest.mark.parametrize("body", [b"<html>busy</html>", b'{"error": {"code": "maxlag"}}'])
    def test_an_answer_that_is_none_is_left_for_another_day(
        self, site: VideoSite, tmp_path: Path, body: bytes
    ) -> None:
        (entry,) = listed(site, "https://commons.wikimedia.org/wiki/File:Old.ogg")
        site.fail("/w/api.php", times=None, body=body)
        result = fetch_video(entry, options_for(site), tmp_path)
        assert isinstance(result, Refused)
        assert (result.reason, result.transient) == (Reason.EXTRACTOR, True)

    def test_a_limit_names_the_site_and_stops_the_run(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        site.fail("/w/api.php", times=None, status=429)
        with pytest.raises(RateLimited, match=f"{COMMONS} limits this address"):
            self.fetch(site, "Old.ogg", tmp_path)


class TestPeerTube:
    def fetch(self, site: VideoSite, number: int, stage: Path) -> Fetched | Refused:
        return fetched(site, f"https://framatube.org/videos/watch/{UUIDS[number]}", stage)

    def test_a_video_comes_with_its_licence_language_and_captions(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = self.fetch(site, 0, tmp_path)
        assert isinstance(result, Fetched)
        assert (result.licence_raw, result.licence) == ("Attribution", "CC-BY")
        assert (result.language, result.channel_id) == ("cs", "peertube:framatube.org:7")
        assert result.subtitles is not None
        assert b"00:00:01.500\nDobr" in result.subtitles.raw
        assert result.subtitles.format == "vtt"
        assert len(decode(result.media)) > 31_000

    def test_automatically_generated_captions_are_no_subtitles(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = self.fetch(site, 1, tmp_path)
        assert isinstance(result, Fetched)
        assert (result.subtitles, result.subtitles_note) == (None, "only automatic captions")
        assert site.requested("/lazy-static") == 0

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (2, Reason.NON_COMMERCIAL),
            (3, Reason.NOT_CC),
            (4, Reason.OTHER_LANGUAGE),
            (5, Reason.PRIVATE),
        ],
    )
    def test_what_is_not_free_not_public_or_not_in_the_language_is_refused_for_good(
        self, site: VideoSite, tmp_path: Path, number: int, reason: Reason
    ) -> None:
        result = self.fetch(site, number, tmp_path)
        assert isinstance(result, Refused)
        assert (result.reason, result.transient) == (reason, False)
        assert site.requested("/static/media") == 0

    @pytest.mark.parametrize("body", [b"<html>", b'{"data": null}'])
    def test_captions_that_cannot_be_listed_are_asked_for_another_day(
        self, site: VideoSite, tmp_path: Path, body: bytes
    ) -> None:
        site.fail(f"/api/v1/videos/{UUIDS[0]}/captions", times=None, body=body)
        result = self.fetch(site, 0, tmp_path)
        assert isinstance(result, Refused)
        assert result.transient
        assert isinstance(self.fetch(site, 1, tmp_path), Fetched)


class TestOthers:
    def test_a_video_whose_licence_field_says_cc_is_taken(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = fetched(site, "https://video.arnes.si/watch/a1qrWTOQfVoU", tmp_path)
        assert isinstance(result, Fetched)
        assert result.licence == "CC-BY-4.0"
        assert "licence field of yt-dlp's video.arnes.si" in result.licence_evidence["where"]
        assert result.channel_id == "arnes:a1qrWTOQfVoU"

    def test_one_whose_licence_field_says_anything_else_is_not(
        self, site: VideoSite, tmp_path: Path
    ) -> None:
        result = fetched(site, "https://video.arnes.si/watch/b1qrWTOQfVoU", tmp_path)
        assert isinstance(result, Refused)
        assert result.reason == Reason.NOT_CC


def test_names_from_the_network_never_become_paths(audio: Path, tmp_path: Path) -> None:
    names = ["../../x.webm", "/etc/passwd", "..", "nul\0", "a" * 300, "cs/../../y"]
    for name in names:
        entry = Entry(f"commons:{name}", "", None)
        assert entry.file_name.isalnum()
        assert Entry(f"youtube:{name}", "", None).file_name.isalnum()
    assert len({Entry(f"commons:{name}", "", None).file_name for name in names}) == len(names)


def test_addresses_of_other_forms_are_none_of_these() -> None:
    assert peertube.entry("https://framatube.org/w/p/3fbif9S3WmtTP8gGsC5HBd") is None
    assert peertube.entry("https://framatube.org/w/tooshort") is None
    assert commons.page("https://commons.wikimedia.org/wiki/User:Somebody") is None
    assert commons.page("https://cs.wikipedia.org/wiki/Category:Speeches") is None


def test_all_places_come_into_one_workspace_and_a_second_run_only_lists(
    corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
) -> None:
    arguments = [
        *("fetch", "https://commons.wikimedia.org/wiki/Category:Speeches"),
        *("https://framatube.org/c/lectures/videos", "https://video.arnes.si/watch/a1qrWTOQfVoU"),
        *("--proxy", site.proxy_url, "--no-check-certificate", "--no-sleep"),
        *("--workspace", workspace.root, "--json"),
    ]
    assert json.loads(corpus(*arguments).out) == {"done": 5, "failed": 7}
    with catalogue.session() as session:
        found = list(session.scalars(select(Recording)))
    assert sorted(r.source for r in found) == ["arnes", *["commons"] * 2, *["peertube"] * 2]
    for recording in found:
        path = workspace.path(recording.media_path)
        assert path.parent == workspace.media / recording.source
        assert path.is_file()
    assert not list((workspace.media / ".stage").glob("*"))

    site.requests.clear()
    assert json.loads(corpus(*arguments).out) == {"done": 0, "failed": 0}
    paths = {r.path for r in site.requests if "cmtitle" not in r.params}
    assert all(path.startswith("/api/v1/video-channels/lectures") for path in paths)


def test_a_takedown_and_a_look_at_licences_know_all_places(
    corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
) -> None:
    network = ("--proxy", site.proxy_url, "--no-check-certificate", "--no-sleep")
    urls = (
        "https://commons.wikimedia.org/wiki/File:Old.ogg",
        f"https://framatube.org/w/{UUIDS[0]}",
    )
    where = ("--workspace", workspace.root)
    corpus("fetch", *urls, *network, *where)
    corpus("remove", "--url", "https://commons.m.wikimedia.org/wiki/File:old.ogg", "--yes", *where)
    planned = json.loads(corpus("fetch", *urls, *network, "--dry-run", "--json", *where).out)
    assert [video["outcome"] for video in planned["videos"]] == ["removed", "here"]

    site.videos[UUIDS[0]] = replace(site.videos[UUIDS[0]], licence="Unknown")
    outcome = corpus("verify", "--licenses", *network, "--json", *where)
    (problem,) = json.loads(outcome.out)["problems"]
    assert problem["item"] == f"peertube:framatube.org:{UUIDS[0]}"
    assert problem["problem"] == "licence_changed"
