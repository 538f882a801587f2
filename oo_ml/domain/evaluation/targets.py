"""Target policies: those that a log is asked about, and how likely each of them is to choose what was offered."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain import policies
from oo_ml.domain.evaluation.logged_decisions import Offers
from oo_ml.domain.policies import Rule

_PROMPT: Final = "prompt:"
POSSIBLE: Final = (
    'uniform, always-first, greedy, "linucb alpha=1", "linucb alpha=1 exploration=0.1", "egreedy epsilon=0.1"'
    f" or {_PROMPT}VERSION"
)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Each candidate is as likely as any other."""


@dataclass(frozen=True, slots=True)
class AlwaysFirst:
    """The first candidate, always."""


@dataclass(frozen=True, slots=True)
class Ruled:
    """One of our policies, with parameters of its own and what the log's policy had learned by then."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class Prompt:
    """The log's own policy, had every tip been written by one prompt version.

    Where the version of the tip that was chosen was drawn, with probability q, that is exact: the policy looks at the
    task and not at the words, so w = 1/q if `version` wrote the tip, and else 0. Where it was not, or nobody knows q,
    the policy is confined to those candidates that `version` wrote; a decision without any says nothing.
    """

    version: str


Target = Uniform | AlwaysFirst | Ruled | Prompt


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What a target would have done in m decisions.

    Attributes:
        exploit: theta.x of each candidate by the model that its decision was made from, shape (n,).
        weights: w of each decision, shape (m,); see domain/evaluation/estimators.py.
        q_logged: theta.x of the tip that was chosen, shape (m,); of one offered more than once, the mean.
        q_target: the same of the target's choice, on average over that, shape (m,).
        without_support: how likely the target was to choose what had no chance in the log, shape (m,).
    """

    exploit: NDArray[np.float64]
    weights: NDArray[np.float64]
    q_logged: NDArray[np.float64]
    q_target: NDArray[np.float64]
    without_support: NDArray[np.float64]


def parse(text: str) -> Target:
    """Return the target of a name.

    Raises:
        ValueError: there is none; the message says which there are.
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
            return Ruled(Rule(0.0))
        case "linucb":
            numbers = _numbers(words, {"alpha": _is_width, "exploration": _is_share})
            if "alpha" in numbers:
                return Ruled(Rule(numbers.get("exploration", 0.0), numbers["alpha"]))
        case "egreedy":
            numbers = _numbers(words, {"epsilon": _is_share})
            if "epsilon" in numbers:
                return Ruled(Rule(numbers["epsilon"]))
    raise ValueError(f"{text!r} is no target: {POSSIBLE}")


def describe(target: Target) -> str:
    """Return the name of a target, by which `parse` knows it."""
    match target:
        case Uniform():
            return "uniform"
        case AlwaysFirst():
            return "always-first"
        case Prompt(version):
            return f"{_PROMPT}{version}"
        case Ruled(Rule(exploration, None)):
            return f"egreedy epsilon={exploration!r}" if exploration else "greedy"
        case Ruled(Rule(exploration, alpha)):
            return f"linucb alpha={alpha!r}" + (f" exploration={exploration!r}" if exploration else "")


def judge(target: Target, offers: Offers) -> Judged:
    """Return what `target` would have done.

    Raises:
        ValueError: a tip was chosen that had no chance, or that was not offered.
    """
    logged = np.minimum(offers.of_shown(offers.logged), 1.0)
    if not (logged > 0).all():
        raise ValueError("what was chosen had no chance")
    rule = target.rule if isinstance(target, Ruled) else Rule(0.0)
    # What would have been drawn does not matter.
    seeds = [0] * len(offers.counts)
    choices = policies.choose(rule, offers.models, offers.which, offers.X, offers.counts, seeds)
    exploit = np.concatenate([choice.exploit for choice in choices])
    match target:
        case Uniform():
            probabilities = 1 / np.repeat(offers.counts, offers.counts)
        case AlwaysFirst():
            probabilities = np.zeros(len(offers.X))
            probabilities[list(accumulate(offers.counts[:-1], initial=0))] = 1.0
        case Ruled():
            probabilities = np.concatenate([choice.propensities for choice in choices])
        case Prompt(version):
            probabilities = _confined(version, offers)
    # Sums that round past one don't in the log either.
    weights = np.minimum(offers.of_shown(probabilities), 1.0) / logged
    if isinstance(target, Prompt):
        weights *= _version_weights(target.version, offers)
    # Any number that is the same for all rows of a tip will do: what counts is that both sides take the same.
    q = offers.of_tips(exploit) / offers.of_tips(np.ones(len(exploit)))
    return Judged(
        exploit=exploit,
        weights=weights,
        q_logged=offers.of_shown(q) / offers.of_shown(np.ones(len(q))),
        q_target=offers.sums(probabilities * q),
        without_support=offers.sums(np.where(offers.of_tips(offers.logged) == 0, probabilities, 0.0)),
    )


def _confined(version: str, offers: Offers) -> NDArray[np.float64]:
    """Return the log's probabilities; where nobody knows how its version was picked, those of candidates by `version`.

    Where all of them are 0, the candidates by `version` are equally likely.
    """
    is_known = ~np.isnan(offers.version_probabilities)[offers.decisions]
    is_own = is_known | np.array([one == version for one in offers.versions])
    own = np.where(is_own, offers.logged, 0.0)
    sums = offers.sums(own)[offers.decisions]
    numbers = offers.sums(is_own.astype(np.float64))[offers.decisions]
    equal = is_own / numbers
    return np.where(is_known, own, np.divide(own, sums, out=equal, where=sums > 0))


def _version_weights(version: str, offers: Offers) -> NDArray[np.float64]:
    """Return 1/q where `version` wrote the tip that was chosen, 0 where another did, and 1 where nobody knows q."""
    is_own = offers.is_shown & np.array([one == version for one in offers.versions])
    q = offers.version_probabilities
    return np.where(np.isnan(q), 1.0, (offers.sums(is_own.astype(np.float64)) > 0) / q)


def _numbers(words: list[str], known: Mapping[str, Callable[[float], bool]]) -> dict[str, float]:
    """Return name=number of each word; none at all if any is wrong."""
    numbers: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            number = float(text)
        except ValueError:
            return {}
        if name in numbers or name not in known or not known[name](number):
            return {}
        numbers[name] = number
    return numbers


def _is_width(number: float) -> bool:
    return 0 <= number < math.inf


def _is_share(number: float) -> bool:
    return 0 <= number <= 1
