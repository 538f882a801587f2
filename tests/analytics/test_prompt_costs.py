"""prompt_costs against plain Python over the calls, counted by upkeep or not."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, Row, text

from oo_ml.services.prompts.prices import ModelPrice, set_price
from oo_ml.services.users.erase import erase
from oo_ml.storage import generations
from oo_ml.storage.generations import GenerationRow, TipRow
from tests.gates import scalar
from tests.services.upkeep.daily_sums.counting import count_all
from tests.sessions import writing
from tests.simulated_users import NOON, USERS, SimulatedUsers

EVER = date(2000, 1, 1)
YESTERDAY = NOON.date() - timedelta(days=1)
VIEW = "analytics.prompt_costs"
REPORT = "analytics.prompt_costs_between(:since, NULL)"
CALLS = """
    SELECT prompt_version, outcome, attempts, prompt_tokens, completion_tokens, latency_ms, model,
        CAST(created_at AT TIME ZONE 'UTC' AS date) AS day
    FROM oo_ml.generations
    WHERE CAST(created_at AT TIME ZONE 'UTC' AS date) >= :since
"""
# By the day of the call that wrote the tip, not by that of the decision.
DONE = """
    SELECT count(*) FROM oo_ml.feature_history AS h JOIN oo_ml.generations AS g USING (user_id, generation_id)
    WHERE h.reward = 1 AND h.reward_kind IS DISTINCT FROM 'default' AND g.prompt_version = :version
        AND CAST(g.created_at AT TIME ZONE 'UTC' AS date) >= :since
"""
# By model and first day: the prices of a million tokens of prompts and of replies.
PRICES = {
    ("big", EVER): (3.0, 15.0),
    ("big", YESTERDAY): (2.5, 10.0),
    ("small", EVER): (0.15, 0.6),
    ("x", EVER): (9, 9),
}


def test_prompt_costs(db: Engine, database_url: str) -> None:
    """Every number equals the one from the calls, for all days and some, after an erasure; latencies within 1.8 %."""
    simulated = SimulatedUsers(db, 21)
    simulated.act(150)
    for number in range(200):
        simulated.generate(USERS[number % len(USERS)])
    simulated.act(100)
    assert_right(db)
    count_all(db, database_url)
    assert_right(db)
    assert_right(db, since=YESTERDAY)
    assert scalar(db, "SELECT sum(done) FROM analytics.prompt_costs") > 0  # type: ignore[operator]
    simulated.act(50)
    simulated.generate()
    with writing(db) as connection:
        erase(connection, ["ada"])
    assert_right(db)
    assert_right(db, since=YESTERDAY)


def test_cost(db: Engine, database_url: str) -> None:
    """The cost is that of the tokens by the price of the model on the day of the call; unknown if any has no price."""
    simulated = SimulatedUsers(db, 23)
    for number in range(120):
        simulated.generate(USERS[number % len(USERS)])
    set_prices(db)
    assert {row.cost for row in read_costs(db)} == {None}
    with writing(db) as connection:
        connection.execute(
            text("UPDATE oo_ml.generations SET prompt_tokens = 0, completion_tokens = 0 WHERE model IS NULL")
        )
    for _ in range(2):
        for row in read_costs(db):
            assert row.cost == pytest.approx(compute_cost(db, row.prompt_version))
            assert row.cost_per_done is None
        count_all(db, database_url)


def test_cost_per_done(db: Engine) -> None:
    """Tokens and cost are divided by the decisions about tips of these calls, whenever these were done."""
    simulated = SimulatedUsers(db, 24)
    with writing(db) as connection:
        for number, (day, tip) in enumerate([(NOON - timedelta(days=3), "old"), (NOON, "new")]):
            generation = GenerationRow("ada", UUID(int=number), "v1", 1.0, day, 9, 1000, 500, 1, 1, "ok", "big", None)
            tips = [TipRow("ada", tip, generation.generation_id, "v1", 1.0, day, 0, "x", None)]
            generations.insert_generation(connection, generation, tips)
    for tip in ("old", "old", "old", "new", "written by hand"):
        decision = simulated.decide("ada", ids=[tip], versions=["v1" if tip == "written by hand" else None])
        simulated.react(decision, 1.0)
    simulated.correct(decision, 1.0)
    set_prices(db)
    [row] = read_costs(db)
    assert (row.done, row.tokens_per_done) == (4, 750)
    [row] = read_costs(db, since=YESTERDAY)
    assert (row.done, row.tokens_per_done) == (1, 1500)
    assert row.cost == row.cost_per_done == pytest.approx((1000 * 2.5 + 500 * 10) / 1e6)


def set_prices(db: Engine) -> None:
    """Store PRICES."""
    with writing(db) as connection:
        set_price(
            connection,
            [
                ModelPrice(model, since, Decimal(str(prompt)), Decimal(str(completion)))
                for (model, since), (prompt, completion) in PRICES.items()
            ],
        )


def read_costs(db: Engine, since: date = EVER) -> Sequence[Row[Any]]:
    """Return the rows of the report from a day on."""
    with writing(db) as connection:
        return connection.execute(text(f"SELECT * FROM {REPORT}"), {"since": since}).all()  # noqa: S608 - a name of ours


def compute_cost(db: Engine, version: str) -> float:
    """Return the cost of a version by PRICES."""
    with writing(db) as connection:
        calls = connection.execute(text(CALLS), {"since": EVER}).all()
    cost = 0.0
    for call in calls:
        if call.prompt_version == version and call.model is not None:
            since = YESTERDAY if call.model == "big" and call.day >= YESTERDAY else EVER
            prompt, completion = PRICES[call.model, since]
            cost += (call.prompt_tokens * prompt + call.completion_tokens * completion) / 1e6
    return cost


def test_version_without_calls(db: Engine, database_url: str) -> None:
    """A version without calls, or only with those of erased users, has no row."""
    simulated = SimulatedUsers(db, 22)
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
