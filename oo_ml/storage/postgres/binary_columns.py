"""Lists of values as text[], uuid[], timestamptz[] and so on, in PostgreSQL's binary format: a parameter a column.

A batch sends each column of its rows as one array. psycopg would look up an adapter for every element; that took longer
than the statement itself (ADR 1). float_arrays.py does the same for numpy arrays.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any, ClassVar, Final, Self
from uuid import UUID

from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.postgres import types
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

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        """Take the oids of the PostgreSQL type `name`; a class without one is a base of others."""
        if name is not None:
            cls.element_oid, cls.array_oid = types[name].oid, types[name].array_oid

    @classmethod
    def _of(cls, elements: Sequence[bytes | None]) -> Self:
        if not elements:
            return cls(float_arrays.header((), cls.element_oid))
        pack = _LENGTH.pack
        return cls(
            _HEADER.pack(1, None in elements, cls.element_oid, len(elements), 1)
            + b"".join([_NULL if one is None else pack(len(one)) + one for one in elements])
        )


class Texts(Column, name="text"):
    """text[]."""

    @classmethod
    def of(cls, values: Iterable[str | None]) -> Self:
        """Encode `values`, which must not hold NUL."""
        return cls._of([None if value is None else value.encode() for value in values])


class Uuids(Column, name="uuid"):
    """uuid[]."""

    @classmethod
    def of(cls, values: Iterable[UUID | None]) -> Self:
        """Encode `values`."""
        return cls._of([None if value is None else value.bytes for value in values])


class Jsons(Column, name="jsonb"):
    """jsonb[]."""

    @classmethod
    def of(cls, values: Iterable[bytes]) -> Self:
        """Encode `values`, each of them a JSON document in UTF-8."""
        return cls._of([_JSONB_VERSION + value for value in values])


class Digests(Column, name="bytea"):
    """bytea[]."""

    @classmethod
    def of(cls, values: Iterable[bytes | None]) -> Self:
        """Encode `values`."""
        return cls._of(list(values))


class _Numeric(Column):
    """An array of values of one size, which `code`, of the module struct, gives."""

    code: ClassVar[str]

    def __init_subclass__(cls, *, name: str, code: str) -> None:
        """Take the oids of the PostgreSQL type `name`."""
        super().__init_subclass__(name=name)
        cls.code = code

    @classmethod
    def of(cls, values: Iterable[Any]) -> Self:
        """Encode `values`, each of them a number that the type can hold, or None."""
        numbers = list(values)
        if None in numbers:
            pack = struct.Struct(f">{cls.code}").pack
            return cls._of([None if number is None else pack(number) for number in numbers])
        if not numbers:
            return cls._of([])
        size = struct.calcsize(f">{cls.code}")
        elements = struct.pack(f">{f'i{cls.code}' * len(numbers)}", *chain.from_iterable(zip(repeat(size), numbers)))
        return cls(_HEADER.pack(1, 0, cls.element_oid, len(numbers), 1) + elements)


class Integers(_Numeric, name="int4", code="i"):
    """integer[]."""


class BigIntegers(_Numeric, name="int8", code="q"):
    """bigint[]."""


class Numbers(_Numeric, name="float8", code="d"):
    """float8[]."""


class Booleans(_Numeric, name="bool", code="?"):
    """boolean[]."""


class Times(BigIntegers, name="timestamptz", code="q"):
    """timestamptz[]."""

    @classmethod
    def of(cls, values: Iterable[datetime | None]) -> Self:
        """Encode `values`, each with a time zone."""
        return super().of([None if value is None else (value - _POSTGRES_EPOCH) // _MICROSECOND for value in values])


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
