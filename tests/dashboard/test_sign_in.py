"""The sign-in in a real browser: a key opens the pages, signing out closes them."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from oo_ml.setting_choices import Auth
from tests import calls
from tests.conftest import Serve
from tests.dashboard.conftest import Visits, wait_until_settled

pytestmark = pytest.mark.slow

KEY = "an-admin-key-of-the-tests"


def test_sign_in_and_out(serve: Serve, visits: Visits) -> None:
    """A browser without a session is asked for a key; a wrong one is refused; the right one opens both pages."""
    service = serve(auth=Auth.REQUIRED, admin_key=KEY)
    visits.expected = "401"
    page = visits.window(service)
    page.goto(f"{service.url}/dashboard")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert Axe().run(page).response["violations"] == []
    page.get_by_label("API key").fill("ooml_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This key is not valid, or lacks the scope read.")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    wait_until_settled(page)
    page.goto(f"{service.url}/dashboard/user?id=ada")
    wait_until_settled(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_ended_session(serve: Serve, visits: Visits) -> None:
    """If the session has ended, a page that is still open asks for a key at its next call."""
    service = serve(auth=Auth.REQUIRED, admin_key=KEY)
    service.client.post("/score", json=calls.score(), headers={"Authorization": f"Bearer {KEY}"})
    visits.expected = "401"
    page = visits.window(service)
    page.goto(f"{service.url}/dashboard")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Sign in").click()
    wait_until_settled(page)
    page.goto(f"{service.url}/dashboard/user?id=ada")
    wait_until_settled(page)
    page.context.clear_cookies()
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_without_keys(serve: Serve, visits: Visits) -> None:
    """Without keys there is no session, and no button that ends one."""
    page = visits.open(serve())
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
