"""A playlist in which nearly everything goes wrong, through the command line."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from corpus.audio import SAMPLE_RATE, Pcm, decode
from corpus.catalogue import Catalogue, Recording
from corpus.workspace import Workspace, init_workspace
from demo.video_site import Video, VideoSite, encode_opus

from .conftest import SENTENCES, Corpus, spoken, srt
from .test_kill import contents, run, run_killed

PLAYLIST = "https://www.youtube.com/playlist?list=PLhard"
LISTING = {"/playlist", "/youtubei/v1/browse"}

TAKEN = {
    "subtitled": None,
    "bare": "no subtitles in en",
    "dubbed": None,
    "suspect": "suspect_auto: ",
    "garbled": "the subtitles in en hold no readable cue",
    "limited": None,
    "changed": None,
}
REFUSED = {
    "closed": ("not_cc", False),
    "translated": ("other_language", False),
    "unread": ("licence_unknown", True),
    "private": ("private", False),
    "deleted": ("gone", False),
    "truncated": ("bad_media", True),
    "html": ("bad_media", True),
}


# What a recogniser writes, uploaded as if by people: no comma, no full stop.
MACHINE_MADE = srt(
    [f"And then the mother saw {number} red boats there" for number in range(25)],
    [(300 * i, 300 * i + 217) for i in range(25)],
)


def encode_aac(pcm: Pcm, path: Path) -> None:
    """Write int16 mono [samples] at 16 kHz as AAC in an MP4 file."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), 0
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        for resampled in resampler.resample(frame):
            fifo.write(resampled)
        while (piece := fifo.read(1024, partial=True)) is not None:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def id_of(name: str) -> str:
    return name.ljust(11, "0")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    folder = tmp_path_factory.mktemp("hard")
    pcm, spans = spoken(*SENTENCES)
    encode_opus(pcm, folder / "talk.webm")
    encode_aac(pcm, folder / "talk.m4a")
    encode_opus(spoken(*SENTENCES, voice=1)[0], folder / "dub.webm")
    seconds = len(pcm) / SAMPLE_RATE

    def video(name: str, audio: str = "talk.webm", **changes: Any) -> Video:
        human = {"en": srt(list(SENTENCES), spans)}
        values = {"automatic": "en", "subtitles": human, **changes}
        return Video(id_of(name), f"Talk {name}", folder / audio, seconds, **values)

    return [
        video("subtitled"),
        video("bare", subtitles={}, automatic=None),
        video("closed", licence="standard"),
        video("unread"),
        video("private", state="private"),
        video("deleted", state="deleted"),
        video("translated", language="cs", automatic="cs"),
        # Best audio by codec alone would be the dub: Opus is liked better than AAC.
        video("dubbed", "talk.m4a", automatic=None, dubs={"cs": folder / "dub.webm"}),
        video("suspect", automatic=None, subtitles={"en": MACHINE_MADE}),
        video("garbled", subtitles={"en": "<html>no captions here</html>"}),
        video("truncated"),
        video("html"),
        video("limited"),
        video("changed"),
    ]


@pytest.fixture
def site(videos: list[Video], monkeypatch: pytest.MonkeyPatch) -> Iterator[VideoSite]:
    monkeypatch.setenv("YTDLP_NO_PLUGINS", "1")
    with VideoSite(videos, {"PLhard": [v.id for v in videos]}, page_size=5) as site:
        yield site


def order_faults(site: VideoSite, times: int | None) -> None:
    """The first `times` attempts (None: all) at some videos go wrong."""
    whole = site.videos[id_of("truncated")].audio.read_bytes()
    for path in ("/watch", "/youtubei/v1/next"):
        site.fail(path, video=id_of("unread"), status=429, times=times)
    half, page = whole[: len(whole) // 2], b"<html>Log in to the hotel</html>" * 100
    site.fail("/videoplayback", video=id_of("truncated"), body=half, times=times)
    site.fail("/videoplayback", video=id_of("html"), body=page, times=times)
    site.fail("/api/timedtext", video=id_of("limited"), status=429, retry_after=1, times=2)


def interrupt_in_another_format(site: VideoSite, fetch: Callable[..., object]) -> None:
    """Cut off a download in a format, of the same kind, that is not offered any more afterwards."""
    id = id_of("changed")
    offered = site.videos[id]
    other = site.videos[id_of("dubbed")].dubs["cs"]
    site.videos[id] = replace(offered, audio=other, itag=250)
    site.fail("/videoplayback", video=id, truncate=3000)
    site.fail("/videoplayback", video=id, reset=True, times=None)
    fetch(f"https://www.youtube.com/watch?v={id}")
    site.mend()
    site.videos[id] = offered


def arguments(site: VideoSite, workspace: Workspace, url: str = PLAYLIST) -> list[object]:
    return [
        *("fetch", url, "--proxy", site.proxy_url),
        *("--no-check-certificate", "--no-sleep", "--json", "--workspace", workspace.root),
    ]


def short(id: str) -> str:
    return id.removeprefix("youtube:").rstrip("0")


def asked_about(site: VideoSite) -> set[str]:
    return {short(r.video) for r in site.requests if r.path not in LISTING and r.video}


def test_each_video_ends_as_it_should_and_the_next_runs_ask_only_for_what_may_have_changed(
    corpus: Corpus, workspace: Workspace, catalogue: Catalogue, site: VideoSite
) -> None:
    interrupt_in_another_format(site, lambda url: corpus(*arguments(site, workspace, url)))
    assert list((workspace.media / ".stage" / id_of("changed")).iterdir())
    order_faults(site, times=1)
    outcome = corpus(*arguments(site, workspace))
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out) == {"done": len(TAKEN), "failed": len(REFUSED)}

    status = json.loads(corpus("status", "--json", "--workspace", workspace.root).out)
    failures = {short(f["item"]): f for f in status["failures"]}
    assert {name: (f["reason"], f["retried"]) for name, f in failures.items()} == REFUSED
    assert failures["truncated"]["message"].endswith("it will be fetched again")
    assert "not readable as audio" in failures["html"]["message"]
    for name, failure in failures.items():
        assert failure["url"] == f"https://www.youtube.com/watch?v={id_of(name)}"
        assert "\n" not in failure["message"]

    with catalogue.session() as session:
        recordings = {short(r.id): r for r in session.scalars(select(Recording))}
        notes = {name: r.subtitle_note for name, r in recordings.items()}
        assert notes.keys() == TAKEN.keys()
        for name, note in TAKEN.items():
            assert (notes[name] or "").startswith(note or "")
            assert (notes[name] is None) == (note is None)
        for name, recording in recordings.items():
            cues = [cue.text for cue in recording.cues]
            if name != "suspect":  # its cues are kept, for people to decide on
                assert cues == ([] if TAKEN[name] else list(SENTENCES))
            heard = decode(workspace.path(recording.media_path))
            said = decode(site.videos[id_of(name)].audio)  # of the dubbed one, the original
            assert np.array_equal(heard, said)
    asked = [r.video for r in site.requests if r.path == "/api/timedtext"]
    assert asked.count(id_of("limited")) == 3
    assert not any(site.requested("/videoplayback", id_of(n)) for n in ("closed", "unread"))
    assert not list((workspace.media / ".stage").iterdir())

    site.requests.clear()
    passing = {name for name, (_, retried) in REFUSED.items() if retried}
    assert json.loads(corpus(*arguments(site, workspace)).out) == {"done": 3, "failed": 0}
    assert asked_about(site) == passing

    site.requests.clear()
    assert json.loads(corpus(*arguments(site, workspace)).out) == {"done": 0, "failed": 0}
    assert {r.path for r in site.requests} == LISTING


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_no_trace(site: VideoSite, tmp_path: Path) -> None:
    def fetch(workspace: Workspace, url: str) -> None:
        run(*arguments(site, workspace, url))

    whole, killed = (init_workspace(tmp_path / name, "en") for name in ("whole", "killed"))
    for workspace in (whole, killed):
        interrupt_in_another_format(site, partial(fetch, workspace))
    order_faults(site, times=None)
    run(*arguments(site, whole))

    rng, kills, runs = random.Random(7), 0, 0
    while kills < 20:
        # From the start of the program on; later ones reach further into what is left to do.
        limit = len(site.requests) + rng.randint(0, 12)
        kills += run_killed(
            *arguments(site, killed),
            moment=lambda limit=limit: len(site.requests) >= limit,  # type: ignore[misc]
            later_s=rng.uniform(0, 0.3),
        )
        runs += 1
        assert runs < 60, "most runs end before they are killed"
    run(*arguments(site, killed))
    found = contents(killed)
    assert found == contents(whole)
    assert {short(r["id"]) for r in found["recordings"]} == set(TAKEN)
    assert {short(f["item"]): (f["kind"], f["transient"]) for f in found["failures"]} == REFUSED
