"""Videos through the command line, from the video site on loopback."""

import json
from dataclasses import replace
from typing import Any

from corpus import audio
from corpus.catalogue import Catalogue
from corpus.workspace import Workspace
from demo.video_site import Video, VideoSite

from .conftest import PLAYLIST, SENTENCES, Corpus, failures, fetch_arguments, recordings


def status(corpus: Corpus, workspace: Workspace) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        corpus("status", "--json", "--workspace", workspace.root).out
    )
    return document


class TestFetch:
    def test_exactly_the_cc_videos_are_taken_and_each_refused_one_is_told_why(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        outcome = corpus(*fetch_arguments(site, workspace.root, "--json"))
        assert outcome.code == 0
        assert json.loads(outcome.out) == {"done": 3, "failed": 4}
        taken = {r.id.removeprefix("youtube:").rstrip("0"): r for r in recordings(catalogue)}
        assert taken.keys() == {"first", "second", "bare"}
        for video in taken.values():
            assert video.licence == "CC-BY-3.0"
            assert video.licence_raw == "Creative Commons Attribution license (reuse allowed)"
            assert "License" in video.licence_evidence["where"]
            media = workspace.path(video.media_path)
            assert audio.duration_ms(media) == video.duration_ms
        assert taken["first"].subtitle_note is None
        assert taken["bare"].subtitle_note == "only automatic captions"
        subtitles = workspace.path(taken["first"].subtitle_path or "")
        assert SENTENCES[0] in subtitles.read_text(encoding="utf-8")

        found = status(corpus, workspace)
        assert found["sources"]["youtube"]["recordings"] == 3
        reasons = {f["item"].removeprefix("youtube:").rstrip("0"): f for f in found["failures"]}
        assert {name: f["reason"] for name, f in reasons.items()} == {
            "standard": "not_cc",
            "private": "private",
            "deleted": "gone",
            "live": "live",
        }
        assert {name for name, f in reasons.items() if f["retried"]} == {"live"}
        assert all(f["message"] and f["url"].startswith("https://") for f in reasons.values())
        assert not list((workspace.media / ".stage").glob("*"))

    def test_a_second_run_asks_only_for_what_may_have_changed(
        self, corpus: Corpus, workspace: Workspace, site: VideoSite
    ) -> None:
        corpus(*fetch_arguments(site, workspace.root))
        before = status(corpus, workspace)
        site.requests.clear()
        outcome = corpus(*fetch_arguments(site, workspace.root))
        assert "7 videos listed, 1 of them new or to be retried" in outcome.err
        assert site.requested("/videoplayback") == 0
        asked = {r.video for r in site.requests if r.video}
        assert asked == {"live0000000"}
        after = status(corpus, workspace)
        for failure in before["failures"]:
            failure["attempts"] += failure["reason"] == "live"
        assert after == before

    def test_what_failed_for_a_passing_reason_is_tried_again(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        site.fail("/videoplayback", video="first000000", status=403, times=2)
        site.fail("/videoplayback", video="second00000", body=b"no audio" * 50)
        corpus(*fetch_arguments(site, workspace.root))
        reasons = {f.item: (f.kind, f.transient) for f in failures(catalogue)}
        assert reasons["youtube:first000000"] == ("network", True)
        assert reasons["youtube:second00000"] == ("bad_media", True)
        corpus(*fetch_arguments(site, workspace.root))
        assert len(recordings(catalogue)) == 3
        assert not {"youtube:first000000", "youtube:second00000"} & {
            f.item for f in failures(catalogue)
        }

    def test_media_shorter_than_announced_is_not_taken(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        whole = site.videos["first000000"].audio.read_bytes()
        site.fail("/videoplayback", video="first000000", body=whole[: len(whole) // 2])
        corpus(*fetch_arguments(site, workspace.root))
        (short,) = [f for f in failures(catalogue) if f.kind == "bad_media"]
        assert "shorter than announced" in short.message
        assert not (workspace.media / "youtube" / "first000000.flac").exists()
        corpus(*fetch_arguments(site, workspace.root))
        assert len(recordings(catalogue)) == 3

    def test_videos_left_for_lack_of_subtitles_come_when_they_are_wanted(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        for _ in range(2):
            corpus(*fetch_arguments(site, workspace.root, "--subtitles-only"))
        assert {r.title for r in recordings(catalogue)} == {"Talk first", "Talk second"}
        assert site.requested("/watch", "bare0000000") == 1
        corpus(*fetch_arguments(site, workspace.root))
        assert len(recordings(catalogue)) == 3
        assert "no_subtitles" not in {f.kind for f in failures(catalogue)}

    def test_a_limit_ends_the_run_in_one_line_and_keeps_what_was_taken(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        site.fail("/videoplayback", video="second00000", status=429, times=None)
        outcome = corpus(*fetch_arguments(site, workspace.root))
        assert outcome.code == 1
        assert "run the same command again" in outcome.err.splitlines()[-1]
        assert [r.title for r in recordings(catalogue)] == ["Talk first"]

    def test_an_address_that_cannot_be_listed_does_not_keep_back_the_others(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        missing = "https://www.youtube.com/playlist?list=PLnothing"
        arguments = fetch_arguments(site, workspace.root)
        outcome = corpus("fetch", missing, *arguments[1:])
        assert outcome.code == 1
        assert "cannot list" in outcome.err.splitlines()[-1]
        assert PLAYLIST not in outcome.err.splitlines()[-1]
        assert len(recordings(catalogue)) == 3

    def test_a_name_from_the_network_never_becomes_a_path(
        self, corpus: Corpus, workspace: Workspace, talks: list[Video]
    ) -> None:
        key = "en-../../../escape"
        video = replace(talks[0], subtitles={key: next(iter(talks[0].subtitles.values()))})
        with VideoSite([video], {"PLtalks": [video.id]}) as site:
            outcome = corpus(*fetch_arguments(site, workspace.root))
        assert outcome.code == 0, outcome.err
        (taken,) = recordings(Catalogue(workspace.catalogue_url))
        assert taken.subtitle_path is not None
        path = workspace.path(taken.subtitle_path)
        assert path.parent == workspace.media / "youtube"
        assert path.is_file()
        assert not list(workspace.root.parent.rglob("*escape*"))

    def test_the_number_of_videos_can_be_limited(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
    ) -> None:
        corpus(*fetch_arguments(site, workspace.root, "--max-videos", 1))
        assert [r.title for r in recordings(catalogue)] == ["Talk first"]
