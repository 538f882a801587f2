"""Logged decisions: rows of the same tip, and numbers that contradict the recomputed ones."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.logged_decisions import DecisionBlock, Mismatch, find_first_rows, find_mismatch
from oo_ml.domain.policies import VOTES, PolicyChoice, Rule, choose, recompute
from oo_ml.domain.ridge import stack
from tests.domain.beliefs import believe, draw_belief

RULES: Final = [Rule(0.3, 0.7), Rule(0.0), Rule(0.02, 1.0, 0.3), Rule(0.0, None, 1.0), Rule(1.0)]
IDS: Final = "abcd"
Log = dict[str, Any]


def make_log(rule: Rule, seed: int, *, decisions: int = 3) -> Log:
    """Make decisions among four candidates, each by a model of its own; return the arguments of find_mismatch."""
    rng = np.random.default_rng(seed)
    models = [draw_belief(rng, 3, place) for place in range(decisions)]
    counts = [len(IDS)] * decisions
    X = rng.normal(size=(sum(counts), 3))
    choices = choose(rule, stack(models), range(decisions), X, counts, list(range(decisions)))
    block = DecisionBlock(
        rule=rule,
        models=stack(models),
        which=range(decisions),
        counts=counts,
        X=X,
        tips=np.arange(sum(counts)),
        is_chosen=np.concatenate([np.arange(len(IDS)) == choice.index for choice in choices]),
        propensities=np.concatenate([choice.propensities for choice in choices]),
        versions=[],
        version_probabilities=np.full(decisions, np.nan),
    )
    return {
        "block": block,
        "x": X[block.is_chosen],
        "propensity": block.propensities[block.is_chosen],
        "exploit": np.concatenate([choice.exploit for choice in choices]),
    }


def change(log: Log, name: str, place: int | tuple[int, int], value: float) -> Log:
    """Return a log with another number."""
    if name == "propensities":
        propensities = log["block"].propensities.copy()
        propensities[place] = value
        return log | {"block": replace(log["block"], propensities=propensities)}
    array = log[name].copy()
    array[place] = value
    return log | {name: array}


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(seed=st.integers(0, 2**32))
def test_log_as_it_was_made(rule: Rule, seed: int) -> None:
    """Decisions as they were made have no mismatch, nor have they after another machine's rounding."""
    log = make_log(rule, seed)
    assert find_mismatch(**log) is None
    assert find_mismatch(**log | {"exploit": log["exploit"] * (1 + 1e-12)}) is None
    assert find_mismatch(**change(log, "propensity", 1, log["propensity"][1] * (1 + 1e-12))) is None


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_mismatches(rule: Rule) -> None:
    """A wrong number is found with its place and the expected one, x to its last bit."""
    log = make_log(rule, 1)
    x, propensity, exploit = (
        float(log[name].ravel()[place]) for name, place in (("x", 5), ("propensity", 1), ("exploit", 6))
    )
    other = np.nextafter(x, 2)
    assert find_mismatch(**change(log, "x", (1, 2), other)) == Mismatch(1, "x", 2, x, other)
    assert find_mismatch(**change(log, "propensity", 1, propensity / 2)) == Mismatch(
        1, "propensity", None, propensity, propensity / 2
    )
    found = find_mismatch(**change(log, "exploit", 6, exploit + 1e-3))
    assert found is not None
    assert (found[:3], found.found) == ((1, "exploit", 2), exploit + 1e-3)
    assert found.expected == pytest.approx(exploit)
    propensities = log["block"].propensities
    for wrong in (np.nan, propensities[6] + 0.7 / VOTES, propensities[6] - 0.7 / VOTES):
        found = find_mismatch(**change(log, "propensities", 6, wrong))
        assert found is not None
        assert found[:3] == (1, "propensities", 2)
        assert found.expected == pytest.approx(propensities[6])


def test_tip_that_is_no_candidate() -> None:
    """A tip that is not among the candidates is found."""
    log = make_log(RULES[0], 1)
    block = replace(log["block"], is_chosen=log["block"].is_chosen & (log["block"].decisions != 2))
    found = find_mismatch(**log | {"block": block})
    assert found is not None
    assert found[:2] == (2, "tip_id")


@pytest.mark.parametrize("other", [(0.0, 1.0, 0.0), (1.0, 0.0, 0.0)], ids=str)
def test_tie(other: tuple[float, ...]) -> None:
    """Of two candidates that tie, another machine may have chosen the other one."""
    X = np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 0.1]])
    rule, models = Rule(0.0, 1.0), stack([believe(2)])
    [choice] = choose(rule, models, [0], X, [3], [1])
    assert choice.propensities.tolist() == [1, 0, 0]
    propensities = np.array(other)
    block = DecisionBlock(
        rule=rule,
        models=models,
        which=[0],
        counts=[3],
        X=X,
        tips=np.arange(3),
        is_chosen=propensities == 1,
        propensities=propensities,
        versions=[],
        version_probabilities=np.array([np.nan]),
    )
    log = {"block": block, "x": X[propensities == 1], "propensity": np.ones(1), "exploit": np.zeros(3)}
    assert find_mismatch(**log) is None
    both = find_mismatch(**change(log, "propensities", 0, 1.0) | {"propensity": np.ones(1)})
    assert (both is None) == (other[0] == 1)
    third = find_mismatch(**change(log, "propensities", 2, 1.0))
    assert third is not None
    assert third[:3] == (0, "propensities", 2)


def test_range_of_propensities() -> None:
    """Without ties the range of recompute is the propensity itself; candidates that tie share a range."""

    def decide(rule: Rule, X: np.ndarray, function: Callable[..., Any], last: object) -> Any:  # noqa: ANN401
        return function(rule, stack([believe(2)]), [0], X, [len(X)], last)

    X = np.array([[1.0, 0.2], [0.3, 0.5], [0.3, 0.5]])
    for rule in RULES:
        choice: PolicyChoice = decide(rule, X[:2], choose, [1])[0]
        again = decide(rule, X[:2], recompute, 1e-9)
        if rule.exploration < 1 and (rule.alpha or rule.sigma):
            assert again.least == pytest.approx(choice.propensities)
            assert again.most == pytest.approx(choice.propensities)
        _, least, most = decide(rule, X, recompute, 1e-9)
        assert least[1] == least[2]
        assert most[1] == most[2]


def test_first_rows() -> None:
    """Rows with the same tip share the first row's number."""
    assert list(find_first_rows(["a", "b", "a", "c", "b"])) == [0, 1, 0, 3, 1]
    assert list(find_first_rows(["a", "b"])) == [0, 1]
