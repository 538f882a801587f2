"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def format_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a heading."""
    lines = [heading, ["---"] * len(heading), *rows]
    # A bar would end the cell, a line break the table.
    cells = ([" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
