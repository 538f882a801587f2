"""Decisions of the log as blocks of arrays, rebuilt by the models that made them: for verification and evaluation."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from oo_ml.domain.logged_decisions import DecisionBlock, Mismatch, find_first_rows, find_mismatch
from oo_ml.domain.policies import Policy
from oo_ml.domain.ridge import Ridge, stack
from oo_ml.storage.decision_log import LoggedDecision

# A block ends at the first of these. The last one is about the matrices of candidates, which have d x d numbers each.
_DECISIONS: Final = 500
_CANDIDATES: Final = 5000
_NUMBERS: Final = 4_000_000

# The errors of rows that were tampered with: they can hold anything.
TAMPERED: Final = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


class Made(NamedTuple):
    """A decision, and the model that made it.

    Attributes:
        target_model: the model of the target policy at that time; None if it has none of its own.
        unlearned: the number of ledger entries since the decision before that `target_model` leaves out.
    """

    decision: LoggedDecision
    model: Ridge
    target_model: Ridge | None = None
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
        most = min(_CANDIDATES, _NUMBERS // one.model.dimension**2)
        if len(waiting[key]) >= _DECISIONS or candidates[key] >= most:
            yield waiting.pop(key)
            del candidates[key]
    yield from waiting.values()


def build_block(made: Sequence[Made], policy: Policy) -> DecisionBlock:
    """Return decisions that `policy` made by the same rule as arrays.

    Raises:
        TAMPERED: a decision holds what no decision does.
    """
    decisions = [one.decision for one in made]
    models, which = number_models([one.model for one in made])
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
    )


def number_models(models: Sequence[Ridge]) -> tuple[Ridge, list[int]]:
    """Return the different ones of `models` as a stack, and the index of each."""
    # By identity: decisions made by the same model share one object, so each model is solved only once.
    different = {id(model): model for model in models}
    places = {name: place for place, name in enumerate(different)}
    return stack(list(different.values())), [places[id(model)] for model in models]


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
    )
