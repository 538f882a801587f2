"""Evaluation of decisions in blocks: weights them by the target policy, checks them against the rebuilt models.

A user's decisions lie in several blocks, by several policies. So the totals of users are kept over all blocks.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from oo_ml.domain.evaluation.estimators import UserTotals
from oo_ml.domain.evaluation.targets import Prompt, Seen, Target, weigh
from oo_ml.domain.logged_decisions import DecisionBlock
from oo_ml.domain.policies import Policy
from oo_ml.services.decision_blocks import (
    TAMPERED,
    Made,
    attach_priors,
    believe,
    build_block,
    compare,
    raw_fields,
    split,
)
from oo_ml.services.evaluation.evidence import build_contradiction, learns_apart
from oo_ml.services.evaluation.results import Part
from oo_ml.services.prior_versions import PriorVersions
from oo_ml.storage.decision_log import LoggedDecision


def evaluate_blocks(
    target: Target,
    made: Iterable[Made],
    policies: Mapping[str, Policy],
    priors: PriorVersions,
    published: Policy | None = None,
) -> Iterator[Part]:
    """Yield the result of each block of decisions, and at the end the summary of all.

    Args:
        target: the target policy.
        made: all decisions of some users, made by `policies`.
        policies: by name.
        priors: those of `policies`.
        published: the target, if it is a published policy.

    Raises:
        LogContradictedError: the log of a decision disagrees with its model or candidates.
    """
    totals = UserTotals()
    for block in split(made):
        written = [one for one in block if _is_relevant(target, one.decision)]
        policy = policies[block[0].decision.policy]
        apart = published if published and learns_apart(published, policy) else None
        missing = [None if apart is None else _find_missing(apart, one.decision) for one in written]
        readable = [one for one, field in zip(written, missing, strict=True) if field is None]
        known = _attach_priors(readable, policy, apart, priors)
        part = _evaluate_block(target, known, policies, published, totals) if known else Part()
        yield part + Part(
            unwritten=len(block) - len(written),
            unreadable=Counter(field for field in missing if field is not None),
            priorless=len(readable) - len(known),
            unlearned=sum(one.unlearned for one in block),
        )
    yield Part(summary=totals.summarise())


def _is_relevant(target: Target, decision: LoggedDecision) -> bool:
    """Return whether the target could have chosen a candidate of the decision."""
    if not isinstance(target, Prompt) or decision.prompt_probability is not None:
        return True
    return target.version in (decision.versions or ())


def _find_missing(policy: Policy, decision: LoggedDecision) -> str | None:
    """Return the first field of the decision that the policy needs and can't read; None if it can read all."""
    try:
        bad = policy.features.find_bad_field(*_fields_of(decision))
    except TAMPERED:
        # The comparison with the log says so.
        return None
    return bad and f"{'context' if bad.candidate is None else 'features'}.{bad.field}"


def _fields_of(decision: LoggedDecision) -> tuple[Mapping[str, object], Sequence[Mapping[str, object]]]:
    [context], candidates = raw_fields([decision])
    return context, candidates


def _attach_priors(made: Sequence[Made], policy: Policy, apart: Policy | None, priors: PriorVersions) -> list[Made]:
    """Return decisions of `policy` with the priors of both policies, without those for which one is unknown here."""
    known = attach_priors(made, policy, priors)
    if apart is None or apart.population is None:
        return known
    of_target = priors.find_as_of(apart, [one.decision.decided_at for one in known])
    return [one._replace(target_prior=prior) for one, prior in zip(known, of_target, strict=True) if prior is not None]


def _evaluate_block(
    target: Target,
    made: Sequence[Made],
    policies: Mapping[str, Policy],
    published: Policy | None,
    totals: UserTotals,
) -> Part:
    """Add a block to `totals`; return the rest of its result."""
    decisions = [one.decision for one in made]
    try:
        block = build_block(made, policies[decisions[0].policy])
        wrong = compare(block, decisions)
        weighed = None if wrong else weigh(target, block, None if published is None else _see(published, made, block))
    except TAMPERED:
        # Evaluate each decision alone to find the one that was tampered with.
        if len(made) == 1:
            raise build_contradiction(decisions[0]) from None
        return sum((_evaluate_block(target, [one], policies, published, totals) for one in made), Part())
    if wrong is not None or weighed is None:
        raise build_contradiction(decisions[wrong.decision if wrong else 0])
    rewards = np.array([decision.reward for decision in decisions], np.float64)
    users = [decision.user_id for decision in decisions]
    totals.add(users, weighed.weights, rewards, weighed.q_logged, weighed.q_target)
    return Part(
        without_support={decisions[0].policy: float(weighed.without_support.sum())},
        is_random=any(decision.propensity < 1 for decision in decisions),
    )


def _see(policy: Policy, made: Sequence[Made], block: DecisionBlock) -> Seen:
    """Return the decisions of a block as the target sees them."""
    own = [one.target_evidence for one in made if one.target_evidence is not None]
    if not own:
        return Seen(policy, block.models, block.which, block.X)
    decisions = [one.decision for one in made]
    priors = [one.target_prior for one in made]
    models, which = believe(policy, own, [one.decided_at for one in decisions], priors)
    return Seen(policy, models, which, policy.features.encode(*raw_fields(decisions), block.counts).X)
