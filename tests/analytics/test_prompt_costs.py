"""prompt_costs against plain Python over the calls, counted by upkeep or not."""

from datetime import date, timedelta

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.services.users.erase import erase
from tests.services.upkeep.daily_sums.counting import NOW, count_all
from tests.sessions import writing
from tests.simulated_users import USERS, SimulatedUsers

EVER = date(2000, 1, 1)
YESTERDAY = NOW.date() - timedelta(days=1)
VIEW = "analytics.prompt_costs"
REPORT = "analytics.prompt_costs_between(:since, NULL)"
CALLS = """
    SELECT prompt_version, outcome, attempts, prompt_tokens, completion_tokens, latency_ms
    FROM oo_ml.generations
    WHERE CAST(created_at AT TIME ZONE 'UTC' AS date) >= :since
"""
DONE = """
    SELECT count(*) FROM oo_ml.feature_history
    WHERE reward = 1 AND reward_kind IS DISTINCT FROM 'default' AND prompt_version = :version
        AND CAST(decided_at AT TIME ZONE 'UTC' AS date) >= :since
"""


def test_prompt_costs(db: Engine, database_url: str) -> None:
    """Every number equals the one from the calls, for all days and some, after an erasure; latencies within 1.8 %."""
    simulated = SimulatedUsers(db, 21, now=NOW)
    simulated.act(150)
    for number in range(200):
        simulated.generate(USERS[number % len(USERS)])
    assert_right(db)
    count_all(db, database_url)
    assert_right(db)
    assert_right(db, since=YESTERDAY)
    simulated.act(50)
    simulated.generate()
    with writing(db) as connection:
        erase(connection, ["ada"])
    assert_right(db)
    assert_right(db, since=YESTERDAY)


def test_version_without_calls(db: Engine, database_url: str) -> None:
    """A version without calls, or only with those of erased users, has no row."""
    simulated = SimulatedUsers(db, 22, now=NOW)
    for number in range(30):
        simulated.generate(USERS[number % len(USERS)])
    count_all(db, database_url)
    with writing(db) as connection:
        erase(connection, USERS)
        assert connection.execute(text("SELECT * FROM analytics.prompt_costs")).all() == []


def assert_right(db: Engine, since: date = EVER) -> None:
    """Compare the costs from a day on with numpy."""
    with writing(db) as connection:
        calls = connection.execute(text(CALLS), {"since": since}).all()
        source = REPORT if since > EVER else VIEW
        rows = connection.execute(text(f"SELECT * FROM {source}"), {"since": since}).all()  # noqa: S608 - names of ours
        done = [connection.scalar(text(DONE), {"since": since, "version": row.prompt_version}) for row in rows]
    assert {row.prompt_version for row in rows} == {call.prompt_version for call in calls}
    assert len(rows) == 2
    for row, count in zip(rows, done, strict=True):
        own = [call for call in calls if call.prompt_version == row.prompt_version]
        tokens = sum(call.prompt_tokens for call in own), sum(call.completion_tokens for call in own)
        assert (row.calls, row.failed, row.retries, row.prompt_tokens, row.completion_tokens, row.done) == (
            len(own),
            sum(call.outcome != "ok" for call in own),
            sum(max(call.attempts - 1, 0) for call in own),
            *tokens,
            count,
        )
        assert row.tokens_per_done == (pytest.approx(sum(tokens) / row.done) if row.done else None)
        latencies = [call.latency_ms for call in own]
        for share, found in ((0.5, row.latency_p50_ms), (0.95, row.latency_p95_ms)):
            assert 1 + found == pytest.approx(
                1 + np.percentile(latencies, 100 * share, method="inverted_cdf"), rel=0.018
            )
