"""Beliefs of logged decisions: each has its own, but decisions from the same state share one if time does not count."""

from datetime import timedelta

import numpy as np

from oo_ml.domain.evidence import observe
from oo_ml.domain.policies import LINUCB
from oo_ml.domain.population import START
from oo_ml.services.decision_blocks import believe
from tests.policies import builtin
from tests.services.policies.shared_readers import draw_prior

TIMES = [START + timedelta(days=days) for days in (1, 1, 2)]


def test_users_who_learn_alone() -> None:
    """Decisions from the same state share one belief, so that it is solved only once."""
    policy = builtin(LINUCB)
    fresh = policy.fresh()
    later = observe(fresh, np.ones(5), 1.0)
    beliefs, which = believe(policy, [fresh, later, fresh], TIMES, [None] * 3)
    assert which == [0, 1, 0]
    assert beliefs.A.tolist() == [fresh.A.tolist(), later.A.tolist()]
    assert beliefs.b.tolist() == [fresh.b.tolist(), later.b.tolist()]


def test_users_of_a_pooled_policy() -> None:
    """Each decision has the belief of its own time and prior, whatever the others are."""
    policy = builtin("pooled-v1")
    evidence = observe(policy.fresh(), np.linspace(-1, 1, 12), 0.5, policy.weigh(START) or 0.0)
    priors = [draw_prior(1, 12), draw_prior(2, 12), draw_prior(1, 12)]
    beliefs, which = believe(policy, [evidence] * 3, TIMES, priors)
    for place, (at, prior) in enumerate(zip(TIMES, priors, strict=True)):
        alone = policy.believe([evidence], [at], [prior])
        assert (beliefs.A[which[place]] == alone.A[0]).all()
        assert (beliefs.b[which[place]] == alone.b[0]).all()
