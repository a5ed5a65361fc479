"""The page of `corpus report` in a real browser: numbers, plots, sounds, and hostile texts."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from corpus.catalogue import Catalogue, Recording, Segment, Transcript
from corpus.report.numbers import report
from corpus.report.page import SOUND_BYTES, cell, render, sounds, write_page
from corpus.report.tables import histogram_table, tables
from corpus.workspace import Workspace

from .conftest import AddRecording

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}</style></title>"

Opened = Callable[[], tuple[Any, dict[str, Any]]]


@pytest.fixture
def corpus_of_talks(
    catalogue: Catalogue, add_recording: AddRecording
) -> Callable[[], list[list[str]]]:
    """Three recordings with subtitles that a model has listened to, of every verdict."""

    def fill() -> list[list[str]]:
        made = []
        for number, name in enumerate(("rivers", "bridges", "boats")):
            made.append(
                add_recording(
                    f"youtube:{name}",
                    [
                        {
                            "text": f"{name} and more {name}",
                            "kind": "subtitle",
                            "seconds": 2.0 + i,
                            "gap": 300,
                            "scores": {"cer": 0.1 * i * (number + 1)},
                            "verdict": ("keep", "review", "drop")[i % 3],
                        }
                        for i in range(6)
                    ],
                    source="youtube",
                    channel_id=f"UC{name}",
                    channel=f"The channel of {name}",
                    url=f"https://video.example/watch?v={name}",
                )
            )
        with catalogue.session() as session:
            for id in (id for ids in made for id in ids):
                segment = session.get_one(Segment, id)
                assert segment.verdict is not None
                segment.verdict.reasons = [f"cer: {len(id)}"]
                segment.transcripts.append(
                    Transcript(kind="pseudo", origin="small@1", text="other words")
                )
        return made

    return fill


@pytest.fixture
def opened(
    chromium: Any, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
) -> Iterator[Opened]:
    """Write the page and open it as a file, offline; nothing may be asked for or go wrong."""
    context = chromium.new_context(offline=True, viewport={"width": 1000, "height": 800})
    page = context.new_page()
    requests: list[str] = []
    surprises: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: surprises.append(str(error)))
    page.on("dialog", lambda dialog: (surprises.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: surprises.append(message.text))
    path = tmp_path / "report.html"

    def open_page() -> tuple[Any, dict[str, Any]]:
        found = report(workspace, catalogue)
        write_page(path, found, workspace)
        page.goto(path.as_uri())
        return page, found

    yield open_page
    context.close()
    assert surprises == []
    assert requests
    assert [url for url in requests if not url.startswith(("data:", path.as_uri()))] == []


def shown_rows(page: Any, key: str) -> list[list[str]]:
    """The texts of a table's cells, without its bars."""
    rows = page.locator(f"#{key} tbody tr")
    texts: list[list[str]] = rows.evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('th, td:not(.bar)')]"
        ".map(cell => cell.textContent))"
    )
    return texts


def test_every_table_shows_the_numbers_of_the_json(
    opened: Opened, corpus_of_talks: Callable[[], Any]
) -> None:
    corpus_of_talks()
    page, found = opened()
    every = [
        *tables(found),
        *(histogram_table(name, h) for name, h in found["histograms"].items() if h["values"]),
    ]
    assert {"sources", "losses", "channels", "cer", "duration"} <= {table.key for table in every}
    for table in every:
        assert shown_rows(page, table.key) == [[cell(v) for v in row] for row in table.rows]
    totals = page.locator(".totals dd").all_text_contents()
    assert totals == [cell(value) for value in found["totals"].values()]
    youtube = next(row for row in found["sources"] if row["source"] == "youtube")
    assert shown_rows(page, "sources")[0][4] == f"{youtube['keep']:.2f}"


def test_bars_and_columns_are_as_long_as_their_numbers(
    opened: Opened, corpus_of_talks: Callable[[], Any]
) -> None:
    corpus_of_talks()
    page, found = opened()
    drawn = page.locator("#losses svg").evaluate_all(
        "bars => bars.map(bar => bar.querySelector('rect').getBoundingClientRect().width)"
    )
    hours = [row["hours"] for row in found["losses"]]
    assert [width / max(drawn) for width in drawn] == pytest.approx(
        [value / max(hours) for value in hours], abs=0.01
    )
    counts = found["histograms"]["duration"]["counts"]
    figure = page.locator("figure").filter(has=page.locator("#duration-title"))
    heights = figure.locator("rect").evaluate_all("all => all.map(r => r.height.baseVal.value)")
    assert [height / max(heights) for height in heights] == pytest.approx(
        [count / max(counts) for count in counts], abs=0.01
    )
    expect(figure.locator("table")).not_to_be_visible()
    figure.locator("summary").click()
    expect(figure.locator("table")).to_be_visible()


def test_samples_are_heard_at_their_length(
    opened: Opened, corpus_of_talks: Callable[[], Any]
) -> None:
    corpus_of_talks()
    page, found = opened()
    assert {sample["verdict"] for sample in found["samples"]} == {"keep", "review", "drop"}
    page.wait_for_function(
        "[...document.querySelectorAll('audio')].every(a => a.readyState >= 1)", timeout=20_000
    )
    lengths = page.locator("audio").evaluate_all("all => all.map(one => one.duration)")
    assert lengths == pytest.approx(
        [(s["end_ms"] - s["start_ms"]) / 1000 for s in found["samples"]], abs=0.01
    )
    first = page.locator(".sample").first
    expect(first.locator("blockquote")).to_have_text(
        [made["text"] for made in found["samples"][0]["transcripts"]]
    )


def test_hostile_titles_and_transcripts_are_inert(
    opened: Opened, corpus_of_talks: Callable[[], Any], catalogue: Catalogue
) -> None:
    corpus_of_talks()
    with catalogue.session() as session:
        for recording in session.query(Recording):
            recording.title = recording.channel = recording.attribution = HOSTILE
            recording.licence = HOSTILE
            recording.url = "javascript:alert(3)"
            for segment in recording.segments:
                assert segment.verdict is not None
                segment.verdict.reasons = [HOSTILE]
                for made in segment.transcripts:
                    made.text = made.origin = HOSTILE
    page, _ = opened()
    expect(page.locator("blockquote").first).to_have_text(HOSTILE)
    assert shown_rows(page, "licences")[0][0] == HOSTILE
    assert page.locator("script, img, a[href^='javascript']").count() == 0
    assert page.locator("style").count() == 1


def test_the_policy_of_the_page_lets_nothing_run_or_load(
    opened: Opened, corpus_of_talks: Callable[[], Any]
) -> None:
    """Should a text ever slip through unescaped, it stays inert all the same."""
    corpus_of_talks()
    page, _ = opened()
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert page.evaluate("getComputedStyle(document.querySelector('.totals')).display") == "grid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_legible_by_day_and_night_and_fits_a_phone(
    opened: Opened, corpus_of_talks: Callable[[], Any], scheme: str
) -> None:
    corpus_of_talks()
    page, _ = opened()
    page.emulate_media(color_scheme=scheme)
    colours = page.evaluate(
        """() => ['body', '.soft', 'td', 'summary', '.totals dt'].map(name => {
            const style = getComputedStyle(document.querySelector(name));
            return style.color.match(/\\d+/g).map(Number);
        }).concat([getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)])"""
    )
    *inks, ground = colours
    assert (luminance(ground) < 0.1) == (scheme == "dark")
    for ink in inks:  # WCAG 2.2, 1.4.3: at least 4.5 for text
        brighter, darker = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def luminance(colour: list[int]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_page_without_media_or_numbers_says_so(
    opened: Opened, workspace: Workspace, corpus_of_talks: Callable[[], Any]
) -> None:
    page, _ = opened()
    expect(page.locator("table, figure, audio")).to_have_count(0)
    corpus_of_talks()
    for file in workspace.media.rglob("*.flac"):
        file.unlink()
    page, found = opened()
    expect(page.locator("audio")).to_have_count(0)
    expect(page.get_by_text("the media file is missing")).to_have_count(len(found["samples"]))


def test_sounds_have_a_limit_in_all(
    workspace: Workspace,
    catalogue: Catalogue,
    corpus_of_talks: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus_of_talks()
    samples = report(workspace, catalogue)["samples"]
    whole = [sound for sound in sounds(samples, workspace) if isinstance(sound, bytes)]
    assert len(whole) == len(samples)
    assert sum(map(len, whole)) <= SOUND_BYTES
    room = len(whole[0]) + 10
    monkeypatch.setattr("corpus.report.page.SOUND_BYTES", room)
    fewer = sounds(samples, workspace)
    assert fewer[0] == whole[0]
    assert sum(len(sound) for sound in fewer if isinstance(sound, bytes)) <= room
    assert "this page is full" in fewer


def test_recordings_that_may_not_be_passed_on_are_told(
    workspace: Workspace, catalogue: Catalogue, corpus_of_talks: Callable[[], Any]
) -> None:
    corpus_of_talks()
    notice = "of these recordings may not be passed on"
    found = report(workspace, catalogue)
    assert notice not in render(found, sounds(found["samples"], workspace))
    with catalogue.session() as session:
        for recording in session.query(Recording):
            recording.redistributable = False
    found = report(workspace, catalogue)
    page = render(found, sounds(found["samples"], workspace))
    assert f"{len(found['samples'])} {notice}" in page


def test_the_same_report_gives_the_same_page(
    workspace: Workspace, catalogue: Catalogue, corpus_of_talks: Callable[[], Any]
) -> None:
    corpus_of_talks()
    found = report(workspace, catalogue)
    heard = sounds(found["samples"], workspace)
    assert render(found, heard) == render(json.loads(json.dumps(found)), heard)
