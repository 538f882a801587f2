"""A real Chromium, and visits that fail on any unexpected message, dialog or request."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

from tests.serving import Service
from tests.waiting import PATIENCE

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Other hosts are not found, as on a machine without a network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Start the Chromium of this machine; Playwright downloads none.

    The scope is the package, because no test can start an event loop while Playwright is running.
    """
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        missing = f"needs one of {', '.join(_NAMES)}: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        yield browser
        browser.close()


@dataclass  # without slots: Playwright sets attributes on it
class Visits:
    """Opened pages of a service, and the problems that occurred there.

    Attributes:
        expected: a part of an allowed console message.
    """

    chromium: Browser
    expected: str | None = None
    problems: list[str] = field(default_factory=list)

    def open(self, service: Service, path: str = "/dashboard", **context: Any) -> Page:  # noqa: ANN401 - Playwright's
        """Open a page in a new window, and wait until it has loaded its data."""
        page = self.window(service, **context)
        page.goto(service.url + path)
        wait_until_settled(page)
        return page

    def window(self, service: Service, **context: Any) -> Page:  # noqa: ANN401
        """Open an empty window for pages of a service."""
        page = self.chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", lambda request: self._request(request, service.url))
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not (self.expected and self.expected in message.text):
            self.problems.append(f"console: {message.text}")

    def _dialog(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request, home: str) -> None:
        if not request.url.startswith((f"{home}/", f"blob:{home}/")):
            self.problems.append(f"request: {request.url}")


@pytest.fixture
def visits(chromium: Browser) -> Iterator[Visits]:
    """Provide visits; fail on console messages, dialogs, and requests to other hosts."""
    made = Visits(chromium)
    yield made
    for context in chromium.contexts:
        context.close()
    assert made.problems == []


Visit = Callable[..., Page]


@pytest.fixture
def visit(visits: Visits) -> Visit:
    """Open a page of a service."""
    return visits.open


def wait_until_settled(page: Page) -> None:
    """Wait until the page has loaded everything."""
    expect(page.locator("#status")).not_to_have_text("")
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
