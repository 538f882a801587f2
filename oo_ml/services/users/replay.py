"""Making a person on one database what they are on another: every row as it was exported, the state to the last bit.

Nothing is taken on trust: the state has to be the fold of the ledger that comes with it, or nothing goes in.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError

from oo_ml.errors import ExportFileError, ReplayRefusedError
from oo_ml.files.export_document import Document
from oo_ml.services.audit import verify
from oo_ml.services.audit.differences import Difference
from oo_ml.storage import daily_sums, personal_data, prompts, upkeep
from oo_ml.storage.personal_data import HISTORY, POSITION, PersonalTable
from oo_ml.storage.postgres import json_rows, sqlstates
from oo_ml.storage.schema.tables import ORDERS
from oo_ml.storage.states import lock_users
from oo_ml.storage.user_ranges import UserRange

# Their rows refer to the prompt registry, which is not a person's.
_NAMING_VERSIONS: Final = ("generations", "prompt_assignments")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What has become of a document: how many rows went into each table; `unchanged` where they all were there."""

    rows: Mapping[str, int]
    unchanged: bool


def replay(connection: Connection, documents: Sequence[Document]) -> list[Replayed]:
    """Write down each person as exported; one who is here already has to be exactly so.

    Positions are given anew, in the same order. Upkeep comes to know of decisions that
    retention had taken out where the person comes from, and goes back to those that still wait for a reward.

    Raises:
        ExportFileError: a document holds what no export does.
        ReplayRefusedError: the person is here, but otherwise; this database has no place for something; or the state
            is not the fold of the ledger.
    """
    # Whoever is here stays as they are while they are compared.
    lock_users(connection, [document.user_id for document in documents])
    try:
        return [_replay(connection, document) for document in documents]
    except RecursionError:
        raise ExportFileError("A row is nested too deeply") from None


def _replay(connection: Connection, document: Document) -> Replayed:
    found = personal_data.tables(connection)
    here = {one.name: one for one in found}
    if unknown := sorted(document.tables.keys() - here.keys()):
        raise ReplayRefusedError(f"This database has no table {unknown[0]!r}: migrate it to the release of the export")
    if personal_data.is_known(connection, found, document.user_id):
        rows = _same(connection, document, found)
        if rows is None:
            raise ReplayRefusedError(f"{document.user_id!r} is known here already; erase them first")
        return Replayed(rows, unchanged=True)
    _check_prompt_versions(connection, document)
    daily_sums.assign_transaction_id(connection)
    filled = [one for one in personal_data.referred_first(found) if one.name in document.tables]
    rows = {one.name: _insert(connection, document, one) for one in filled}
    _prove(connection, document)
    # A look that has not seen these decisions must not pass them before they are committed.
    upkeep.exclude(connection, upkeep.DEFAULT_REWARDS)
    upkeep.rewind_default_rewards(connection, document.user_id)
    return Replayed(dict(sorted(rows.items())), unchanged=False)


def _same(connection: Connection, document: Document, found: Iterable[PersonalTable]) -> dict[str, int] | None:
    """Return how many rows each table has, in the document as well as here; None if any of them differs."""
    counts = {}
    for name, parts in personal_data.whole(found).items():
        there = _exported(document, parts[0]) if name in document.tables else ()
        counts[name] = 0
        with closing(personal_data.rows(connection, parts, document.user_id)) as rows:
            for one, other in zip_longest(rows, there):
                if one is None or other is None or _comparable(one, name) != _comparable(other, name):
                    return None
                counts[name] += 1
    return counts


def _exported(document: Document, table: PersonalTable) -> Iterator[dict[str, Any]]:
    """Yield a table's rows as it would hold them; what was not exported is None."""
    return ({name: row.get(name) for name in table.columns} for row in _rows(document, table))


def _comparable(row: Mapping[str, Any], table: str) -> str:
    return json_rows.dump(_without_position(row, table), sort_keys=True)


def _without_position(row: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Return a row without what each database gives it anew."""
    return {name: value for name, value in row.items() if table not in ORDERS or name != POSITION}


def _check_prompt_versions(connection: Connection, document: Document) -> None:
    tables = [name for name in _NAMING_VERSIONS if name in document.tables]
    versions = (row.get("prompt_version") for name in tables for row in document.rows(name))
    used = {version for version in versions if isinstance(version, str)}
    if missing := sorted(used - prompts.find(connection, sorted(used)).keys()):
        raise ReplayRefusedError(f"The prompt version {missing[0]!r} is unknown here: publish it first")


def _insert(connection: Connection, document: Document, table: PersonalTable) -> int:
    try:
        return personal_data.insert_rows(connection, table, _alike(_rows(document, table), table.name))
    except (IntegrityError, DataError) as error:
        raise ReplayRefusedError(
            f"{table.name} can't hold a row of the export: {sqlstates.description(error)}"
        ) from None


def _alike(rows: Iterator[dict[str, Any]], table: str) -> Iterator[dict[str, Any]]:
    """Yield rows that have the same columns, and no position."""
    first: dict[str, Any] | None = None
    for number, row in enumerate(rows, 1):
        first = first or row
        if row.keys() != first.keys():
            raise ExportFileError(f"{table}, row {number}: other columns than the first row")
        yield _without_position(row, table)


def _rows(document: Document, table: PersonalTable) -> Iterator[dict[str, Any]]:
    """Yield a table's rows with the values that its columns hold."""
    for number, row in enumerate(document.rows(table.name), 1):
        if table.name == HISTORY and (wrong := _misshapen(row)):
            raise ExportFileError(f"{HISTORY}, row {number}, {wrong}: no decision has such")
        values = {}
        for name, value in row.items():
            if name not in table.columns:
                raise ReplayRefusedError(
                    f"{table.name} has no column {name!r} here: migrate it to the release of the export"
                )
            try:
                values[name] = json_rows.load(value, table.columns[name])
            except ValueError as error:
                raise ExportFileError(f"{table.name}, row {number}, {name}: {error}") from None
        yield values


def _prove(connection: Connection, document: Document) -> None:
    """Refuse what has gone in if verifying it would find a difference, now or ever after."""
    found = _difference(connection, document.user_id, None)
    if found is not None and document.history_from is not None:
        found = _prove_retained(connection, document.user_id, document.history_from)
    if found is not None:
        raise ReplayRefusedError(f"The export contradicts itself: {found.sentence}")


def _prove_retained(connection: Connection, user_id: str, history_from: datetime) -> Difference | None:
    """Return what is wrong even if decisions before `history_from` may be missing; if nothing is, note that they may.

    Raises:
        ReplayRefusedError: `history_from` is yet to come; verifying would never miss a decision here until then.
    """
    if not upkeep.is_past(connection, history_from):
        raise ReplayRefusedError("history_from is yet to come: the clocks of the two databases differ")
    found = _difference(connection, user_id, history_from)
    here = upkeep.read_history_from(connection)
    if found is None and (here is None or _difference(connection, user_id, here) is not None):
        upkeep.raise_history_from(connection, history_from)
    return found


def _difference(connection: Connection, user_id: str, history_from: datetime | None) -> Difference | None:
    return verify.verify_range(connection, UserRange.of(user_id), history_from).difference


def _misshapen(row: Mapping[str, Any]) -> str | None:
    """Return the column of a decision whose JSON nobody could show, None if there is none."""
    for name in ("context", "features", "answer"):
        if not _is_flat(row.get(name)):
            return name
    candidates, propensities = row.get("candidates"), row.get("propensities")
    if not isinstance(candidates, list) or not all(map(_is_candidate, candidates)):
        return "candidates"
    if isinstance(propensities, list) and len(propensities) != len(candidates):
        return "candidates"
    return None


def _is_candidate(value: object) -> bool:
    match value:
        case {"id": str(), "source": str(), "features": features, **others}:
            return _is_flat(features) and _is_flat(others)
    return False


def _is_flat(value: object) -> bool:
    return isinstance(value, dict) and not any(isinstance(inner, dict | list) for inner in value.values())
