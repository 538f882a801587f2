"""prior_history and learning_by_prior against numpy."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.population import Prior
from tests.analytics.intervals import build_interval, find_group
from tests.pooled_users import POOLED, fit, live
from tests.services.upkeep.daily_sums.counting import count_all
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers


def test_prior_history(db: Engine) -> None:
    """Each version has its largest change against the version before, in standard deviations, and its place."""
    simulated = SimulatedUsers(db, 61)
    priors: list[Prior] = []
    for day in range(3):
        live(simulated, users=4, decisions=3, prior=priors[-1] if priors else None)
        priors.append(fit(db, priors[-1] if priors else None, simulated.now + timedelta(days=day)))
    rows = read(db, "SELECT * FROM analytics.prior_history ORDER BY version")
    before = np.zeros(12)
    for row, prior in zip(rows, priors, strict=True):
        changes = np.abs(prior.mean - before) / np.sqrt(np.diag(prior.covariance))
        assert row["largest_change"] == pytest.approx(changes.max(), rel=1e-12)
        assert row["changed_feature"] == changes.argmax() + 1
        before = prior.mean
    assert [row["version"] for row in rows] == [1, 2, 3]
    assert [(row["users"], row["noise_variance"]) for row in rows] == [(4, one.noise_variance) for one in priors]
    assert read(db, "SELECT * FROM analytics.prior_history_between('2026-11-24', '2026-11-24')") == rows[1:2]


def test_history_without_the_version_before(db: Engine) -> None:
    """Without the version before, the change is unknown; the version stays in the list."""
    simulated = SimulatedUsers(db, 62)
    live(simulated, users=2, decisions=3)
    second = fit(db, fit(db, None, simulated.now), simulated.now)
    fit(db, second, simulated.now)
    with writing(db) as connection:
        connection.execute(text("DELETE FROM oo_ml.policy_priors WHERE version = 1"))
    rows = read(db, "SELECT * FROM analytics.prior_history ORDER BY version")
    assert [(row["version"], row["largest_change"] is None, row["changed_feature"] is None) for row in rows] == [
        (2, True, True),
        (3, False, False),
    ]


def test_learning_by_prior(db: Engine, database_url: str) -> None:
    """Means and intervals equal those of the decisions, by groups of versions and of decisions, counted or not."""
    simulated = SimulatedUsers(db, 63)
    live(simulated, users=9, decisions=7)
    prior = fit(db, None, simulated.now)
    live(simulated, users=6, decisions=22, prior=prior, first=9)
    for _ in range(2):
        prior = fit(db, prior, simulated.now)
        live(simulated, users=5, decisions=3, prior=prior, first=10 * prior.version)
    decisions = read(db, f"SELECT * FROM oo_ml.feature_history WHERE policy = '{POOLED}' AND pull <= 20")  # noqa: S608
    groups = {0: 0, 1: 1, 2: 2, 3: 2}
    expected = []
    for version, last in ((0, 0), (1, 1), (2, 3)):
        for start in (1, 6, 11, 16):
            rows = [
                one for one in decisions if groups[one["prior_version"]] == version and start <= one["pull"] < start + 5
            ]
            if not rows:
                continue
            known = [one for one in rows if one["reward"] is not None]
            rewards = np.array([one["reward"] for one in known])
            mean = float(rewards.mean())
            users = [find_group(one["user_id"]) for one in known]
            expected.append(
                {
                    "policy": POOLED,
                    "first_version": version,
                    "last_version": last,
                    "first_decision": start,
                    "last_decision": start + 4,
                    "decisions": len(rows),
                    "rewarded": len(known),
                    **build_interval("mean_reward", mean, (rewards - mean) / len(known), users),
                }
            )
    assert len(expected) == 7
    for _ in range(2):
        found = read(db, "SELECT * FROM analytics.learning_by_prior ORDER BY first_version, first_decision")
        assert found == [
            {
                name: value if value is None or name == "policy" else pytest.approx(value, rel=1e-9)
                for name, value in row.items()
            }
            for row in expected
        ]
        count_all(db, database_url)
    assert read(db, "SELECT * FROM analytics.learning_by_prior_between('2026-11-24', NULL)") == []


@pytest.mark.parametrize(
    ("version", "first"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (1023, 512), (2**31 - 1, 2**30)]
)
def test_groups_of_versions(db: Engine, version: int, first: int) -> None:
    """A group of versions begins with a power of two."""
    assert read(db, f"SELECT rollup.first_of_versions({version}) AS first") == [{"first": first}]


def read(db: Engine, statement: str) -> list[dict[str, Any]]:
    """Return the rows of a statement."""
    with writing(db) as connection:
        return [dict(row) for row in connection.execute(text(statement)).mappings()]
