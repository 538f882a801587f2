"""Accessibility of both pages: keyboard, screen readers, phones, dark colours."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from tests.dashboard.conftest import Visit, Visits
from tests.dashboard.weeks import simulate
from tests.serving import Service
from tests.waiting import until

pytestmark = pytest.mark.slow

PAGES = ("/dashboard", "/dashboard/user?id=ada")
PHONE = {"viewport": {"width": 390, "height": 844}}
SMALL_PHONE = {"viewport": {"width": 360, "height": 640}}


@pytest.fixture
def simulated(service: Service, db: Engine) -> Service:
    """Return a service with data, and with a prompt version that has a long name."""
    simulate(db, days=30, versions=[None, "v1", "v2-a-version-with-a-rather-long-name-that-has-to-go-somewhere"])
    return service


def unfold(page: Page) -> None:
    """Unfold all details, and show the fields for selected days."""
    for summary in page.locator("summary").all():
        summary.click()
    if page.locator("#period-choice").count():
        page.get_by_label("Period").select_option("days")
        expect(page.get_by_label("From")).to_be_visible()
        expect(page.locator("[aria-busy=true]")).to_have_count(0)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe(simulated: Service, visit: Visit, path: str, scheme: str) -> None:
    """axe-core finds no violation of its rules and best practices, with everything unfolded."""
    page = visit(simulated, path, color_scheme=scheme)
    unfold(page)
    if "user" in path:
        page.get_by_role("button", name="Verify").click()
        expect(page.locator("#verify .green")).to_be_visible()
    violations = Axe().run(page).response["violations"]
    assert [(found["id"], [node["target"] for node in found["nodes"]]) for found in violations] == []


def test_axe_without_data(service: Service, visits: Visits) -> None:
    """axe-core finds no violation with an empty database, or after failed calls."""
    for path in PAGES:
        assert Axe().run(visits.open(service, path)).response["violations"] == []
    visits.expected = "422"
    page = visits.open(service, "/dashboard/user?id=a%01b")
    expect(page.locator(".failure")).to_have_count(2)
    assert Axe().run(page).response["violations"] == []


@pytest.mark.parametrize("path", PAGES)
def test_tab_key(simulated: Service, visit: Visit, path: str) -> None:
    """The Tab key reaches each control once, in the order of the page; each has a name and a visible focus."""
    page = visit(simulated, path)
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
        # A date field has several stops: day, month, year and calendar.
        if number == reached[-1]:
            continue
        reached.append(number)
        assert number is None or read_accessible_name(inspector), page.evaluate("document.activeElement.outerHTML")
        assert number is None or page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached[:-1] == [str(number) for number in controls]


def read_accessible_name(inspector: Any) -> str:  # noqa: ANN401 - a session of the developer tools has no type of its own
    """Return the accessible name of the focused element."""
    focused = inspector.send("Runtime.evaluate", {"expression": "document.activeElement"})["result"]["objectId"]
    tree = inspector.send("Accessibility.getPartialAXTree", {"objectId": focused, "fetchRelatives": False})
    return str(tree["nodes"][0]["name"]["value"])


def test_keyboard(simulated: Service, visit: Visit) -> None:
    """With the keyboard a user can skip to the numbers, unfold a table and sort it."""
    page = visit(simulated)
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
def test_phone(simulated: Service, visit: Visit, path: str, context: dict[str, Any]) -> None:
    """On a phone no content is wider than the window, and charts are as wide as their panels."""
    page = visit(simulated, path, **context)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for chart in page.locator(".intervals, .plot, .bars").all():
        box, panel = chart.bounding_box(), chart.locator("xpath=ancestor::section").bounding_box()
        assert box is not None
        assert panel is not None
        assert 0.75 * panel["width"] < box["width"] < panel["width"]
    controls = page.locator("main :is(button:not(.sort), select)")
    assert min(control.bounding_box()["height"] for control in controls.all() if control.is_visible()) >= 32  # type: ignore[index]


def test_colours_and_width_of_charts(simulated: Service, visit: Visit) -> None:
    """Charts follow changes of the colour scheme and of the window's width."""
    page = visit(simulated)
    chart = page.locator("#rewards canvas")
    light, wide = chart.evaluate("one => one.toDataURL()"), chart.evaluate("one => one.clientWidth")
    page.emulate_media(color_scheme="dark")
    until(lambda: chart.evaluate("one => one.toDataURL()") != light)
    page.set_viewport_size({"width": 800, "height": 900})
    # The panel becomes wider at once, as the only one in its row. The chart follows after an event of the browser.
    until(lambda: chart.evaluate("one => one.clientWidth") != wide)
    until(lambda: chart.evaluate("one => one.clientWidth / one.closest('section').clientWidth") > 0.8)
