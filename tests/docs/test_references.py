"""Pages, promises and ADRs refer to files, headings and tests that exist."""

import re
from pathlib import Path
from typing import Final

import pytest

from docs import write_reference
from tests.docs.pages import PAGES, ROOT, remove_blocks

ADRS: Final = sorted((ROOT / "docs" / "adr").glob("0*.md"))

_LINK: Final = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"`((?:oo_ml|alembic|tests|demo|bench)/[\w./-]*)`")
_MARK: Final = re.compile(r"ADR (\d+)")


@pytest.mark.parametrize("name", write_reference.BODIES)
def test_reference(name: str) -> None:
    """A page of docs/reference/ equals the text that `make docs` writes from the code."""
    page = write_reference.REFERENCE / name
    assert page.read_text("utf-8") == write_reference.written(page)


def test_promises() -> None:
    """Each promise names a test that exists, by file and function."""
    promises = [line for line in PAGES["docs/promises.md"].read_text("utf-8").splitlines() if line.startswith("- ")]
    assert len(promises) > 10
    for promise in promises:
        named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", promise)
        assert named, promise
        for file, function in named:
            assert re.search(rf"^def {function}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE), (file, function)


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    """A link leads to a file of the repository, and to a heading in it; a path in code style exists."""
    prose = remove_blocks(PAGES[page].read_text("utf-8"))
    for target in _LINK.findall(prose):
        if "://" not in target:
            path, _, heading = target.partition("#")
            file = PAGES[page].parent / path if path else PAGES[page]
            assert file.is_file(), target
            assert not heading or heading in _find_anchors(file), target
    for path in _CODE.findall(prose):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("adr", ADRS, ids=lambda adr: adr.stem[:4])
def test_adrs(adr: Path) -> None:
    """An ADR has its number, a status, a date and its code, and stands in the index."""
    written = adr.read_text("utf-8")
    title = rf"# {int(adr.stem[:4])}\. .+"
    assert re.match(
        rf"{title}\n\n- Status: (?:accepted|superseded by .+)\n- Date: 2\d\d\d-\d\d-\d\d\n- Code: `.+\n\n", written
    )
    assert f"]({adr.name})" in PAGES["docs/adr/index.md"].read_text("utf-8")


def test_marks_of_adrs() -> None:
    """`ADR n` in the code names an ADR that exists."""
    numbers = {int(adr.stem[:4]) for adr in ADRS}
    marked = {
        int(number)
        for directory, pattern in (("oo_ml", "*.py"), ("alembic", "*.py"), ("alembic", "*.sql"))
        for file in (ROOT / directory).rglob(pattern)
        for number in _MARK.findall(file.read_text("utf-8"))
    }
    assert marked
    assert marked <= numbers


def _find_anchors(file: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    found = re.findall(r"^#+ (.+)$", remove_blocks(file.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
