"""numpy arrays to and from float8[], in PostgreSQL's binary format: every bit survives, no Python object an element.

The wire format is array_send's in PostgreSQL's src/backend/utils/adt/arrayfuncs.c: number of dimensions,
null flag, element type, length and lower bound of each dimension, then each element behind its length.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

FLOAT8_OID: Final = 701
FLOAT8_ARRAY_OID: Final = 1022
_HEADER: Final = struct.Struct(">iii")
_DIMENSION: Final = struct.Struct(">ii")
_ELEMENT: Final = np.dtype([("length", ">i4"), ("value", ">f8")])


class Float8ArrayDumper(Dumper):
    """Writer of float64 arrays of any number of dimensions."""

    format = Format.BINARY
    oid = FLOAT8_ARRAY_OID

    def dump(self, obj: NDArray[np.float64]) -> Buffer:
        """Return the bytes that PostgreSQL reads."""
        if obj.dtype != np.float64:
            raise TypeError(f"Only float64 arrays can be stored, not {obj.dtype}")
        if obj.size == 0:
            return header((), FLOAT8_OID)
        elements = np.empty(obj.size, _ELEMENT)
        elements["length"] = 8
        elements["value"] = obj.ravel()
        return header(obj.shape, FLOAT8_OID) + elements.tobytes()


class Float8ArrayLoader(Loader):
    """Reader of a float8[] without nulls; an empty one, which has no dimensions, becomes shape (0,)."""

    format = Format.BINARY

    def load(self, data: Buffer) -> NDArray[np.float64]:
        """Return a float64 array of the stored shape, which owns its memory."""
        ndim, has_nulls, _ = _HEADER.unpack_from(data)
        if has_nulls:
            raise ValueError("A float8[] with nulls cannot become a numpy array")
        shape = [_DIMENSION.unpack_from(data, _HEADER.size + i * _DIMENSION.size)[0] for i in range(ndim)]
        elements = np.frombuffer(data, _ELEMENT, offset=_HEADER.size + ndim * _DIMENSION.size)
        return elements["value"].astype(np.float64).reshape(shape or 0)


def header(shape: Sequence[int], element_oid: int) -> bytes:
    """Return the bytes before the elements of an array of `shape` without nulls; an empty array has the shape ()."""
    dimensions = [_DIMENSION.pack(length, 1) for length in shape]
    return b"".join((_HEADER.pack(len(shape), 0, element_oid), *dimensions))


def register(connection: Connection[object]) -> None:
    """Register both with a psycopg connection."""
    connection.adapters.register_dumper(np.ndarray, Float8ArrayDumper)
    connection.adapters.register_loader(FLOAT8_ARRAY_OID, Float8ArrayLoader)


def pack(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Lay arrays of any shapes end to end in one parameter; vector_sql and matrix_sql cut them out again (ADR 1)."""
    return np.concatenate([np.empty(0), *(array.ravel() for array in arrays)])


def offsets(sizes: Sequence[int]) -> list[int]:
    """Return, for each packed array, the number of elements before it."""
    return list(accumulate(sizes, initial=0))[: len(sizes)]


def vector_sql(parameter: str, offset: str, dimension: str) -> str:
    """Return SQL for the float8[] of `dimension` numbers that starts after `offset` elements in a packed parameter."""
    return f"(CAST(:{parameter} AS float8[]))[{offset} + 1 : {offset} + {dimension}]"


def matrix_sql(parameter: str, offset: str, dimension: str) -> str:
    """Return SQL for the same of dimension x dimension numbers, row by row, as a float8[][]."""
    row = vector_sql(parameter, f"{offset} + i * {dimension}", dimension)
    return f"(SELECT array_agg({row} ORDER BY i) FROM generate_series(0, {dimension} - 1) AS i)"
