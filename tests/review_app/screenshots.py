"""Pictures of the review screen for the documentation, light and dark.

    python -m tests.review_app.screenshots        writes docs/screenshots/*.png

The segments are made up; the sound is a hum with pauses, so that the waveform looks like speech.
The Chinese picture needs a font that has the characters, as Debian's fonts-wqy-microhei.
"""

import argparse
import math
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from benchmarks._review_catalogue import fill
from corpus import audio
from corpus.catalogue import (
    Catalogue,
    Decision,
    Recording,
    Score,
    Segment,
    Transcript,
    Verdict,
    segment_id,
)
from corpus.workspace import Workspace, init_workspace
from review_app import decisions, order, standing
from review_app.app import create_app, running
from review_app.auth import Access

from ..browser import open_chromium

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
DESK = {"width": 1280, "height": 800}
WALL = {"width": 1280, "height": 1620}
PHONE = {"width": 390, "height": 844}

ENGLISH = [
    "so the river carries all of this down from the hills",
    "and lays it on the plane below us, grain by grain",
    "until after some ten thousand years there is a delta",
]
SUBTITLES = [None, "and lays it on the plain below us, grain by grain", None]
ARABIC = [
    "النهر يحمل كل هذا من الجبال",
    "ويضعه على السهل تحتنا حبة حبة",
    "حتى تكون هناك دلتا",
]
CHINESE = [
    "河流从山上带来了这一切",
    "把它铺在我们脚下的平原上，一粒又一粒",
    "一万年以后，这里就成了三角洲",
]
SECONDS = 5
LECTURE = [
    *ENGLISH,
    "what you see here is the mouth of the river in spring",
    "in summer it is a quarter of that",
    "the fishermen told us that they could wade through it",
    "so we asked where the water goes",
    "some of it goes to the fields and some to the town",
    "thank you for watching",
]


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().to
    folder.mkdir(parents=True, exist_ok=True)
    with open_chromium() as chromium:
        for theme in ("light", "dark"):
            with tempfile.TemporaryDirectory() as place:
                english = _workspace(
                    Path(place, "en"), "en", "A lecture on rivers", ENGLISH, SUBTITLES
                )
                arabic = _workspace(
                    Path(place, "ar"), "ar", "محاضرة عن الأنهار", ARABIC, [None] * 3
                )
                chinese = _workspace(Path(place, "zh"), "zh", "关于河流的讲座", CHINESE, [None] * 3)
                lecture = _workspace(
                    Path(place, "lecture"), "en", "A lecture on rivers", LECTURE, [None] * 9
                )
                _decide(lecture)
                busy = _busy(Path(place, "busy"))
                disputed = _workspace(
                    Path(place, "disputed"), "en", "A lecture on rivers", LECTURE, [None] * 9
                )
                _differ(disputed)
                places = (english, arabic, chinese, lecture, busy, disputed)
                _pictures(chromium, *places, theme, folder)


def _pictures(
    chromium: Any,
    english: Workspace,
    arabic: Workspace,
    chinese: Workspace,
    lecture: Workspace,
    busy: Workspace,
    disputed: Workspace,
    theme: str,
    folder: Path,
) -> None:
    def take(
        name: str,
        workspace: Workspace,
        size: Any,
        act: Callable[[Any], None],
        access: Access = Access(local="First"),  # noqa: B008
    ) -> None:
        context = chromium.new_context(viewport=size, has_touch=size is PHONE, color_scheme=theme)
        page = context.new_page()
        with running(create_app(workspace, access)) as url:
            page.goto(f"{url}/?__theme={theme}")
            if access.local:
                page.wait_for_selector(".js-words button")
                page.wait_for_timeout(1000)  # the waveform is drawn, the first words are played
            act(page)
            page.wait_for_timeout(400)
            page.screenshot(path=folder / f"{name}-{theme}.png")
            page.goto("about:blank")
        context.close()

    def pause(page: Any) -> None:
        page.locator(".js-words button").nth(4).click()
        page.locator(".js-wave").focus()
        page.wait_for_timeout(150)
        page.keyboard.press("Space")

    def press(*keys: str) -> Callable[[Any], None]:
        def act(page: Any) -> None:
            pause(page)
            page.locator(".js-wave").focus()
            for key in keys:
                page.keyboard.press(key)

        return act

    def move(page: Any) -> None:
        pause(page)
        box = page.locator(".js-end").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] - 70, box["y"] + 60, steps=6)
        page.mouse.up()

    def conflict(page: Any) -> None:
        catalogue = Catalogue(english.catalogue_url)
        key = page.evaluate("new URLSearchParams(location.hash.slice(1)).get('segment')")
        with catalogue.session() as session:
            shown = standing.shown_transcript(session.get_one(Segment, key))
            assert shown is not None
            text = shown.text.replace("plane", "plain")
            decisions.decide(
                session,
                reviewer="Second",
                segment_id=key,
                transcript_id=shown.id,
                action="correct",
                text=text,
                client_id="of-second",
            )
        page.locator(".js-text").fill(ENGLISH[1].replace("plane", "planes"))
        page.locator(".js-text").press("Control+Enter")
        page.wait_for_selector(".js-kept textarea")
        page.wait_for_timeout(400)
        pause(page)

    def browse(page: Any) -> None:
        page.get_by_role("tab", name="Browse").click()
        page.get_by_role("button", name="Play").nth(2).click()
        page.wait_for_selector("tr[data-now]")

    def statistics(page: Any) -> None:
        page.get_by_role("tab", name="Statistics").click()
        page.wait_for_function("document.querySelectorAll('.vega-embed svg').length === 3")
        page.wait_for_timeout(1000)  # they grow to their width

    def disagreement(page: Any) -> None:
        pause(page)
        page.keyboard.press("f")
        page.get_by_label("only what reviewers disagree on").check()
        page.get_by_role("button", name="Show these").click()
        page.wait_for_selector(".js-opinions:not([hidden])")
        page.wait_for_timeout(1000)
        pause(page)

    def sign_in(page: Any) -> None:
        page.get_by_label("Name").fill("first")

    take("review", english, DESK, pause)
    take("bounds", english, DESK, move)
    take("reject", english, DESK, press("x"))
    take("keys", english, DESK, press("h"))
    take("filter", english, DESK, press("f"))
    take("arabic", arabic, DESK, pause)
    take("chinese", chinese, DESK, pause)
    take("phone", english, PHONE, pause)
    take("browse", lecture, DESK, browse)
    take("browse-phone", lecture, PHONE, browse)
    take("statistics", busy, WALL, statistics)
    take("sign-in", english, DESK, sign_in, Access())
    take("disagreement", disputed, DESK, disagreement, Access(local="Third"))
    take("conflict", english, DESK, conflict)


def _workspace(
    root: Path, language: str, title: str, texts: list[str], subtitles: list[str | None]
) -> Workspace:
    """A workspace with one recording; of its segments the second comes first."""
    workspace = init_workspace(root, language)
    media = workspace.media / "talk.flac"
    media.parent.mkdir(parents=True, exist_ok=True)
    media.write_bytes(audio.encode_flac(_hum(SECONDS * len(texts))))
    with Catalogue(workspace.catalogue_url).session() as session:
        session.add(
            Recording(
                id="files:talk",
                source="files",
                title=title,
                url="https://video.example/watch?v=talk",
                language=language,
                licence="CC-BY-4.0",
                licence_evidence={},
                attribution="A lecturer",
                redistributable=True,
                media_path="media/talk.flac",
                duration_ms=1000 * SECONDS * len(texts),
            )
        )
        for number, (text, subtitle) in enumerate(zip(texts, subtitles, strict=True)):
            start, end = number * SECONDS * 1000, (number + 1) * SECONDS * 1000 - 300
            scores = {"avg_logprob": -0.61, "chars_per_second": 10.4, "cer": 0.04}
            segment = Segment(
                id=segment_id("files:talk", start, end),
                recording_id="files:talk",
                start_ms=start,
                end_ms=end,
            )
            pseudo = Transcript(kind="pseudo", origin="small@1234", text=text)
            pseudo.words = _words(text, start, end)
            pseudo.scores = [Score(name=name, value=value) for name, value in scores.items()]
            segment.transcripts.append(pseudo)
            if subtitle:
                segment.transcripts.append(Transcript(kind="subtitle", origin="srt", text=subtitle))
            if number == 1:
                reasons = ["differs: CER 0.04"]
                segment.verdict = Verdict(verdict="review", reasons=reasons, thresholds="default@0")
            session.add(segment)
    return workspace


def _decide(workspace: Workspace) -> None:
    """Two people have decided some segments of the lecture."""
    wishes: list[tuple[str, str, dict[str, str]]] = [
        ("First", "correct", {"text": "in summer it is a quarter of this"}),
        ("First", "accept", {}),
        ("Third", "accept", {}),
        ("Third", "reject", {"reason": "music_or_noise"}),
    ]
    with Catalogue(workspace.catalogue_url).session() as session:
        segments = list(session.scalars(select(Segment).order_by(Segment.start_ms)))
        for segment, (reviewer, action, wish) in zip(segments[4:9], wishes, strict=False):
            decisions.decide(
                session,
                reviewer=reviewer,
                segment_id=segment.id,
                transcript_id=segment.transcripts[0].id,
                action=action,
                client_id=f"{reviewer}-{segment.id}",
                **wish,
            )


def _differ(workspace: Workspace) -> None:
    """Two people have decided the same segment differently."""
    with Catalogue(workspace.catalogue_url).session() as session:
        segment = session.scalars(select(Segment).order_by(Segment.start_ms)).all()[3]
        for reviewer, text in (
            ("First", "what you see is the mouth"),
            ("Second", "what you sea here is the mouth"),
        ):
            decisions.decide(
                session,
                reviewer=reviewer,
                segment_id=segment.id,
                transcript_id=segment.transcripts[0].id,
                action="correct",
                text=LECTURE[3].replace("what you see here is the mouth", text),
                client_id=f"{reviewer}-{segment.id}",
                double_share=1.0,
            )


def _busy(root: Path) -> Workspace:
    """A workspace that three people have reviewed some weeks in, without sound."""
    workspace = init_workspace(root, "en")
    catalogue = Catalogue(workspace.catalogue_url)
    fill(catalogue, 2400, decisions=900)
    first = datetime(2026, 3, 2, 9, tzinfo=UTC)
    with catalogue.session() as session:
        for number, made in enumerate(session.scalars(select(Decision).order_by(Decision.id))):
            made.reviewer = ("First", "Second", "Third")[number**2 % 7 % 3]
            made.made_at = first + timedelta(days=math.isqrt(number // 3), seconds=number)
            if number % 23 == 0:
                made.action, made.reason, made.transcript_id = "reject", "bad_audio", None
    for _ in order.refresh(catalogue):
        pass
    return workspace


def _words(text: str, start: int, end: int) -> list[list[Any]]:
    """Every word as long as the next, most of them sure."""
    words = text.split() if " " in text else list(text)
    step = (end - start - 200) // len(words)
    sure = [0.97, 0.93, 0.88, 0.96, 0.71, 0.34, 0.9]
    return [
        [start + 100 + i * step, start + 100 + (i + 1) * step, word, sure[i % len(sure)]]
        for i, word in enumerate(words)
    ]


def _hum(seconds: int) -> audio.Pcm:
    """A hum that swells and pauses like speech."""
    times = np.arange(seconds * audio.SAMPLE_RATE) / audio.SAMPLE_RATE
    syllables = np.abs(np.sin(times * 13)) * (0.35 + 0.65 * np.abs(np.sin(times * 3.1 + 1)))
    phrases = np.clip(4 * np.abs(np.sin(times * np.pi / SECONDS)) - 0.25, 0, 1)
    noise = np.random.default_rng(0).normal(0, 0.2, times.size)
    wave = np.sin(2 * np.pi * 140 * times) + noise
    return (9000 * syllables * phrases * wave).astype(np.int16)


if __name__ == "__main__":
    main()
