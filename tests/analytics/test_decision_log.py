"""analytics.decision_log: every decision with its candidates and the reward that counts, read by indexes."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.decisions.decide import DecideCommand
from oo_ml.services.users.erase import erase
from oo_ml.storage import decision_pages, generations
from oo_ml.storage.decision_pages import Place
from oo_ml.storage.generations import GenerationRow, TipRow
from tests.analytics.test_plans import explain, find_rows_read
from tests.candidates import build_candidate, build_context, build_task
from tests.migrations.rows import uuid7
from tests.policies import Parameters, builtin, decide_by
from tests.sessions import writing
from tests.simulated_users import NOON, SimulatedUsers
from tests.superuser import tamper

FILLED: Final = 60_000
# Decisions of the last 60,000 minutes, which are in at least two months; each fifth has a reward.
FILL: Final = (
    "SELECT oo_ml.create_feature_history_months(now() - interval '60 days', 4)",
    """
    INSERT INTO oo_ml.feature_history (
        user_id, decision_id, policy, epoch, version, decided_at, score, propensity, exploring, tip_id, x,
        context, features, candidates, answer, exploration, alpha, exploit, explore, propensities, pull
    )
    SELECT
        'user' || i % 200,
        CAST(
            lpad(to_hex(CAST(extract(epoch FROM d.at) * 1000 AS bigint)), 12, '0')
            || '70008000' || lpad(to_hex(i), 12, '0') AS uuid
        ),
        'linucb-v1', 0, 0, d.at, 1, 0.5, false, 't1', '{1,2,3,4,5}', '{}', '{}',
        '[{"id": "t1", "features": {}}, {"id": "t2", "features": {}}]', '{}',
        0.1, 1, '{1,2}', '{0,0}', '{0.5,0.5}', i / 200 + 1
    FROM generate_series(1, :filled) AS i
    CROSS JOIN LATERAL (SELECT now() - i * interval '1 minute' AS at) AS d
    """,
    """
    INSERT INTO oo_ml.reward_ledger (
        user_id, policy, epoch, version, recorded_at, kind, reward, x, tip_id, decision_id, position
    )
    SELECT user_id, policy, epoch, position, decided_at, 'reward', 1, x, tip_id, decision_id, position
    FROM oo_ml.feature_history
    WHERE position % 5 = 0
    """,
)


def read(db: Engine, condition: str = "true", **parameters: object) -> list[Any]:
    """Return the rows of the view that meet a condition, by time."""
    statement = f"SELECT * FROM analytics.decision_log WHERE {condition} ORDER BY decided_at"  # noqa: S608 - of ours
    with writing(db) as connection:
        return list(connection.execute(text(statement), parameters))


def write_tip(db: Engine, tip_id: str, version: str, content: str, at: datetime) -> None:
    """Store a call of the model that wrote one tip for ada."""
    generation_id = uuid7(at)
    row = GenerationRow("ada", generation_id, version, 0.5, at, 1, 1, 1, 1, 1, "ok", None, None)
    with writing(db) as connection:
        generations.insert_generation(
            connection, row, [TipRow("ada", tip_id, generation_id, version, 0.5, at, 0, content, None)]
        )


@pytest.mark.parametrize("policy", [LINUCB, EPSILON_GREEDY])
def test_candidates(db: Engine, policy: str) -> None:
    """Each candidate has its features, score and propensity, and the text and version that it had at the time."""
    write_tip(db, "written", "v1", "by v1", NOON - timedelta(minutes=2))
    write_tip(db, "written", "v2-mentor", "by v2-mentor", NOON - timedelta(minutes=1))
    write_tip(db, "named", "v1", "x" * 2001, NOON - timedelta(minutes=3))
    candidates = [
        build_candidate("written", "llm", build_task(is_overdue=True, task_age_days=3.0, priority=2)),
        build_candidate("named", "llm", build_task(is_overdue=False, task_age_days=0.5, priority=4), "v3-few-shot"),
        build_candidate(
            "sent", "todoist", build_task(is_overdue=False, task_age_days=-1.25, priority=1), None, "Call the dentist"
        ),
        build_candidate(
            "sent", "todoist", build_task(is_overdue=False, task_age_days=-1.25, priority=1), None, "Call the dentist"
        ),
    ]
    # Among these decisions each tip is chosen at least once.
    for number in range(20):
        command = DecideCommand("ada", builtin(policy), uuid7(NOON, number), NOON, build_context(9, 2), candidates)
        with writing(db) as connection:
            decide_by(Parameters(alpha=0.7, epsilon=0.8, exploration=0.9), connection, [command])
    write_tip(db, "written", "v3-few-shot", "by v3-few-shot", NOON + timedelta(minutes=1))
    found = read(db)
    assert {row.tip_id for row in found} == {"written", "named", "sent"}
    for row in found:
        assert [one["tip_id"] for one in row.candidates] == ["written", "named", "sent", "sent"]
        assert [one["source"] for one in row.candidates] == ["llm", "llm", "todoist", "todoist"]
        assert [one["features"] for one in row.candidates] == [one.features for one in candidates]
        assert [one["prompt_version"] for one in row.candidates] == ["v2-mentor", "v3-few-shot", None, None]
        # The text that a client has sent is stored for the chosen tip only.
        texts = {"written": "by v2-mentor", "named": "x" * 2000, "sent": None} | {row.tip_id: row.content}
        assert row.content == (texts | {"sent": "Call the dentist"})[row.tip_id]
        assert [one["content"] for one in row.candidates] == [texts[one.id] for one in candidates]
        chosen = [one for one in row.candidates if one["tip_id"] == row.tip_id]
        assert sum(one["propensity"] for one in row.candidates) == pytest.approx(1)
        assert sum(one["propensity"] for one in chosen) == pytest.approx(row.propensity)
        assert all(one["score"] == one["exploit"] + one["explore"] for one in row.candidates)
        assert chosen[0]["score"] == row.score
        assert (row.features, row.context) == (chosen[0]["features"], {"hour_of_day": 9, "day_of_week": 2})
        assert (row.exploration, row.alpha) == ((0.9, 0.7) if policy == LINUCB else (0.8, None))


def test_rewards(db: Engine) -> None:
    """The reward is the one that counts now, with its status, its time and the number of changes."""
    users = SimulatedUsers(db, 1)
    made = [users.decide() for _ in range(6)]
    for one in made[1:]:
        if one in made[3:5]:
            users.assume(one, -0.1)
        else:
            users.react(one, 0.5)
    users.react(made[4], 1.0)
    users.correct(made[2], 0.0)
    users.correct(made[2], -1.0)
    users.correct(made[5], None)
    found = {row.decision_id: row for row in read(db)}
    assert [
        (row.reward, row.reward_status, row.reward_changes, row.rewarded_at is not None)
        for row in (found[one] for one in made)
    ] == [
        (None, "none", 0, False),
        (0.5, "received", 0, True),
        (-1.0, "amended", 2, True),
        (-0.1, "assumed", 0, True),
        (1.0, "amended", 1, True),
        (None, "retracted", 1, False),
    ]


def test_decisions_without_propensities(db: Engine) -> None:
    """An old decision has candidates without numbers; one without candidates has an empty list."""
    users = SimulatedUsers(db, 1)
    old, bare = users.decide(ids=["a", "b"]), users.decide(ids=["a", "b"])
    unknown = "exploration = NULL, exploit = NULL, explore = NULL, propensities = NULL"
    tamper(db, f"UPDATE oo_ml.feature_history SET {unknown}")  # noqa: S608 - a constant
    tamper(db, "UPDATE oo_ml.feature_history SET candidates = '[]' WHERE decision_id = :id", id=bare)
    found = {row.decision_id: row.candidates for row in read(db)}
    assert [one["tip_id"] for one in found[old]] == ["a", "b"]
    assert [(one["exploit"], one["score"], one["propensity"]) for one in found[old]] == [(None, None, None)] * 2
    assert found[bare] == []


def test_any_lives(db: Engine) -> None:
    """Each decision of each user is one row, also after resets and imports, and those of an erased user are gone."""
    users = SimulatedUsers(db, 3)
    users.import_state("ben")
    users.act(300)
    found = read(db)
    assert sorted(row.decision_id for row in found) == sorted(users.decisions)
    for row in found:
        command = users.decisions[row.decision_id]
        assert (row.user_id, row.policy, row.tip_id) == (
            command.user_id,
            command.policy.name,
            users.chosen[row.decision_id],
        )
        assert [one["tip_id"] for one in row.candidates] == [one.id for one in command.candidates]
    with writing(db) as connection:
        erase(connection, ["ada"])
    left = {one: command for one, command in users.decisions.items() if command.user_id != "ada"}
    assert len(left) < len(users.decisions)
    assert {row.decision_id for row in read(db)} == set(left)


@pytest.fixture
def filled(admin: Engine, postgresql: psycopg.Connection[Any]) -> Engine:
    """Return a database with a decision a minute over several months."""
    with admin.begin() as connection:
        # Filling the tables may take long on a slow machine; the test measures no time.
        connection.execute(text("SET LOCAL statement_timeout = '600s'"))
        for statement in FILL:
            connection.execute(text(statement), {"filled": FILLED} if ":filled" in statement else {})
    postgresql.autocommit = True
    postgresql.execute("VACUUM (ANALYZE) oo_ml.feature_history, oo_ml.reward_ledger, oo_ml.tips")
    return admin


def test_index_use(filled: Engine) -> None:
    """A filter by time reads the decisions of that time by the index of each month, and their rewards by another."""
    hour = "decided_at >= now() - interval '20 days 1 hour' AND decided_at < now() - interval '20 days'"
    plan = explain(filled, f"SELECT * FROM analytics.decision_log WHERE {hour}")  # noqa: S608 - a constant
    assert re.search(r"Index Scan using feature_history_\d{4}_\d\d_decided_at_idx", plan)
    assert re.search(r"Index (Only )?Scan using ix_reward_ledger_user_id_decision_id_corrects", plan)
    assert find_rows_read(plan) <= 65, plan
    # No column with a query of its own is asked for, so none of these runs.
    cheap = explain(filled, f"SELECT user_id, reward, propensity FROM analytics.decision_log WHERE {hour}")  # noqa: S608
    assert "SubPlan" not in cheap
    of_user = explain(
        filled, "SELECT * FROM analytics.decision_log WHERE user_id = 'user7' ORDER BY decision_id LIMIT 9"
    )
    assert re.search(r"Index Scan using feature_history_\d{4}_\d\d_pkey", of_user)
    assert find_rows_read(of_user) <= 40, of_user


def test_pages(filled: Engine) -> None:
    """A page is read by the index on decided_at, wherever it begins; candidates are put together for its rows only."""
    now = datetime.now(UTC)
    # Near the end of the log the planner may sort the few decisions that are left instead.
    for days in (41, 20, 10):
        place = Place(now - timedelta(days=days), "user7", uuid7(now))
        parameters = {**place._asdict(), "last": now, "decisions": 100}
        with filled.begin() as connection:
            prefix = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) "
            rows: Any = connection.scalars(text(prefix + decision_pages._PAGE.text), parameters)  # noqa: SLF001
            plan = "\n".join(rows)
        assert re.search(r"Index Scan using feature_history_\d{4}_\d\d_decided_at_idx", plan)
        assert find_rows_read(plan) <= 210, plan


def test_pruning_by_id(filled: Engine) -> None:
    """A filter by decision_id, which begins with its time, leaves the tables of other months out."""
    start = datetime.now(UTC)
    late = UUID(int=uuid7(start - timedelta(hours=2)).int & ~((1 << 80) - 1))
    plan = explain(filled, f"SELECT user_id, reward FROM analytics.decision_log WHERE decision_id >= '{late}'")  # noqa: S608
    assert f"feature_history_{start - timedelta(days=40):%Y_%m}" not in plan
    assert "feature_history_" in plan
