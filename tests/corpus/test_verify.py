"""What `corpus verify` finds: media, datasets and licences that are not as they were."""

import json
from typing import Any

import pytest

from corpus.catalogue import Catalogue, Recording
from corpus.workspace import Workspace
from demo.video_site import Video, VideoSite

from .conftest import AddRecording, Corpus, Outcome, fetch_arguments

LABEL = {"text": "one", "kind": "subtitle", "verdict": "keep"}


def problems(outcome: Outcome) -> dict[str, str]:
    found = {p["item"]: p["problem"] for p in json.loads(outcome.out)["problems"]}
    assert outcome.code == (1 if found else 0)
    return found


class TestMedia:
    def test_files_that_are_gone_or_changed_are_told_one_line_each(
        self,
        corpus: Corpus,
        workspace: Workspace,
        catalogue: Catalogue,
        add_recording: AddRecording,
    ) -> None:
        for name in ("whole", "changed", "gone", "clip"):
            add_recording(name, [LABEL], **({"sha256": None} if name == "clip" else {}))
        at = ("--workspace", workspace.root)
        fine = corpus("verify", *at)
        assert (fine.code, fine.out) == (0, "verify: 0 problems\n")

        for name in ("gone", "clip"):
            (workspace.media / f"{name}.flac").unlink()
        flac = workspace.media / "changed.flac"
        flac.write_bytes(flac.read_bytes()[:-1] + b"x")
        outcome = corpus("verify", *at)
        assert outcome.code == 1
        *told, last = outcome.out.splitlines()
        assert [line.split(": ")[:2] for line in told] == [
            ["changed", "media_changed"],
            ["clip", "media_missing"],
            ["gone", "media_missing"],
        ]
        assert last == "verify: 3 problems"
        assert problems(corpus("verify", "--json", *at)).keys() == {"changed", "clip", "gone"}


def test_a_dataset_that_still_holds_what_was_removed_is_told(
    corpus: Corpus, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
) -> None:
    for number in range(3):
        add_recording(f"talk{number}", [LABEL], channel_id=f"UC{number}")
    at = ("--workspace", workspace.root)
    corpus("build", "one", "--dev-hours", 0, "--test-hours", 0, *at)
    assert problems(corpus("verify", "--json", *at)) == {}
    corpus("remove", "talk1", "--yes", *at)
    folder = str(workspace.datasets / "one")
    assert problems(corpus("verify", "--json", *at)) == {folder: "removed"}
    assert "it holds talk1, taken down; make it anew: rm -r" in corpus("verify", *at).out


class TestLicences:
    @pytest.fixture
    def licences(self, corpus: Corpus, workspace: Workspace, site: VideoSite) -> Any:
        """Ask the site again, after the playlist was fetched from it."""
        arguments = fetch_arguments(site, workspace.root)
        assert corpus(*arguments).code == 0
        site.requests.clear()
        return lambda: corpus("verify", "--licenses", "--json", *arguments[4:])

    def evidence(self, catalogue: Catalogue, name: str) -> dict[str, Any]:
        with catalogue.session() as session:
            return session.get_one(Recording, f"youtube:{name:0<11}").licence_evidence

    def test_each_look_is_kept_as_evidence_beside_the_first(
        self, catalogue: Catalogue, site: VideoSite, licences: Any
    ) -> None:
        before = self.evidence(catalogue, "first")
        for _ in range(2):
            assert problems(licences()) == {}
        after = self.evidence(catalogue, "first")
        checks = after.pop("checks")
        assert after == before
        assert [check["licence"] for check in checks] == ["CC-BY-3.0"] * 2
        assert all(check["when"] >= before["when"] for check in checks)
        assert {"where", "reader", "licence_raw"} <= checks[0].keys()
        assert site.requested("/videoplayback") == site.requested("/api/timedtext") == 0

    def test_a_changed_licence_and_a_video_that_is_gone_are_told_and_stay_here(
        self, workspace: Workspace, catalogue: Catalogue, site: VideoSite, licences: Any
    ) -> None:
        for id, changes in {
            "first000000": {"licence": "standard"},
            "second00000": {"state": "deleted"},
            "bare0000000": {"licence": None},
        }.items():
            site.videos[id] = Video(**{**vars(site.videos[id]), **changes})
        outcome = licences()
        assert problems(outcome) == {
            "youtube:first000000": "licence_changed",
            "youtube:second00000": "gone",
            "youtube:bare0000000": "licence_changed",
        }
        messages = {p["item"]: p["message"] for p in json.loads(outcome.out)["problems"]}
        assert messages["youtube:first000000"] == (
            "its licence was CC-BY-3.0 and is now Standard YouTube License; "
            "corpus remove youtube:first000000, if it is to go"
        )
        (gone,) = self.evidence(catalogue, "second")["checks"]
        assert gone["refused"] == "gone"
        (changed,) = self.evidence(catalogue, "first")["checks"]
        assert (changed["licence_raw"], changed["licence"]) == ("Standard YouTube License", None)
        with catalogue.session() as session:
            first = session.get_one(Recording, "youtube:first000000")
            assert first.licence == "CC-BY-3.0"
            assert workspace.path(first.media_path).is_file()

    def test_a_licence_that_cannot_be_read_is_unknown_and_no_evidence(
        self, catalogue: Catalogue, site: VideoSite, licences: Any
    ) -> None:
        site.fail("/watch", video="first000000", status=429)
        site.fail("/youtubei/v1/next", video="first000000", status=429)
        assert problems(licences()) == {"youtube:first000000": "licence_unknown"}
        assert "checks" not in self.evidence(catalogue, "first")
        assert problems(licences()) == {}

    def test_after_a_limit_the_next_run_begins_with_what_was_left(
        self, catalogue: Catalogue, site: VideoSite, licences: Any
    ) -> None:
        open_video = site.videos["second00000"]
        site.videos["second00000"] = Video(**{**vars(open_video), "state": "limited"})
        outcome = licences()
        assert outcome.code == 1
        assert "run the same command again" in outcome.err.splitlines()[-1]
        asked = list(dict.fromkeys(r.video for r in site.requests if r.video))
        assert asked[-1] == "second00000"
        site.videos["second00000"] = open_video
        site.requests.clear()
        assert problems(licences()) == {}
        first = next(r.video for r in site.requests if r.video)
        assert first not in asked[:-1]
