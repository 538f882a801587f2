"""Documents read again: whoever reformatted them, however they are cut into pieces, and what is none."""

import json
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oo_ml.errors import ExportFileError
from oo_ml.files import export_document
from oo_ml.files.export_document import opened

Tables = dict[str, list[dict[str, Any]]]

EMPTY: dict[str, Any] = {
    "format": "oo-ml export",
    "format_version": 1,
    "release": "0.1.0",
    "schema": "0004",
    "exported_at": "2026-11-23T12:00:00.000000Z",
    "user_id": "ada",
    "feature_history": [],
    "generations": [],
    "policy_state": [],
    "reward_ledger": [],
    "tips": [],
}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
rows = st.dictionaries(st.text(), values).map(lambda row: {**row, "user_id": "ada"})


def read(content: bytes | str) -> Tables:
    """Return the rows of a document."""
    source = BytesIO(content.encode() if isinstance(content, str) else content)
    with opened(source) as document:
        assert document.user_id == "ada"
        return {name: list(document.rows(name)) for name in document.tables}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(rows, max_size=5),
    indent=st.none() | st.integers(0, 3),
    sort_keys=st.booleans(),
    ensure_ascii=st.booleans(),
    chunk=st.integers(1, 100),
)
def test_it_reads_what_was_written(
    monkeypatch: pytest.MonkeyPatch,
    rows: list[dict[str, Any]],
    indent: int | None,
    sort_keys: bool,
    ensure_ascii: bool,
    chunk: int,
) -> None:
    """Bit for bit, in whatever order and layout, wherever a piece of the file ends, and more than once."""
    monkeypatch.setattr(export_document, "_CHUNK", chunk)
    document = {**EMPTY, "tips": rows, "another": rows[:1]}
    text = json.dumps(document, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii)
    found = read(text)
    assert found.keys() == export_document.TABLES | {"another"}
    # As text, since 0 and -0 are equal.
    assert json.dumps(found["tips"], sort_keys=True) == json.dumps(rows, sort_keys=True)
    assert found["another"] == rows[:1]


@pytest.mark.parametrize("chunk", [1, 2, 3, 65_536])
def test_a_number_is_never_taken_for_its_beginning(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Where a piece of the file ends behind a digit or a dot, the number may go on."""
    monkeypatch.setattr(export_document, "_CHUNK", chunk)
    number = json.dumps({**EMPTY, "format_version": 1.5e3})
    with pytest.raises(ExportFileError, match=r"^format_version: must be a positive integer$"):
        read(number)


def changed(**members: object) -> str:
    """Return an empty document with other members."""
    return json.dumps({name: value for name, value in {**EMPTY, **members}.items() if value is not ...})


DEEP = "[" * 100_000

TIME = "history_from: must be null or a time in ISO 8601 with its offset, from 1970 on"
BAD = {
    "empty": ("", "line 1: this is not JSON: expected '{'"),
    "no object": ("[]", "line 1: this is not JSON: expected '{'"),
    "empty object": ("{}", "line 1: this is not JSON: expected a name in quotes"),
    "cut off": (changed()[:-1], "line 1: this is not JSON: expected ',' or '}'"),
    "cut off in a row": (changed(tips=[{"user_id": "ada"}])[:-5], None),
    "text": ("{\n\nhello", "line 3: this is not JSON: expected a name in quotes"),
    "no colon": ('{\n"format" 1}', "line 2: this is not JSON: expected ':'"),
    "no comma": ('{\n"format": "oo-ml export"\n"x": 1}', "line 3: this is not JSON: expected ',' or '}'"),
    "something behind": (changed() + "\n{}", "line 2: this is not JSON: expected the end of the file"),
    "bad row": (changed().replace('"tips": []', '"tips": [{"a": }]'), "line 1: this is not JSON: Expecting value"),
    "NaN": (changed(tips=[{"user_id": "ada", "x": float("nan")}]), "line 1: this is not JSON: NaN is no number"),
    "infinite": (changed(release=-float("inf")), "line 1: this is not JSON: -Infinity is no number"),
    "long number": (
        changed().replace("1,", "1" * 5000 + ",", 1),
        "line 1: this is not JSON: a number has too many digits",
    ),
    "no UTF-8": (b'{"format": "\xff"}', "This is not UTF-8"),
    "deep": ('{"tips": [' + DEEP, "This is nested too deeply"),
    "other format": (changed(format="x"), "format: this is no export of oo-ml"),
    "newer": (
        changed(format_version=2),
        "format_version: 2 is newer than what this release reads (1): use the one that wrote it, or a later one",
    ),
    "no version": (changed(format_version=True), "format_version: must be a positive integer"),
    "version 0": (changed(format_version=0), "format_version: must be a positive integer"),
    "id": (changed(user_id=".."), "user_id: the service accepts no such id"),
    "id of another type": (changed(user_id=1), "user_id: the service accepts no such id"),
    "release": (changed(release=1), "release: must be text"),
    "no rows": (changed(tips={}), "tips: must be a list of rows"),
    "unknown": (changed(more=1), "'more' is unknown to this release"),
    "missing": (
        changed(user_id=..., tips=...),
        "'tips', 'user_id' missing: this is no whole export of oo-ml",
    ),
    "no time": (
        changed(history_from="noon"),
        TIME,
    ),
    "time of no place": (
        changed(history_from="2026-11-23T12:00:00"),
        TIME,
    ),
    "time of another type": (
        changed(history_from=0),
        TIME,
    ),
    **{
        f"time without a UUIDv7, {time}": (changed(history_from=time), TIME)
        for time in (
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:59:59+01:00",
            "0001-01-01T00:00:00+14:00",
            "0001-01-01T00:00:00-14:00",
        )
    },
    "twice": (changed()[:-1] + ', "tips": []}', "'tips' is there twice"),
    "somebody else's": (changed(tips=[{"user_id": "ada"}, {"user_id": "ben"}]), "tips, row 2: not a row of 'ada'"),
    "nobody's": (changed(tips=[{}]), "tips, row 1: not a row of 'ada'"),
    "no row": (changed(tips=["ada"]), "tips, row 1: not a row of 'ada'"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_what_is_no_export_is_refused(content: str | bytes, message: str | None) -> None:
    """In one line that says where and why."""
    with pytest.raises(ExportFileError) as caught:
        read(content)
    if message is not None:
        assert caught.value.message == message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("history_from", "expected"),
    [
        (..., None),
        (None, None),
        ("2026-11-01T00:00:00.000000Z", datetime(2026, 11, 1, tzinfo=UTC)),
        ("1970-01-01T01:00:00+01:00", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_it_says_since_when_decisions_are_whole(history_from: object, expected: datetime | None) -> None:
    """The first documents did not, and none was missing."""
    with opened(BytesIO(changed(history_from=history_from).encode())) as document:
        assert document.history_from == expected


def test_a_value_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it fills the memory."""
    monkeypatch.setattr(export_document, "_LONGEST", 1000)
    monkeypatch.setattr(export_document, "_CHUNK", 100)
    with pytest.raises(ExportFileError, match=r"a value is too long$"):
        read('{"format": "' + "x" * 5000)


def test_a_mark_in_front_does_no_harm() -> None:
    """Some editors write one."""
    assert read(b"\xef\xbb\xbf" + changed().encode())["tips"] == []


def test_the_source_is_left_open() -> None:
    """It is whoever's who opened it."""
    source = BytesIO(changed().encode())
    with opened(source):
        pass
    assert not source.closed
