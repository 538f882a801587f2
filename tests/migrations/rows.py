"""Minimal rows, for tests that need some data in the tables."""

import uuid
from datetime import datetime
from typing import Any

import psycopg


def uuid7(moment: datetime, rest: int = 0) -> uuid.UUID:
    """Return the UUIDv7 of a time, with `rest` as its 74 random bits."""
    milliseconds = round(moment.timestamp() * 1000)
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | rest >> 62 << 64 | 2 << 62 | rest & (1 << 62) - 1)


LAST = (1 << 74) - 1

INSERT_DECISION = """
    INSERT INTO oo_ml.feature_history (
        user_id, decision_id, policy, epoch, version, decided_at, score, propensity, exploring, tip_id,
        x, context, features, candidates, answer
    ) VALUES ('ada', %s, 'linucb-v1', 0, 0, now(), 1, 1, false, 't1', '{1,2}', '{}', '{}', '[]', '{}')
"""


def insert_decision(connection: psycopg.Connection[Any], decision_id: uuid.UUID) -> None:
    """Insert a decision, in a transaction of its own."""
    connection.execute(INSERT_DECISION, [decision_id])
    connection.commit()


def partition_of(connection: psycopg.Connection[Any], decision_id: uuid.UUID) -> str:
    """Return the table that a decision is in."""
    row = connection.execute(
        "SELECT relname::text FROM oo_ml.feature_history AS h JOIN pg_class AS c ON c.oid = h.tableoid"
        " WHERE user_id = 'ada' AND decision_id = %s",
        [decision_id],
    ).fetchone()
    assert row is not None
    return str(row[0])


def fill_tables(connection: psycopg.Connection[Any], decision_id: uuid.UUID) -> None:
    """Insert a row into every table."""
    connection.execute(
        """
        INSERT INTO oo_ml.policy_state (
            user_id, policy, epoch, version, pulls, explore_count, reward_count, cumulative_reward, a, b
        ) VALUES ('ada', 'linucb-v1', 0, 1, 1, 0, 1, 0.5, '{{2}}', '{0.5}');
        INSERT INTO oo_ml.reward_ledger (user_id, policy, epoch, version, recorded_at, kind, reward, x, tip_id)
        VALUES ('ada', 'linucb-v1', 0, 1, now(), 'reward', 0.5, '{1}', 't1');
        INSERT INTO oo_ml.generations (
            user_id, generation_id, prompt_version, created_at, latency_ms, prompt_tokens, completion_tokens,
            requested, attempts, outcome
        ) VALUES ('ada', gen_random_uuid(), 'v1', now(), 1, 1, 1, 1, 1, 'ok');
        INSERT INTO oo_ml.tips (user_id, tip_id, generation_id, prompt_version, created_at, place, content)
        SELECT user_id, 't1', generation_id, prompt_version, created_at, 0, 'Call the dentist' FROM oo_ml.generations;
        """
    )
    insert_decision(connection, decision_id)
