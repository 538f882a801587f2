"""Query plans of frequent queries: they use indexes, whatever the number of decisions."""

import re
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

DECISIONS = 200_000
REWARDS = 40_000
COUNTED = DECISIONS - 1000

# All decisions are of this month, which has a partition; the sequence assigns the positions.
FILL = (
    """
    INSERT INTO oo_ml.feature_history (
        user_id, decision_id, policy, epoch, version, decided_at, score, propensity, exploring, tip_id, x,
        context, features, candidates, answer, exploration, alpha, exploit, explore, propensities, pull
    )
    SELECT
        'user' || i % 200,
        CAST(
            lpad(to_hex(CAST(extract(epoch FROM date_trunc('month', now(), 'UTC')) * 1000 AS bigint) + i), 12, '0')
            || '70008000' || lpad(to_hex(i), 12, '0') AS uuid
        ),
        'linucb-v1', 0, 0, now(), 1, 1, false, 't1', '{1,2,3,4,5}', '{}', '{}', '[{"id": "t1"}]', '{}',
        0.1, 1, '{1}', '{0}', '{1}', i / 200 + 1
    FROM generate_series(1, :decisions) AS i
    """,
    """
    INSERT INTO oo_ml.reward_ledger (
        user_id, policy, epoch, version, recorded_at, kind, reward, x, tip_id, decision_id, position
    )
    SELECT
        user_id, policy, epoch, position, decided_at, 'reward', 1, x, tip_id, decision_id, position
    FROM oo_ml.feature_history
    WHERE position > :decisions - CAST(:rewards AS bigint)
    ORDER BY position
    """,
    "UPDATE oo_ml.counted SET counted_until = :counted, settled_until = :counted",
)


@pytest.fixture
def large(db: Engine, postgresql: psycopg.Connection[Any]) -> Engine:
    """Return a database with many decisions, most of them counted by upkeep."""
    with db.begin() as connection:
        # Filling the tables may take long on a slow machine; the test measures no time.
        connection.execute(text("SET LOCAL statement_timeout = '600s'"))
        for statement in FILL:
            names = {"decisions": DECISIONS, "rewards": REWARDS, "counted": COUNTED}
            used = {name: value for name, value in names.items() if f":{name}" in statement}
            connection.execute(text(statement), used)
    postgresql.autocommit = True
    postgresql.execute("VACUUM (ANALYZE) oo_ml.feature_history, oo_ml.reward_ledger")
    return db


def test_index_use(large: Engine) -> None:
    """A user's latest decisions are read by the primary key, uncounted rows by position."""
    latest = explain(
        large,
        "SELECT * FROM analytics.tip_scores WHERE user_id = 'user7' ORDER BY decision_id DESC LIMIT 100",
    )
    assert re.search(r"Index Scan (Backward )?(using|on) feature_history_\d{4}_\d\d_pkey", latest)
    assert find_rows_read(latest) <= 200
    tail = explain(large, "SELECT * FROM rollup.uncounted")
    assert re.search(r"Bitmap Index Scan on feature_history_\d{4}_\d\d_position_idx", tail)
    assert "Bitmap Index Scan on ix_reward_ledger_position" in tail
    # The index stores ranges of 64 pages, so a few more rows are read.
    assert find_rows_read(tail) < 10_000
    exploration = explain(large, "SELECT * FROM rollup.exploration")
    assert re.search(r"Bitmap Index Scan on feature_history_\d{4}_\d\d_position_idx", exploration)
    # The candidates of a decision are read once, not once for each number that is computed from them.
    assert exploration.count("Function Scan on jsonb_array_elements") == 1


def explain(db: Engine, statement: str) -> str:
    """Return the plan with which a statement was executed."""
    with db.begin() as connection:
        rows: Any = connection.scalars(text(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) {statement}"))
        return "\n".join(rows)


def find_rows_read(plan: str) -> int:
    """Return the largest number of rows that a step has read, filtered rows included."""
    numbers = re.findall(r"(?:rows=([0-9.]+) loops=|Rows Removed by \S+(?: Recheck)?: ([0-9]+))", plan)
    return int(max(float(kept or removed) for kept, removed in numbers))
