"""The aggregates analytics.ips, snips, dr and ess: against numpy, against `oo-ml evaluate`, and in exact cases."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from oo_ml.domain.evaluation import estimators
from oo_ml.domain.evaluation.estimators import Estimate, UserTotals, summarise
from tests.analytics.intervals import build_interval, compute_error
from tests.analytics.logs import ARGUMENTS, LOG, Log, Row, estimate, estimate_ess, random_log
from tests.sessions import writing

COVERAGE = """
    SELECT (e.found).low, (e.found).high
    FROM (
        SELECT analytics.snips(CASE WHEN i <= u.rewards THEN 1 ELSE 0 END, 0.5, 0.5, u.user_id) AS found
        FROM unnest(CAST(:counts AS integer[]), CAST(:rewards AS integer[]), CAST(:users AS text[]))
            AS u (counts, rewards, user_id)
        CROSS JOIN generate_series(1, u.counts) AS i
    ) AS e
"""
EMPTY: Row = (0, None, None, None, None, None, None, 0)


def assert_estimate(row: Row, log: Log, mean: float, e: Any) -> None:  # noqa: ANN401 - an array of long doubles
    """Check the number of rows, the estimate, its variance and interval over groups of users, and the mean weight.

    `e` is the part of each decision in the error of the estimate.
    """
    n, *numbers, mean_weight, reason, groups = row
    error = compute_error(e, log.groups)
    ends = build_interval("mean", mean, e, log.groups)
    assert (n, reason, groups) == (len(log.r), None, len(set(log.groups)))
    if error is None:
        assert numbers == [pytest.approx(mean, rel=1e-9), None, None, None]
    else:
        expected = (float(mean), error**2, float(ends["mean_low"] or 0), float(ends["mean_high"] or 0))
        assert tuple(numbers) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert mean_weight == pytest.approx(log.w.mean(), rel=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1000.0, -1e6])
def test_estimates_against_numpy(db: Engine, offset: float) -> None:
    """Every estimate equals its formula in plain numpy, even with rewards far from zero."""
    for seed in range(20):
        n = 2 + seed * seed
        log = random_log(seed, n, offset)
        w, r = log.w.astype(np.longdouble), log.r.astype(np.longdouble)
        if not w.any():
            continue
        d = log.q_target + w * (r - log.q_logged)
        s = (w * r).sum() / w.sum()
        columns = log.columns
        assert_estimate(estimate(db, "ips", columns), log, (w * r).mean(), (w * r - (w * r).mean()) / n)
        assert_estimate(estimate(db, "snips", columns), log, s, w * (r - s) / w.sum())
        assert_estimate(estimate(db, "dr", columns), log, d.mean(), (d - d.mean()) / n)
        assert estimate_ess(db, columns) == pytest.approx(float(w.sum() ** 2 / (w**2).sum()), rel=1e-9)


def test_estimates_against_python(db: Engine) -> None:
    """If each group is a user, the aggregates equal domain/evaluation/estimators.py, which `oo-ml evaluate` uses."""
    for seed in range(20):
        log = random_log(seed, 8 + 20 * seed)
        totals = UserTotals()
        totals.add(log.groups, log.w, log.r, log.q_logged, log.q_target)
        summary = totals.summarise()
        for name, python in (("ips", estimators.ips), ("snips", estimators.snips), ("dr", estimators.dr)):
            found, expected = estimate(db, name, log.columns), python(summary)
            assert expected is not None
            assert found[-1] == summary.users
            assert found[1:5] == pytest.approx(tuple(getattr(expected, one) for one in Estimate.__slots__), rel=1e-9)
        assert estimate_ess(db, log.columns) == pytest.approx(estimators.effective_sample_size(summary), rel=1e-9)


def test_coverage_with_different_users(db: Engine) -> None:
    """If users differ, 95 % intervals cover the truth in at least 92 of 100 worlds; from decisions, in fewer than 70.

    120 users have base rates with a standard deviation of 0.2. The target draws at random, and so did the log.
    """
    users = 120
    rng = np.random.default_rng(20261127)
    covered = covered_by_decisions = 0
    worlds = 300
    for _ in range(worlds):
        base = np.clip(0.5 + 0.2 * rng.standard_normal(users), 0, 1)
        counts = rng.integers(3, 60, users)
        rewards = rng.binomial(counts, base)
        # Decisions of a user with equal rewards, in one row of the table each.
        columns = {
            "counts": counts.tolist(),
            "rewards": rewards.tolist(),
            "users": [f"user {number}" for number in rng.permutation(10 * users)[:users]],
        }
        with writing(db) as connection:
            row = connection.execute(text(COVERAGE), columns).one()
        mean = rewards.sum() / counts.sum()
        margin = 1.96 * math.sqrt(mean * (1 - mean) / counts.sum())
        covered += row.low <= 0.5 <= row.high
        covered_by_decisions += abs(mean - 0.5) <= margin
    assert covered >= 0.92 * worlds
    assert covered_by_decisions < 0.7 * worlds


def test_weights_of_one(db: Engine) -> None:
    """If every weight is 1, every estimate is the mean reward, to the last bit."""
    statement = f"""
        SELECT
            avg(r),
            (analytics.ips(r, p_logged, p_logged, user_id)).estimate,
            (analytics.snips(r, p_logged, p_logged, user_id)).estimate
        FROM {LOG}
    """  # noqa: S608 - constants of ours
    for seed in range(20):
        log = random_log(seed, 1 + 30 * seed, offset=seed)
        with writing(db) as connection:
            mean, ips, snips = connection.execute(text(statement), log.columns).one()
        assert ips == snips == mean


def test_no_rows(db: Engine) -> None:
    """Without rows n is 0 and all other results are null."""
    columns = random_log(0, 0).columns
    assert {name: estimate(db, name, columns) for name in ARGUMENTS} == dict.fromkeys(ARGUMENTS, EMPTY)
    assert estimate_ess(db, columns) == estimators.effective_sample_size(summarise(*[np.zeros(0)] * 4)) == 0


def test_one_row(db: Engine) -> None:
    """One row gives an estimate without variance and interval."""
    columns: dict[str, list[Any]] = {
        "r": [0.5],
        "q_logged": [0.25],
        "q_target": [0.125],
        "p_target": [0.5],
        "p_logged": [0.25],
        "user_id": ["ada"],
    }
    assert estimate(db, "ips", columns) == (1, 1.0, None, None, None, 2.0, None, 1)
    assert estimate(db, "snips", columns) == (1, 0.5, None, None, None, 2.0, None, 1)
    assert estimate(db, "dr", columns) == (1, 0.625, None, None, None, 2.0, None, 1)
    assert estimate_ess(db, columns) == 1


def test_weights_of_zero(db: Engine) -> None:
    """If every weight is 0, the target chooses nothing that was shown, and no estimate is given."""
    log = random_log(1, 5)
    columns: dict[str, list[Any]] = {**log.columns, "p_target": [0.0] * 5}
    for name in ARGUMENTS:
        assert estimate(db, name, columns)[:-2] == (5, None, None, None, None, 0)
    assert estimate_ess(db, columns) is None


@pytest.mark.parametrize(("candidates", "exploration"), [(2, 0.0), (3, 0.0), (7, 0.0), (2, 1e-15), (5, 1e-4)])
def test_log_without_draws(db: Engine, candidates: int, exploration: float) -> None:
    """A log in which nothing was drawn at random says nothing about drawing at random, whatever the exploration."""
    columns = simulate_uniform_target(np.random.default_rng(1), 60, candidates, exploration, is_drawing=False)
    for name in ARGUMENTS:
        n, *numbers, mean_weight, reason, _ = estimate(db, name, columns)
        assert (n, *numbers) == (60, None, None, None, None)
        assert mean_weight == pytest.approx(1 / candidates, rel=1e-3)
        assert "no chance" in str(reason)
    assert estimate_ess(db, columns) is None


@pytest.mark.parametrize(("share", "is_known"), [(0.0, True), (0.04, True), (0.15, False), (0.5, False)])
def test_share_without_support(db: Engine, share: float, is_known: bool) -> None:
    """Up to 5 % of the target's probability may be without support; the rest of the log explores rarely."""
    rng = np.random.default_rng(2)
    certain = round(1000 * share)
    parts = [
        simulate_uniform_target(rng, certain, 10, 0.0),
        simulate_uniform_target(rng, 1000 - certain, 10, 0.03),
    ]
    columns = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    for name in ARGUMENTS:
        row = estimate(db, name, columns)
        assert (row[1] is not None) is is_known
        assert (row[-2] is None) is is_known
    assert (estimate_ess(db, columns) is not None) is is_known


def test_support_of_exploring_logs(db: Engine) -> None:
    """A log that explores keeps its estimates, however its few draws turn out."""
    rng = np.random.default_rng(3)
    for _ in range(100):
        columns = simulate_uniform_target(rng, 200, int(rng.integers(1, 8)), 0.2)
        assert estimate(db, "snips", columns)[-2] is None


def test_mean_weight(db: Engine) -> None:
    """The mean weight is there beside any estimate, and as an aggregate of its own; null without rows."""
    for seed in range(5):
        log = random_log(seed, 30)
        with writing(db) as connection:
            statement = text(f"SELECT analytics.mean_weight(p_target, p_logged) FROM {LOG}")  # noqa: S608 - ours
            assert connection.scalar(statement, log.columns) == pytest.approx(log.w.mean(), rel=1e-12)
            assert connection.scalar(statement, random_log(0, 0).columns) is None


@pytest.mark.parametrize("missing", ["r", "q_logged", "q_target", "p_target", "p_logged", "user_id"])
def test_null_arguments(db: Engine, missing: str) -> None:
    """A row with a null argument is left out."""
    log = random_log(2, 40)
    columns = log.columns
    columns[missing] = [None if place % 3 == 1 else value for place, value in enumerate(columns[missing])]
    rest = {name: [value for place, value in enumerate(one) if place % 3 != 1] for name, one in log.columns.items()}
    for name, arguments in ARGUMENTS.items():
        expected = rest if missing in arguments.split(", ") else log.columns
        assert estimate(db, name, columns) == estimate(db, name, expected)
    assert estimate_ess(db, columns) == estimate_ess(db, rest if missing[:2] in {"p_", "us"} else log.columns)
    assert estimate(db, "dr", {**columns, missing: [None] * 40}) == EMPTY


@pytest.mark.parametrize(
    ("what", "value", "sentence"),
    [
        ("p_logged", 0.0, "p_logged is a probability above 0 and at most 1, not 0"),
        ("p_logged", -0.5, "p_logged is a probability above 0 and at most 1, not -0.5"),
        ("p_logged", 1.5, "p_logged is a probability above 0 and at most 1, not 1.5"),
        ("p_logged", math.nan, "p_logged is a probability above 0 and at most 1, not NaN"),
        ("p_logged", math.inf, "p_logged is a probability above 0 and at most 1, not Infinity"),
        ("p_target", -0.1, "p_target is a probability from 0 to 1, not -0.1"),
        ("p_target", 1.001, "p_target is a probability from 0 to 1, not 1.001"),
        ("p_target", math.nan, "p_target is a probability from 0 to 1, not NaN"),
        ("p_target", -math.inf, "p_target is a probability from 0 to 1, not -Infinity"),
    ],
)
def test_invalid_probabilities(db: Engine, what: str, value: float, sentence: str) -> None:
    """An invalid probability is an error that names the argument and its value."""
    columns = random_log(3, 4).columns
    columns[what][2] = value
    looks: list[Callable[[], object]] = [partial(estimate, db, name, columns) for name in ARGUMENTS]
    looks.append(partial(estimate_ess, db, columns))
    for look in looks:
        with pytest.raises(DBAPIError) as raised:
            look()
        assert isinstance(raised.value.orig, psycopg.errors.NumericValueOutOfRange)
        assert raised.value.orig.diag.message_primary == sentence


def test_any_table_by_group(db: Engine) -> None:
    """The aggregates work on any table, with numbers and ids of users of any type, by group."""
    rows = run_query(
        db,
        """
        CREATE TEMPORARY TABLE bets (who text, place integer, won integer, ours numeric, theirs real);
        INSERT INTO bets
        VALUES ('ada', 1, 1, 0.5, 0.25), ('ada', 2, 0, 0.5, 0.5), ('ben', 3, 1, 1, 0.5), ('ben', 4, NULL, 1, 1);
        """,
        """
        SELECT who, (analytics.ips(won, ours, theirs, who)).estimate, (analytics.snips(won, ours, theirs, place)).n,
            analytics.ess(ours, theirs, 'any')
        FROM bets
        GROUP BY who
        ORDER BY who
        """,
    )
    assert rows == [("ada", 1.0, 2, pytest.approx(1.8)), ("ben", 2.0, 1, pytest.approx(1.8))]


def test_window_functions(db: Engine) -> None:
    """As a window function, an aggregate has the result of the rows in its window."""
    log = random_log(4, 30)
    statement = f"""
        SELECT (analytics.snips(r, p_target, p_logged, user_id) OVER sofar).estimate,
            (analytics.ips(r, p_target, p_logged, user_id) OVER ten).variance
        FROM {LOG}
        WINDOW sofar AS (ORDER BY place), ten AS (ORDER BY place ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)
    """  # noqa: S608 - constants of ours
    with writing(db) as connection:
        rows = connection.execute(text(statement), log.columns).all()
    for place, row in enumerate(rows, 1):
        assert row[0] == estimate(db, "snips", slice_log(log, 0, place))[1]
        assert row[1] == estimate(db, "ips", slice_log(log, max(0, place - 10), place))[2]


def test_filtered_aggregates(db: Engine) -> None:
    """Several aggregates in one query, with FILTER, do not affect each other."""
    log = random_log(5, 50)
    statement = f"""
        SELECT (analytics.ips(r, p_target, p_logged, user_id) FILTER (WHERE place <= 20)).estimate, count(*) FROM {LOG}
    """  # noqa: S608 - constants of ours
    with writing(db) as connection:
        assert connection.execute(text(statement), log.columns).one() == (
            estimate(db, "ips", slice_log(log, 0, 20))[1],
            50,
        )


def simulate_uniform_target(
    rng: np.random.Generator, n: int, candidates: int, exploration: float, *, is_drawing: bool = True
) -> dict[str, list[Any]]:
    """Return the columns of n decisions by an exploring policy, for the target of drawing at random."""
    highest = 1 - exploration + exploration / candidates
    is_other = (rng.random(n) > highest) & is_drawing
    rewards = rng.normal(size=n)
    return {
        "r": rewards.tolist(),
        "q_logged": [0.0] * n,
        "q_target": [0.0] * n,
        "p_target": [1 / candidates] * n,
        "p_logged": np.where(is_other, exploration / candidates, highest).tolist(),
        "user_id": [f"user {number % 40}" for number in range(n)],
    }


def slice_log(log: Log, begin: int, end: int) -> dict[str, list[Any]]:
    """Return some rows of a log."""
    return {name: column[begin:end] for name, column in log.columns.items()}


def run_query(db: Engine, before: str, statement: str) -> list[Any]:
    """Run a statement and then a query in one transaction; return the rows of the query."""
    with writing(db) as connection:
        for one in before.split(";")[:-1]:
            connection.execute(text(one))
        return [tuple(row) for row in connection.execute(text(statement))]
