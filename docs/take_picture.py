"""Take docs/images/dashboard.png of the running service at an address: `.venv/bin/python -m docs.take_picture`.

The service should hold some weeks of simulated users: `make demo`, or tests/dashboard/weeks.py.
"""

import shutil
from pathlib import Path
from typing import Annotated, Final

import typer
from playwright.sync_api import expect, sync_playwright

PICTURE: Final = Path(__file__).parent / "images" / "dashboard.png"
_WIDTH: Final = 1130


def main(address: Annotated[str, typer.Argument(help="Address of the service")] = "http://127.0.0.1:8000") -> None:
    """Open the dashboard in Chromium, wait until it shows its numbers, and write the picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": _WIDTH, "height": 900})
        page.goto(f"{address}/dashboard")
        expect(page.locator("#status")).to_contain_text("Shown")
        expect(page.locator("canvas")).to_have_count(2)
        # Down to the costs, which simulated weeks without a model do not have.
        end = page.locator("#costs").evaluate("panel => panel.getBoundingClientRect().top + scrollY")
        page.screenshot(path=PICTURE, full_page=True, clip={"x": 0, "y": 0, "width": _WIDTH, "height": end})
        browser.close()


if __name__ == "__main__":
    typer.run(main)
