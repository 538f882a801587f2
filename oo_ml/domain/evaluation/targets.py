"""Target policies: the policies to evaluate, and the probability with which each would choose a candidate."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain import policies
from oo_ml.domain.identifiers import is_policy_name
from oo_ml.domain.logged_decisions import DecisionBlock
from oo_ml.domain.policies import Policy, Rule
from oo_ml.domain.ridge import Ridge, theta

_PROMPT: Final = "prompt:"
POSSIBLE: Final = (
    'uniform, always-first, greedy, "linucb alpha=1", "linucb alpha=1 exploration=0.1", "egreedy epsilon=0.1",'
    f" {_PROMPT}VERSION or the name of a published policy"
)
# The first words of targets that are no published policies. No policy can be published under such a name.
RESERVED: Final = ("uniform", "always-first", "greedy", "linucb", "egreedy")


@dataclass(frozen=True, slots=True)
class Uniform:
    """Chooses each candidate with the same probability."""


@dataclass(frozen=True, slots=True)
class AlwaysFirst:
    """Always chooses the first candidate."""


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """One of the service's policies with other parameters, applied to the model that the log's policy had learned."""

    parameters: Rule


@dataclass(frozen=True, slots=True)
class Prompt:
    """The log's own policy, if `version` had written every tip.

    This is exact if the version of the chosen tip was drawn with a known probability q. The policy depends on the task
    and not on the words, so w is 1/q if `version` wrote the tip, else 0. Otherwise the policy is restricted to the
    candidates that `version` wrote, and a decision without such a candidate is left out.
    """

    version: str


@dataclass(frozen=True, slots=True)
class Published:
    """The published policy of this name, with its own features and rule.

    If its features are those of the log's policy, and neither is pooled, it chooses by the model that policy
    had learned. Otherwise it chooses by the model that it would have learned from the same rewards.
    """

    name: str


Target = Uniform | AlwaysFirst | OwnPolicy | Prompt | Published


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The decisions of a block as a published policy sees them.

    Attributes:
        policy: the policy.
        models: its models, a stack of k.
        which: the index of each decision's model, m numbers below k.
        X: its features of the candidates, shape (n, d).
    """

    policy: Policy
    models: Ridge
    which: Sequence[int]
    X: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """m decisions, weighed by a target policy.

    Attributes:
        weights: w of each decision, shape (m,); see domain/evaluation/estimators.py.
        q_logged: theta.x of the chosen tip, shape (m,); the mean if it was listed more than once.
        q_target: the mean of theta.x over the target's choice, shape (m,).
        without_support: the probability with which the target chooses a tip of propensity 0, shape (m,).
    """

    weights: NDArray[np.float64]
    q_logged: NDArray[np.float64]
    q_target: NDArray[np.float64]
    without_support: NDArray[np.float64]


def parse(text: str) -> Target:  # noqa: PLR0911 - one for each kind
    """Return the target with a name.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if version := text.removeprefix(_PROMPT) if text.startswith(_PROMPT) else "":
        return Prompt(version)
    name, *words = text.split() or [""]
    match name:
        case "uniform" if not words:
            return Uniform()
        case "always-first" if not words:
            return AlwaysFirst()
        case "greedy" if not words:
            return OwnPolicy(Rule(0.0))
        case "linucb":
            numbers = _parse_numbers(words, {"alpha": sys.float_info.max, "exploration": 1})
            if "alpha" in numbers:
                return OwnPolicy(Rule(numbers.get("exploration", 0.0), numbers["alpha"]))
        case "egreedy":
            numbers = _parse_numbers(words, {"epsilon": 1})
            if "epsilon" in numbers:
                return OwnPolicy(Rule(numbers["epsilon"]))
        case _ if name not in RESERVED and is_policy_name(text):
            return Published(text)
    raise ValueError(f"unknown target {text!r}; use {POSSIBLE}")


def describe(target: Target) -> str:
    """Return the name of a target, for `parse`."""
    match target:
        case Uniform():
            return "uniform"
        case AlwaysFirst():
            return "always-first"
        case Prompt(version):
            return f"{_PROMPT}{version}"
        case Published(name):
            return name
        case OwnPolicy(Rule(exploration, None)):
            return f"egreedy epsilon={exploration!r}" if exploration else "greedy"
        case OwnPolicy(Rule(exploration, alpha)):
            return f"linucb alpha={alpha!r}" + (f" exploration={exploration!r}" if exploration else "")


def weigh(target: Target, block: DecisionBlock, seen: Seen | None = None) -> Weighed:
    """Weigh decisions by a target policy; `seen` is needed for a published one.

    Raises:
        ValueError: a chosen tip has propensity 0, or is not among the candidates.
    """
    logged = np.minimum(block.sum_chosen(block.propensities), 1.0)
    if not (logged > 0).all():
        raise ValueError("a chosen tip has propensity 0")
    exploit = np.einsum("nd,nd->n", block.X, theta(block.models)[np.repeat(block.which, block.counts)])
    match target:
        case Uniform():
            probabilities = 1 / np.repeat(block.counts, block.counts)
        case AlwaysFirst():
            probabilities = np.zeros(len(block.X))
            probabilities[list(accumulate(block.counts[:-1], initial=0))] = 1.0
        case OwnPolicy(rule):
            probabilities = _choose(rule, block.models, block.which, block.X, block.counts)
        case Published(name):
            if seen is None:
                raise ValueError(f"the features and models of {name} are missing")
            probabilities = _choose(seen.policy.rule, seen.models, seen.which, seen.X, block.counts)
        case Prompt(version):
            probabilities = _restrict(version, block)
    # As in the log, a sum that rounds past 1 counts as 1.
    weights = np.minimum(block.sum_chosen(probabilities), 1.0) / logged
    if isinstance(target, Prompt):
        weights *= _weigh_versions(target.version, block)
    # The mean over the rows of a tip. Any number will do, as long as q_logged and q_target use the same.
    q = block.sum_by_tip(exploit) / block.sum_by_tip(np.ones(len(exploit)))
    return Weighed(
        weights=weights,
        q_logged=block.sum_chosen(q) / block.sum_chosen(np.ones(len(q))),
        q_target=block.sum_by_decision(probabilities * q),
        without_support=block.sum_by_decision(np.where(block.sum_by_tip(block.propensities) == 0, probabilities, 0.0)),
    )


def _choose(
    rule: Rule, models: Ridge, which: Sequence[int], X: NDArray[np.float64], counts: Sequence[int]
) -> NDArray[np.float64]:
    """Return the propensities of all candidates, shape (n,)."""
    # The draws are not used.
    choices = policies.choose(rule, models, which, X, counts, [0] * len(counts))
    return np.concatenate([choice.propensities for choice in choices])


def _restrict(version: str, block: DecisionBlock) -> NDArray[np.float64]:
    """Return the log's probabilities; if a decision's q is unknown, only those of candidates by `version`, scaled to 1.

    If all of these are 0, candidates by `version` are equally likely.
    """
    is_known = ~np.isnan(block.version_probabilities)[block.decisions]
    is_own = is_known | np.array([one == version for one in block.versions])
    own = np.where(is_own, block.propensities, 0.0)
    sums = block.sum_by_decision(own)[block.decisions]
    numbers = block.sum_by_decision(is_own.astype(np.float64))[block.decisions]
    equal = is_own / numbers
    return np.where(is_known, own, np.divide(own, sums, out=equal, where=sums > 0))


def _weigh_versions(version: str, block: DecisionBlock) -> NDArray[np.float64]:
    """Return, shape (m,), 1/q if `version` wrote the chosen tip, 0 if another did, and 1 if q is unknown."""
    is_own = block.is_chosen & np.array([one == version for one in block.versions])
    q = block.version_probabilities
    return np.where(np.isnan(q), 1.0, (block.sum_by_decision(is_own.astype(np.float64)) > 0) / q)


def _parse_numbers(words: list[str], largest: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers of name=number words, from 0 to the `largest` of each; nothing if any word is invalid."""
    numbers: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            number = float(text)
        except ValueError:
            return {}
        if name in numbers or not 0 <= number <= largest.get(name, -1):
            return {}
        numbers[name] = number
    return numbers
