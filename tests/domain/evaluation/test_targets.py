"""Target policies: their names, and their probabilities of choosing the candidates."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.evaluation.targets import (
    AlwaysFirst,
    OwnPolicy,
    Prompt,
    Published,
    Target,
    Uniform,
    describe,
    parse,
    weigh,
)
from oo_ml.domain.logged_decisions import DecisionBlock, find_first_rows, find_mismatch
from oo_ml.domain.policies import Rule, choose
from oo_ml.domain.ridge import stack
from tests.domain.beliefs import believe, draw_belief

GREEDY = OwnPolicy(Rule(0.0))
# Theta is (1/2, 0), so that the candidates below are worth 0, 1/2 and 1/4.
LIKES_FIRST_FEATURE = believe(2, [(np.array([1.0, 0.0]), 1.0)])
X = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
LOGGED = (0.5, 0.3, 0.2)


def build_block(
    ids: str = "abc",
    chosen: str = "a",
    logged: Sequence[float] = LOGGED,
    versions: Sequence[str | None] = (None, None, None),
    version_probability: float = np.nan,
) -> DecisionBlock:
    """One decision."""
    return DecisionBlock(
        rule=Rule(0.0),
        models=stack([LIKES_FIRST_FEATURE]),
        which=[0],
        counts=[len(ids)],
        X=X[: len(ids)],
        tips=np.array(find_first_rows(ids)),
        is_chosen=np.array([one == chosen for one in ids]),
        propensities=np.array(logged),
        versions=versions,
        version_probabilities=np.array([version_probability]),
    )


def join_blocks(*decisions: DecisionBlock) -> DecisionBlock:
    """Several decisions in one block, each from a model of its own."""
    ends = np.cumsum([one.counts[0] for one in decisions])
    return DecisionBlock(
        rule=Rule(0.0),
        models=stack([LIKES_FIRST_FEATURE] * len(decisions)),
        which=range(len(decisions)),
        counts=[one.counts[0] for one in decisions],
        X=np.concatenate([one.X for one in decisions]),
        tips=np.concatenate([one.tips + start for one, start in zip(decisions, [0, *ends[:-1]], strict=True)]),
        is_chosen=np.concatenate([one.is_chosen for one in decisions]),
        propensities=np.concatenate([one.propensities for one in decisions]),
        versions=[version for one in decisions for version in one.versions],
        version_probabilities=np.concatenate([one.version_probabilities for one in decisions]),
    )


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("uniform", Uniform()),
        ("always-first", AlwaysFirst()),
        ("greedy", GREEDY),
        ("linucb alpha=0.5", OwnPolicy(Rule(0.0, 0.5))),
        ("linucb alpha=0.5 exploration=0.1", OwnPolicy(Rule(0.1, 0.5))),
        ("  linucb  exploration=.1  alpha=5e-1 ", OwnPolicy(Rule(0.1, 0.5))),
        ("egreedy epsilon=1", OwnPolicy(Rule(1.0))),
        ("egreedy epsilon=0", GREEDY),
        ("prompt:v2-mentor", Prompt("v2-mentor")),
        ("prompt:a b: c", Prompt("a b: c")),
        ("linucb-v1", Published("linucb-v1")),
        ("ucb", Published("ucb")),
    ],
)
def test_names_of_targets(name: str, target: Target) -> None:
    """`parse` and `describe` are inverse to each other."""
    assert parse(name) == target
    assert parse(describe(target)) == target


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "uniform 2",
        "greedy alpha=1",
        "linucb",
        "linucb exploration=0.1",
        "linucb alpha",
        "linucb alpha=",
        "linucb alpha=x",
        "linucb alpha=nan",
        "linucb alpha=inf",
        "linucb alpha=-1",
        "linucb alpha=1 alpha=1",
        "linucb alpha=1 epsilon=0.1",
        "linucb alpha=1 exploration=1.1",
        "egreedy",
        "egreedy epsilon=-0.1",
        "egreedy epsilon=0.1 alpha=1",
        "prompt:",
        "always-first alpha=1",
        "news v1",
        "news:v1",
    ],
)
def test_unknown_names(name: str) -> None:
    """Any other name is refused with the list of targets."""
    with pytest.raises(
        ValueError,
        match=r'uniform, always-first, greedy, "linucb alpha=1".*prompt:VERSION or the name of a published policy',
    ) as caught:
        parse(name)
    assert str(caught.value).startswith(f"unknown target {name!r}; use ")


@pytest.mark.parametrize(
    ("target", "probabilities"),
    [
        (Uniform(), (1 / 3, 1 / 3, 1 / 3)),
        (AlwaysFirst(), (1, 0, 0)),
        (GREEDY, (0, 1, 0)),
        # By their bounds 2 x (1, 0.71, 0.61) + (0, 0.5, 0.25), the first wins.
        (OwnPolicy(Rule(0.3, 2.0)), (0.8, 0.1, 0.1)),
        (OwnPolicy(Rule(0.3)), (0.1, 0.8, 0.1)),
    ],
)
def test_weights_of_targets(target: Target, probabilities: tuple[float, ...]) -> None:
    """The weight is the target's probability of the chosen tip divided by the logged one; q is theta.x."""
    decisions = [build_block(chosen=chosen) for chosen in "abc"]
    weighed = weigh(target, join_blocks(*decisions))
    assert weighed.weights == pytest.approx(np.array(probabilities) / LOGGED)
    assert weighed.q_logged == pytest.approx([0, 0.5, 0.25])
    assert weighed.q_target == pytest.approx([np.dot(probabilities, [0, 0.5, 0.25])] * 3)
    assert weighed.without_support.tolist() == [0, 0, 0]
    for place, decision in enumerate(decisions):
        assert weigh(target, decision).weights == weighed.weights[place]


def test_support() -> None:
    """`without_support` is the target's probability of tips with propensity 0."""
    decision = build_block(chosen="b", logged=(0.0, 1.0, 0.0))
    shares = [
        weigh(target, decision).without_support.item()
        for target in (Uniform(), AlwaysFirst(), GREEDY, OwnPolicy(Rule(0.3)))
    ]
    assert shares == pytest.approx([2 / 3, 1, 0, 0.2])


@given(
    st.integers(0, 2**32),
    st.sampled_from([Rule(0.3, 0.7), Rule(0.1), Rule(0.0, 1.0), Rule(1.0), Rule(0.02, 1.0, 0.3), Rule(0.0, None, 1.0)]),
)
def test_policy_of_the_log(seed: int, parameters: Rule) -> None:
    """The policy that made the log has weight 1, to the last bit, even with tips listed several times."""
    rng = np.random.default_rng(seed)
    models = [draw_belief(rng, 5, place * 3) for place in range(3)]
    counts = rng.integers(1, 12, size=9).tolist()
    which = rng.integers(0, 3, size=9).tolist()
    features = rng.normal(size=(sum(counts), 5))
    names = [rng.choice(list("abcdef"), count).tolist() for count in counts]
    # Made one by one.
    starts = np.cumsum([0, *counts[:-1]]).tolist()
    seeds = rng.integers(0, 2**63, size=9).tolist()
    choices = [
        choose(parameters, stack(models), [model], features[start : start + count], [count], [one])[0]
        for model, start, count, one in zip(which, starts, counts, seeds, strict=True)
    ]
    offers = DecisionBlock(
        rule=parameters,
        models=stack(models),
        which=which,
        counts=counts,
        X=features,
        tips=np.concatenate([start + np.array(find_first_rows(own)) for start, own in zip(starts, names, strict=True)]),
        is_chosen=np.array(
            [one == own[choice.index] for own, choice in zip(names, choices, strict=True) for one in own]
        ),
        propensities=np.concatenate([choice.propensities for choice in choices]),
        versions=[],
        version_probabilities=np.full(9, np.nan),
    )
    weighed = weigh(OwnPolicy(parameters), offers)
    assert weighed.weights.tolist() == [1.0] * 9
    assert weighed.without_support.tolist() == [0.0] * 9
    x = np.array([features[start + choice.index] for start, choice in zip(starts, choices, strict=True)])
    exploit = np.concatenate([choice.exploit for choice in choices])
    assert find_mismatch(offers, x, np.minimum(offers.sum_chosen(offers.propensities), 1.0), exploit) is None


def test_tip_listed_twice() -> None:
    """The probabilities of a tip listed twice add up, and its expected reward is the mean over its rows."""
    decision = build_block("aba", "a", (0.0, 0.5, 0.5))
    weighed = weigh(Uniform(), decision)
    assert weighed.weights == pytest.approx([2 / 3 / 0.5])
    # The first row alone had no chance, but the tip had.
    assert weighed.without_support.tolist() == [0]
    assert weighed.q_logged == pytest.approx([(0 + 0.25) / 2])
    assert weighed.q_target == pytest.approx([(0.125 * 2 + 0.5) / 3])
    assert weigh(AlwaysFirst(), decision).q_target == pytest.approx([0.125])
    assert weigh(GREEDY, decision).weights.tolist() == [0]


def test_prompt_version_with_unknown_probability() -> None:
    """If q is unknown, the target is the log's policy restricted to the version's tips."""
    weighed = weigh(
        Prompt("v2"),
        join_blocks(
            build_block(chosen="a", versions=("v2", "v1", "v2")),
            build_block(chosen="b", versions=("v2", "v1", "v2")),
            build_block(chosen="b", versions=(None, "v2", "v1")),
        ),
    )
    assert weighed.weights == pytest.approx([1 / 0.7, 0, 1 / 0.3])
    assert weighed.q_target == pytest.approx([0.25 * 0.2 / 0.7, 0.25 * 0.2 / 0.7, 0.5])
    assert weighed.without_support.tolist() == [0, 0, 0]


def test_prompt_version_without_support() -> None:
    """A version whose tips all had propensity 0 has no support."""
    weighed = weigh(Prompt("v2"), build_block(chosen="b", logged=(0, 1, 0), versions=("v2", "v1", "v2")))
    assert (weighed.weights.tolist(), weighed.without_support.tolist()) == ([0], [1])


def test_prompt_version_with_known_probability() -> None:
    """If q is known, w is 1/q for a tip of the version and 0 for another's."""
    weighed = weigh(
        Prompt("v2"),
        join_blocks(
            build_block(chosen="a", versions=("v2", "v2", "v2"), version_probability=0.25),
            build_block(chosen="a", versions=("v2", "v1", None), version_probability=0.25),
            build_block(chosen="a", versions=("v1", "v1", "v1"), version_probability=0.75),
            build_block(chosen="a", versions=("v1", "v2", "v2"), version_probability=0.75),
            build_block(chosen="c", versions=("v1", "v2", "v2")),
        ),
    )
    assert weighed.weights == pytest.approx([4, 4, 0, 0, 1 / 0.5])
    assert weighed.q_target[:4] == pytest.approx([0.5 * 0.3 + 0.25 * 0.2] * 4)
    assert weighed.without_support.tolist() == [0] * 5


def test_mean_weight_of_a_prompt_version() -> None:
    """The mean weight is 1, even if the candidates come from several calls that each drew a version."""
    rng = np.random.default_rng(3)
    decisions = []
    for _ in range(4000):
        versions = ["v2" if own else "v1" for own in rng.random(3) < 0.3]
        place = rng.choice(3, p=LOGGED)
        q = 0.3 if versions[place] == "v2" else 0.7
        decisions.append(build_block(chosen="abc"[place], versions=versions, version_probability=q))
    assert weigh(Prompt("v2"), join_blocks(*decisions)).weights.mean() == pytest.approx(1, abs=0.1)
