"""Writers of analytics.decision_log as JSON Lines, CSV or Parquet. Each holds a bounded number of decisions in memory.

Times are UTC, in ISO 8601 in the two text formats. Parquet needs the extra `oo-ml[parquet]`.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from importlib.util import find_spec
from typing import IO, Any, Final
from uuid import UUID

from oo_ml.errors import ConfigurationError

# A decision by column.
Row = Mapping[str, Any]
Write = Callable[[Sequence[Row]], None]

# By column of the view, in its order: Arrow's name of the type; lists and structs are lists and mappings. Raw fields
# differ from policy to policy, so they are text: JSON.
COLUMNS: Final[Mapping[str, Any]] = {
    "user_id": "string",
    "decision_id": "string",
    "decided_at": "time",
    "policy": "string",
    "decision_number": "int64",
    "tip_id": "string",
    "content": "string",
    "prompt_version": "string",
    "prompt_probability": "float64",
    "generation_id": "string",
    "score": "float64",
    "propensity": "float64",
    "exploring": "bool",
    "exploration": "float64",
    "alpha": "float64",
    "prior_version": "int64",
    "context": "json",
    "features": "json",
    "x": ["float64"],
    "candidates": [
        {
            "tip_id": "string",
            "source": "string",
            "content": "string",
            "prompt_version": "string",
            "features": "json",
            "exploit": "float64",
            "explore": "float64",
            "score": "float64",
            "propensity": "float64",
        }
    ],
    "reward": "float64",
    "reward_status": "string",
    "rewarded_at": "time",
    "reward_changes": "int64",
}

# A row group of a Parquet file ends with the page that reaches one of these numbers.
_GROUP_ROWS: Final = 50_000
_GROUP_BYTES: Final = 32 * 1_048_576


class Format(StrEnum):
    """The format of a file."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


def check(format_: Format) -> None:
    """Check that files of this format can be written.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    if format_ is Format.PARQUET and find_spec("pyarrow") is None:
        raise ConfigurationError("Parquet needs pyarrow: install oo-ml[parquet], or use --format csv or --format jsonl")


def writing(format_: Format, sink: IO[bytes]) -> AbstractContextManager[Write]:
    """Return a context that gives a function to write pages of rows to `sink`; on leaving, the file is complete."""
    return _WRITERS[format_](sink)


@contextmanager
def _writing_jsonl(sink: IO[bytes]) -> Iterator[Write]:
    def write(rows: Sequence[Row]) -> None:
        sink.writelines(f"{_dump({name: row[name] for name in COLUMNS})}\n".encode() for row in rows)

    yield write


@contextmanager
def _writing_csv(sink: IO[bytes]) -> Iterator[Write]:
    """Write lists and objects as JSON, and null as an empty cell."""

    def write_lines(lines: Iterator[Sequence[str]]) -> None:
        page = io.StringIO(newline="")
        csv.writer(page, lineterminator="\n").writerows(lines)
        sink.write(page.getvalue().encode())

    write_lines(iter([list(COLUMNS)]))
    yield lambda rows: write_lines([_to_cell(row[name]) for name in COLUMNS] for row in rows)


@contextmanager
def _writing_parquet(sink: IO[bytes]) -> Iterator[Write]:
    # It is an extra, and takes long to import.
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    def to_arrow(type_: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
        match type_:
            case list():
                return pa.list_(to_arrow(type_[0]))
            case Mapping():
                return pa.struct([(name, to_arrow(field)) for name, field in type_.items()])
            case "time":
                return pa.timestamp("us", "UTC")
            case "json":
                return pa.string()
        return getattr(pa, type_)() if type_ != "bool" else pa.bool_()

    schema = pa.schema([(name, to_arrow(type_)) for name, type_ in COLUMNS.items()])
    waiting: list[Any] = []

    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting.clear()

        def write(rows: Sequence[Row]) -> None:
            plain = [{name: _to_arrow_value(type_, row[name]) for name, type_ in COLUMNS.items()} for row in rows]
            waiting.append(pa.RecordBatch.from_pylist(plain, schema))
            size = sum(batch.num_rows for batch in waiting)
            if size >= _GROUP_ROWS or sum(batch.nbytes for batch in waiting) >= _GROUP_BYTES:
                flush()

        yield write
        flush()


_WRITERS: Final[Mapping[Format, Callable[[IO[bytes]], AbstractContextManager[Write]]]] = {
    Format.PARQUET: _writing_parquet,
    Format.CSV: _writing_csv,
    Format.JSONL: _writing_jsonl,
}


def _to_arrow_value(type_: Any, value: Any) -> Any:  # noqa: ANN401 - of any column
    """Return ids and raw fields as text, anything else unchanged."""
    match type_, value:
        case _, None:
            return None
        case [inner], list():
            return [_to_arrow_value(inner, one) for one in value] if isinstance(inner, dict) else value
        case dict(), _:
            return {name: _to_arrow_value(own, value.get(name)) for name, own in type_.items()}
        case "json", _:
            return _dump(value)
    return str(value) if isinstance(value, UUID) else value


def _dump(value: object) -> str:
    return json.dumps(value, default=_to_plain, ensure_ascii=False, allow_nan=False)


def _to_cell(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case datetime() | UUID():
            return _to_plain(value)
    return _dump(value)


def _to_plain(value: object) -> str:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case UUID():
            return str(value)
    raise TypeError(f"cannot write a value of type {type(value).__name__}")
