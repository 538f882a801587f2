"""loop_health: each check is green in a correct log, and amber, then red, with growing errors."""

import math
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.decisions.decide import Answer, DecideCommand
from oo_ml.services.decisions.learn import DecisionRewardCommand, learn
from tests.candidates import build_candidate, build_context, build_task
from tests.policies import DIMENSIONS, Parameters, builtin, decide_by
from tests.services.upkeep.daily_sums.counting import NOW, count_all
from tests.sessions import writing
from tests.superuser import superuser

PARAMETERS = Parameters(alpha=1.0, epsilon=0.1, exploration=0.3)
CHANCE = ("explored_share", "propensity_calibration")


def test_correct_log(db: Engine, database_url: str) -> None:
    """All checks are green for a correct log, counted by upkeep or not."""
    simulate(db, 400)
    for _ in range(2):
        found = read_health(db)
        assert set(found.values()) == {"green"}
        assert len(found) == 12
        count_all(db, database_url)


@pytest.mark.parametrize("seed", range(5))
def test_few_decisions(db: Engine, seed: int) -> None:
    """A few decisions raise no alarm."""
    for decisions in (1, 2, 3, 5):
        simulate(db, decisions, seed=100 * seed + decisions)
        found = read_health(db)
        assert {found[check, policy] for check in CHANCE for policy in DIMENSIONS if (check, policy) in found} == {
            "green"
        }


@pytest.mark.parametrize("flag", ["true", "false"])
def test_wrong_flags(db: Engine, flag: str) -> None:
    """As more decisions of a policy get a wrong flag, its check turns amber, then red; the other stays green."""
    simulate(db, 600)
    statuses = list(tamper_stepwise(db, f"exploring = {flag}", f"policy = '{LINUCB}' AND exploring <> {flag}", 8))
    assert is_rising([found["explored_share", LINUCB] for found in statuses])
    assert {found["explored_share", EPSILON_GREEDY] for found in statuses} == {"green"}
    assert read_reason(db, "explored_share").startswith("more tips" if flag == "true" else "fewer tips")


@pytest.mark.parametrize("factor", [0.3, 2.5])
def test_wrong_propensities(db: Engine, factor: float) -> None:
    """As more propensities are too low or too high, the check turns amber, then red."""
    simulate(db, 1200)
    change = f"propensity = least(propensity * {factor}, 1)"
    statuses = list(tamper_stepwise(db, change, f"policy = '{LINUCB}' AND propensity < 0.9 AND exploration < 1", 15))
    assert is_rising([found["propensity_calibration", LINUCB] for found in statuses])
    assert {found["propensity_calibration", EPSILON_GREEDY] for found in statuses} == {"green"}


@pytest.mark.parametrize(
    ("parameters", "change", "check"),
    [
        (Parameters(1.0, 0.0, 0.0), "exploring = true", "explored_share"),
        (Parameters(1.0, 0.0, 0.0), "propensity = 0.5", "propensity_calibration"),
        (Parameters(1.0, 1.0, 1.0), "exploring = false", "explored_share"),
        (Parameters(1.0, 1.0, 1.0), "propensity = 0.9", "propensity_calibration"),
    ],
)
def test_impossible_flag(db: Engine, parameters: Parameters, change: str, check: str) -> None:
    """If no decision, or every decision, is drawn at random, a single contrary flag is red."""
    simulate(db, 20, parameters=parameters)
    assert {status for (name, _), status in read_health(db).items() if name in CHANCE} == {"green"}
    tamper(db, change, f"policy = '{LINUCB}'", 1)
    assert read_health(db)[check, LINUCB] == "red"
    assert read_health(db)[check, EPSILON_GREEDY] == "green"


def test_changed_exploration(db: Engine, database_url: str) -> None:
    """A change of the exploration setting, between days or within one, raises no alarm."""
    shares = (0.5, 0.02, 0.3, 1e-200, 0.0)
    for seed, share in enumerate(shares):
        simulate(db, 150, seed=seed, parameters=Parameters(1.0, share, share), days=1)
    for _ in range(2):
        assert {status for (name, _), status in read_health(db).items() if name in CHANCE} == {"green"}
        count_all(db, database_url)


@pytest.mark.parametrize("policy", [LINUCB, EPSILON_GREEDY])
def test_policy_without_exploration(db: Engine, database_url: str, policy: str) -> None:
    """A policy whose candidates have no chance is amber, and the reason names its setting; the other is green."""
    other = LINUCB if policy == EPSILON_GREEDY else EPSILON_GREEDY
    simulate(db, 100, parameters=Parameters(1.0, 0.2 * (policy == LINUCB), 0.2 * (policy == EPSILON_GREEDY)))
    for _ in range(2):
        found = read_health(db)
        assert (found["unsupported_share", policy], found["unsupported_share", other]) == ("amber", "green")
        assert {status for key, status in found.items() if key != ("unsupported_share", policy)} == {"green"}
        count_all(db, database_url)
    with writing(db) as connection:
        statement = text(
            "SELECT reason FROM analytics.loop_health WHERE check_name = 'unsupported_share' AND policy = :policy"
        )
        setting = "OO_ML_EXPLORATION" if policy == LINUCB else "OO_ML_EPSILON"
        assert f"set {setting} above 0" in str(connection.scalar(statement, {"policy": policy}))


def test_distribution_of_p_values(db: Engine) -> None:
    """In 20,000 random logs the share of p-values below p is about p."""
    rng = np.random.default_rng(5)
    logs = [
        simulate_log(rng, decisions, share) for decisions in (200, 2000) for share in (0.1, 0.3) for _ in range(5000)
    ]
    found = compute_p_values(db, logs)
    explored = found["explored_share"]
    for level in (0.5, 0.2, 0.1, 0.01):
        # Counts are whole numbers, so the p-values of a short log go in steps.
        assert (explored < level).mean() == pytest.approx(level, rel=0.15 if level > 0.05 else 0.3)
    for check in CHANCE:
        assert (found[check] < 1e-3).mean() < 2e-3
        assert (found[check] < 1e-6).sum() == 0
    # The check of propensities is conservative, because it does not know the numbers of candidates.
    assert ((found["propensity_calibration"] < 0.1).mean()) == pytest.approx(0.06, abs=0.04)


def test_p_values_of_short_logs(db: Engine) -> None:
    """The p-values also hold for few expected draws, where the normal approximation fails."""
    rng = np.random.default_rng(6)
    cases = [(1, 0.01), (5, 0.1), (10, 0.001), (50, 0.01), (50, 0.1)]
    found = compute_p_values(db, [simulate_log(rng, *case) for case in cases for _ in range(4000)])
    for check in CHANCE:
        assert (found[check] < 1e-3).mean() < 2e-3
        assert (found[check] < 1e-6).sum() == 0


@pytest.mark.parametrize(
    ("late", "checks"), [(0.1, {"reward_delay_p95"}), (0.7, {"reward_delay_p50", "reward_delay_p95"})]
)
def test_late_rewards(db: Engine, late: float, checks: set[str]) -> None:
    """Rewards after a week are amber, after two weeks red, by the median and the 95th percentile."""
    simulate(db, 100)
    for days, status in ((6, "green"), (8, "amber"), (13, "amber"), (15, "red")):
        run(
            db,
            """
            UPDATE oo_ml.reward_ledger AS l SET recorded_at = h.decided_at + make_interval(days => :days)
            FROM oo_ml.feature_history AS h
            WHERE h.decision_id = l.decision_id AND l.position % 100 < 100 * :late
            """,
            days=days,
            late=late,
        )
        found = read_health(db)
        assert {name: found[name, None] for name in ("reward_delay_p50", "reward_delay_p95")} == {
            name: status if name in checks else "green" for name in ("reward_delay_p50", "reward_delay_p95")
        }


def test_missing_rewards(db: Engine) -> None:
    """Of the decisions before today, half without a reward is amber and nearly all is red."""
    simulate(db, 100, rewarded=60)
    assert read_health(db)["never_rewarded", None] == "green"
    simulate(db, 40, seed=1, rewarded=0)
    assert read_health(db)["never_rewarded", None] == "amber"
    simulate(db, 600, seed=2, rewarded=0)
    assert read_health(db)["never_rewarded", None] == "red"
    run(db, "DELETE FROM oo_ml.reward_ledger")
    run(db, "UPDATE oo_ml.feature_history SET decided_at = now()")
    assert read_health(db)["never_rewarded", None] == "unknown"


def test_missing_months(db: Engine) -> None:
    """Three months ahead are green, one is amber, none is red."""
    statuses = [read_health(db)["partitions_ahead", None]]
    with writing(db) as connection:
        names = connection.scalars(
            text("SELECT relname FROM pg_class WHERE relname ~ '^feature_history_[0-9_]+$' ORDER BY relname DESC")
        ).all()
    for name in names[:3]:
        run(db, f"DROP TABLE oo_ml.{name}")
        statuses.append(read_health(db)["partitions_ahead", None])
    assert statuses == ["green", "green", "amber", "red"]


@pytest.mark.parametrize(("column", "place", "number"), [("a", "[2][1]", "NaN"), ("b", "[3]", "-Infinity")])
def test_invalid_numbers_in_models(db: Engine, column: str, place: str, number: str) -> None:
    """NaN or infinity in a state is red, even if the table's checks were dropped."""
    simulate(db, 10)
    run(db, f"ALTER TABLE oo_ml.policy_state DROP CONSTRAINT ck_policy_state_{column}_finite")
    assert read_health(db)["states_not_finite", None] == "green"
    run(db, f"UPDATE oo_ml.policy_state SET {column}{place} = '{number}' WHERE policy = '{LINUCB}'")  # noqa: S608 - ours
    assert read_value(db, "states_not_finite") == 3
    assert read_health(db)["states_not_finite", None] == "red"


def test_upkeep_behind(db: Engine, database_url: str) -> None:
    """Uncounted positions turn the check amber, then red, and counting turns it green."""
    simulate(db, 20)
    assert read_value(db, "uncounted") == 30
    count_all(db, database_url)
    assert read_value(db, "uncounted") == 0
    run(db, "SELECT setval('oo_ml.generations_order', 100100)")
    assert read_health(db)["uncounted", None] == "amber"
    run(db, "SELECT setval('oo_ml.generations_order', 1, false)")
    for last, status in ((100_000, "green"), (100_100, "amber"), (1_100_000, "red")):
        run(db, "SELECT setval('oo_ml.feature_history_order', :last)", last=last)
        assert read_health(db)["uncounted", None] == status
    run(db, "DELETE FROM oo_ml.counted")
    assert read_health(db)["uncounted", None] == "red"


def simulate(
    db: Engine,
    decisions: int,
    seed: int = 0,
    rewarded: int | None = None,
    parameters: Parameters = PARAMETERS,
    days: int = 6,
) -> None:
    """Make decisions by both policies among one to six tips, a tenth of them twice; reward half of the decisions."""
    rng = Random(seed)  # noqa: S311 - lives, not secrets
    commands = [
        DecideCommand(
            rng.choice(["ada", "ben", "zoë"]),
            builtin(rng.choice(list(DIMENSIONS))),
            UUID(int=rng.getrandbits(128)),
            NOW - timedelta(days=rng.randint(1, days), seconds=rng.randint(0, 80_000)),
            build_context(9, 2),
            [
                build_candidate(
                    f"t{place % rng.choice([2, 7, 7, 7])}", "s", build_task(True, rng.random(), 1 + place % 4)
                )
                for place in range(rng.randint(1, 6))
            ],
        )
        for _ in range(decisions)
    ]
    rewarded = decisions // 2 if rewarded is None else rewarded
    with writing(db) as connection:
        answers = decide_by(parameters, connection, commands)
        learn(
            connection,
            [
                DecisionRewardCommand(
                    one.user_id, one.decision_id, find_tip(answer), rng.choice([1.0, 0.0, -1.0]), one.decided_at
                )
                for one, answer in zip(commands[:rewarded], answers, strict=False)
            ],
        )


def find_tip(answer: object) -> str:
    """Return the tip that was chosen."""
    assert isinstance(answer, Answer)
    return str(answer.content["tip_id"])


def read_health(db: Engine) -> dict[tuple[str, str | None], str]:
    """Return the status of each check by name and policy; check that every status but green has a reason."""
    with writing(db) as connection:
        rows = connection.execute(text("SELECT check_name, policy, status, reason FROM analytics.loop_health")).all()
    assert len({(row.check_name, row.policy) for row in rows}) == len(rows)
    assert all(row.reason for row in rows)
    return {(row.check_name, row.policy): row.status for row in rows}


def read_reason(db: Engine, check: str) -> str:
    """Return why a check of linucb-v1 has its status."""
    with writing(db) as connection:
        statement = text("SELECT reason FROM analytics.loop_health WHERE check_name = :check AND policy = :policy")
        return str(connection.scalar(statement, {"check": check, "policy": LINUCB}))


def read_value(db: Engine, check: str) -> float:
    """Return the value of a check."""
    with writing(db) as connection:
        statement = text("SELECT value FROM analytics.loop_health WHERE check_name = :check")
        return float(connection.scalar(statement, {"check": check}) or 0)


def run(db: Engine, statement: str, **parameters: object) -> None:
    """Change rows, as superuser."""
    with superuser(db) as connection:
        connection.execute(text(statement), parameters)


def tamper(db: Engine, change: str, whose: str, rows: int) -> bool:
    """Change some decisions; return whether there were any."""
    with writing(db) as connection:
        found = connection.execute(
            text(f"""
                UPDATE oo_ml.feature_history SET {change}, answer = '{{}}'
                WHERE decision_id IN (
                    SELECT decision_id FROM oo_ml.feature_history WHERE {whose} AND answer <> '{{}}'
                    ORDER BY position LIMIT :rows
                )
            """),  # noqa: S608 - conditions of ours
            {"rows": rows},
        )
        return bool(found.rowcount)


def tamper_stepwise(db: Engine, change: str, whose: str, rows: int) -> Iterator[dict[tuple[str, str | None], str]]:
    """Change some decisions more each time; yield the statuses before, and after each."""
    yield read_health(db)
    while tamper(db, change, whose, rows):
        yield read_health(db)


def is_rising(statuses: list[str]) -> bool:
    """Return whether the status was green, then amber, then red."""
    return list(dict.fromkeys(statuses)) == ["green", "amber", "red"] and statuses == sorted(
        statuses, key=["green", "amber", "red"].index
    )


def simulate_log(rng: np.random.Generator, decisions: int, share: float) -> tuple[float, ...]:
    """Return a random row of daily_exploration, for decisions among two to ten tips."""
    n = rng.integers(2, 11, decisions)
    exploring = rng.random(decisions) < share
    is_other = exploring & (rng.random(decisions) < (n - 1) / n)
    shares = 1 / (n * np.where(is_other, share / n, 1 - share + share / n))
    expected = decisions * share
    return decisions, exploring.sum(), expected, expected * (1 - share), shares.sum(), (shares**2).sum()


def compute_p_values(db: Engine, logs: list[tuple[float, ...]]) -> dict[str, NDArray[np.float64]]:
    """Return the p-values of both checks of randomness; each log becomes the log of a policy."""
    columns = np.array(logs).T.tolist()
    with writing(db) as connection:
        connection.execute(
            text("""
                INSERT INTO oo_ml.daily_exploration
                SELECT CAST(now() AS date), CAST(l.number AS text), l.n, l.explored, l.expected, l.variance, l.s, l.ss
                FROM unnest(
                    CAST(:n AS float8[]), CAST(:explored AS float8[]), CAST(:expected AS float8[]),
                    CAST(:variance AS float8[]), CAST(:s AS float8[]), CAST(:ss AS float8[])
                ) WITH ORDINALITY AS l (n, explored, expected, variance, s, ss, number)
            """),
            dict(zip(("n", "explored", "expected", "variance", "s", "ss"), columns, strict=True)),
        )
        rows: list[Any] = list(
            connection.execute(text("SELECT check_name, p_value FROM analytics.loop_health WHERE policy IS NOT NULL"))
        )
    found = {check: np.array([row.p_value for row in rows if row.check_name == check]) for check in CHANCE}
    assert all(len(one) == len(logs) and not math.isnan(one.sum()) for one in found.values())
    return found
