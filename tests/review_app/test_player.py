"""The review screen in a real browser: keys, sound, drafts, and no request to any other machine."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import expect
from sqlalchemy import select

from corpus.catalogue import Catalogue, Decision, Segment
from corpus.workspace import Workspace
from review_app import queue
from review_app.app import create_app, running

from .conftest import AddSegment

CHROMIUM = Path("/usr/bin/chromium")

expect.set_options(timeout=20_000)  # milliseconds; a machine under load is slow, not wrong

Decisions = list[tuple[str, str | None, str | None]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser without a window; it plays sound without waiting for a first click."""
    if not CHROMIUM.exists():
        pytest.skip("no browser: install the package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--mute-audio",
                "--autoplay-policy=no-user-gesture-required",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def app(workspace: Workspace, catalogue: Catalogue) -> FastAPI:
    """The review app of the reviewer First."""
    return create_app(workspace, "First")


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A tab whose user sees no dialog, no error, and whose every request stays on this machine."""
    context = chromium.new_context()
    page = context.new_page()
    requests: list[str] = []
    surprises: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: surprises.append(str(error)))
    page.on("dialog", lambda dialog: (surprises.append(dialog.message), dialog.dismiss()))
    page.on(
        "console",
        lambda message: (
            surprises.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    yield page
    context.close()
    assert surprises == []
    assert requests
    local = ("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")
    assert [url for url in requests if not url.startswith(local)] == []


@pytest.fixture
def shown(page: Any) -> Callable[[str], None]:
    """Wait until the text box holds a text and its segment can be decided."""

    def wait(text: str) -> None:
        page.wait_for_function(
            "text => document.querySelector('.js-text')?.value === text", arg=text
        )
        page.wait_for_timeout(350)  # a key pressed sooner counts as hit twice

    return wait


@pytest.fixture
def decisions(catalogue: Catalogue, page: Any) -> Callable[[], Decisions]:
    """Wait until the page says saved; then (action, text before, text after) of every decision."""

    def read() -> Decisions:
        page.wait_for_function("document.querySelector('.js-saved').textContent === 'saved'")
        with catalogue.session() as session:
            return [
                (made.action, made.before, _review(session.get_one(Segment, made.segment_id)))
                for made in session.scalars(select(Decision).order_by(Decision.id))
            ]

    return read


def _review(segment: Segment) -> str | None:
    return next((one.text for one in segment.transcripts if one.kind == "review"), None)


def test_a_reviewer_corrects_accepts_rejects_and_skips_with_the_keyboard_alone(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    decisions: Callable[[], Decisions],
    add_segment: AddSegment,
) -> None:
    add_segment("the plane", 0, 9000, verdict="review")
    add_segment("the delta", 9000, 14_000, verdict="review")
    add_segment("la la la", 14_000, 17_000, verdict="review")
    add_segment("who knows", 17_000, 19_000, verdict="review")
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        page.keyboard.press("End")
        page.keyboard.type(" below")
        page.keyboard.press("Tab")  # pauses, and the text keeps the focus
        page.keyboard.type(" us")
        page.keyboard.press("Control+Enter")
        shown("the delta")
        page.keyboard.press("Control+Enter")
        page.keyboard.press("Control+Enter")  # hit twice: decides one segment
        shown("la la la")
        page.keyboard.press("Escape")
        page.keyboard.press("x")
        page.keyboard.press("2")
        shown("who knows")
        page.keyboard.press("s")
        page.wait_for_timeout(500)
        shown("who knows")  # the last one comes again
        assert decisions() == [
            ("correct", "the plane", "the plane below us"),
            ("accept", "the delta", "the delta"),
            ("reject", "la la la", None),
            ("skip", "who knows", None),
        ]


def test_the_sound_plays_seeks_and_obeys_the_keys_of_any_layout(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    add_segment("text", 0, 20_000)
    with running(app) as url:
        page.goto(url)
        shown("text")
        page.wait_for_function("parseFloat(document.querySelector('.js-clock').textContent) > 0.3")
        label = page.locator(".js-play-label")
        expect(label).to_have_text("Pause")
        page.keyboard.press("Tab")
        expect(label).to_have_text("Play")
        page.keyboard.press("Escape")
        page.locator(".js-wave").click(position={"x": 600, "y": 40})
        width = page.locator(".js-wave").bounding_box()["width"]
        at = f"{20 * 600 / width:.1f}"
        expect(page.locator(".js-wave")).to_have_attribute("aria-valuenow", at)
        # The key right of P types a Cyrillic letter in a Ukrainian layout.
        page.evaluate(
            "document.body.dispatchEvent(new KeyboardEvent('keydown',"
            " {key: 'ї', code: 'BracketRight', bubbles: true}))"
        )
        expect(page.locator(".js-speed")).to_have_text("1.1×")


def test_a_decision_is_taken_back_and_made_again(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    decisions: Callable[[], Decisions],
    add_segment: AddSegment,
) -> None:
    add_segment("the plane", 0, 9000, verdict="review")
    add_segment("the delta", 9000, 14_000, verdict="review")
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        page.keyboard.press("Control+Enter")
        shown("the delta")
        assert len(decisions()) == 1
        page.keyboard.press("Escape")
        page.keyboard.press("z")
        shown("the plane")
        page.keyboard.press("e")
        page.keyboard.press("End")
        page.keyboard.type("s")
        page.keyboard.press("Control+Enter")
        shown("the delta")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_text("Everything is reviewed.")).to_be_visible()
        page.keyboard.press("z")  # also where there is nothing left
        shown("the delta")
        made = [action for action, *_ in decisions()]
        assert made == ["accept", "undo", "correct", "accept", "undo"]


def test_a_segment_is_split_at_the_cursor_and_merged_again(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    catalogue: Catalogue,
    add_segment: AddSegment,
) -> None:
    add_segment("the plane below us", 0, 10_000, verdict="review")
    with running(app) as url:
        page.goto(url)
        shown("the plane below us")
        page.keyboard.press("Tab")  # stops the sound
        for _ in range(len("the plane")):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        page.locator(".js-wave").click(position={"x": 300, "y": 40})
        page.keyboard.press("c")
        shown("the plane")
        with catalogue.session() as session:
            first, second = session.scalars(select(Segment).order_by(Segment.start_ms))
            assert (first.start_ms, second.end_ms) == (0, 10_000)
            assert 1000 < first.end_ms == second.start_ms < 9000
        page.keyboard.press("m")
        shown("the plane below us")
        with catalogue.session() as session:
            (whole,) = session.scalars(select(Segment))
            assert (whole.start_ms, whole.end_ms) == (0, 10_000)


def test_words_show_how_sure_the_model_was_follow_the_sound_and_lead_to_it(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    words = [[0, 6000, "the", 0.95], [6000, 12_000, "plain", 0.3], [12_000, 18_000, "here", 0.7]]
    add_segment("the plain here", 0, 20_000, words=words, subtitle="the plane here")
    with running(app) as url:
        page.goto(url)
        shown("the plain here")
        line = page.locator(".js-words button")
        assert [one.get_attribute("data-sure") for one in line.all()] == ["yes", "no", "half"]
        expect(page.locator(".js-words [data-now]")).to_have_text("the")
        line.nth(2).click()
        expect(page.locator(".js-words [data-now]")).to_have_text("here")
        expect(page.locator(".js-others mark")).to_have_text("plane")
        page.locator(".js-text").fill("the plane here")
        expect(page.locator(".js-others mark")).to_have_count(0)


def test_two_reviewers_never_get_the_same_segment_and_a_closed_tab_holds_none(
    app: FastAPI,
    page: Any,
    workspace: Workspace,
    shown: Callable[[str], None],
    add_segment: AddSegment,
) -> None:
    for number in range(3):
        add_segment(f"segment {number}", number * 5000, number * 5000 + 5000 - number)
    other = page.context.browser.new_context().new_page()
    with running(app) as url, running(create_app(workspace, "Second")) as second:
        page.goto(url)
        shown("segment 0")  # and segment 1 is ready
        other.goto(second)
        other.wait_for_function("document.querySelector('.js-text')?.value === 'segment 2'")
        page.goto("about:blank")
        other.wait_for_timeout(1000)
        other.locator("[data-do=save]").click()
        other.wait_for_function("document.querySelector('.js-text')?.value === 'segment 0'")
    other.context.close()


def test_hostile_transcripts_are_shown_as_text(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    hostile = "${alert(1)} {{alert(2)}} <img src=x onerror=alert(3)> </textarea><script>alert(4)"
    add_segment(hostile, subtitle=hostile + "!", verdict="review", reasons=(hostile,))
    with running(app) as url:
        page.goto(url)
        shown(hostile)
        expect(page.locator(".js-others span")).to_have_text(hostile + "!")
        expect(page.locator(".js-tags [data-kind=why]")).to_have_text(hostile)
        expect(page.locator(".review img, .review script")).to_have_count(0)


def test_text_takes_its_direction_and_language_from_the_segment(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    add_segment("مرحبا بكم في هذه المحاضرة")
    with running(app) as url:
        page.goto(url)
        shown("مرحبا بكم في هذه المحاضرة")
        text = page.locator(".js-text")
        assert text.evaluate("box => getComputedStyle(box).direction") == "rtl"
        assert text.get_attribute("lang") == "en"


def test_what_was_typed_survives_a_reload(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    add_segment("the plane")
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        page.locator(".js-text").fill("the plain, half typed")
        page.reload()
        shown("the plain, half typed")


def test_a_text_that_comes_too_late_is_kept_and_work_goes_on(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    decisions: Callable[[], Decisions],
    catalogue: Catalogue,
    add_segment: AddSegment,
) -> None:
    first = add_segment("the plane", 0, 9000)
    add_segment("the delta", 9000, 14_000)
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        with catalogue.session() as session:
            shown_id = session.get_one(Segment, first).transcripts[0].id
            queue.decide(
                session,
                reviewer="Second",
                segment_id=first,
                transcript_id=shown_id,
                action="accept",
                client_id="of-second",
            )
        page.locator(".js-text").fill("the plain")
        page.keyboard.press("Control+Enter")
        shown("the delta")
        assert decisions() == [("accept", "the plane", "the plane")]
        page.wait_for_selector(".js-kept textarea")
        page.reload()
        shown("the delta")
        kept = page.locator(".js-kept")
        expect(kept.locator("textarea")).to_have_value("the plain")
        expect(kept).to_contain_text("Second has already decided")
        kept.get_by_role("button", name="Dismiss").click()
        expect(kept).not_to_be_visible()


def test_a_decision_made_while_the_server_is_away_arrives_when_it_is_back(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    decisions: Callable[[], Decisions],
    add_segment: AddSegment,
) -> None:
    add_segment("the plane", 0, 9000)
    add_segment("the delta", 9000, 14_000)
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        page.wait_for_load_state("networkidle")
        page.route("**/api/**", lambda route: route.abort())
        page.locator(".js-text").fill("the plain")
        page.keyboard.press("Control+Enter")
        shown("the delta")
        page.wait_for_function("document.querySelector('.js-saved').textContent === 'offline'")
        page.unroute("**/api/**")
        assert decisions() == [("correct", "the plane", "the plain")]


def test_progress_is_told_on_its_own_tab(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    add_segment("the plane", 0, 9000)
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_text("Everything is reviewed.")).to_be_visible()
        page.get_by_role("tab", name="Progress").click()
        expect(page.get_by_text("0 segments are waiting, 1 are decided.")).to_be_visible()
        expect(page.get_by_text("First").locator("visible=true")).to_be_visible()
