"""A user's rows as PostgreSQL writes them."""

import json
from typing import Any

from sqlalchemy import Engine, text

from tests.sessions import writing

ORDER = {
    "feature_history": "position",
    "generations": "generation_id",
    "policy_state": "policy",
    "prompt_assignments": "user_id",
    "reward_ledger": "position",
    "tips": "tip_id, generation_id",
}


def read_rows(db: Engine, table: str, user_id: str) -> list[dict[str, Any]]:
    """Return a user's rows as PostgreSQL writes them, in the order of the export."""
    with writing(db) as connection:
        rows = connection.scalars(
            text(f"SELECT to_jsonb(t)::text FROM oo_ml.{table} AS t WHERE user_id = :user ORDER BY {ORDER[table]}"),  # noqa: S608
            {"user": user_id},
        )
        return [json.loads(row) for row in rows]
