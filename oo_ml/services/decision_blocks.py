"""Decisions of the log as blocks of arrays, rebuilt by the models that made them: for verification and evaluation."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.logged_decisions import DecisionBlock, Mismatch, find_first_rows, find_mismatch
from oo_ml.domain.policies import Policy
from oo_ml.domain.population import Prior
from oo_ml.domain.ridge import Ridge
from oo_ml.services.prior_versions import PriorVersions, Start
from oo_ml.storage.decision_log import LoggedDecision

# A block ends at the first of these. The last one is about the matrices of candidates, which have d x d numbers each.
_DECISIONS: Final = 500
_CANDIDATES: Final = 5000
_NUMBERS: Final = 4_000_000

# The errors of rows that were tampered with: they can hold anything.
TAMPERED: Final = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


class Made(NamedTuple):
    """A decision, and the evidence about its user at that time.

    Attributes:
        evidence: that of the policy that decided. Decisions from the same state share one object.
        prior: the version that it started from; None unless the policy is pooled, and before `attach_priors`.
        target_evidence: that of the target policy; None if the target has none of its own.
        target_prior: the latest version of the target policy at that time; None like `prior`.
        unlearned: the number of ledger entries since the decision before that `target_evidence` leaves out.
    """

    decision: LoggedDecision
    evidence: Evidence
    prior: Prior | None = None
    target_evidence: Evidence | None = None
    target_prior: Prior | None = None
    unlearned: int = 0


def split(made: Iterable[Made]) -> Iterator[list[Made]]:
    """Yield blocks of decisions. The decisions of a block have the same policy and rule."""
    waiting: dict[Any, list[Made]] = defaultdict(list)
    candidates: dict[Any, int] = defaultdict(int)
    for one in made:
        decision = one.decision
        key = decision.policy, decision.exploration, decision.alpha
        waiting[key].append(one)
        candidates[key] += len(decision.propensities)
        most = min(_CANDIDATES, _NUMBERS // one.evidence.dimension**2)
        if len(waiting[key]) >= _DECISIONS or candidates[key] >= most:
            yield waiting.pop(key)
            del candidates[key]
    yield from waiting.values()


def attach_priors(made: Sequence[Made], policy: Policy, priors: PriorVersions) -> list[Made]:
    """Return decisions of `policy` with their priors, without those whose prior is unknown here."""
    if policy.population is None:
        return list(made)
    # A decision without a version was tampered with. It has no prior_score either, which `compare` finds.
    starts = [Start(one.decision.prior_version or 0, one.decision.decided_at) for one in made]
    found = priors.find(policy, starts)
    return [one._replace(prior=prior) for one, prior in zip(made, found, strict=True) if prior is not None]


def build_block(made: Sequence[Made], policy: Policy) -> DecisionBlock:
    """Return decisions that `policy` made by the same rule as arrays.

    Raises:
        TAMPERED: a decision holds what no decision does.
    """
    decisions = [one.decision for one in made]
    priors = [one.prior for one in made]
    models, which = believe(policy, [one.evidence for one in made], [one.decided_at for one in decisions], priors)
    ids = [[candidate["id"] for candidate in decision.candidates] for decision in decisions]
    counts = [len(own) for own in ids]
    if not all(counts) or counts != [len(decision.propensities) for decision in decisions]:
        raise ValueError("candidates and propensities differ in number")
    starts = np.cumsum([0, *counts[:-1]])
    return DecisionBlock(
        rule=replace(policy.rule, exploration=decisions[0].exploration, alpha=decisions[0].alpha),
        models=models,
        which=which,
        counts=counts,
        X=policy.features.encode(*raw_fields(decisions), counts).X,
        tips=np.concatenate([start + np.array(find_first_rows(own)) for start, own in zip(starts, ids, strict=True)]),
        is_chosen=np.array(
            [one == decision.tip_id for decision, own in zip(decisions, ids, strict=True) for one in own]
        ),
        propensities=np.concatenate([decision.propensities for decision in decisions]),
        versions=[version for decision in decisions for version in decision.versions or ()],
        version_probabilities=np.array(
            [np.nan if decision.prompt_probability is None else decision.prompt_probability for decision in decisions]
        ),
        prior_b=None if policy.population is None else np.array([prior.belief.b for prior in priors if prior]),
    )


def believe(
    policy: Policy, evidence: Sequence[Evidence], times: Sequence[datetime], priors: Sequence[Prior | None]
) -> tuple[Ridge, list[int]]:
    """Return the different beliefs with which `policy` makes m decisions as a stack, and the index of each decision's.

    Args:
        policy: the policy.
        evidence: of each decision.
        times: of the decisions.
        priors: of each decision; not used unless the policy is pooled.

    Raises:
        ValueError: a decision has no prior, and the policy is pooled.
    """
    if policy.population is None:
        # By identity: decisions from the same state share one object, so each model is solved only once.
        different = {id(one): one for one in evidence}
        places = {name: place for place, name in enumerate(different)}
        return policy.believe(list(different.values()), times), [places[id(one)] for one in evidence]
    known = [prior for prior in priors if prior is not None]
    if len(known) < len(priors):
        raise ValueError("a decision has no prior")
    return policy.believe(evidence, times, known), list(range(len(evidence)))


def raw_fields(decisions: Sequence[LoggedDecision]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the contexts of decisions, and the raw features of all their candidates."""
    return (
        [decision.context for decision in decisions],
        [candidate["features"] for decision in decisions for candidate in decision.candidates],
    )


def compare(block: DecisionBlock, decisions: Sequence[LoggedDecision]) -> Mismatch | None:
    """Return the first number of the log of these decisions that contradicts the block, if there is one.

    Raises:
        TAMPERED: a decision holds what no decision does.
    """
    return find_mismatch(
        block,
        np.array([decision.x for decision in decisions]),
        np.array([decision.propensity for decision in decisions]),
        np.concatenate([decision.exploit for decision in decisions]),
        # An absent one is NaN.
        None if block.prior_b is None else np.array([decision.prior_score for decision in decisions], np.float64),
    )
