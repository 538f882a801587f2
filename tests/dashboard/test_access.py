"""Accessibility of both pages: keyboard, screen reader, phone, dark colours."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from tests.dashboard.conftest import Visit, Visits
from tests.dashboard.weeks import live
from tests.serving import Service
from tests.waiting import until

pytestmark = pytest.mark.slow

PAGES = ("/dashboard", "/dashboard/user?id=ada")
PHONE = {"viewport": {"width": 390, "height": 844}}
SMALL_PHONE = {"viewport": {"width": 360, "height": 640}}


@pytest.fixture
def lived(service: Service, db: Engine) -> Service:
    """A service with something to show, and a version whose name is long."""
    live(db, days=30, versions=[None, "v1", "v2-a-version-with-a-rather-long-name-that-has-to-go-somewhere"])
    return service


def unfold(page: Page) -> None:
    """Show all that can be unfolded, and the fields for chosen days."""
    for summary in page.locator("summary").all():
        summary.click()
    if page.locator("#period-choice").count():
        page.get_by_label("Period").select_option("days")
        expect(page.get_by_label("From")).to_be_visible()
        expect(page.locator("[aria-busy=true]")).to_have_count(0)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_rules(lived: Service, visit: Visit, path: str, scheme: str) -> None:
    """axe-core finds no violation of its rules and best practices, with everything unfolded."""
    page = visit(lived, path, color_scheme=scheme)
    unfold(page)
    if "user" in path:
        page.get_by_role("button", name="Verify").click()
        expect(page.locator("#verify .green")).to_be_visible()
    violations = Axe().run(page).response["violations"]
    assert [(found["id"], [node["target"] for node in found["nodes"]]) for found in violations] == []


def test_accessibility_rules_without_data(service: Service, visits: Visits) -> None:
    """axe-core finds no violation on an empty database and after a failed request."""
    for path in PAGES:
        assert Axe().run(visits.open(service, path)).response["violations"] == []
    visits.expected = "422"
    page = visits.open(service, "/dashboard/user?id=a%01b")
    expect(page.locator(".failure")).to_have_count(2)
    assert Axe().run(page).response["violations"] == []


@pytest.mark.parametrize("path", PAGES)
def test_tab_order(lived: Service, visit: Visit, path: str) -> None:
    """The tab key reaches each control once, in the order of the page; each has a name and shows its focus."""
    page = visit(lived, path)
    unfold(page)
    controls = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
            .filter(one => one.checkVisibility() && !(one.type === "radio" && !one.checked))
            .map((one, index) => (one.dataset.number = index, index))"""
    )
    inspector = page.context.new_cdp_session(page)
    inspector.send("Accessibility.enable")
    page.locator("[data-number='0']").focus()
    reached = ["0"]
    while reached[-1] is not None:
        page.keyboard.press("Tab")
        number = page.evaluate("document.activeElement.dataset.number ?? null")
        # A field for a day is several stops: day, month, year and calendar.
        if number == reached[-1]:
            continue
        reached.append(number)
        assert number is None or named(inspector), page.evaluate("document.activeElement.outerHTML")
        assert number is None or page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached[:-1] == [str(number) for number in controls]


def named(inspector: Any) -> str:  # noqa: ANN401 - a session of the developer tools has no type of its own
    """Return the accessible name of what is focused."""
    focused = inspector.send("Runtime.evaluate", {"expression": "document.activeElement"})["result"]["objectId"]
    tree = inspector.send("Accessibility.getPartialAXTree", {"objectId": focused, "fetchRelatives": False})
    return str(tree["nodes"][0]["name"]["value"])


def test_keyboard(lived: Service, visit: Visit) -> None:
    """The keyboard can skip to the numbers, sort a table and unfold another one."""
    page = visit(lived)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#rewards summary").focus()
    page.keyboard.press("Enter")
    page.locator("#rewards").get_by_role("button", name="Mean reward").focus()
    page.keyboard.press("Space")
    expect(page.locator("#rewards th[aria-sort=descending]")).to_contain_text("Mean reward")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("context", [PHONE, SMALL_PHONE], ids=["390", "360"])
def test_phone_width(lived: Service, visit: Visit, path: str, context: dict[str, Any]) -> None:
    """On a phone nothing overflows sideways with everything unfolded, and charts are as wide as their panels."""
    page = visit(lived, path, **context)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for chart in page.locator(".intervals, .plot, .bars").all():
        box, panel = chart.bounding_box(), chart.locator("xpath=ancestor::section").bounding_box()
        assert box is not None
        assert panel is not None
        assert 0.75 * panel["width"] < box["width"] < panel["width"]
    controls = page.locator("main :is(button:not(.sort), select)")
    assert min(control.bounding_box()["height"] for control in controls.all() if control.is_visible()) >= 32  # type: ignore[index]


def test_charts_follow_colour_scheme_and_width(lived: Service, visit: Visit) -> None:
    """Charts adapt when the colour scheme or the width changes while the page is open."""
    page = visit(lived)
    chart = page.locator("#rewards canvas")
    light, wide = chart.evaluate("one => one.toDataURL()"), chart.evaluate("one => one.clientWidth")
    page.emulate_media(color_scheme="dark")
    until(lambda: chart.evaluate("one => one.toDataURL()") != light)
    page.set_viewport_size({"width": 800, "height": 900})
    # Its panel is wider at once, alone in its row; the chart follows when the browser says so.
    until(lambda: chart.evaluate("one => one.clientWidth") != wide)
    until(lambda: chart.evaluate("one => one.clientWidth / one.closest('section').clientWidth") > 0.8)
