"""The Statistics tab in a real browser: what is drawn, and who sees whose pace."""

from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import expect

from corpus.catalogue import Catalogue
from corpus.workspace import Workspace
from review_app import accounts, order
from review_app.app import create_app, running
from review_app.auth import Access

from .conftest import AddSegment
from .test_queue import decide

HARM = "<img src=x onerror=alert(1)> ${alert(2)}"


@pytest.fixture
def decided(catalogue: Catalogue, add_segment: AddSegment) -> None:
    """Somebody of a harmful name has corrected a label, Rita has accepted one, one is left."""
    one, two = add_segment("abcd", 0, 4000, logprob=-1.0), add_segment("abcd", 4000, 7000)
    add_segment("nobody heard this", 7000, 9000)
    decide(catalogue, one, "correct", text="abce", reviewer=HARM, lead_ms=8000)
    decide(catalogue, two, "accept", reviewer="Rita", lead_ms=6000)
    list(order.refresh(catalogue))


def test_figures_are_drawn_and_names_are_no_html(app: FastAPI, page: Any, decided: None) -> None:
    with running(app) as url:
        page.goto(url)
        page.get_by_role("tab", name="Statistics").click()
        expect(page.get_by_text("1 segments are waiting, 2 are decided")).to_be_visible()
        expect(page.get_by_text("people changed 12.5%")).to_be_visible()
        expect(page.get_by_text(HARM).locator("visible=true")).to_be_visible()
        expect(page.get_by_text("Rita").locator("visible=true")).to_be_visible()
        expect(page.get_by_text("0% of the text that is left")).to_be_visible()
        # A day and two kinds of decision, a day, and two levels: each has its bar.
        bars = page.locator(".vega-embed [aria-roledescription=bar]")
        expect(bars).to_have_count(3 + 1 + 2)
        heights = bars.evaluate_all("all => all.map((one) => one.getBBox().height)")
        assert sum(height > 10 for height in heights) == 2 + 1 + 1  # the others are of nothing
        assert page.locator("img[src=x]").count() == 0


def test_a_reviewer_sees_nobody_elses_pace(
    workspace: Workspace, catalogue: Catalogue, page: Any, decided: None
) -> None:
    with catalogue.session() as session:
        accounts.add(session, "Rita", "reviewer", "long enough")
    with running(create_app(workspace, Access())) as url:
        page.goto(url)
        page.get_by_label("Name").fill("Rita")
        page.get_by_label("Password").fill("long enough")
        page.keyboard.press("Enter")
        page.get_by_role("tab", name="Statistics").click()
        expect(page.get_by_text("1 segments are waiting, 2 are decided")).to_be_visible()
        expect(page.get_by_text("Rita").locator("visible=true").first).to_be_visible()
        expect(page.locator(".vega-embed svg, .vega-embed canvas")).to_have_count(3)
        assert page.get_by_text(HARM).count() == 0
