"""Evaluation of decisions in blocks: weights them by the target policy, checks them against the rebuilt models.

A user's decisions lie in several blocks, by two policies. So the totals of users are kept over all blocks.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from oo_ml.domain.evaluation.estimators import UserTotals
from oo_ml.domain.evaluation.logged_decisions import DecisionBlock, find_first_rows, find_mismatches
from oo_ml.domain.evaluation.targets import Prompt, Target, weigh
from oo_ml.domain.features import Moment, Task, encode
from oo_ml.domain.policies import DIMENSIONS
from oo_ml.domain.ridge import Ridge, stack
from oo_ml.services.evaluation.models import build_contradiction
from oo_ml.services.evaluation.results import Part
from oo_ml.storage.decision_log import LoggedDecision

# A decision and the model that made it.
Made = tuple[LoggedDecision, Ridge]

# A block ends at the first of these.
_DECISIONS: Final = 500
_CANDIDATES: Final = 5000


def evaluate_blocks(target: Target, made: Iterable[Made]) -> Iterator[Part]:
    """Yield the result of each block of decisions, and at the end the summary of all.

    Args:
        target: the target policy.
        made: all decisions of some users.

    Raises:
        LogContradictedError: the log of a decision disagrees with its model or candidates.
    """
    totals = UserTotals()
    for block in _split(made):
        relevant = [one for one in block if _is_relevant(target, one[0])]
        part = _evaluate_block(target, relevant, totals) if relevant else Part()
        yield part + Part(unwritten=len(block) - len(relevant))
    yield Part(summary=totals.summarise())


def _is_relevant(target: Target, decision: LoggedDecision) -> bool:
    """Return whether the target could have chosen a candidate of the decision."""
    if not isinstance(target, Prompt) or decision.prompt_probability is not None:
        return True
    return target.version in (decision.versions or ())


def _split(made: Iterable[Made]) -> Iterator[list[Made]]:
    """Yield blocks of decisions. The decisions of a block have the same policy."""
    waiting: dict[str, list[Made]] = {policy: [] for policy in DIMENSIONS}
    candidates = dict.fromkeys(DIMENSIONS, 0)
    for one in made:
        policy = one[0].policy
        waiting[policy].append(one)
        candidates[policy] += len(one[0].propensities)
        if len(waiting[policy]) >= _DECISIONS or candidates[policy] >= _CANDIDATES:
            yield waiting[policy]
            waiting[policy], candidates[policy] = [], 0
    yield from filter(None, waiting.values())


def _evaluate_block(target: Target, made: Sequence[Made], totals: UserTotals) -> Part:
    """Add a block to `totals`; return the rest of its result."""
    decisions = [decision for decision, _ in made]
    try:
        block = _build_block(made)
        weighed = weigh(target, block)
        wrong = find_mismatches(
            block,
            weighed.exploit,
            np.array([decision.x for decision in decisions]),
            np.array([decision.propensity for decision in decisions]),
            np.concatenate([decision.exploit for decision in decisions]),
        )
    except (ValueError, TypeError, LookupError, ArithmeticError):
        # A row that was tampered with can hold anything. Evaluate each decision alone to find it.
        if len(made) == 1:
            raise build_contradiction(decisions[0]) from None
        return sum((_evaluate_block(target, [one], totals) for one in made), Part())
    if wrong.any():
        raise build_contradiction(decisions[int(wrong.argmax())])
    rewards = np.array([decision.reward for decision in decisions])
    users = [decision.user_id for decision in decisions]
    totals.add(users, weighed.weights, rewards, weighed.q_logged, weighed.q_target)
    return Part(
        without_support={decisions[0].policy: float(weighed.without_support.sum())},
        is_random=any(decision.propensity < 1 for decision in decisions),
    )


def _build_block(made: Sequence[Made]) -> DecisionBlock:
    # By identity: decisions made by the same model share one object, so each model is solved only once.
    models = {id(model): model for _, model in made}
    places = {name: place for place, name in enumerate(models)}
    ids = [[candidate["id"] for candidate in decision.candidates] for decision, _ in made]
    counts = [len(own) for own in ids]
    starts = np.cumsum([0, *counts[:-1]])
    return DecisionBlock(
        models=stack(list(models.values())),
        which=[places[id(model)] for _, model in made],
        counts=counts,
        X=_encode([decision for decision, _ in made]),
        tips=np.concatenate([start + np.array(find_first_rows(own)) for start, own in zip(starts, ids, strict=True)]),
        is_chosen=np.array(
            [one == decision.tip_id for (decision, _), own in zip(made, ids, strict=True) for one in own]
        ),
        propensities=np.concatenate([decision.propensities for decision, _ in made]),
        versions=[version for decision, _ in made for version in decision.versions or ()],
        version_probabilities=np.array(
            [np.nan if decision.prompt_probability is None else decision.prompt_probability for decision, _ in made]
        ),
    )


def _encode(decisions: Sequence[LoggedDecision]) -> np.ndarray:
    moments, tasks = [], []
    for decision in decisions:
        moment = Moment(decision.context["hour_of_day"], decision.context["day_of_week"])
        for candidate in decision.candidates:
            raw = candidate["features"]
            moments.append(moment)
            tasks.append(Task(raw["is_overdue"], raw["task_age_days"], raw["priority"]))
    return encode(moments, tasks, DIMENSIONS[decisions[0].policy])
