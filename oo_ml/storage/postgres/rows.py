"""Many rows of a table as parameters of one statement: an array a column, which `unnest` turns into rows again (ADR 1).

The table's declaration gives the types. A statement's own part is a list of columns, and how to take each from a row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from pydantic_core import to_json
from sqlalchemy import BigInteger, Boolean, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import BYTEA, DOUBLE_PRECISION, JSONB, TIMESTAMP

from oo_ml.storage.postgres import binary_columns, float_arrays
from oo_ml.storage.postgres.binary_columns import Integers
from oo_ml.storage.schema.column_types import Float8Array

Row = TypeVar("Row")


def _jsons(values: Iterable[object]) -> binary_columns.Jsons:
    return binary_columns.Jsons.of(map(to_json, values))


# By the type of the declaration: the name of PostgreSQL's type, and the function that encodes a column.
_TYPES: Final[Mapping[type, tuple[str, Callable[[Iterable[Any]], binary_columns.Column]]]] = {
    BYTEA: ("bytea", binary_columns.Digests.of),
    BigInteger: ("bigint", binary_columns.BigIntegers.of),
    Boolean: ("boolean", binary_columns.Booleans.of),
    DOUBLE_PRECISION: ("float8", binary_columns.Numbers.of),
    Integer: ("integer", Integers.of),
    JSONB: ("jsonb", _jsons),
    TIMESTAMP: ("timestamptz", binary_columns.Times.of),
    Text: ("text", binary_columns.Texts.of),
    Uuid: ("uuid", binary_columns.Uuids.of),
}


def attributes(*paths: str) -> dict[str, Callable[[Any], Any]]:
    """Return columns for `Rows`: the attribute at each dotted path, by its last name, which is also the column's."""
    return {path.rpartition(".")[2].lower(): attrgetter(path) for path in paths}


class Rows(Generic[Row]):
    """Rows that a statement reads from `source`, where they have the alias `name`, and the number `place` from 1.

    Attributes:
        source: the FROM item.
        values: by column, SQL for its value in a row of `source`.
    """

    def __init__(self, name: str, table: Table, columns: Mapping[str, Callable[[Row], Any]]) -> None:
        """Derive the SQL. `name` is unique in the statement: it begins the names of the parameters.

        `columns` has the function that takes a column's value from a row. An array must not be None.
        """
        self._name, self._table = name, table
        self._scalars: list[tuple[str, Callable[[Row], Any], Callable[[Iterable[Any]], binary_columns.Column]]] = []
        self._arrays: list[tuple[str, Callable[[Row], Any]]] = []
        self.values: dict[str, str] = {}
        arguments: dict[str, str] = {}
        for column, take in columns.items():
            declared, parameter = table.c[column].type, f"{name}_{column}"
            if isinstance(declared, Float8Array):
                self._arrays.append((parameter, take))
                arguments |= {f"{column}_start": "integer", f"{column}_length": "integer"}
                unpack = float_arrays.matrix_sql if declared.dimensions == 2 else float_arrays.vector_sql  # noqa: PLR2004
                self.values[column] = unpack(parameter, f"{name}.{column}_start", f"{name}.{column}_length")
            else:
                type_, encode = _TYPES[type(declared)]
                self._scalars.append((parameter, take, encode))
                arguments[column] = type_
                self.values[column] = f"{name}.{column}"
        casts = ", ".join(f"CAST(:{name}_{argument} AS {type_}[])" for argument, type_ in arguments.items())
        self.source = f"unnest({casts}) WITH ORDINALITY AS {name} ({', '.join(arguments)}, place)"

    def insert_sql(self) -> str:
        """Return the INSERT that writes the rows."""
        columns, values = ", ".join(self.values), ", ".join(self.values.values())
        return f"INSERT INTO {self._table.fullname} ({columns}) SELECT {values} FROM {self.source}"

    def update_sql(self) -> str:
        """Return the UPDATE that finds each row by its primary key, and sets the other columns."""
        name, key = self._name, [column.name for column in self._table.primary_key]
        values = ", ".join(f"{value} AS {column}" for column, value in self.values.items())
        changes = ", ".join(f"{column} = {name}.{column}" for column in self.values if column not in key)
        condition = " AND ".join(f"t.{column} = {name}.{column}" for column in key)
        # A subquery cuts out the arrays: a distributed database does not accept that in SET (ADR 14).
        return (
            f"UPDATE {self._table.fullname} AS t SET {changes}"
            f" FROM (SELECT {values} FROM {self.source}) AS {name} WHERE {condition}"
        )

    def parameters(self, rows: Sequence[Row]) -> dict[str, object]:
        """Return the parameters for `rows`."""
        parameters: dict[str, object] = {name: encode(map(take, rows)) for name, take, encode in self._scalars}
        for name, take in self._arrays:
            arrays = [take(row) for row in rows]
            parameters[name] = float_arrays.pack(arrays)
            parameters[f"{name}_start"] = Integers.of(float_arrays.offsets([array.size for array in arrays]))
            parameters[f"{name}_length"] = Integers.of(map(len, arrays))
        return parameters
