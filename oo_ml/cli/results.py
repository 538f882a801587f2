"""Results of commands: tables on a terminal, lines of tab-separated cells elsewhere, or JSON."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

# A list is an array of objects, a single result is one object.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on one line; times are UTC, in ISO 8601")]

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        heading: its name.
        show: returns the cell of a record.
        is_number: the cells are aligned to the right.
        is_whole: the cells stay on one line if the terminal has room, so that they can be copied.
    """

    heading: str
    show: Callable[[Record], str]
    is_number: bool = False
    is_whole: bool = False


def print_json(result: object) -> None:
    """Print a result as one line of JSON. Characters outside ASCII are escaped, so a terminal shows no sequences."""
    typer.echo(json.dumps(result, allow_nan=False, default=_plain))


def print_records(
    records: Sequence[Record], columns: Sequence[Column], *, as_json: bool = False, is_light: bool = False
) -> None:
    """Print records as JSON, as a table on a terminal, or as lines for `cut` and `awk`: the headings come first.

    Lines are never cut off. A cell with control characters is quoted, so each record is one line. `is_light` leaves the
    frame of the table out.
    """
    if as_json:
        print_json(records)
        return
    rows = [[printable(column.show(record)) for column in columns] for record in records]
    if sys.stdout.isatty():
        _print_table(columns, rows, is_light=is_light)
        return
    for cells in ([column.heading for column in columns], *rows):
        typer.echo("\t".join(cells))


def printable(text: str) -> str:
    """Return a text from the database as one line without escape sequences."""
    return text if text.isprintable() else repr(text)


def _print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, is_light: bool) -> None:
    # Only a table needs rich, which takes 0.1 s to import.
    from rich import box, console, table, text

    framed = table.Table(box=box.SIMPLE_HEAD, pad_edge=False) if is_light else table.Table()
    for column in columns:
        justify: Any = "right" if column.is_number else "left"
        framed.add_column(column.heading, justify=justify, overflow="fold", no_wrap=column.is_whole)
    for cells in rows:
        # As Text, brackets are no markup.
        framed.add_row(*map(text.Text, cells))
    console.Console().print(framed)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
