"""Files of the log of decisions: each format holds every column and every bit."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from uuid import UUID

import pytest
from pyarrow import parquet
from sqlalchemy import Engine, text

from oo_ml.errors import ConfigurationError
from oo_ml.files import decision_log_writers
from oo_ml.files.decision_log_writers import COLUMNS, Format, Row, check, writing
from tests.sessions import writing as writing_rows

NUMBERS: Final = (0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 1.0)
TASK: Final = {"is_overdue": True, "task_age_days": 2.0, "priority": 3}
CANDIDATE: Final = {
    "tip_id": 'a "quote", 🙂',
    "source": "llm",
    "content": "two\nlines\r\x1b\u2028",
    "prompt_version": None,
    "features": TASK,
    "exploit": NUMBERS[0],
    "explore": NUMBERS[2],
    "score": NUMBERS[3],
    "propensity": 1.0,
}
FULL: Final[Row] = {
    "user_id": "zoë, =1+1",
    "decision_id": UUID(int=7),
    "decided_at": datetime(2026, 11, 23, 14, 0, 0, 5, tzinfo=timezone(timedelta(hours=2))),
    "policy": "linucb-v1",
    "decision_number": 2**53 + 1,
    "tip_id": 'a "quote", 🙂',
    "content": "two\nlines\r\x1b\u2028",
    "prompt_version": "v1",
    "prompt_probability": 0.1,
    "generation_id": UUID(int=8),
    "score": NUMBERS[3],
    "propensity": 1.0,
    "exploring": False,
    "exploration": 0.1,
    "alpha": 1.0,
    "prior_version": 3,
    "context": {"hour_of_day": 9, "day_of_week": 6},
    "features": TASK,
    "x": list(NUMBERS),
    "candidates": [CANDIDATE, {**CANDIDATE, "features": None, "exploit": None, "propensity": None}],
    "reward": -0.5,
    "reward_status": "amended",
    "rewarded_at": datetime(2026, 11, 23, 13, tzinfo=UTC),
    "reward_changes": 1,
}
NULLABLE: Final = (
    "decision_number", "content", "prompt_version", "prompt_probability", "generation_id", "exploration", "alpha",
    "prior_version", "reward", "rewarded_at",
)  # fmt: skip
EMPTY: Final[Row] = {**FULL, **dict.fromkeys(NULLABLE), "reward_status": "none", "candidates": [], "x": []}
PLAIN: Final = {
    "decision_id": "00000000-0000-0000-0000-000000000007",
    "decided_at": "2026-11-23T12:00:00.000005Z",
    "generation_id": "00000000-0000-0000-0000-000000000008",
    "rewarded_at": "2026-11-23T13:00:00.000000Z",
}


def write(format_: Format, *pages: Sequence[Row]) -> bytes:
    """Return the file of some pages."""
    sink = io.BytesIO()
    with writing(format_, sink) as write_page:
        for page in pages:
            write_page(page)
    return sink.getvalue()


def test_columns(db: Engine) -> None:
    """A file has the columns of the view, in its order."""
    statement = text("SELECT * FROM analytics.decision_log LIMIT 0")
    with writing_rows(db) as connection:
        assert list(connection.execute(statement).keys()) == list(COLUMNS) == list(FULL)


def test_jsonl() -> None:
    """A line is an object; times are UTC, and numbers survive to the last bit."""
    *lines, end = write(Format.JSONL, [FULL], [EMPTY]).decode().split("\n")
    full, empty = map(json.loads, lines)
    assert end == ""
    assert full == {**FULL, **PLAIN}
    assert list(full) == list(COLUMNS)
    assert [repr(number) for number in full["x"]] == [repr(number) for number in NUMBERS]
    assert empty == {**EMPTY, **PLAIN, **dict.fromkeys(NULLABLE)}


def test_csv() -> None:
    """A cell is a text, a number, true or false, JSON for lists and objects, or empty for null."""
    content = write(Format.CSV, [FULL, EMPTY], [FULL]).decode()
    head, full, empty, again = csv.reader(io.StringIO(content, newline=""))
    assert head == list(COLUMNS)
    assert full == again
    read = dict(zip(head, full, strict=True))
    texts = {name for name, type_ in COLUMNS.items() if type_ in ("string", "time")}
    expected: dict[str, Any] = {**FULL, **PLAIN}
    assert {name: cell if name in texts else json.loads(cell) for name, cell in read.items()} == expected
    assert {name for name, cell in zip(head, empty, strict=True) if cell == ""} == set(NULLABLE)


def parse_fields(row: Row) -> Row:
    """Return a row of a Parquet file with its raw fields parsed."""

    def parse(values: Row) -> Row:
        return {
            name: json.loads(value) if name in ("context", "features") and value is not None else value
            for name, value in values.items()
        }

    return {**parse(row), "candidates": [parse(candidate) for candidate in row["candidates"]]}


def test_parquet() -> None:
    """A file has typed columns: lists and structs, times in UTC; raw fields are JSON, as they differ by policy."""
    content = write(Format.PARQUET, [FULL], [EMPTY])
    table = parquet.read_table(io.BytesIO(content))
    ids = {name: PLAIN[name] for name in ("decision_id", "generation_id")}
    full, empty = map(parse_fields, table.to_pylist())
    assert full == {**FULL, **ids}
    assert [repr(number) for number in full["x"]] == [repr(number) for number in NUMBERS]
    assert empty == {**EMPTY, **ids, **dict.fromkeys(NULLABLE)}
    assert str(table.schema.field("decided_at").type) == "timestamp[us, tz=UTC]"


def test_parquet_in_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds one row group: it is written once it has enough rows, or enough bytes."""
    pages = [[FULL] * 4] * 5
    whole = parquet.ParquetFile(io.BytesIO(write(Format.PARQUET, *pages))).metadata
    assert (whole.num_rows, whole.num_row_groups) == (20, 1)
    for name, limit, groups in (("_GROUP_ROWS", 8, [8, 8, 4]), ("_GROUP_BYTES", 1, [4] * 5)):
        with monkeypatch.context() as patch:
            patch.setattr(decision_log_writers, name, limit)
            parts = parquet.ParquetFile(io.BytesIO(write(Format.PARQUET, *pages))).metadata
            assert [parts.row_group(group).num_rows for group in range(parts.num_row_groups)] == groups


@pytest.mark.parametrize("format_", Format)
def test_empty_log(format_: Format) -> None:
    """A log without decisions is a valid file with the columns, or an empty one in JSON Lines."""
    content = write(format_)
    if format_ is Format.PARQUET:
        assert parquet.read_table(io.BytesIO(content)).column_names == list(COLUMNS)
    else:
        assert content.decode() == ("" if format_ is Format.JSONL else ",".join(COLUMNS) + "\n")


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow the error names the extra; the other formats need nothing."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    check(Format.CSV)
    check(Format.JSONL)
    with pytest.raises(ConfigurationError, match=r"install oo-ml\[parquet\], or use --format csv or --format jsonl"):
        check(Format.PARQUET)
