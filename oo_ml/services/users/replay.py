"""Replay of an export: writes every row of a user to this database, the state equal to the last bit.

An export is not trusted: unless its state equals the fold of its ledger, nothing is written.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, zip_longest
from typing import Any, Final

from sqlalchemy.exc import DataError, IntegrityError

from oo_ml.errors import ExportFileError, ReplayRefusedError
from oo_ml.files.export_document import Export
from oo_ml.services.audit import verify
from oo_ml.services.audit.differences import Difference
from oo_ml.services.prior_versions import PriorVersions
from oo_ml.storage import daily_sums, personal_data, prompt_versions, upkeep
from oo_ml.storage.personal_data import HISTORY, POSITION, PersonalTable
from oo_ml.storage.policy_state import lock_users
from oo_ml.storage.postgres import json_rows, sqlstates
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.all_tables import ORDERS
from oo_ml.storage.user_ranges import UserRange

# Their rows refer to the prompt registry, which belongs to no user.
_WITH_PROMPT_VERSIONS: Final = ("generations", "prompt_assignments")
_ROWS_AT_ONCE: Final = 100
_MIGRATE: Final = "migrate this database to the release of the export"

# The place of a row in the export, and the row.
_Row = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Replayed:
    """The number of rows in each table; `unchanged` if all of them were there before."""

    rows: Mapping[str, int]
    unchanged: bool


def replay(connection: Writing, exports: Sequence[Export]) -> list[Replayed]:
    """Write the rows of each user. A user who is known here must be exactly as exported.

    This database assigns new positions, in the same order. For upkeep, the replay notes decisions that retention
    removed from the other database, and goes back to decisions without a reward.

    Raises:
        ExportFileError: An export holds something that no export has.
        ReplayRefusedError: The user differs here; this database lacks a table, column or prompt version; or the state
            is not the fold of the ledger.
    """
    # Known users do not change while they are compared.
    lock_users(connection, [export.user_id for export in exports])
    try:
        return [_replay(connection, export) for export in exports]
    except RecursionError:
        raise ExportFileError("A row is nested too deeply") from None


def _replay(connection: Writing, export: Export) -> Replayed:
    found = personal_data.find_tables(connection)
    by_name = personal_data.group_parts(found)
    for name in export.starts.keys() - by_name.keys():
        place, _ = next(export.read_rows(name))
        raise ReplayRefusedError(f"{place}: this database has no table {name!r}; {_MIGRATE}")
    if personal_data.is_known(connection, found, export.user_id):
        rows = _count_same(connection, export, by_name)
        if rows is None:
            raise ReplayRefusedError(f"{export.user_id!r} is known here, but not as exported; erase the user first")
        return Replayed(rows, unchanged=True)
    _check_prompt_versions(connection, export)
    daily_sums.assign_transaction_id(connection)
    # Rows are not inserted into detached months: their decisions go into feature_history again.
    filled = [table for table in personal_data.sort_for_inserts(found) if table.name in by_name]
    rows = {table.name: _insert(connection, export, table) for table in filled}
    _prove(connection, export)
    # Default rewards must not pass these decisions before they are committed.
    upkeep.exclude(connection, upkeep.DEFAULT_REWARDS)
    upkeep.rewind_default_rewards(connection, export.user_id)
    return Replayed(dict(sorted(rows.items())), unchanged=False)


def _count_same(
    connection: Reading, export: Export, by_name: Mapping[str, Sequence[PersonalTable]]
) -> dict[str, int] | None:
    """Return the number of rows in each table; None if any row differs between this database and the export."""
    counts = {}
    for name, parts in by_name.items():
        exported = ({column: row.get(column) for column in parts[0].columns} for _, row in _read_rows(export, parts[0]))
        counts[name] = 0
        with closing(personal_data.read_rows(connection, parts, export.user_id)) as rows:
            for here, there in zip_longest(rows, exported):
                if here is None or there is None or _dump_comparable(here, name) != _dump_comparable(there, name):
                    return None
                counts[name] += 1
    return counts


def _dump_comparable(row: Mapping[str, Any], table: str) -> str:
    return json_rows.dump(_drop_position(row, table), sort_keys=True)


def _drop_position(row: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Return a row without its position, which each database assigns itself."""
    return {name: value for name, value in row.items() if table not in ORDERS or name != POSITION}


def _check_prompt_versions(connection: Reading, export: Export) -> None:
    versions = (row.get("prompt_version") for name in _WITH_PROMPT_VERSIONS for _, row in export.read_rows(name))
    used = {version for version in versions if isinstance(version, str)}
    if missing := sorted(used - prompt_versions.find(connection, sorted(used)).keys()):
        raise ReplayRefusedError(f"The prompt version {missing[0]!r} is unknown here: publish it first")


def _insert(connection: Writing, export: Export, table: PersonalTable) -> int:
    count = 0
    rows = _check_columns(_read_rows(export, table), table.name)
    while batch := list(islice(rows, _ROWS_AT_ONCE)):
        try:
            personal_data.insert_rows(connection, table, [row for _, row in batch])
        except (IntegrityError, DataError) as error:
            places = " to ".join(dict.fromkeys((batch[0][0], batch[-1][0])))
            raise ReplayRefusedError(f"{places}: {table.name} refuses a row: {sqlstates.description(error)}") from None
        count += len(batch)
    return count


def _check_columns(rows: Iterator[_Row], table: str) -> Iterator[_Row]:
    """Yield rows without their positions. All must have the same columns, and positions must increase."""
    columns, last = None, 0
    for place, row in rows:
        columns = columns or row.keys()
        if row.keys() != columns:
            raise ExportFileError(f"{place}: other columns than in the first row of {table}")
        position = row.get(POSITION) if table in ORDERS else None
        if position is not None:
            if position <= last:
                raise ExportFileError(f"{place}: {POSITION}: not larger than in the row before; export the user again")
            last = position
        yield place, _drop_position(row, table)


def _read_rows(export: Export, table: PersonalTable) -> Iterator[_Row]:
    """Yield the rows of a table, with values converted to the types of its columns."""
    for place, row in export.read_rows(table.name):
        if table.name == HISTORY and (name := _find_misshapen(row)):
            raise ExportFileError(f"{place}: {name}: no decision has such JSON")
        values = {}
        for name, value in row.items():
            if name not in table.columns:
                raise ReplayRefusedError(f"{place}: {table.name} has no column {name!r} here; {_MIGRATE}")
            try:
                values[name] = json_rows.load(value, table.columns[name])
            except ValueError as error:
                raise ExportFileError(f"{place}: {name}: {error}") from None
        yield place, values


def _prove(connection: Writing, export: Export) -> None:
    """Refuse the rows that were inserted if `oo-ml verify` would find a difference in them, now or later."""
    found = _find_difference(connection, export.user_id, None)
    if found is not None and export.history_from is not None:
        found = _prove_retained(connection, export.user_id, export.history_from)
    if found is not None:
        raise ReplayRefusedError(f"The export contradicts itself: {found.sentence}")


def _prove_retained(connection: Writing, user_id: str, history_from: datetime) -> Difference | None:
    """Return a difference that remains if decisions before `history_from` may be missing.

    If there is none, store for `oo-ml verify` that these decisions may be missing here too.

    Raises:
        ReplayRefusedError: `history_from` is in the future; until then, verifying would miss no decision here.
    """
    if not upkeep.is_past(connection, history_from):
        raise ReplayRefusedError("history_from is in the future: the clocks of the two databases differ")
    found = _find_difference(connection, user_id, history_from)
    here = upkeep.read_history_from(connection)
    if found is None and (here is None or _find_difference(connection, user_id, here) is not None):
        upkeep.raise_history_from(connection, history_from)
    return found


def _find_difference(connection: Reading, user_id: str, history_from: datetime | None) -> Difference | None:
    return verify.verify_range(connection, UserRange.of(user_id), history_from, PriorVersions(connection)).difference


def _find_misshapen(row: Mapping[str, Any]) -> str | None:
    """Return a column of a decision whose JSON is malformed; None if all columns are well-formed."""
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
        case {"id": str(), "features": features, **others}:
            return _is_flat(features) and isinstance(others.get("source", ""), str) and _is_flat(others)
    return False


def _is_flat(value: object) -> bool:
    """Return whether a value is an object of values and of lists of texts, as raw fields are."""
    if not isinstance(value, dict):
        return False
    lists = [inner for inner in value.values() if isinstance(inner, list)]
    return all(isinstance(one, str) for inner in lists for one in inner) and not any(
        isinstance(inner, dict) for inner in value.values()
    )
