"""Users who learn from each other: their log is a log, and their policy a target, each decision with its own prior."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine

from oo_ml.domain import policies
from oo_ml.domain.evaluation.targets import OwnPolicy, Published, Uniform
from oo_ml.domain.learning import Change, Kind
from oo_ml.domain.policies import Policy, Rule
from oo_ml.domain.population import Prior
from oo_ml.domain.ridge import Ridge, stack
from oo_ml.errors import NothingToEvaluateError
from oo_ml.services.decisions.unit_of_work import UnitOfWork
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.reward_ledger import LedgerEntry
from tests.services.evaluation.evaluating import look, rows, run
from tests.services.policies.readers import NEWS, NOON, Readers, publish_policy
from tests.services.policies.shared_readers import (
    PACE,
    SHARED,
    believe,
    draw_prior,
    insert_prior,
    live_with_priors,
)
from tests.sessions import writing

DIMENSION: Final = 11
# Every decision with a reward, and the rewards of the same user that counted when it was made.
_DECISIONS: Final = """
    SELECT h.user_id, h.decision_id, h.decided_at, h.context, h.candidates, h.tip_id, h.propensity, h.reward,
        ARRAY(
            SELECT jsonb_build_array(l.decision_id, l.reward)
            FROM oo_ml.reward_ledger AS l
            WHERE l.user_id = h.user_id AND l.policy = h.policy AND l.version <= h.version
            ORDER BY l.version
        ) AS entries
    FROM oo_ml.feature_history AS h
    WHERE h.reward IS NOT NULL
    ORDER BY h.position
"""


def find_terms(db: Engine, target: Policy, beliefs: Any) -> list[float]:  # noqa: ANN401 - a function of the test
    """Return the reward of each decision times its weight, by the target's propensities with these beliefs."""
    chosen = {
        str(row.decision_id): (row.decided_at, row.context, row.features)
        for row in rows(db, "SELECT decision_id, decided_at, context, features FROM oo_ml.feature_history")
    }
    terms = []
    for row in rows(db, _DECISIONS):
        lessons = []
        # The last entry of a decision has the reward that counts.
        for decision_id, reward in dict(row.entries).items():
            if reward is not None:
                decided_at, context, features = chosen[decision_id]
                lessons.append((target.features.encode([context], [features], [1]).X[0], reward, decided_at))
        n = len(row.candidates)
        X = target.features.encode([row.context], [one["features"] for one in row.candidates], [n]).X
        [choice] = policies.choose(target.rule, stack([beliefs(lessons, row.decided_at)]), [0], X, [n], [0])
        place = [one["id"] for one in row.candidates].index(row.tip_id)
        terms.append(choice.propensities[place] / row.propensity * row.reward)
    return terms


def learn_alone(lessons: Sequence[tuple[Any, float, datetime]], _at: datetime) -> Ridge:
    """Return the belief about a user who learns alone."""
    A, b = np.eye(DIMENSION), np.zeros(DIMENSION)
    for x, reward, _ in lessons:
        A, b = A + np.outer(x, x), b + reward * x
    return Ridge(A, b)


def test_policy_of_the_log(db: Engine) -> None:
    """For the log's own policy every weight is 1, whatever version of the prior a decision started from."""
    live_with_priors(db)
    found = look(db, Published("shared-v1"))
    assert (found.n, found.left_out, found.max_weight, found.mean_weight) == (24, 0, 1.0, 1.0)
    assert look(db, Published("shared-v1"), policy="shared-v1").dr == found.dr
    for other in (Uniform(), OwnPolicy(Rule(0.0)), OwnPolicy(Rule(0.1, 2.0))):
        assert look(db, other).n == 24


def test_pooled_target(db: Engine) -> None:
    """A pooled target starts from its latest prior at each decision, also if its features are those of the log."""
    readers = Readers(db, publish_policy(db, "news-v1"), PACE)
    target = publish_policy(db, "shared-v1", SHARED)
    fits: list[tuple[datetime, Prior]] = [(NOON - PACE, Prior.initial(target.features.dimension))]
    for version in range(3):
        if version:
            insert_prior(db, target, version, readers.now)
            fits.append((readers.now, draw_prior(version, target.features.dimension)))
        for user_id in ("ada", "ben"):
            readers.live(user_id, 5)

    def believe_as_of(lessons: Any, at: datetime) -> Ridge:  # noqa: ANN401
        return believe(next(prior for fitted_at, prior in reversed(fits) if fitted_at <= at), lessons, at)

    found = look(db, Published("shared-v1"))
    assert (found.n, found.left_out, found.unlearned) == (24, 0, 0)
    assert found.max_weight != 1
    assert found.ips.estimate == pytest.approx(np.mean(find_terms(db, target, believe_as_of)), rel=1e-9)


def test_target_without_a_population(db: Engine) -> None:
    """A target that is not pooled has evidence of its own, also with the features of the log's policy."""
    live_with_priors(db)
    target = publish_policy(db, "news-v1", NEWS)
    found = look(db, Published("news-v1"))
    assert (found.n, found.left_out, found.unlearned) == (24, 0, 0)
    assert found.ips.estimate == pytest.approx(np.mean(find_terms(db, target, learn_alone)), rel=1e-9)


def test_other_population(db: Engine) -> None:
    """Another policy with the same definition starts from its own prior, here that before data."""
    live_with_priors(db)
    target = publish_policy(db, "other-v1", SHARED)
    initial = Prior.initial(target.features.dimension)
    terms = find_terms(db, target, lambda lessons, at: believe(initial, lessons, at))
    assert look(db, Published("other-v1")).ips.estimate == pytest.approx(np.mean(terms), rel=1e-9)


def test_deleted_versions(db: Engine) -> None:
    """Decisions from a prior version that was deleted are left out and counted."""
    live_with_priors(db)
    run(db, "DELETE FROM oo_ml.policy_priors WHERE version = 1")
    found = look(db, Uniform())
    assert (found.n, found.priorless, found.left_out) == (16, 8, 8)
    run(db, "DELETE FROM oo_ml.policy_priors")
    run(db, "DELETE FROM oo_ml.feature_history WHERE prior_version = 0")
    with pytest.raises(NothingToEvaluateError) as nothing:
        look(db, Uniform())
    assert nothing.value.message == (
        "The log holds no decision to evaluate, only 8 without a reward, 16 without a known prior version"
    )


def test_deleted_versions_of_the_target(db: Engine) -> None:
    """Decisions at whose time the target had a version that was deleted are left out and counted."""
    readers = Readers(db, publish_policy(db, "news-v1"), PACE)
    target = publish_policy(db, "shared-v1", SHARED)
    for version in range(3):
        if version:
            insert_prior(db, target, version, readers.now)
        readers.live("ada", 5)
    run(db, "DELETE FROM oo_ml.policy_priors WHERE version = 1")
    found = look(db, Published("shared-v1"))
    # Before the first version that is left, the target's version is unknown.
    assert (found.n, found.priorless, found.left_out) == (4, 8, 8)


def test_warm_entries(db: Engine) -> None:
    """The target learns from a warm entry too: from the decision of the other policy."""
    readers = Readers(db, publish_policy(db, "news-v1"), PACE)
    first = readers.decide("ada")
    readers.react(first, 1.0)
    shared = publish_policy(db, "shared-v1", SHARED)
    warm(db, shared, "ada", first)
    readers.react(readers.decide("ada", shared))
    assert look(db, Published("news-v1"), policy="shared-v1").unlearned == 0
    run(db, "DELETE FROM oo_ml.feature_history WHERE policy = 'news-v1'")
    assert look(db, Published("news-v1"), policy="shared-v1").unlearned == 1


def warm(db: Engine, policy: Policy, user_id: str, decision_id: UUID) -> None:
    """Let a policy learn the reward of a decision of another one."""
    [row] = rows(db, "SELECT * FROM oo_ml.feature_history WHERE decision_id = :decision_id", decision_id=decision_id)
    key = StateKey(user_id, policy.name)
    with writing(db) as connection:
        unit = UnitOfWork.lock(connection, {key: policy.fresh()})
        x = policy.features.encode([row.context], [row.features], [1]).X[0]
        change = Change(Kind.WARM, x, row.reward, weight=policy.weigh(row.decided_at))
        unit.apply(LedgerEntry(key, 0, 1, NOON, change, row.tip_id, origin_decision_id=decision_id))
        unit.write(connection)
