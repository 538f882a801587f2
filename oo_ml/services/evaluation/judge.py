"""Judging decisions together, each by the model that it was made from: what a target would have done in them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from oo_ml.domain.evaluation import estimators, targets
from oo_ml.domain.evaluation.logged_decisions import Offers, contradicted, first_places
from oo_ml.domain.evaluation.targets import Prompt, Target
from oo_ml.domain.features import Moment, Task, encode
from oo_ml.domain.policies import DIMENSIONS
from oo_ml.domain.ridge import Ridge, stack
from oo_ml.services.evaluation import rebuild
from oo_ml.services.evaluation.findings import Part
from oo_ml.storage.decision_log import Logged

Made = tuple[Logged, Ridge]

# So many decisions are judged together, or as many as have so many candidates.
_DECISIONS: Final = 500
_CANDIDATES: Final = 5000


def judge(target: Target, made: Iterable[Made]) -> Iterator[Part]:
    """Yield what is found in decisions, which come with the models that they were made from, some at a time.

    Raises:
        LogContradictedError: a decision was made from another model, or from other candidates.
    """
    for block in _blocks(made):
        says = [one for one in block if _says(target, one[0])]
        found = _judge(target, says) if says else Part()
        yield found + Part(unwritten=len(block) - len(says))


def _says(target: Target, decision: Logged) -> bool:
    """Tell whether a decision says anything of the target."""
    if not isinstance(target, Prompt) or decision.prompt_probability is not None:
        return True
    return target.version in (decision.versions or ())


def _blocks(made: Iterable[Made]) -> Iterator[list[Made]]:
    """Yield decisions of one policy at a time, in any order."""
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


def _judge(target: Target, block: Sequence[Made]) -> Part:
    decisions = [decision for decision, _ in block]
    try:
        offers = _offers(block)
        judged = targets.judge(target, offers)
        wrong = contradicted(
            offers,
            judged.exploit,
            np.array([decision.x for decision in decisions]),
            np.array([decision.propensity for decision in decisions]),
            np.concatenate([decision.exploit for decision in decisions]),
        )
    except (ValueError, TypeError, LookupError, ArithmeticError):
        # What somebody has tampered with can be anything. Which of them it is shows when each is judged by itself.
        if len(block) == 1:
            raise rebuild.contradicted(decisions[0]) from None
        return sum((_judge(target, [one]) for one in block), Part())
    if wrong.any():
        raise rebuild.contradicted(decisions[int(wrong.argmax())])
    rewards = np.array([decision.reward for decision in decisions])
    return Part(
        summary=estimators.summarise(judged.weights, rewards, judged.q_logged, judged.q_target),
        without_support={decisions[0].policy: float(judged.without_support.sum())},
        is_random=any(decision.propensity < 1 for decision in decisions),
    )


def _offers(block: Sequence[Made]) -> Offers:
    # The same object where it is the same model: it need not be solved twice.
    models = {id(model): model for _, model in block}
    places = {name: place for place, name in enumerate(models)}
    names = [[candidate["id"] for candidate in decision.candidates] for decision, _ in block]
    counts = [len(own) for own in names]
    starts = np.cumsum([0, *counts[:-1]])
    return Offers(
        models=stack(list(models.values())),
        which=[places[id(model)] for _, model in block],
        counts=counts,
        X=_features([decision for decision, _ in block]),
        tips=np.concatenate([start + np.array(first_places(own)) for start, own in zip(starts, names, strict=True)]),
        is_shown=np.array(
            [name == decision.tip_id for (decision, _), own in zip(block, names, strict=True) for name in own]
        ),
        logged=np.concatenate([decision.propensities for decision, _ in block]),
        versions=[version for decision, _ in block for version in decision.versions or ()],
        version_probabilities=np.array(
            [np.nan if decision.prompt_probability is None else decision.prompt_probability for decision, _ in block]
        ),
    )


def _features(decisions: Sequence[Logged]) -> np.ndarray:
    moments, tasks = [], []
    for decision in decisions:
        moment = Moment(decision.context["hour_of_day"], decision.context["day_of_week"])
        for candidate in decision.candidates:
            raw = candidate["features"]
            moments.append(moment)
            tasks.append(Task(raw["is_overdue"], raw["task_age_days"], raw["priority"]))
    return encode(moments, tasks, DIMENSIONS[decisions[0].policy])
