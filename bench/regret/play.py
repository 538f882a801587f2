"""Lets policies decide and learn on a stream, with the functions by which the service does."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.regret.streams import CANDIDATES, Drawn
from oo_ml import definitions
from oo_ml.domain import policies, population
from oo_ml.domain.evidence import Evidence, observe
from oo_ml.domain.policies import LINUCB, Policy
from oo_ml.domain.population import START, Sample

POOLED: Final = "pooled-v1"
UNIFORM: Final = "uniform-v1"
# The features of pooled-v1, and one model for all users.
POOLED_LINUCB: Final = "pooled LinUCB"
PLAYERS: Final = (LINUCB, POOLED_LINUCB, UNIFORM, POOLED)

# Rounds from one fit of the prior to the next.
_FIT_EVERY: Final = 5
_HALF_LIFE: Final = timedelta(days=60)
_DEFINITIONS: Final = Path(__file__).parents[2] / "alembic" / "policies"


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """The m decisions of a policy.

    Attributes:
        chosen: the index of the candidate, shape (m,).
        expected: m.x of the chosen candidate, what the policy expected, shape (m,).
        deviation: the standard deviation of theta.x, sqrt(x^T V x), shape (m,); NaN if the policy has no bound.
    """

    chosen: NDArray[np.intp]
    expected: NDArray[np.float64]
    deviation: NDArray[np.float64]


@cache
def load(name: str) -> Policy:
    """Return one of PLAYERS: a built-in policy as it is published, but for pooled-v1's half-life of 60 rounds."""
    path = _DEFINITIONS / f"{POOLED if name == POOLED_LINUCB else name}.json"
    definition = json.loads(path.read_text("utf-8"))
    if name == POOLED_LINUCB:
        definition = {part: definition[part] for part in ("inputs", "terms")} | {"rule": {"alpha": 1}}
    policy = definitions.compile_policy(name, definitions.parse(definition))
    if policy.population is None:
        return policy
    return replace(policy, population=replace(policy.population, half_life=_HALF_LIFE))


def encode(policy: Policy, drawn: Drawn) -> NDArray[np.float64]:
    """Return the policy's features of all candidates, shape (m, n, d)."""
    fields = zip(drawn.is_overdue.ravel(), drawn.age.ravel(), drawn.priority.ravel(), strict=True)
    X = policy.features.encode(
        [{"hour_of_day": hour, "day_of_week": 0} for hour in drawn.hours.tolist()],
        [
            {"is_overdue": bool(is_overdue), "task_age_days": float(age), "priority": int(priority)}
            for is_overdue, age, priority in fields
        ],
        [CANDIDATES] * len(drawn.rounds),
    ).X
    return X.reshape(len(drawn.rounds), CANDIDATES, -1)


def play(policy: Policy, drawn: Drawn) -> Played:
    """Decide round by round, and learn from each reward when it is known."""
    X = encode(policy, drawn)
    owners = np.zeros_like(drawn.users) if policy.name == POOLED_LINUCB else drawn.users
    known = _group(drawn.known)
    evidence: dict[int, Evidence] = {}
    m = len(drawn.rounds)
    played = Played(np.zeros(m, np.intp), np.zeros(m), np.full(m, np.nan))
    for number, own in _group(drawn.rounds).items():
        at = _time(number)
        for row in known.pop(number, ()):
            owner, chosen = int(owners[row]), played.chosen[row]
            weight = policy.weigh(_time(int(drawn.rounds[row])))
            before = evidence.get(owner) or policy.fresh()
            reward = float(drawn.rewards[row, chosen])
            evidence[owner] = observe(before, X[row, chosen], reward, 1.0 if weight is None else weight)
        if policy.population is not None and number % _FIT_EVERY == 0 and evidence:
            policy = fit(policy, evidence, at)
        users, which = np.unique(owners[own], return_inverse=True)
        models = policy.believe([evidence.get(user) or policy.fresh() for user in users.tolist()], [at] * len(users))
        choices = policies.choose(
            policy.rule,
            models,
            which.tolist(),
            X[own].reshape(-1, X.shape[2]),
            [CANDIDATES] * len(own),
            drawn.seeds[own].tolist(),
        )
        played.chosen[own] = [choice.index for choice in choices]
        played.expected[own] = [choice.exploit[choice.index] for choice in choices]
        if policy.rule.alpha:
            played.deviation[own] = [choice.explore[choice.index] / policy.rule.alpha for choice in choices]
    return played


def fit(policy: Policy, evidence: Mapping[int, Evidence], at: datetime) -> Policy:
    """Return a pooled policy with the prior fitted to the evidence about its users."""
    shared = policy.population
    assert shared is not None
    fade = 1 / shared.weigh(at)
    users = list(evidence.values())
    sample = Sample(
        A=fade * np.array([one.A for one in users]),
        b=fade * np.array([one.b for one in users]),
        weight=fade * np.array([one.weight for one in users], np.float64),
        squares=fade * np.array([one.squares for one in users], np.float64),
    )
    return replace(policy, population=replace(shared, prior=population.fit(sample, shared.prior)))


def _time(number: int) -> datetime:
    return START + timedelta(days=number)


def _group(numbers: NDArray[np.intp]) -> dict[int, list[int]]:
    """Return the indexes of each number, in the order of the numbers."""
    groups: dict[int, list[int]] = defaultdict(list)
    for place in np.argsort(numbers, kind="stable").tolist():
        groups[int(numbers[place])].append(place)
    return groups
