"""What `corpus fetch` is told to take, leave and promise, against the site on loopback."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from corpus.catalogue import Catalogue, Recording
from corpus.workspace import CONFIG_NAME, Workspace
from demo.video_site import Video, VideoSite

from .conftest import Corpus, fetch_arguments

WATCH = "https://www.youtube.com/watch?v="


def titles(catalogue: Catalogue) -> list[str]:
    with catalogue.session() as session:
        return [t or "" for t in session.scalars(select(Recording.title).order_by(Recording.title))]


def refusals(corpus: Corpus, workspace: Workspace) -> dict[str, dict[str, Any]]:
    document = json.loads(corpus("status", "--json", "--workspace", workspace.root).out)
    return {f["item"].removeprefix("youtube:").rstrip("0"): f for f in document["failures"]}


def changed(site: VideoSite, id: str, **changes: Any) -> None:
    site.videos[id] = Video(**{**vars(site.videos[id]), **changes})


class TestFromFile:
    def test_each_line_is_an_address_and_comments_are_none(
        self,
        corpus: Corpus,
        workspace: Workspace,
        catalogue: Catalogue,
        site: VideoSite,
        tmp_path: Path,
    ) -> None:
        addresses = tmp_path / "addresses.txt"
        addresses.write_text(
            f"\ufeff# talks\n\n{WATCH}first000000  # the first\n  {WATCH}second00000#t=5\n",
            encoding="utf-8",
        )
        arguments = fetch_arguments(site, workspace.root, "--from-file", addresses)
        outcome = corpus("fetch", *arguments[2:])
        assert outcome.code == 0, outcome.err
        assert titles(catalogue) == ["Talk first", "Talk second"]

    def test_a_file_of_comments_alone_is_told(
        self, corpus: Corpus, workspace: Workspace, tmp_path: Path
    ) -> None:
        (tmp_path / "empty.txt").write_text("# nothing yet\n")
        outcome = corpus(
            "fetch", "--from-file", tmp_path / "empty.txt", "--workspace", workspace.root
        )
        assert outcome.code == 1
        assert "no address in it; give one a line" in outcome.err


class TestLength:
    def test_what_the_listing_tells_is_decided_without_asking(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        changed(site, "first000000", duration_s=3601.0)
        corpus(*fetch_arguments(site, workspace.root, "--max-duration", 3600))
        assert titles(catalogue) == ["Talk bare", "Talk second"]
        assert site.requested("/watch", "first000000") == 0
        refused = refusals(corpus, workspace)["first"]
        assert refused["reason"] == "duration"
        assert refused["message"] == "it is 3601 s long; wanted: 0 s to 3600 s"

    def test_a_single_video_is_decided_by_its_page_and_costs_no_media(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        arguments = fetch_arguments(site, workspace.root, "--min-duration", 60)
        corpus("fetch", WATCH + "first000000", *arguments[2:])
        assert titles(catalogue) == []
        assert site.requested("/watch", "first000000") == 1
        assert site.requested("/videoplayback") == 0
        assert refusals(corpus, workspace)["first"]["message"].endswith("wanted: 60 s and more")

    def test_it_is_asked_again_when_the_limits_change_and_not_before(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        arguments = fetch_arguments(site, workspace.root)
        for _ in range(2):
            corpus("fetch", WATCH + "first000000", *arguments[2:], "--min-duration", 60)
        assert site.requested("/watch", "first000000") == 1
        corpus("fetch", WATCH + "first000000", *arguments[2:], "--min-duration", 30)
        assert site.requested("/watch", "first000000") == 2
        assert titles(catalogue) == []
        corpus("fetch", WATCH + "first000000", *arguments[2:], "--min-duration", 2)
        assert titles(catalogue) == ["Talk first"]
        assert refusals(corpus, workspace) == {}

    def test_the_settings_can_give_the_limits(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        (workspace.root / CONFIG_NAME).write_text('language = "en"\n[fetch]\nmin_duration = 60\n')
        corpus(*fetch_arguments(site, workspace.root))
        assert titles(catalogue) == []
        corpus(*fetch_arguments(site, workspace.root, "--min-duration", 0))
        assert len(titles(catalogue)) == 3


class TestHours:
    def test_no_more_is_taken_once_there_is_enough_and_earlier_runs_count(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        hours = site.videos["first000000"].duration_s / 3600
        limit = ("--max-hours", f"{hours * 0.9:.6f}")
        for _ in range(2):
            outcome = corpus(*fetch_arguments(site, workspace.root, *limit))
            assert outcome.code == 0
            assert titles(catalogue) == ["Talk first"]
        corpus(*fetch_arguments(site, workspace.root, "--max-hours", f"{hours * 1.1:.6f}"))
        assert titles(catalogue) == ["Talk first", "Talk second"]


class TestLicence:
    def test_non_commercial_is_left_unless_it_is_wanted_and_then_not_redistributable(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        changed(site, "first000000", licence="nc")
        corpus(*fetch_arguments(site, workspace.root))
        assert titles(catalogue) == ["Talk bare", "Talk second"]
        refused = refusals(corpus, workspace)["first"]
        assert (refused["reason"], refused["retried"]) == ("non_commercial", False)
        assert "NonCommercial 4.0; --allow-nc takes it" in refused["message"]
        corpus(*fetch_arguments(site, workspace.root, "--allow-nc"))
        with catalogue.session() as session:
            taken = session.get_one(Recording, "youtube:first000000")
            assert (taken.licence, taken.redistributable) == ("CC-BY-NC-4.0", False)
        assert "standard" in refusals(corpus, workspace)


class TestLanguage:
    def test_a_video_in_another_language_is_left_unless_the_site_is_not_believed(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        changed(site, "first000000", language="cs", automatic="cs")
        corpus(*fetch_arguments(site, workspace.root))
        assert titles(catalogue) == ["Talk bare", "Talk second"]
        refused = refusals(corpus, workspace)["first"]
        assert (refused["reason"], refused["retried"]) == ("other_language", False)
        corpus(*fetch_arguments(site, workspace.root, "--language", "any"))
        assert titles(catalogue) == ["Talk bare", "Talk first", "Talk second"]
        with catalogue.session() as session:
            taken = session.get_one(Recording, "youtube:first000000")
            assert (taken.language, bool(taken.cues)) == ("en", True)

    def test_a_kind_of_the_language_can_be_named_and_another_language_cannot(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        outcome = corpus(*fetch_arguments(site, workspace.root, "--language", "cs"))
        assert outcome.code == 1
        assert "this workspace is for en; make one for cs" in outcome.err
        assert corpus(*fetch_arguments(site, workspace.root, "--language", "en-GB")).code == 0
        with catalogue.session() as session:
            languages = set(session.scalars(select(Recording.language)))
        assert languages == {"en-GB"}


def test_a_public_site_is_never_asked_without_pauses(corpus: Corpus, workspace: Workspace) -> None:
    at = ("--workspace", workspace.root, "--no-sleep")
    for proxy in ((), ("--proxy", "http://proxy.example:3128")):
        outcome = corpus("fetch", WATCH + "first000000", *proxy, *at)
        assert outcome.code == 1
        assert "--no-sleep is only for a site on this machine" in outcome.err


class TestDryRun:
    def plan(self, corpus: Corpus, site: VideoSite, workspace: Workspace, *more: object) -> Any:
        outcome = corpus(*fetch_arguments(site, workspace.root, "--dry-run", "--json", *more))
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)

    def outcomes(self, plan: Any) -> dict[str, str]:
        return {
            video["id"].removeprefix("youtube:").rstrip("0"): video["outcome"]
            for video in plan["videos"]
        }

    def test_it_tells_what_would_be_taken_and_why_not_and_writes_nothing(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        plan = self.plan(corpus, site, workspace)
        assert self.outcomes(plan) == {
            "first": "take",
            "second": "take",
            "bare": "take",
            "standard": "not_cc",
            "private": "private",
            "deleted": "gone",
            "live": "live",
        }
        first, _, bare, standard, *_ = plan["videos"]
        assert (first["subtitles"], first["licence"], first["why"]) == ("en", "CC-BY-3.0", None)
        assert (bare["subtitles"], bare["why"]) == (None, "only automatic captions")
        assert standard["why"] == "its licence is Standard YouTube License"
        assert plan["take"] == 3
        assert plan["hours"] == pytest.approx(
            sum(video["seconds"] for video in plan["videos"][:3]) / 3600
        )
        assert site.requested("/videoplayback") == site.requested("/api/timedtext") == 0
        assert titles(catalogue) == []
        assert refusals(corpus, workspace) == {}
        assert not workspace.media.exists()

    def test_what_is_decided_already_is_told_without_asking(
        self, corpus: Corpus, workspace: Workspace, site: VideoSite
    ) -> None:
        corpus(*fetch_arguments(site, workspace.root, "--max-videos", 1))
        corpus("remove", "youtube:first000000", "--yes", "--workspace", workspace.root)
        corpus(*fetch_arguments(site, workspace.root))
        site.requests.clear()
        found = self.outcomes(self.plan(corpus, site, workspace, "--max-videos", 4))
        assert found == {
            "first": "removed",
            "second": "here",
            "bare": "here",
            "standard": "not_cc",
        }
        assert not any(request.video for request in site.requests)

    def test_it_keeps_to_the_limits(
        self, corpus: Corpus, workspace: Workspace, site: VideoSite
    ) -> None:
        changed(site, "second00000", duration_s=500.0)
        hours = site.videos["first000000"].duration_s / 3600
        more = ("--max-hours", f"{hours * 1.1:.6f}", "--max-duration", 400, "--subtitles-only")
        found = self.outcomes(self.plan(corpus, site, workspace, *more))
        assert found["first"] == "take"
        assert found["second"] == "duration"
        assert found["bare"] == "no_subtitles"

    def test_people_get_a_table(
        self, corpus: Corpus, workspace: Workspace, site: VideoSite
    ) -> None:
        outcome = corpus(*fetch_arguments(site, workspace.root, "--dry-run"))
        assert "3 of 7 would be taken" in outcome.out
        assert "Talk first" in outcome.out
        assert "not_cc" in outcome.out


class TestConnection:
    def test_cookies_are_sent_with_a_warning(
        self,
        corpus: Corpus,
        workspace: Workspace,
        site: VideoSite,
        tmp_path: Path,
    ) -> None:
        cookies = tmp_path / "cookies.txt"
        cookies.write_text(
            "# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t0\tPREF\tf6=40000000\n"
        )
        outcome = corpus(
            *fetch_arguments(site, workspace.root, "--cookies", cookies, "--max-videos", 1)
        )
        assert outcome.code == 0, outcome.err
        (warning,) = [line for line in outcome.err.splitlines() if line.startswith("warning:")]
        assert "block an account" in warning
        assert any("f6=40000000" in (request.cookie or "") for request in site.requests)

    def test_with_cookies_a_private_video_is_asked_for_again(
        self, corpus: Corpus, workspace: Workspace, site: VideoSite, tmp_path: Path
    ) -> None:
        changed(site, "first000000", state="private")
        cookies = tmp_path / "cookies.txt"
        cookies.write_text(
            "# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t0\tPREF\tf6=40000000\n"
        )
        arguments = fetch_arguments(site, workspace.root)
        for _ in range(2):
            corpus("fetch", WATCH + "first000000", *arguments[2:])
        asked = site.requested("/watch", "first000000")
        assert asked == 1
        corpus("fetch", WATCH + "first000000", *arguments[2:], "--cookies", cookies)
        assert site.requested("/watch", "first000000") == 2

    def test_a_rate_limit_slows_the_media_down(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        size = site.videos["first000000"].audio.stat().st_size
        rate = size / 1024 / 3  # K a second that take three seconds
        started = time.monotonic()
        arguments = fetch_arguments(site, workspace.root, "--rate-limit", f"{rate:.2f}K")
        corpus("fetch", WATCH + "first000000", *arguments[2:])
        assert time.monotonic() - started > 2.0
        assert titles(catalogue) == ["Talk first"]
