"""The rules that keep the schema ready for a distributed PostgreSQL (ADR 14), checked by PostgreSQL's own parser."""

import re
from collections.abc import Iterator
from typing import Any, Final

from pglast import ast, parse_sql
from pglast.enums import SetOperation
from pglast.stream import RawStream
from pglast.visitors import Visitor

from oo_ml.storage.schema.all_tables import metadata
from oo_ml.storage.schema.column_types import PLACEMENT, USERS

USERS_TABLES: Final = frozenset(
    str(table) for table in metadata.tables.values() if table.info[PLACEMENT] == USERS[PLACEMENT]
)
# Immutable for any argument.
_HARMLESS: Final = frozenset({"array_length", "octet_length", "num_nonnulls"})


def parse(statement: str) -> list[Any]:
    """Return the statements in a text; parameters may stand in it as psycopg has them."""
    return [raw.stmt for raw in parse_sql(re.sub(r"%\(\w+\)s", "$1", statement).replace("%%", "%"))]


class _Assignments(Visitor):
    """Collects the values of columns, set by UPDATE or ON CONFLICT DO UPDATE."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def visit_UpdateStmt(self, _: object, node: Any) -> None:  # noqa: ANN401, N802 - the library's names
        self.found += [target.val for target in node.targetList]

    def visit_OnConflictClause(self, _: object, node: Any) -> None:  # noqa: ANN401, N802
        self.found += [target.val for target in node.targetList or ()]


class _Unfit(Visitor):
    """Collects parts of an expression that a distributed UPDATE can't compute."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def visit_SubLink(self, _: object, node: Any) -> None:  # noqa: ANN401, N802
        self.found.append(f"subquery: {RawStream()(node)}")

    def visit_SQLValueFunction(self, _: object, node: Any) -> None:  # noqa: ANN401, N802
        self.found.append(f"clock: {RawStream()(node)}")

    def visit_FuncCall(self, _: object, node: Any) -> None:  # noqa: ANN401, N802
        if node.funcname[-1].sval not in _HARMLESS:
            self.found.append(f"function: {RawStream()(node)}")

    def visit_A_Indices(self, _: object, node: Any) -> None:  # noqa: ANN401, N802
        if node.is_slice:
            self.found.append(f"slice: {RawStream()(node)}")


def unfit_assignments(statement: Any) -> list[str]:  # noqa: ANN401
    """Return the values that a statement must not set: a volatile function, a subquery, an array slice."""
    assignments = _Assignments()
    assignments(statement)
    unfit = _Unfit()
    for value in assignments.found:
        unfit(value)
    return unfit.found


class _Selects(Visitor):
    """Collects every SELECT of a statement."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def visit_SelectStmt(self, _: object, node: Any) -> None:  # noqa: ANN401, N802
        self.found.append(node)


def unfit_queries(statement: Any, users_relations: frozenset[str]) -> Iterator[str]:  # noqa: ANN401
    """Yield the parts that keep a view or query from being distributed.

    Args:
        statement: the parsed statement.
        users_relations: users' tables and the views that read them without summing up, by qualified name.
    """
    selects = _Selects()
    selects(statement)
    for select in selects.found:
        if isinstance(select.limitOffset, ast.A_Const):
            yield f"OFFSET of a constant: {RawStream()(select)}"
        for part in select.fromClause or ():
            yield from _unfit_laterals(part)
        yield from _unfit_joins(select, users_relations)
        if select.op == SetOperation.SETOP_UNION:
            legs = [leg for leg in _legs(select) if _relations(leg) & users_relations]
            if len(legs) > 1 and not all(leg.groupClause for leg in legs):
                yield f"UNION ALL of users' rows that are not grouped: {RawStream()(select)}"


def relations(statement: Any) -> set[str]:  # noqa: ANN401
    """Return the qualified names of the tables and views that a statement reads, anywhere in it."""
    found: set[str] = set()

    class _Relations(Visitor):
        def visit_RangeVar(self, _: object, node: Any) -> None:  # noqa: ANN401, N802
            if node.schemaname:
                found.add(f"{node.schemaname}.{node.relname}")

    _Relations()(statement)
    return found


def _legs(select: Any) -> list[Any]:  # noqa: ANN401
    if select.op == SetOperation.SETOP_NONE:
        return [select]
    return [*_legs(select.larg), *_legs(select.rarg)]


def _relations(select: Any) -> set[str]:  # noqa: ANN401
    return relations(select.fromClause) if select.fromClause else set()


def _unfit_laterals(part: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(part, ast.JoinExpr):
        yield from _unfit_laterals(part.larg)
        yield from _unfit_laterals(part.rarg)
    elif isinstance(part, ast.RangeSubselect) and part.lateral and not _from(part.subquery):
        yield f"LATERAL without FROM: {RawStream()(part)}"


def _from(select: Any) -> Any:  # noqa: ANN401
    return select.fromClause


def _unfit_joins(select: Any, users_relations: frozenset[str]) -> Iterator[str]:  # noqa: ANN401
    """Yield the join of users' tables that is not by user_id."""
    aliases: list[str] = []
    conditions: list[str] = [RawStream()(select.whereClause)] if select.whereClause else []

    def walk(part: Any) -> None:  # noqa: ANN401
        if isinstance(part, ast.JoinExpr):
            walk(part.larg)
            walk(part.rarg)
            if part.quals:
                conditions.append(RawStream()(part.quals))
        elif isinstance(part, ast.RangeVar) and f"{part.schemaname}.{part.relname}" in users_relations:
            aliases.append(str(part.alias.aliasname if part.alias else part.relname))

    for part in select.fromClause or ():
        walk(part)
    equal = re.findall(r"(\w+)\.user_id = (\w+)\.user_id", " ".join(conditions))
    joined = set(aliases[:1])
    for _ in aliases:
        joined |= {name for pair in equal if set(pair) & joined for name in pair}
    if not set(aliases) <= joined:
        yield f"join of users' tables without user_id = user_id: {RawStream()(select)}"
