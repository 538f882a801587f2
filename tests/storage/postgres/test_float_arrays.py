"""Arrays: PostgreSQL gives them back bit for bit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sqlalchemy import Engine, text

from oo_ml.storage.postgres.float_arrays import Float8ArrayDumper, Float8ArrayLoader, matrix_sql, pack, vector_sql
from tests.sessions import writing

SPECIMENS = [
    np.array([0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1, math.pi]),
    np.array([math.nan, math.inf, -math.inf]),
    np.array([]),
    np.arange(6.0).reshape(2, 3),
    np.arange(24.0).reshape(2, 3, 4),
    np.asfortranarray(np.arange(9.0).reshape(3, 3)),
    np.arange(10.0)[::2],
]


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_array_round_trip(db: Engine, specimen: np.ndarray) -> None:
    """Every value that float8 has trouble with comes back from a real column with the same bits."""
    with writing(db) as connection:
        connection.execute(text("CREATE TEMP TABLE specimen (a float8[])"))
        connection.execute(text("INSERT INTO specimen VALUES (:a)"), {"a": specimen})
        returned = connection.scalars(text("SELECT a FROM specimen")).one()
    assert returned.shape == specimen.shape
    assert returned.dtype == np.float64
    assert returned.tobytes() == np.ascontiguousarray(specimen).tobytes()


def test_array_as_text(db: Engine) -> None:
    """PostgreSQL sees the same values in the same places."""
    matrix = np.array([[1.5, -2.0], [0.25, 1e300]])
    with writing(db) as connection:
        written = connection.scalars(text("SELECT CAST(:a AS float8[])::text"), {"a": matrix}).one()
    assert written == "{{1.5,-2},{0.25,1e+300}}"


@given(arrays(np.float64, array_shapes(min_dims=1, max_dims=4, max_side=5), elements=st.floats(width=64)))
def test_dumper_and_loader(array: np.ndarray) -> None:
    """The dumper and the loader are inverse to each other."""
    written = Float8ArrayDumper(np.ndarray, None).dump(array)
    returned = Float8ArrayLoader(1022, None).load(written)
    assert returned.tobytes() == array.tobytes()
    assert returned.shape == array.shape


def test_array_with_null(db: Engine) -> None:
    """An array with a null is refused: a null must not become a number."""
    with writing(db) as connection, pytest.raises(ValueError, match="nulls"):
        connection.scalars(text("SELECT ARRAY[1, NULL]::float8[]")).one()


def test_array_of_other_numbers(db: Engine) -> None:
    """A float32 array is refused: its values would change."""
    with writing(db) as connection, pytest.raises(TypeError, match="float32"):
        connection.execute(text("SELECT CAST(:a AS float8[])"), {"a": np.ones(2, np.float32)})


def test_packed_arrays(db: Engine) -> None:
    """Matrices of several sizes come out of one parameter with their bits and shapes."""
    matrices = [np.random.default_rng(d).normal(size=(d, d)) for d in (1, 5, 7, 5)]
    offsets = np.cumsum([0, *(matrix.size for matrix in matrices)]).tolist()
    with writing(db) as connection:
        for matrix, offset in zip(matrices, offsets, strict=False):
            d = len(matrix)
            statement = text(f"SELECT {matrix_sql('p', str(offset), str(d))}, {vector_sql('p', str(offset), str(d))}")
            unpacked, first_row = connection.execute(statement, {"p": pack(matrices)}).one()
            assert unpacked.tobytes() == matrix.tobytes()
            assert first_row.tobytes() == matrix[0].tobytes()
