"""Users with rows in every table, and helpers to export, find and compare them."""

import json
import time
from functools import partial
from io import BytesIO
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy import Engine, text

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.policies import EPSILON_GREEDY
from oo_ml.execution import retry
from oo_ml.files.export_document import Export, open_export
from oo_ml.files.legacy_state import FileState
from oo_ml.services.users.export import export
from oo_ml.services.users.import_state import ImportCommand, import_states
from oo_ml.services.users.replay import Replayed, replay
from oo_ml.storage import generations, prompt_versions
from oo_ml.storage.generations import GenerationRow, TipRow
from tests.services.scenario import NOON, create_ada_and_ben
from tests.sessions import writing

TABLES: Final = ("feature_history", "generations", "policy_state", "prompt_assignments", "reward_ledger", "tips")
LEAST: Final = 5e-324
_D: Final = 7


# Rows of ada in each table after `create_users`.
ADA = {
    "feature_history": 7,
    "generations": 2,
    "policy_state": 2,
    "prompt_assignments": 1,
    "reward_ledger": 10,
    "tips": 2,
}


def create_users(db: Engine) -> None:
    """Create ada and ben as the scenario does, and zoë from an import with extreme numbers.

    Each user has generated tips, and keeps a prompt version.
    """
    create_ada_and_ben(db)
    A = np.eye(_D)
    A[0, 1] = A[1, 0] = LEAST
    A[2, 3] = A[3, 2] = -0.0
    state = FileState(
        name="zoë",
        policy=EPSILON_GREEDY,
        evidence=Evidence(A, np.array([-0.0, LEAST, -LEAST, 0.1 + 0.2, 1e-308, 2**53 + 2.0, -1 / 3])),
        pulls=2**53,
        explore_count=0,
        reward_count=0,
        cumulative_reward=-0.0,
        last_updated=NOON,
    )
    with writing(db) as connection:
        import_states(connection, [ImportCommand("zoë", state)], imported_at=NOON)
    for number, user_id in enumerate(("ada", "ben", "zoë")):
        insert_generations(db, user_id, number)
        with writing(db) as connection:
            prompt_versions.assign(connection, user_id, "v2-mentor", 0.3, NOON)


def insert_generations(db: Engine, user_id: str, number: int) -> None:
    """Store a generation of two tips for a user, and a failed one."""
    one, other = (UUID(int=2 * number + n + 1000) for n in range(2))
    rows = [
        GenerationRow(user_id, one, "v1", 0.7, NOON, 12, 3, 4, 2, 1, "ok", "a model", None),
        GenerationRow(user_id, other, "v2-mentor", 0.3, NOON, 12, 3, 4, 2, 2, "invalid_reply", "a model", "No array"),
    ]
    tips = [
        TipRow(user_id, f"tip-{place}", one, "v1", 0.7, NOON, place, content, None if place else "because")
        for place, content in enumerate(('a "quote"\n\x1b\u2028 and 🙂', "plain"))
    ]
    with writing(db) as connection:
        generations.insert_generation(connection, rows[0], tips)
        generations.insert_generation(connection, rows[1], [])


def export_user(db: Engine, user_id: str) -> bytes:
    """Return the export of a user."""
    service = partial(export, exported_at=NOON)
    [file] = retry.run(db, service, [user_id], time.monotonic() + 20)
    with file:
        return file.read()


def replay_bytes(db: Engine, content: bytes) -> Replayed:
    """Replay an export."""
    with open_export(BytesIO(content)) as export:
        return replay_export(db, export)


def replay_export(db: Engine, export: Export) -> Replayed:
    """Replay an export that has been read."""
    [done] = retry.run(db, replay, [export], time.monotonic() + 20)
    return done


def parse_export(content: bytes) -> dict[str, Any]:
    """Return the header of a complete export, with the rows of each table added to it."""
    header, *lines, end = map(json.loads, content.splitlines())
    assert end == {"complete": True, "rows": len(lines)}
    document: dict[str, Any] = header | {table: [] for table in TABLES}
    for line in lines:
        document.setdefault(line["table"], []).append(line["row"])
    return document


def dump_export(document: dict[str, Any], *, sort_keys: bool = False) -> bytes:
    """Return the export as bytes; the inverse of `parse_export`."""
    tables = {name: rows for name, rows in document.items() if isinstance(rows, list)}
    header = {name: value for name, value in document.items() if name not in tables}
    rows = [{"table": name, "row": row} for name, rows in tables.items() for row in rows]
    lines = [header, *rows, {"complete": True, "rows": len(rows)}]
    return "".join(json.dumps(line, sort_keys=sort_keys) + "\n" for line in lines).encode()


def parse_without_positions(content: bytes) -> dict[str, Any]:
    """Parse an export, without the positions that every database assigns itself."""
    document = parse_export(content)
    for table in ("feature_history", "reward_ledger", "generations"):
        for row in document[table]:
            del row["position"]
    return document


def rows_of(db: Engine, name: str) -> dict[str, list[str]]:
    """Return, by table, every row that has the name as a whole word in any column."""
    return _rows(db, "t::text ~ :word", word=rf"\m{name}\M")


def rows_of_others(db: Engine, name: str) -> dict[str, list[str]]:
    """Return, by table, every row that does not have the name as a whole word."""
    return _rows(db, "t::text !~ :word", word=rf"\m{name}\M")


def _rows(db: Engine, condition: str, **parameters: str) -> dict[str, list[str]]:
    found = {}
    with writing(db) as connection:
        tables = connection.scalars(
            text("""
                SELECT c.oid::regclass::text FROM pg_class AS c
                WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
            """)
        ).all()
        for table in tables:
            rows = connection.scalars(text(f"SELECT t::text FROM {table} AS t WHERE {condition}"), parameters)  # noqa: S608
            found[table] = sorted(rows)
    return {table: rows for table, rows in found.items() if rows}


def detach_the_past(db: Engine) -> None:
    """Create the month of the scenario's decision ids, 1970-01, and detach it as retention does."""
    with writing(db) as connection:
        connection.execute(text("SELECT oo_ml.create_feature_history_months('1970-01-01Z', 1)"))
        detached = connection.scalars(text("SELECT oo_ml.detach_feature_history_months('1970-02-01Z', now())")).all()
    assert detached == ["feature_history_1970_01"]
