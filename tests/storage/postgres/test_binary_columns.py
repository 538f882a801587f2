"""Columns: PostgreSQL reads each element as it was; a value that cannot be held is refused, never cut."""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError

from oo_ml.storage.postgres.binary_columns import (
    BigIntegers,
    Booleans,
    Column,
    Digests,
    Integers,
    Jsons,
    Numbers,
    Texts,
    Times,
    Uuids,
)
from tests.sessions import writing

TYPES: Final[dict[type[Column], str]] = {
    Texts: "text",
    Uuids: "uuid",
    Times: "timestamptz",
    Jsons: "jsonb",
    Digests: "bytea",
    Integers: "integer",
    BigIntegers: "bigint",
    Numbers: "float8",
    Booleans: "boolean",
}
# Types whose elements may be None.
NULLABLE: Final = (Texts, Uuids, Times, Digests, BigIntegers, Numbers)

KATHMANDU: Final = timezone(timedelta(hours=5, minutes=45))
# Local mean time, as it was before there were zones.
PARAMARIBO: Final = timezone(-timedelta(hours=3, minutes=40, seconds=40))


def column(kind: type[Column], values: Iterable[Any]) -> Column:
    """Encode values; each class has its own `of`."""
    of: Callable[[Iterable[Any]], Column] = getattr(kind, "of")  # noqa: B009 - the base class has none
    return of(values)


def read_as_text(db: Engine, sent: Column) -> object:
    """Return the array as PostgreSQL writes it."""
    with writing(db) as connection:
        statement = text(f"SELECT CAST(CAST(:sent AS {TYPES[type(sent)]}[]) AS text)")
        return connection.scalars(statement, {"sent": sent}).one()


def read_back(db: Engine, sent: Column) -> list[Any]:
    """Return the elements as they come back, in their order."""
    statement = text(f"""
        SELECT element
        FROM unnest(CAST(:sent AS {TYPES[type(sent)]}[])) WITH ORDINALITY AS sent (element, place)
        ORDER BY place
    """)  # noqa: S608 - a constant of this file
    with writing(db) as connection:
        return list(connection.scalars(statement, {"sent": sent}))


# Each with a literal of the same array, which no adapter touches.
SPECIMENS: Final[list[tuple[type[Column], Sequence[Any], str]]] = [
    (
        Texts,
        ["", " ", "NULL", "a,b", '"{}\\', "it's", "ż 日本 🎈 e\u0301"],
        r"""{""," ","NULL","a,b","\"{}\\",it's,ż 日本 🎈 é}""",
    ),
    (Texts, ["\x01\t\r\n\x7f", None, "x"], '{"\x01\t\r\n\x7f",NULL,x}'),
    (
        Uuids,
        [UUID(int=0), UUID(int=2**128 - 1), None],
        "{00000000-0000-0000-0000-000000000000,ffffffff-ffff-ffff-ffff-ffffffffffff,NULL}",
    ),
    (Uuids, [UUID("01a207ac-5779-7446-ab27-aa4ca4d9dd7a")], "{01a207ac-5779-7446-ab27-aa4ca4d9dd7a}"),
    (
        Times,
        [
            datetime(2000, 1, 1, tzinfo=UTC),
            datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2026, 11, 23, 12, 0, 0, 1, tzinfo=UTC),
            datetime(2026, 11, 23, 12, 0, 0, 123_456, tzinfo=KATHMANDU),
            datetime(1910, 1, 1, tzinfo=PARAMARIBO),
            None,
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        ],
        """{2000-01-01 00:00:00Z, 1999-12-31 23:59:59.999999Z, 2026-11-23 12:00:00.000001Z,
            2026-11-23 12:00:00.123456+05:45, 1910-01-01 00:00:00-03:40:40, NULL, 0001-01-01 00:00:00Z,
            9999-12-31 23:59:59.999999Z}""",
    ),
    (
        Jsons,
        [b'{"b": 1, "a": [null, 1e400]}', b"null", b'"\xc5\xbc"', b"[]"],
        r'{"{\"b\": 1, \"a\": [null, 1e400]}","null","\"ż\"",[]}',
    ),
    (Digests, [b"", bytes(range(256)), None, b"\x00"], rf'{{"\\x","\\x{bytes(range(256)).hex()}",NULL,"\\x00"}}'),
    (Integers, [0, -1, 1, 2**31 - 1, -(2**31)], "{0,-1,1,2147483647,-2147483648}"),
    (BigIntegers, [0, None, 2**63 - 1, -(2**63)], "{0,NULL,9223372036854775807,-9223372036854775808}"),
    (BigIntegers, [2**31, -(2**31) - 1], "{2147483648,-2147483649}"),
    (
        Numbers,
        [0.0, -0.0, 5e-324, -1.7976931348623157e308, 0.1, math.pi, math.inf, -math.inf, math.nan, 7],
        "{0,-0,5e-324,-1.7976931348623157e308,0.1,3.141592653589793,Infinity,-Infinity,NaN,7}",
    ),
    (Numbers, [None, -0.0, None], "{NULL,-0,NULL}"),
    (Booleans, [True, False, True], "{t,f,t}"),
]


@pytest.mark.parametrize(("kind", "values", "literal"), SPECIMENS, ids=lambda value: getattr(value, "__name__", ""))
def test_encoding_equals_literal(db: Engine, kind: type[Column], values: Sequence[Any], literal: str) -> None:
    """PostgreSQL reads the same values as from a literal, to the sign of a zero."""
    with writing(db) as connection:
        expected = connection.scalars(
            text(f"SELECT CAST(CAST(:literal AS {TYPES[kind]}[]) AS text)"), {"literal": literal}
        ).one()
    assert read_as_text(db, column(kind, values)) == expected
    # Any iterable of the values will do.
    assert column(kind, iter(values)) == column(kind, values)


@pytest.mark.parametrize("kind", TYPES)
def test_empty_column(db: Engine, kind: type[Column]) -> None:
    """An empty column is an empty array of the right type, without a cast."""
    with writing(db) as connection:
        statement = text("SELECT CAST(pg_typeof(:sent) AS text), CAST(:sent AS text), cardinality(:sent)")
        told = connection.execute(statement, {"sent": column(kind, [])}).one()
    assert tuple(told) == (
        f"{TYPES[kind]}[]".replace("timestamptz", "timestamp with time zone").replace("float8", "double precision"),
        "{}",
        0,
    )


@pytest.mark.parametrize("kind", NULLABLE)
def test_none_is_null(db: Engine, kind: type[Column]) -> None:
    """None becomes NULL, also if there is nothing else."""
    assert read_as_text(db, column(kind, [None])) == "{NULL}"
    assert read_as_text(db, column(kind, [None, None, None])) == "{NULL,NULL,NULL}"


def same(one: object, other: object) -> bool:
    """Return whether two values are the same, to the last bit."""
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("d", one) == struct.pack("d", other)
    return type(one) is type(other) and one == other


moments = st.datetimes(
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
ANY_VALUES: Final[list[tuple[type[Column], st.SearchStrategy[Any]]]] = [
    (Texts, st.none() | texts),
    (Uuids, st.none() | st.uuids()),
    (Times, st.none() | moments),
    (Digests, st.none() | st.binary()),
    (Integers, st.integers(-(2**31), 2**31 - 1)),
    (BigIntegers, st.none() | st.integers(-(2**63), 2**63 - 1)),
    (Numbers, st.none() | st.floats(allow_nan=False)),
    (Booleans, st.booleans()),
]


@pytest.mark.parametrize(("kind", "values"), ANY_VALUES, ids=lambda value: getattr(value, "__name__", ""))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_round_trip(db: Engine, kind: type[Column], values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """Values come back in their order, bit for bit."""
    sent = data.draw(st.lists(values, max_size=20))
    back = read_back(db, column(kind, sent))
    assert len(back) == len(sent)
    assert all(map(same, back, sent)), (back, sent)


THOUSANDS: Final[list[tuple[type[Column], Callable[[int], Any], str]]] = [
    (Texts, lambda n: f"tip {n} ż", "'tip ' || n || ' ż'"),
    (Uuids, lambda n: UUID(int=n), "CAST(lpad(to_hex(n), 32, '0') AS uuid)"),
    (
        Times,
        lambda n: datetime(2026, 11, 23, tzinfo=UTC) + timedelta(hours=n, microseconds=n),
        "timestamptz '2026-11-23Z' + n * interval '1 hour 1 microsecond'",
    ),
    (Jsons, lambda n: b'{"n": %d}' % n, "jsonb_build_object('n', n)"),
    (Digests, lambda n: struct.pack(">q", n), "int8send(n)"),
    (Integers, lambda n: n, "n"),
    (BigIntegers, lambda n: n * 10**12, "n * CAST(1000000000000 AS bigint)"),
    (Numbers, lambda n: n / 7, "n / CAST(7 AS float8)"),
    (Booleans, lambda n: n % 3 == 0, "n % 3 = 0"),
]


@pytest.mark.parametrize(("kind", "value", "sql"), THOUSANDS, ids=lambda value: getattr(value, "__name__", ""))
def test_two_thousand_elements(db: Engine, kind: type[Column], value: Callable[[int], Any], sql: str) -> None:
    """PostgreSQL finds the array equal to one that it builds itself, and different if it is shifted by one."""
    statement = text(f"SELECT :sent = ARRAY(SELECT {sql} FROM generate_series(0, 1999) AS g (n) ORDER BY n)")  # noqa: S608
    values = [value(n) for n in range(2000)]
    with writing(db) as connection:
        assert connection.scalars(statement, {"sent": column(kind, values)}).one()
        assert not connection.scalars(statement, {"sent": column(kind, [*values[1:], values[0]])}).one()


def test_long_text(db: Engine) -> None:
    """A text of a megabyte among short ones comes back whole."""
    long = "ż" * 500_000
    assert read_back(db, Texts.of(["a", long, None, long + "b", ""])) == ["a", long, None, long + "b", ""]


# Values that cannot be held


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Texts, "a\0b"),
        (Texts, "\0"),
        (Jsons, b'"a\\u0000b"'),
        (Jsons, b'"a\0b"'),
        (Jsons, b'{"a": '),
        (Jsons, b""),
        (Jsons, b'"\xff"'),
        (Jsons, b"NaN"),
    ],
)
def test_values_that_the_database_refuses(db: Engine, kind: type[Column], value: Any) -> None:  # noqa: ANN401
    """The whole array, wherever in it the value is: nothing is cut off, nothing is left out."""
    good = {Texts: "x", Jsons: b"1"}[kind]
    for values in ([value], [good, value], [value, good]):
        with pytest.raises(DataError):
            read_as_text(db, column(kind, values))
    assert read_as_text(db, column(kind, [good])) is not None


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        (Texts, "\ud800", UnicodeEncodeError),
        (Integers, 2**31, struct.error),
        (Integers, -(2**31) - 1, struct.error),
        (Integers, 1.5, struct.error),
        (BigIntegers, 2**63, struct.error),
        (BigIntegers, "1", struct.error),
        (Numbers, "1", struct.error),
        (Times, datetime(2026, 11, 23), TypeError),  # noqa: DTZ001 - that is what is wrong with it
    ],
)
def test_values_that_encoding_refuses(kind: type[Column], value: object, error: type[Exception]) -> None:
    """A value that the type cannot hold raises an error, and nothing is sent in its place."""
    with pytest.raises(error):
        column(kind, [value])


def test_times_around_the_epoch(db: Engine) -> None:
    """Times a microsecond apart around PostgreSQL's epoch come back exactly."""
    epoch = datetime(2000, 1, 1, tzinfo=UTC)
    sent = [epoch + timedelta(microseconds=n) for n in range(-3, 4)]
    back = read_back(db, Times.of(sent))
    assert back == sent
    assert all(later - earlier == timedelta(microseconds=1) for earlier, later in pairwise(back))
