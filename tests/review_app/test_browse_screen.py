"""The list of all segments in a real browser: filters, keys, sound, and texts that mean harm."""

from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import expect

from corpus.catalogue import Catalogue
from review_app import browse
from review_app.app import running

from .conftest import AddSegment
from .test_queue import decide

HARM = "<img src=x onerror=alert(1)> ${alert(2)} {{7*7}} <b>bold</b>"
OVERRIDE = "pay \u202eeruces ton si siht"
ENDLESS = "Donaudampfschiff" * 60


def texts(page: Any) -> Any:
    return page.locator(".browse-text p:first-child")


def form(page: Any) -> Any:
    return page.get_by_role("search")


def open_list(page: Any, url: str) -> None:
    page.goto(url)
    page.get_by_role("tab", name="Browse").click()


def test_segments_are_filtered_and_sorted_as_one_types(
    app: FastAPI, page: Any, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    add_segment("the plane", 0, 4000, logprob=-0.1, verdict="keep")
    add_segment("the delta", 4000, 9000, logprob=-1.5, verdict="review")
    with running(app) as url:
        open_list(page, url)
        expect(texts(page)).to_have_text(["the delta", "the plane"])
        expect(page.locator(".browse-sure")).to_have_text(["22 %", "90 %"])
        form(page).get_by_label("Order").select_option("surest")
        expect(texts(page)).to_have_text(["the plane", "the delta"])
        form(page).get_by_label("Words in the text").fill("DELTA")
        expect(texts(page)).to_have_text(["the delta"])
        expect(page.get_by_text("1 segment", exact=True)).to_be_visible()
        page.get_by_role("button", name="Clear").click()
        expect(texts(page)).to_have_text(["the delta", "the plane"])
        decide(catalogue, "files:tone@0-4000", "correct", text="the plain", reviewer="Bert")
        page.locator("[name=state]").select_option("corrected")
        expect(texts(page)).to_have_text(["the plain"])
        expect(page.locator(".browse-decision")).to_contain_text("Bert corrected")


def test_one_goes_from_row_to_row_plays_and_opens_by_keyboard(
    app: FastAPI, page: Any, add_segment: AddSegment
) -> None:
    add_segment("the plane", 0, 9000, verdict="review")
    add_segment("the delta", 9000, 14_000, verdict="review")
    with running(app) as url:
        open_list(page, url)
        page.get_by_role("button", name="Play: the plane").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        row = page.get_by_role("row").filter(has_text="the delta")
        play = row.get_by_role("button")
        expect(play).to_have_attribute("aria-pressed", "true")
        expect(row).to_have_attribute("data-now", "")
        page.keyboard.press("Enter")
        expect(play).to_have_attribute("aria-pressed", "false")
        page.keyboard.press("Enter")
        expect(play).to_have_attribute("aria-pressed", "true")
        expect(play).to_have_attribute("aria-pressed", "false", timeout=15_000)  # at its end
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator(".js-text")).to_be_visible()
        expect(page.locator(".js-text")).to_have_value("the delta")
        page.wait_for_timeout(350)  # a key pressed sooner counts as hit twice
        page.keyboard.press("Control+Enter")
        expect(page.locator(".js-text")).to_have_value("the plane")
        expect(page.locator(".js-saved")).to_have_text("saved")
        page.get_by_role("tab", name="Browse").click()
        expect(row).to_contain_text("First accepted")  # the list is a new one


def test_an_own_decision_of_before_is_opened_and_changed(
    app: FastAPI, page: Any, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("the plane", 0, 2000)
    add_segment("the delta", 2000, 4000)
    decide(catalogue, key, "accept")
    with running(app) as url:
        open_list(page, url)
        page.locator("[name=state]").select_option("accepted")
        expect(texts(page)).to_have_text(["the plane"])
        page.get_by_role("link", name="Review").click()
        expect(page.locator(".js-text")).to_have_value("the plane")
        expect(page.locator(".js-notice")).to_contain_text("You have decided this segment")


def test_texts_are_shown_as_texts_whatever_they_hold(
    app: FastAPI, page: Any, add_segment: AddSegment
) -> None:
    add_segment(HARM, 0, 4000, verdict="review")
    add_segment(OVERRIDE, 4000, 7000, verdict="review")
    add_segment(ENDLESS, 7000, 9000, verdict="review")
    page.set_viewport_size({"width": 390, "height": 844})
    with running(app) as url:
        open_list(page, url)
        expect(texts(page)).to_have_text([HARM, OVERRIDE, ENDLESS])
        expect(page.locator(".browse-table img, .browse-table b")).to_have_count(0)
        row = page.get_by_role("row").filter(has_text="eruces")
        expect(row).to_contain_text("has hidden direction marks")
        # What follows an override is another element, which it does not reach.
        assert "isolate" in texts(page).nth(1).evaluate("one => getComputedStyle(one).unicodeBidi")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_right_to_left_texts_stand_to_the_right(
    app: FastAPI, page: Any, add_segment: AddSegment
) -> None:
    add_segment("النهر يحمل كل هذا", 0, 4000)
    with running(app) as url:
        open_list(page, url)
        expect(texts(page)).to_have_css("direction", "rtl")


def test_pages_are_turned(
    app: FastAPI, page: Any, add_segment: AddSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "PAGE_ROWS", 2)
    for number in range(3):
        add_segment(f"text {number}", 2000 * number, 2000 * number + 1900 - number)
    with running(app) as url:
        open_list(page, url)
        expect(texts(page)).to_have_text(["text 0", "text 1"])
        expect(page.get_by_role("button", name="Back")).to_be_disabled()
        page.get_by_role("button", name="Next", exact=True).click()
        expect(texts(page)).to_have_text(["text 2"])
        expect(page.get_by_role("button", name="Next", exact=True)).to_be_disabled()
        page.get_by_role("button", name="Back").click()
        expect(texts(page)).to_have_text(["text 0", "text 1"])


def test_what_cannot_be_loaded_or_played_is_told(
    app: FastAPI, page: Any, add_segment: AddSegment
) -> None:
    add_segment("text", 0, 2000)
    with running(app) as url:
        open_list(page, url)
        expect(texts(page)).to_have_text(["text"])
        page.route("**/media/**", lambda route: route.fulfill(status=404))
        page.get_by_role("button", name="Play: text").click()
        expect(page.get_by_text("The sound of this segment cannot be played.")).to_be_visible()
        page.route("**/api/v1/browse?**", lambda route: route.abort())
        form(page).get_by_label("Verdict").select_option("keep")
        expect(page.get_by_text("The list cannot be loaded")).to_be_visible()


def test_the_review_screen_falls_silent_where_it_is_left(
    app: FastAPI, page: Any, add_segment: AddSegment
) -> None:
    add_segment("text", 0, 20_000)
    with running(app) as url:
        page.goto(url)
        expect(page.locator(".js-play-label")).to_have_text("Pause")
        page.get_by_role("tab", name="Browse").click()
        expect(page.locator(".js-play-label")).to_have_text("Play", timeout=3000)
