"""What the tables are declared with: the names of constraints, and the kinds of columns that come again and again."""

from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, MetaData, Text
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, TIMESTAMP
from sqlalchemy.types import UserDefinedType

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Float8Array(UserDefinedType[Any]):
    """float8[] of any number of dimensions, exchanged as numpy arrays (storage/arrays.py)."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the type's name in DDL."""
        return "double precision[]"


def name(name: str, comment: str, *, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    """Return a column of names: ids, versions, policies."""
    # "C": names are compared as bytes, so the order in which rows are locked is the same on every server.
    return Column(name, Text(collation="C"), primary_key=primary_key, nullable=nullable, comment=comment)


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
    """Return the CHECK that it is one, and above 0."""
    return CheckConstraint(f"{column} > 0 AND {column} <= 1", name=f"{column}_range")


def by_position(table: str) -> Index:
    """Return an index for what came after a position; those lie in the order of pages: a note for every 64 will do."""
    return Index(
        f"ix_{table}_position",
        "position",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 64, "autosummarize": "on"},
    )


def finite(column: str) -> CheckConstraint:
    """Return the CHECK that a number is one."""
    # PostgreSQL sorts NaN above every number, so one comparison each way refuses it as well.
    return CheckConstraint(f"{column} > '-Infinity' AND {column} < 'Infinity'", name=f"{column}_finite")


def finite_elements(column: str) -> CheckConstraint:
    """Return the CHECK that every number of an array is one."""
    return CheckConstraint(f"'-Infinity' < ALL ({column}) AND 'Infinity' > ALL ({column})", name=f"{column}_finite")
