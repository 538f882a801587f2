"""The pages README.md and docs/: their fenced blocks, and their prose."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = {
    str(page.relative_to(ROOT)): page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}

_BLOCK: Final = re.compile(r"^```(\S*)[^\n`]*\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        line: the number of its first line.
        language: the word behind the fence.
        content: the lines in it.
        output: the lines of the block ```text that follows directly, if there is one.
    """

    line: int
    language: str
    content: str
    output: str | None


def find_blocks(written: str) -> list[Block]:
    """Return the fenced blocks of a page, without the outputs."""
    return [
        Block(written.count("\n", 0, found.start(2)) + 1, found[1], found[2], found[3])
        for found in _BLOCK.finditer(written)
    ]


def remove_blocks(written: str) -> str:
    """Return the lines of a page outside its fenced blocks."""
    return _BLOCK.sub("", written)


def align(output: str) -> str:
    """Return an output with spaces in place of tabs, so that the columns of its table are easy to read on a page."""
    rows = [line.split("\t") for line in output.splitlines()]
    widths = [max(map(len, column)) for column in zip(*(row for row in rows if len(row) > 1), strict=True)]
    lines = [row if len(row) == 1 else map(str.ljust, row, widths) for row in rows]
    return "\n".join("  ".join(cells).rstrip() for cells in lines)
