"""Exports read again, and files that are not a complete export."""

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.errors import ExportFileError
from oo_ml.files import export_document
from oo_ml.files.export_document import open_export

HEADER: dict[str, Any] = {
    "format": "oo-ml export",
    "format_version": 2,
    "release": "0.1.0",
    "schema": "0001",
    "exported_at": "2026-11-23T12:00:00.000000Z",
    "user_id": "ada",
    "history_from": None,
}
ROWS = [("policy_state", 1), ("tips", 1), ("tips", 2)]
PRE_RELEASE = {**HEADER, "format_version": 1, "tips": [{"user_id": "ada", "n": 1}, {"user_id": "ada", "n": 2}]}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def build_line(table: str, n: object, user_id: object = "ada") -> str:
    """Return the line of a row."""
    return json.dumps({"table": table, "row": {"user_id": user_id, "n": n}})


def build_export(*rows: str, count: object = None, **members: object) -> str:
    """Return an export with these lines between the first and the last, and with other members of its header."""
    header = {name: value for name, value in {**HEADER, **members}.items() if value is not ...}
    end = json.dumps({"complete": True, "rows": len(rows) if count is None else count})
    return "".join(f"{line}\n" for line in (json.dumps(header), *rows, end))


THREE = [build_line(*row) for row in ROWS]


def read(content: bytes | str) -> dict[str, list[tuple[str, Any]]]:
    """Return the places and rows of each table in an export of ada."""
    with open_export(BytesIO(content.encode() if isinstance(content, str) else content)) as export:
        assert export.user_id == "ada"
        return {name: list(export.read_rows(name)) for name in export.starts}


@given(rows=st.lists(values, max_size=5, unique_by=json.dumps), ensure_ascii=st.booleans())
def test_rows_are_read_as_written(rows: list[Any], ensure_ascii: bool) -> None:
    """A row keeps every bit and its place, whatever text and numbers it holds."""
    lines = [
        json.dumps({"table": "tips", "row": {"user_id": "ada", "n": row}}, ensure_ascii=ensure_ascii) for row in rows
    ]
    found = read(build_export(build_line("policy_state", 1), *lines).encode("utf-8", "surrogatepass"))
    assert found["policy_state"] == [("line 2", {"user_id": "ada", "n": 1})]
    # As text, since 0 and -0 are equal.
    expected = [(f"line {number}", {"user_id": "ada", "n": row}) for number, row in enumerate(rows, 3)]
    assert json.dumps(found.get("tips", [])) == json.dumps(expected)


def test_cut_off_files() -> None:
    """A file that ends anywhere before the end of its last line is refused."""
    content = build_export(*THREE).rstrip("\n")
    for end in range(len(content)):
        with pytest.raises(ExportFileError, match=r"^(line [1-5]|The file): "):
            read(content[:end])
    with pytest.raises(ExportFileError, match=r"^line 4: the file ends here, before the line that says it is complete"):
        read(content[: content.rindex("\n")])
    assert len(read(content)["tips"]) == 2


DEEP = "[" * 100_000
AGAIN = "; export the user again"
TIME = "line 1: history_from: must be null or a time in ISO 8601 with its offset, from 1970 on"
BAD: dict[str, tuple[str | bytes, str]] = {
    # Lines
    "empty": ("", "line 1: not the header of an export of oo-ml"),
    "a broken line": (build_export(THREE[0], THREE[1][:-1], THREE[2]), "line 3: not JSON in UTF-8" + AGAIN),
    "an empty line": (build_export(THREE[0], "", *THREE[1:]), "line 3: not JSON in UTF-8" + AGAIN),
    "not UTF-8": (build_export("x").encode().replace(b"\nx", b"\n\xff"), "line 2: not JSON in UTF-8" + AGAIN),
    "a long number": (
        build_export("1" * 5000),
        "line 2: not JSON in UTF-8" + AGAIN,
    ),
    "deep": (build_export(DEEP), "A row is nested too deeply"),
    "a list": (build_export("[]"), "line 2: not a row of 'ada'" + AGAIN),
    "a row alone": (build_export('{"user_id": "ada"}'), "line 2: not a row of 'ada'" + AGAIN),
    "another member": (build_export(THREE[0][:-1] + ', "x": 1}'), "line 2: not a row of 'ada'" + AGAIN),
    "no row": (build_export('{"table": "tips", "row": "ada"}'), "line 2: not a row of 'ada'" + AGAIN),
    "another user": (build_export(THREE[0], build_line("tips", 1, "ben")), "line 3: not a row of 'ada'" + AGAIN),
    "no user": (build_export(build_line("tips", 1, None)), "line 2: not a row of 'ada'" + AGAIN),
    # Order
    "no header": ("\n".join(THREE), "line 1: not the header of an export of oo-ml"),
    "two exports": (build_export() * 2, "line 3: comes after the last line of the export" + AGAIN),
    "a line behind": (build_export() + "\n", "line 3: not JSON in UTF-8" + AGAIN),
    "tables mixed": (
        build_export(THREE[1], THREE[0], THREE[2]),
        "line 4: the rows of 'tips' are not together" + AGAIN,
    ),
    "a doubled line": (build_export(*THREE, THREE[2]), "line 5: the same row as before it" + AGAIN),
    "a lost line": (build_export(*THREE[:2], count=3), "line 4: 2 rows come before it, not 3" + AGAIN),
    # The header
    "another format": (build_export(format="x"), "line 1: not the header of an export of oo-ml"),
    "a newer format": (
        build_export(format_version=3),
        "line 1: format_version: this release reads 2; use the release that wrote the export, or a later one",
    ),
    "an id that no user has": (build_export(user_id=".."), "line 1: user_id: the service accepts no such id"),
    "an id of another type": (build_export(user_id=1), "line 1: user_id: the service accepts no such id"),
    "no id": (build_export(user_id=...), "line 1: user_id: the service accepts no such id"),
    "no time": (build_export(history_from="noon"), TIME),
    "a time without an offset": (build_export(history_from="2026-11-23T12:00:00"), TIME),
    "a time of another type": (build_export(history_from=0), TIME),
    **{
        f"a time before 1970, {time}": (build_export(history_from=time), TIME)
        for time in (
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:59:59+01:00",
            "0001-01-01T00:00:00+14:00",
            "0001-01-01T00:00:00-14:00",
        )
    },
    # The single document of the pre-release
    "another object": ("{\n}", "The file is one JSON object, but not an export of the pre-release (format_version 1)"),
    "a cut-off document": (json.dumps(PRE_RELEASE, indent=0)[:-1], "The file: not JSON in UTF-8" + AGAIN),
    "another user in a document": (
        json.dumps({**PRE_RELEASE, "tips": [PRE_RELEASE["tips"][0], {"user_id": "ben"}]}, indent=0),
        "tips, row 2: not a row of 'ada'" + AGAIN,
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_refusals(content: str | bytes, message: str) -> None:
    """A file that is not a complete export of one user is refused in one sentence: the line, the reason, what to do."""
    with pytest.raises(ExportFileError) as caught:
        read(content)
    assert caught.value.message == message


LONG = [build_export(build_line("tips", "x" * 5000)), json.dumps(PRE_RELEASE, indent=1000)]


@pytest.mark.parametrize("content", LONG, ids=["line", "document"])
def test_limit_of_a_line(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """A line, or a document of the pre-release, that exceeds the limit is refused before it fills the memory."""
    monkeypatch.setattr(export_document, "MAX_LINE_BYTES", 1000)
    with pytest.raises(ExportFileError, match=r"^(line 2|The file): longer than 1,000 bytes$"):
        read(content)


def test_pre_release_document() -> None:
    """The document of the pre-release is read like the lines that this release writes."""
    content = (Path(__file__).parents[1] / "data" / "pre_release_export.json").read_text("utf-8")
    found = read(content)
    tables = {name: rows for name, rows in json.loads(content).items() if isinstance(rows, list) and rows}
    assert {name: [row for _, row in rows] for name, rows in found.items()} == tables
    assert [place for place, _ in found["policy_state"]] == ["policy_state, row 1", "policy_state, row 2"]


@pytest.mark.parametrize(
    ("history_from", "expected"),
    [
        (..., None),
        (None, None),
        ("2026-11-01T00:00:00.000000Z", datetime(2026, 11, 1, tzinfo=UTC)),
        ("1970-01-01T01:00:00+01:00", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_history_from(history_from: object, expected: datetime | None) -> None:
    """Without history_from, as in the first exports of the pre-release, no decision is missing."""
    with open_export(BytesIO(build_export(history_from=history_from).encode())) as export:
        assert export.history_from == expected


def test_byte_order_mark() -> None:
    """A byte order mark, which some editors write, is ignored."""
    assert len(read(b"\xef\xbb\xbf" + build_export(*THREE).encode())["tips"]) == 2


def test_source_stays_open() -> None:
    """The caller closes the file that it has opened."""
    source = BytesIO(build_export().encode())
    with open_export(source):
        pass
    assert not source.closed
