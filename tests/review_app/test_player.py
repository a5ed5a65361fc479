"""The review screen in a real browser: keys, sound, drafts, and no request to any other machine."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from playwright.sync_api import expect
from sqlalchemy import select, update

from corpus.catalogue import Catalogue, Decision, Lease, Recording, Segment, Transcript
from corpus.workspace import Workspace
from review_app import accounts, auth
from review_app import decisions as deciding
from review_app.app import create_app, running
from review_app.auth import Access

from .conftest import AddSegment

expect.set_options(timeout=20_000)  # milliseconds; a machine under load is slow, not wrong

Decisions = list[tuple[str, str | None, str | None]]


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
def saved(page: Any) -> Callable[[], None]:
    """Wait until the page says saved."""
    return lambda: expect(page.locator(".js-saved")).to_have_text("saved")


@pytest.fixture
def decisions(
    catalogue: Catalogue, page: Any, saved: Callable[[], None]
) -> Callable[[], Decisions]:
    """Wait until the page says saved; then (action, text before, text after) of every decision."""

    def read() -> Decisions:
        saved()
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


def test_a_piece_is_played_and_one_is_where_one_was_and_a_segment_again_and_again(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    add_segment("text", 5000, 6000)
    page.add_init_script(
        "window.plays = 0;"
        "const play = HTMLMediaElement.prototype.play;"
        "HTMLMediaElement.prototype.play = function () {"
        "  window.plays += 1;"
        "  return play.call(this);"
        "};"
    )
    with running(app) as url:
        page.goto(url)
        shown("text")
        label, wave = page.locator(".js-play-label"), page.locator(".js-wave")
        expect(label).to_have_text("Play")  # it stops at its end, though there is more sound
        expect(wave).to_have_attribute("aria-valuenow", "1.0")
        for key in ("Alt+Shift+KeyA", "Alt+Shift+KeyU"):  # around the cursor, around a bound
            before = page.evaluate("window.plays")
            page.keyboard.press(key)
            page.wait_for_function("before => window.plays > before", arg=before)
            expect(label).to_have_text("Play")
            expect(wave).to_have_attribute("aria-valuenow", "1.0")
        page.keyboard.press("Alt+Shift+KeyL")
        page.wait_for_function(
            "() => {"
            "  const at = parseFloat(document.querySelector('.js-clock').textContent);"
            "  window.again = (window.again ?? 0) + (at < (window.before ?? 0) - 0.4);"
            "  window.before = at;"
            "  return window.again >= 2;"
            "}"
        )
        expect(page.locator(".js-loop")).to_have_attribute("aria-pressed", "true")


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
    with running(app) as url, running(create_app(workspace, Access(local="Second"))) as second:
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
            deciding.decide(
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


def test_ten_segments_are_worked_through_without_the_mouse_or_leaving_the_text(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    saved: Callable[[], None],
    catalogue: Catalogue,
    add_segment: AddSegment,
) -> None:
    # The longest come first; two of them lie side by side to be joined.
    for number in range(8):
        add_segment(f"text {number}", 10 * number, 12_000 - 1000 * number, verdict="review")
    add_segment("one half", 12_000, 15_000)
    add_segment("other half", 15_000, 17_900)
    press = page.keyboard.press
    with running(app) as url:
        page.goto(url)
        shown("text 0")
        press("Control+Enter")
        shown("text 1")
        saved()
        assert _newest(catalogue) == ("accept", None, "text 0", "text 0")

        press("End")
        page.keyboard.type(" and more")
        press("Control+Enter")
        shown("text 2")
        saved()
        assert _newest(catalogue) == ("correct", None, "text 1", "text 1 and more")

        press("Alt+Shift+KeyX")
        press("8")
        shown("text 3")
        saved()
        assert _newest(catalogue) == ("reject", "private", "text 2", None)

        press("Alt+Shift+KeyS")
        shown("text 4")
        saved()
        assert _newest(catalogue)[:1] == ("skip",)

        press("Control+Enter")
        shown("text 5")
        saved()
        press("Alt+Shift+KeyZ")
        shown("text 4")
        assert _newest(catalogue)[:1] == ("undo",)
        press("Control+Enter")
        shown("text 5")

        press("Tab")  # stops the sound
        for key in ("Alt+Shift+KeyI", "Alt+Shift+KeyI", "Alt+Shift+KeyO"):
            press(key)
        expect(page.locator(".js-bounds")).to_have_text("start +40, end −20 ms")
        press("Control+Enter")
        shown("text 6")
        saved()
        assert _newest(catalogue) == ("accept", None, "text 5", "text 5")
        assert _newest_span(catalogue) == (90, 6980)

        for _ in range(3):
            press("Alt+Shift+KeyK")  # two seconds on
        press("Alt+Shift+KeyJ")
        press("Home")
        for _ in range(4):
            press("ArrowRight")
        page.wait_for_function("parseFloat(document.querySelector('.js-clock').textContent) >= 2")
        press("Alt+Shift+KeyC")
        shown("text")
        assert _newest(catalogue)[:1] == ("split",)
        press("Control+Enter")
        shown("6")
        press("Control+Enter")
        shown("text 7")
        press("Control+Enter")
        shown("one half")
        press("Alt+Shift+KeyM")
        shown("one half other half")
        press("Control+Enter")
        shown("text 3")  # what was skipped comes again
        saved()
        assert _newest(catalogue)[:1] == ("accept",)
        assert _newest_span(catalogue) == (12_000, 17_900)


@pytest.mark.parametrize(
    ("language", "texts", "typed", "side"),
    [
        ("ar", ["Whisper يسمع النهر", "السهل"], " الكبير", "rtl"),
        ("zh", ["河流带来泥沙", "三角洲"], "和石头", "ltr"),
    ],
)
def test_a_session_in_another_script(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    saved: Callable[[], None],
    catalogue: Catalogue,
    add_segment: AddSegment,
    language: str,
    texts: list[str],
    typed: str,
    side: str,
) -> None:
    words = [[0, 4000, texts[0].split()[0], 0.9], [4000, 9000, texts[0].split()[-1], 0.3]]
    add_segment(texts[0], 0, 9000, words=words, verdict="review")
    add_segment(texts[1], 9000, 12_000, verdict="review")
    with catalogue.session() as session:
        session.get_one(Recording, "files:tone").language = language
    with running(app) as url:
        page.goto(url)
        shown(texts[0])
        text = page.locator(".js-text")
        assert text.get_attribute("lang") == language
        for place in (text, page.locator(".js-words")):
            assert place.evaluate("place => getComputedStyle(place).direction") == side
        page.keyboard.press("End")
        # What an input method composes is its own, the keys that end it too.
        page.evaluate(
            "for (const code of ['Enter', 'Tab', 'Escape']) document.activeElement.dispatchEvent("
            "new KeyboardEvent('keydown', {code, ctrlKey: code === 'Enter', isComposing: true,"
            " bubbles: true, cancelable: true}))"
        )
        page.keyboard.insert_text(typed)
        page.keyboard.press("Control+Enter")
        shown(texts[1])
        saved()
        assert _newest(catalogue) == ("correct", None, texts[0], texts[0] + typed)
        page.keyboard.press("Alt+Shift+KeyX")
        page.keyboard.press("1")
        expect(page.get_by_text("Everything is reviewed.")).to_be_visible()
        saved()
        assert _newest(catalogue)[:2] == ("reject", "wrong_language")


def test_a_phone_shows_all_in_its_width_and_the_decision_within_reach(
    app: FastAPI, chromium: Any, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    words = [[0, 9000, "x" * 300, 0.9]]
    add_segment("the plane " * 30, 0, 9000, words=words, subtitle="y" * 500, verdict="review")
    add_segment("the delta", 9000, 14_000, verdict="review")
    size = {"width": 390, "height": 844}
    context = chromium.new_context(viewport=size, has_touch=True, is_mobile=True)
    page = context.new_page()
    with running(app) as url:
        page.goto(url)
        expect(page.locator(".js-words button")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("document.activeElement.tagName") != "TEXTAREA"
        accept = page.locator("[data-do=save]")
        expect(accept).to_be_in_viewport()
        page.wait_for_timeout(350)
        accept.tap()
        expect(page.locator(".js-text")).to_have_value("the delta")
        page.wait_for_timeout(350)
        page.locator("[data-do=reject]").tap()
        page.get_by_role("button", name="Music or noise").tap()
        expect(page.get_by_text("Everything is reviewed.")).to_be_visible()
        context.close()
    with catalogue.session() as session:
        assert session.scalars(select(Decision.action)).all() == ["accept", "reject"]


def test_without_a_connection_one_hears_types_and_decides_on(
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
        page.wait_for_load_state("networkidle")
        page.context.set_offline(True)
        page.locator(".js-text").fill("the plain")
        page.keyboard.press("Control+Enter")
        shown("the delta")
        page.wait_for_function("parseFloat(document.querySelector('.js-clock').textContent) > 0.3")
        page.locator(".js-text").fill("the deltas")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_text("nothing is lost")).to_be_visible()
        page.context.set_offline(False)
        assert decisions() == [
            ("correct", "the plane", "the plain"),
            ("correct", "the delta", "the deltas"),
        ]


def test_bounds_are_dragged_kept_over_a_reload_and_stored(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    saved: Callable[[], None],
    catalogue: Catalogue,
    add_segment: AddSegment,
) -> None:
    add_segment("the plane", 4000, 10_000, verdict="review")
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        wave, end = (page.locator(name).bounding_box() for name in (".js-wave", ".js-end"))
        assert wave is not None
        assert end is not None
        middle = end["x"] + end["width"] / 2
        page.mouse.move(middle, wave["y"] + 50)
        page.mouse.down()
        page.mouse.move(middle + wave["width"] / 10, wave["y"] + 50, steps=4)  # of 10 s shown
        page.mouse.up()
        label = page.locator(".js-save-label")
        expect(label).to_have_text("Accept new bounds")
        page.reload()
        shown("the plane")
        expect(label).to_have_text("Accept new bounds")
        page.locator(".js-start").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".js-start")).to_have_attribute("aria-valuenow", "-0.02")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_text("Everything is reviewed.")).to_be_visible()
        saved()
        start, stop = _newest_span(catalogue)
        assert start == 3980
        assert abs(stop - 11_000) <= 40


def test_the_tabs_of_one_reviewer_have_different_segments(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    for number in range(4):
        add_segment(f"segment {number}", number * 4000, number * 4000 + 4000 - number)
    with running(app) as url:
        page.goto(url)
        shown("segment 0")
        page.wait_for_load_state("networkidle")
        other = page.context.new_page()
        other.goto(url)
        expect(other.locator(".js-text")).to_have_value("segment 2")
        for one in (page, other):
            expect(one.locator(".js-notice")).to_contain_text("Open in 2 tabs")
        other.goto(page.url)
        other.reload()
        expect(other.locator(".js-notice")).to_contain_text("Another tab shows this segment too")
        other.close()
        expect(page.locator(".js-notice")).to_be_hidden()


def test_a_page_that_is_built_anew_goes_on_where_it_was(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    add_segment("the plane", 0, 9000)
    add_segment("the delta", 9000, 14_000)
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        page.locator(".js-text").fill("half typed")
        # As Gradio does when its server was away.
        page.evaluate(
            "const old = document.querySelector('.review').parentElement;"
            "const fresh = old.cloneNode(true);"
            "fresh.querySelector('.js-text').value = '';"
            "old.replaceWith(fresh);"
            "import('/player/player.js').then((player) => player.mount(fresh));"
        )
        shown("half typed")
        expect(page.locator(".js-notice")).to_be_hidden()
        page.locator(".js-text").press("Control+Enter")
        shown("the delta")


def test_a_link_leads_to_a_segment_and_tells_who_has_it(
    app: FastAPI,
    page: Any,
    workspace: Workspace,
    shown: Callable[[str], None],
    add_segment: AddSegment,
) -> None:
    add_segment("the plane", 0, 9000)
    second = quote(add_segment("the delta", 9000, 14_000), safe="")
    add_segment("the sea", 14_000, 17_000)
    other = page.context.browser.new_context().new_page()
    with (
        running(app) as url,
        running(create_app(workspace, Access(local="Second"))) as url_of_second,
    ):
        page.goto(f"{url}/#segment={second}")
        shown("the delta")
        other.goto(f"{url_of_second}/#segment={second}")
        expect(other.locator(".js-notice")).to_contain_text("First has this segment before them")
        expect(other.locator(".js-text")).to_have_value("the delta")
        other.wait_for_timeout(350)
        other.keyboard.press("Control+Enter")
        expect(other.locator(".js-status")).to_contain_text("First has this segment")
        other.keyboard.press("Alt+Shift+KeyN")
        expect(other.locator(".js-text")).to_have_value("the sea")
        page.goto(f"{url}/#segment=gone")
        expect(page.locator(".js-status")).to_contain_text("no segment gone")
    other.context.close()


def test_one_goes_back_to_what_was_decided_and_makes_it_hold_again(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    saved: Callable[[], None],
    catalogue: Catalogue,
    add_segment: AddSegment,
) -> None:
    add_segment("the plane", 0, 9000, verdict="review")
    add_segment("the delta", 9000, 14_000, verdict="review")
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        page.keyboard.press("Control+Enter")
        shown("the delta")
        page.keyboard.press("Alt+Shift+KeyB")
        shown("the plane")
        expect(page.locator(".js-notice")).to_contain_text("You have decided this segment (accept)")
        page.keyboard.press("Alt+Shift+KeyN")
        shown("the delta")
        page.keyboard.press("Alt+Shift+KeyZ")
        shown("the plane")
        page.locator(".js-past summary").click()
        page.get_by_role("button", name="Let it hold again").click()
        expect(page.locator(".js-notice")).to_contain_text("You have decided this segment")
        assert _newest(catalogue)[:1] == ("accept",)


def test_a_filter_brings_only_what_it_wants(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    add_segment("the plane", 0, 9000)
    add_segment("the delta", 9000, 14_000)
    add_segment("a delta again", 14_000, 17_000)
    with running(app) as url:
        page.goto(url)
        shown("the plane")
        page.keyboard.press("Alt+Shift+KeyF")
        page.keyboard.type("DELTA")
        page.keyboard.press("Enter")
        shown("the delta")
        expect(page.locator(".js-filter-label")).to_have_text("Filtered")
        page.locator(".js-text").press("Control+Enter")
        shown("a delta again")
        page.locator(".js-text").press("Control+Enter")
        expect(page.get_by_text("Nothing is left of what the filter wants.")).to_be_visible()
        page.keyboard.press("f")
        page.get_by_role("button", name="Clear").click()
        page.get_by_role("button", name="Show these").click()
        shown("the plane")


@pytest.mark.parametrize("address", ["**/api/v1/next?exclude=**", "**/api/v1/decide"])
def test_what_was_asked_for_before_a_filter_was_set_is_given_back(
    app: FastAPI,
    page: Any,
    shown: Callable[[str], None],
    catalogue: Catalogue,
    add_segment: AddSegment,
    address: str,
) -> None:
    add_segment("the plane", 0, 9000)
    add_segment("the sea", 9000, 13_500)
    add_segment("the hill", 13_500, 17_000)
    wanted = add_segment("the delta", 17_000, 19_500)
    held: list[Any] = []
    with running(app) as url:
        page.route(address, lambda route: held.append(route), times=1)
        page.goto(url)
        shown("the plane")
        if address.endswith("decide"):
            page.wait_for_load_state("networkidle")
            page.locator(".js-text").press("Control+Enter")
            shown("the sea")
        assert held
        page.keyboard.press("Alt+Shift+KeyF")
        page.keyboard.type("delta")
        page.keyboard.press("Enter")
        expect(page.locator(".js-filter-label")).to_have_text("Filtered")
        held[0].continue_()
        shown("the delta")
        page.wait_for_load_state("networkidle")
        with catalogue.session() as session:
            assert session.scalars(select(Lease.segment_id)).all() == [wanted]


def test_a_lease_that_ran_out_is_told_and_both_texts_are_shown(
    app: FastAPI,
    page: Any,
    workspace: Workspace,
    catalogue: Catalogue,
    shown: Callable[[str], None],
    add_segment: AddSegment,
) -> None:
    key = add_segment("the plane", 0, 9000)
    other = page.context.browser.new_context().new_page()
    with (
        running(app) as url,
        running(create_app(workspace, Access(local="Second"))) as url_of_second,
    ):
        page.goto(url)
        shown("the plane")
        page.locator(".js-text").fill("the plan")
        with catalogue.session() as session:
            session.execute(update(Lease).values(expires=0))
        other.goto(url_of_second)
        expect(other.locator(".js-text")).to_have_value("the plane")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # looked at again
        expect(page.locator(".js-notice")).to_contain_text("Second has this segment before them")
        other.locator(".js-text").fill("the plain")
        other.wait_for_timeout(350)
        other.keyboard.press("Control+Enter")
        expect(other.get_by_text("Everything is reviewed.")).to_be_visible()
        page.reload()
        shown("the plan")
        page.locator(".js-text").press("Control+Enter")
        kept = page.locator(".js-kept")
        expect(kept.locator("textarea")).to_have_value("the plan")
        expect(kept.locator(".review-theirs")).to_have_text("Second: the plain")
        expect(kept.locator("mark")).to_have_text("plain")
        kept.get_by_role("button", name="Open the segment").click()
        shown("the plan")
        expect(page.locator(".js-history")).to_contain_text("Second corrected")
    other.context.close()
    with catalogue.session() as session:
        assert _review(session.get_one(Segment, key)) == "the plain"


def test_long_words_and_turned_texts_stay_in_their_place(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    long, turned = "x" * 5000, "safe \u202eevil\u202c \u2067turned"
    words = [[0, 9000, long, 0.9], [9000, 10_000, turned, 0.2]]
    add_segment(long, 0, 10_000, words=words, subtitle=turned, verdict="review")
    add_segment(turned, 10_000, 14_000, subtitle=long)
    with running(app) as url:
        page.goto(url)
        for text in (long, turned):
            shown(text)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            use = page.locator(".js-others button").bounding_box()
            assert use is not None
            assert use["x"] > 800  # right of the text, whatever that turns
            page.locator(".js-text").press("Control+Enter")
        expect(page.get_by_text("Everything is reviewed.")).to_be_visible()


def test_all_is_seen_at_once_on_a_small_laptop_and_named_for_a_screen_reader(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    text = "and lays it on the plane below us, grain by grain, until there is a delta " * 3
    words = [[300 * i, 300 * i + 300, word, 0.7] for i, word in enumerate(text.split())]
    add_segment(text.strip(), 0, 14_000, words=words, subtitle="other", reasons=("differs",))
    with running(app) as url:
        page.goto(url)
        shown(text.strip())
        assert page.evaluate("document.documentElement.scrollHeight") <= 800
        expect(page.locator("[data-do=save]")).to_be_in_viewport(ratio=1)
        for role, name in (
            ("slider", "Position in the segment"),
            ("slider", "Start of the segment"),
            ("slider", "End of the segment"),
            ("textbox", "What is said"),
            ("button", "Slower"),
        ):
            expect(page.get_by_role(role, name=name)).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("Tab")
        expect(page.locator(".js-start")).to_be_focused()
        page.keyboard.press("?")
        expect(page.get_by_role("heading", name="Keys")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(".js-start")).to_be_focused()


def test_keys_that_type_are_left_to_the_text(
    app: FastAPI, page: Any, shown: Callable[[str], None], add_segment: AddSegment
) -> None:
    add_segment("a")
    with running(app) as url:
        page.goto(url)
        shown("a")
        page.keyboard.type("xszcmuiopyrl[]?")
        expect(page.locator(".js-text")).to_have_value("xszcmuiopyrl[]?a")
        expect(page.locator("dialog[open]")).to_have_count(0)
        page.keyboard.press("Alt+Shift+BracketRight")
        expect(page.locator(".js-speed")).to_have_text("1.1×")
        page.evaluate(  # AltGr, which types [ in some layouts
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {code: 'KeyX',"
            " altKey: true, shiftKey: true, modifierAltGraph: true, bubbles: true}))"
        )
        expect(page.locator("dialog[open]")).to_have_count(0)
        expect(page.locator(".js-text")).to_have_value("xszcmuiopyrl[]?a")


def _newest(catalogue: Catalogue) -> tuple[str, str | None, str | None, str | None]:
    """(action, reason, text before, text after) of the newest decision."""
    with catalogue.session() as session:
        made = session.scalars(select(Decision).order_by(Decision.id.desc()).limit(1)).one()
        after = session.get(Transcript, made.transcript_id) if made.transcript_id else None
        return made.action, made.reason, made.before, after.text if after else None


def _newest_span(catalogue: Catalogue) -> tuple[int, int]:
    """Start and end, in milliseconds, of the segment that was decided last."""
    with catalogue.session() as session:
        made = session.scalars(select(Decision).order_by(Decision.id.desc()).limit(1)).one()
        segment = session.get_one(Segment, made.segment_id)
        return segment.start_ms, segment.end_ms


def test_people_sign_in_and_what_is_typed_outlives_being_signed_out(
    workspace: Workspace,
    catalogue: Catalogue,
    page: Any,
    shown: Callable[[str], None],
    saved: Callable[[], None],
    add_segment: AddSegment,
) -> None:
    first = add_segment("the plane", 0, 9000)
    second = add_segment("the delta", 9000, 14_000)
    with catalogue.session() as session:
        accounts.add(session, "First", "reviewer", "a long password")

    def sign_in(tab: Any, password: str) -> None:
        tab.get_by_label("Name").fill("First")
        tab.get_by_label("Password").fill(password)
        tab.keyboard.press("Enter")

    with running(create_app(workspace, Access())) as url:
        page.goto(f"{url}/#segment={quote(second)}")
        sign_in(page, "wrong password")
        expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
        page.goto(f"{url}/#segment={quote(second)}")
        sign_in(page, "a long password")
        shown("the delta")  # the link has led there
        expect(page.locator(".js-name")).to_have_text("First")
        page.goto(url)
        shown("the plane")
        page.locator(".js-text").fill("the plain")

        with catalogue.session() as session:
            accounts.change(session, "First", password="another password")
        page.wait_for_timeout(1000 * auth.KNOWN_SECONDS)
        page.keyboard.press("Control+Enter")
        again = page.get_by_role("alert").get_by_role("link", name="Sign in")
        expect(page.get_by_role("alert").first).to_contain_text("What you typed is kept")
        with page.expect_popup() as opened:
            again.click()
        sign_in(opened.value, "another password")
        saved()
        with catalogue.session() as session:
            made = session.scalars(select(Decision)).one()
            assert (made.segment_id, made.reviewer, made.action) == (first, "First", "correct")
            assert _review(session.get_one(Segment, first)) == "the plain"
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Password")).to_be_visible()


def test_an_adjudicator_settles_what_two_disagree_on_with_the_keyboard_alone(
    workspace: Workspace,
    page: Any,
    shown: Callable[[str], None],
    saved: Callable[[], None],
    catalogue: Catalogue,
    add_segment: AddSegment,
) -> None:
    def decide(key: str, reviewer: str, text: str | None) -> None:
        with catalogue.session() as session:
            deciding.decide(
                session,
                reviewer=reviewer,
                segment_id=key,
                transcript_id=session.get_one(Segment, key).transcripts[0].id,
                action="correct" if text else "reject",
                text=text,
                reason=None if text else "cut_off",
                client_id=f"of {reviewer} on {key}",
                double_share=1.0,
            )

    keys = [add_segment(f"text {n}", 4000 * n, 7900 - n + 4000 * n) for n in range(3)]
    add_segment("nobody has decided", 16_000, 17_000)
    for key, first, second in zip(
        keys, ("the plain", "<b>la</b>", "one"), ("the plane", None, "two"), strict=True
    ):
        decide(key, "First", first)
        decide(key, "Second", second)
    press = page.keyboard.press
    opinions = page.locator(".js-opinions li")
    with running(create_app(workspace, Access(local="Judge"), double_share=1.0)) as url:
        page.goto(url)
        shown("nobody has decided")
        expect(page.locator(".js-opinions")).to_be_hidden()
        expect(page.locator(".js-count")).to_have_text("1 waiting, 3 to settle")
        press("Alt+Shift+KeyF")
        expect(page.locator(".js-only-conflicts")).to_contain_text("(3)")
        page.get_by_label("only what reviewers disagree on").focus()
        press("Space")
        press("Enter")
        shown("text 0")
        expect(opinions.locator("p")).to_have_text(["the plain", "the plane"])
        expect(opinions.locator("mark")).to_have_text(["plain", "plane"])
        press("Alt+Shift+Digit2")
        shown("text 1")
        expect(opinions.locator("p")).to_have_text(["<b>la</b>", "Rejects it: Words cut off"])
        press("Escape")
        press("2")
        shown("text 2")
        opinions.get_by_role("button", name="Use").first.click()
        page.keyboard.type(" and all")
        press("Control+Enter")
        expect(page.get_by_text("Nothing is left of what the filter wants.")).to_be_visible()
        expect(page.locator(".js-count")).to_have_text("1 waiting")
        saved()
        press("z")
        shown("text 2")
        expect(opinions).to_have_count(2)
        press("Alt+Shift+Digit1")
        expect(page.get_by_text("Nothing is left of what the filter wants.")).to_be_visible()
        saved()
    with catalogue.session() as session:
        made = session.scalars(select(Decision).filter_by(reviewer="Judge").order_by(Decision.id))
        told = [
            (
                one.action,
                one.adjudicates,
                one.transcript_id and session.get_one(Transcript, one.transcript_id).text,
            )
            for one in made
        ]
    assert told == [
        ("correct", True, "the plane"),
        ("reject", True, None),
        ("correct", True, "one and all"),
        ("undo", False, None),
        ("correct", True, "one"),
    ]
