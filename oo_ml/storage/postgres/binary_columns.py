"""Lists of values as text[], uuid[], timestamptz[] and so on, in PostgreSQL's binary format: a parameter a column.

A batch sends each column of its rows as one array. psycopg would look up an adapter for every element; that took longer
than the statement itself (ADR 1). float_arrays.py does the same for numpy arrays.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import ClassVar, Final, Self
from uuid import UUID

from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

from oo_ml.storage.postgres import float_arrays

# Of an array of one dimension: dimensions, null flag, type, length and lower bound; see float_arrays.py.
_HEADER: Final = struct.Struct(">iiiii")
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = _LENGTH.pack(-1)
_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_JSONB_VERSION: Final = b"\x01"


class Column(bytes):
    """An array of one dimension as PostgreSQL receives it; `of` of each subclass makes one. None becomes NULL."""

    element_oid: ClassVar[int]
    array_oid: ClassVar[int]

    @classmethod
    def _of(cls, elements: Sequence[bytes | None]) -> Self:
        if not elements:
            return cls(float_arrays.header((), cls.element_oid))
        pack = _LENGTH.pack
        return cls(
            _HEADER.pack(1, None in elements, cls.element_oid, len(elements), 1)
            + b"".join([_NULL if one is None else pack(len(one)) + one for one in elements])
        )


class _Numeric(Column):
    """An array of values of one size, which `code`, of the module struct, gives."""

    code: ClassVar[str]

    @classmethod
    def _of_numbers(cls, values: Sequence[float | None]) -> Self:
        if None in values:
            pack = struct.Struct(f">{cls.code}").pack
            return cls._of([None if value is None else pack(value) for value in values])
        if not values:
            return cls._of([])
        size = struct.calcsize(f">{cls.code}")
        elements = struct.pack(f">{f'i{cls.code}' * len(values)}", *chain.from_iterable(zip(repeat(size), values)))
        return cls(_HEADER.pack(1, 0, cls.element_oid, len(values), 1) + elements)


class Texts(Column):
    """text[]."""

    element_oid = 25
    array_oid = 1009

    @classmethod
    def of(cls, values: Iterable[str | None]) -> Self:
        """Encode `values`, which must not hold NUL."""
        return cls._of([None if value is None else value.encode() for value in values])


class Uuids(Column):
    """uuid[]."""

    element_oid = 2950
    array_oid = 2951

    @classmethod
    def of(cls, values: Iterable[UUID | None]) -> Self:
        """Encode `values`."""
        return cls._of([None if value is None else value.bytes for value in values])


class Times(_Numeric):
    """timestamptz[]."""

    element_oid = 1184
    array_oid = 1185
    code = "q"

    @classmethod
    def of(cls, values: Iterable[datetime | None]) -> Self:
        """Encode `values`, each with a time zone."""
        return cls._of_numbers(
            [None if value is None else (value - _POSTGRES_EPOCH) // _MICROSECOND for value in values]
        )


class Jsons(Column):
    """jsonb[]."""

    element_oid = 3802
    array_oid = 3807

    @classmethod
    def of(cls, values: Iterable[bytes]) -> Self:
        """Encode `values`, each of them a JSON document in UTF-8."""
        return cls._of([_JSONB_VERSION + value for value in values])


class Digests(Column):
    """bytea[]."""

    element_oid = 17
    array_oid = 1001

    @classmethod
    def of(cls, values: Iterable[bytes | None]) -> Self:
        """Encode `values`."""
        return cls._of(list(values))


class Integers(_Numeric):
    """integer[]."""

    element_oid = 23
    array_oid = 1007
    code = "i"

    @classmethod
    def of(cls, values: Iterable[int]) -> Self:
        """Encode `values`, each of 32 bits."""
        return cls._of_numbers(list(values))


class BigIntegers(_Numeric):
    """bigint[]."""

    element_oid = 20
    array_oid = 1016
    code = "q"

    @classmethod
    def of(cls, values: Iterable[int | None]) -> Self:
        """Encode `values`."""
        return cls._of_numbers(list(values))


class Numbers(_Numeric):
    """float8[] from numbers or None."""

    element_oid = float_arrays.FLOAT8_OID
    array_oid = float_arrays.FLOAT8_ARRAY_OID
    code = "d"

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self:
        """Encode `values`."""
        return cls._of_numbers(list(values))


class Booleans(_Numeric):
    """boolean[]."""

    element_oid = 16
    array_oid = 1000
    code = "?"

    @classmethod
    def of(cls, values: Iterable[bool]) -> Self:
        """Encode `values`."""
        return cls._of_numbers(list(values))


class _ColumnDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Column) -> Buffer:
        return obj


_DUMPERS: Final = {
    column: type(f"{column.__name__}Dumper", (_ColumnDumper,), {"oid": column.array_oid})
    for column in (Texts, Uuids, Times, Jsons, Digests, Integers, BigIntegers, Numbers, Booleans)
}


def register(connection: Connection[object]) -> None:
    """Register the columns with a psycopg connection."""
    for column, dumper in _DUMPERS.items():
        connection.adapters.register_dumper(column, dumper)
