"""Building blocks of the table declarations: names of constraints, placement of tables, recurring columns."""

from typing import Any, Final

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, MetaData, Sequence, Text
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, TIMESTAMP
from sqlalchemy.types import UserDefinedType

SCHEMA: Final = "oo_ml"

# The placement of a table if the database is distributed over several servers (ADR 14). Each table has one of these.
PLACEMENT: Final = "placement"
# Rows of users, spread by user_id.
USERS: Final = {PLACEMENT: "users"}
# A copy on every server, for small tables that are joined with rows of users.
REFERENCE: Final = {PLACEMENT: "reference"}
# On the coordinator only.
LOCAL: Final = {PLACEMENT: "local"}

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    },
)


class Float8Array(UserDefinedType[Any]):
    """float8[], exchanged as numpy arrays (storage/postgres/float_arrays.py)."""

    cache_ok = True

    def __init__(self, dimensions: int = 1) -> None:
        """Declare the number of dimensions, which PostgreSQL itself does not keep."""
        self.dimensions = dimensions

    def get_col_spec(self, **_: object) -> str:
        """Return the type's name in DDL."""
        return "double precision[]"


def name(
    name: str, comment: str, *, primary_key: bool = False, nullable: bool = False, refers_to: Column[Any] | None = None
) -> Column[str]:
    """Return a column of names: ids, versions, policies."""
    keys = [] if refers_to is None else [ForeignKey(refers_to)]
    # "C" compares bytes, so sessions lock rows in the same order on every server.
    return Column(name, Text(collation="C"), *keys, primary_key=primary_key, nullable=nullable, comment=comment)


def position(order: Sequence, comment: str) -> Column[int]:
    """Return the column that numbers the rows of a table in the order in which they were written."""
    return Column("position", BigInteger, order, server_default=order.next_value(), nullable=False, comment=comment)


def moment(name: str, comment: str, *, nullable: bool = False) -> Column[Any]:
    """Return a column of points in time."""
    return Column(name, TIMESTAMP(timezone=True), nullable=nullable, comment=comment)


def length(column: str, limit: int) -> CheckConstraint:
    """Return the CHECK that a text has 1 to `limit` bytes."""
    return CheckConstraint(f"octet_length({column}) BETWEEN 1 AND {limit}", name=f"{column}_length")


def probability(name: str, comment: str) -> Column[Any]:
    """Return a column for a probability that may be unknown."""
    return Column(name, DOUBLE_PRECISION, comment=comment)


def is_probability(column: str) -> CheckConstraint:
    """Return the CHECK that a number is a probability above 0."""
    return CheckConstraint(f"{column} > 0 AND {column} <= 1", name=f"{column}_range")


def same_dimension(matrix: str, vector: str) -> str:
    """Return the condition that a matrix is square, and as large as a vector."""
    return (
        f"(array_ndims({vector}) = 1 AND array_ndims({matrix}) = 2"
        f" AND array_length({matrix}, 1) = array_length({vector}, 1)"
        f" AND array_length({matrix}, 2) = array_length({vector}, 1)) IS TRUE"
    )


def by_position(table: str) -> Index:
    """Return an index that finds the rows after a position."""
    # Rows are stored in the order of their position, so one entry for 64 pages is enough.
    return Index(
        f"ix_{table}_position",
        "position",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 64, "autosummarize": "on"},
    )


def finite(column: str) -> CheckConstraint:
    """Return the CHECK that a number is finite."""
    # PostgreSQL sorts NaN above every number, so the second comparison refuses NaN too.
    return CheckConstraint(f"{column} > '-Infinity' AND {column} < 'Infinity'", name=f"{column}_finite")


def finite_elements(column: str, *, nullable: bool = False) -> CheckConstraint:
    """Return the CHECK that every element of an array is a finite number, and not NULL."""
    # A CHECK accepts NULL, and so an array with a NULL element; IS TRUE refuses it.
    check = f"('-Infinity' < ALL ({column}) AND 'Infinity' > ALL ({column})) IS TRUE"
    return CheckConstraint(f"{column} IS NULL OR {check}" if nullable else check, name=f"{column}_finite")


def vector(column: str, *, nullable: bool = False, name: str = "dimensions") -> CheckConstraint:
    """Return the CHECK that an array has one dimension and at least one element."""
    # array_ndims of an empty array is NULL.
    check = f"(array_ndims({column}) = 1) IS TRUE"
    return CheckConstraint(f"{column} IS NULL OR {check}" if nullable else check, name=name)
