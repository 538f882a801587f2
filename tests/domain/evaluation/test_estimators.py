"""The estimators against plain numpy, against known truths, and in cases with exact results."""

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from oo_ml.domain.evaluation import estimators
from oo_ml.domain.evaluation.estimators import Estimate, Summary, UserTotals, merge, summarise
from oo_ml.domain.evaluation.student import t95

Numbers = NDArray[np.float64]

seeds = st.integers(0, 2**32)
sizes = st.integers(2, 300)


def random_log(seed: int, n: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """w, r, q_logged and q_target of n decisions; some weights are 0, some are large."""
    rng = np.random.default_rng(seed)
    weights = np.exp(rng.normal(scale=1.5, size=n)) * (rng.random(n) < 0.8)
    weights[0] = 1.5
    return weights, rng.uniform(-1, 1, n), rng.normal(size=n), rng.normal(size=n)


def in_blocks(seed: int, *columns: Numbers) -> Summary:
    """Sum up a log in blocks of any length, empty ones too; each decision is of a user of its own."""
    n = len(columns[0])
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.integers(0, n + 1, rng.integers(0, 8)))
    return reduce(merge, (summarise(*block) for block in zip(*(np.split(one, ends) for one in columns), strict=True)))


def by_users(seed: int, users: NDArray[np.int64], *columns: Numbers) -> Summary:
    """Sum up a log in parts of whole users, each part in blocks of decisions in any order."""
    rng = np.random.default_rng(seed)
    part_of = rng.integers(0, 4, users.max() + 1)[users]
    summary = summarise(*(column[:0] for column in columns))
    for part in range(4):
        totals = UserTotals()
        rows = rng.permutation(np.flatnonzero(part_of == part))
        for block in np.split(rows, np.sort(rng.integers(0, len(rows) + 1, 3))):
            totals.add([f"user {user}" for user in users[block]], *(column[block] for column in columns))
        summary = merge(summary, totals.summarise())
    return summary


def compute_variance(e: Numbers, users: NDArray[np.int64]) -> float:
    """Return the variance of the mean of e, by its definition."""
    totals = np.array([(e - e.mean())[users == user].sum() for user in np.unique(users)])
    return float(len(totals) / (len(totals) - 1) * (totals**2).sum() / len(e) ** 2)


def assert_is(estimate: Estimate | None, mean: float, variance: float, users: int) -> None:
    """The estimate has this mean and variance, and the interval that follows from so many users."""
    assert estimate is not None
    assert estimate.variance is not None
    half = t95(users - 1) * math.sqrt(variance)
    assert (estimate.estimate, estimate.variance) == pytest.approx((mean, variance), rel=1e-9, abs=1e-12)
    assert (estimate.low, estimate.high) == pytest.approx((mean - half, mean + half), rel=1e-9, abs=1e-9)


@given(seeds, sizes)
def test_estimates_against_numpy(seed: int, n: int) -> None:
    """Every estimate equals its formula in plain numpy, whatever the blocks that were merged."""
    w, r, q_logged, q_target = random_log(seed, n)
    summary = in_blocks(seed, w, r, q_logged, q_target)
    d = q_target + w * (r - q_logged)
    s = (w * r).sum() / w.sum()
    assert_is(estimators.observed(summary), r.mean(), r.var(ddof=1) / n, n)
    assert_is(estimators.ips(summary), (w * r).mean(), (w * r).var(ddof=1) / n, n)
    assert_is(estimators.snips(summary), s, (w * (r - s)).var(ddof=1) / w.mean() ** 2 / n, n)
    assert_is(estimators.dr(summary), d.mean(), d.var(ddof=1) / n, n)
    assert_is(estimators.gain(summary), (d - r).mean(), (d - r).var(ddof=1) / n, n)
    assert estimators.effective_sample_size(summary) == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-9)
    assert (summary.n, summary.users, summary.max_weight) == (n, n, w.max())
    assert summary.mean_weight == pytest.approx(w.mean(), rel=1e-9)
    off = abs(w.mean() - 1) / math.sqrt(w.var(ddof=1) / n)
    assert estimators.weight_off(summary) == pytest.approx(off, rel=1e-9)


@given(seeds, sizes, st.booleans())
def test_estimates_by_user(seed: int, n: int, is_modelled: bool) -> None:
    """The variance of every estimate is that of users' totals, whatever the parts and blocks that were merged."""
    w, r, q_logged, q_target = random_log(seed, n)
    users = np.random.default_rng(seed).geometric(0.3, n)
    users[:2] = 0, 1
    summary = by_users(seed, users, w, r, *((q_logged, q_target) if is_modelled else ()))
    d = q_target + w * (r - q_logged)
    s = (w * r).sum() / w.sum()
    e = w * (r - s) / w.mean()
    expected = {
        "observed": (r.mean(), r),
        "ips": ((w * r).mean(), w * r),
        "snips": (s, e),
        "gain": (d.mean() - r.mean(), d - r) if is_modelled else (s - r.mean(), e - r),
    }
    if is_modelled:
        expected["dr"] = (d.mean(), d)
    assert summary.users == len(np.unique(users))
    for name, (mean, influence) in expected.items():
        estimate = getattr(estimators, name)(summary)
        assert_is(estimate, mean, compute_variance(influence, users), summary.users)
    assert estimators.effective_sample_size(summary) == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-9)
    off = abs(w.mean() - 1) / math.sqrt(compute_variance(w, users))
    assert estimators.weight_off(summary) == pytest.approx(off, rel=1e-9)


@given(seeds, sizes)
def test_estimates_without_a_model(seed: int, n: int) -> None:
    """Without a model of the reward there is no dr, and gain compares snips with the observed mean."""
    w, r, _, _ = random_log(seed, n)
    summary = in_blocks(seed, w, r)
    s = (w * r).sum() / w.sum()
    difference = w * (r - s) / w.mean() - (r - r.mean())
    assert estimators.dr(summary) is None
    assert_is(estimators.gain(summary), s - r.mean(), difference.var(ddof=1) / n, n)


@given(seeds, st.integers(1, 300))
def test_weights_of_one(seed: int, n: int) -> None:
    """If every weight is 1, every estimate is the observed mean, to the last bit, whatever the blocks."""
    _, r, q_logged, q_target = random_log(seed, n)
    summary = in_blocks(seed, np.ones(n), r, q_logged, q_target)
    ips, snips = estimators.ips(summary), estimators.snips(summary)
    assert snips is not None
    assert snips.estimate == ips.estimate == estimators.observed(summary).estimate
    assert ips.estimate == pytest.approx(math.fsum(r) / n, rel=1e-12, abs=1e-15)
    assert (summary.mean_weight, summary.max_weight, estimators.effective_sample_size(summary)) == (1.0, 1.0, n)
    assert estimators.weight_off(summary) == (None if n == 1 else 0.0)
    assert estimators.ips(summarise(np.ones(n), r)).estimate == r.mean()
    users = np.random.default_rng(seed).integers(0, 5, n)
    by_user = by_users(seed, users, np.ones(n), r, q_logged, q_target)
    assert estimators.ips(by_user).estimate == estimators.observed(by_user).estimate
    assert (by_user.mean_weight, estimators.effective_sample_size(by_user)) == (1.0, n)


def test_precision_far_from_zero() -> None:
    """Rewards that differ only in the seventh digit lose no precision, as they would in sums of squares."""
    n = 10_000
    w = random_log(2, n)[0]
    r = 1e6 + np.random.default_rng(2).random(n)
    summary = in_blocks(2, w, r, r, r)
    s = (w * (r - 1e6)).sum() / w.sum()
    assert_is(estimators.observed(summary), r.mean(), (r - 1e6).var(ddof=1) / n, n)
    assert_is(estimators.dr(summary), r.mean(), (r - 1e6).var(ddof=1) / n, n)
    snips = (w**2 * (r - 1e6 - s) ** 2).sum() / w.sum() ** 2 * n / (n - 1)
    assert_is(estimators.snips(summary), 1e6 + s, snips, n)
    users = np.random.default_rng(3).integers(0, 300, n)
    by_user = by_users(3, users, w, r, r, r)
    assert_is(estimators.observed(by_user), r.mean(), compute_variance(r - 1e6, users), 300)


def test_one_decision() -> None:
    """One decision gives estimates without intervals."""
    summary = summarise(np.array([2.0]), np.array([0.5]), np.array([0.25]), np.array([0.125]))
    assert estimators.ips(summary) == Estimate(1.0, None, None, None)
    assert estimators.snips(summary) == Estimate(0.5, None, None, None)
    assert estimators.dr(summary) == Estimate(0.625, None, None, None)
    assert estimators.gain(summary) == Estimate(0.125, None, None, None)
    assert estimators.effective_sample_size(summary) == 1.0
    assert estimators.weight_off(summary) is None


def test_one_user() -> None:
    """One user gives estimates without intervals, however many decisions there are."""
    totals = UserTotals()
    totals.add(["ada"] * 50, *random_log(1, 50))
    summary = totals.summarise()
    every = (estimators.observed, estimators.ips, estimators.snips, estimators.dr, estimators.gain)
    for estimate in [estimator(summary) for estimator in every]:
        assert estimate is not None
        assert (estimate.variance, estimate.low, estimate.high) == (None, None, None)
    assert estimators.weight_off(summary) is None


def test_weights_of_zero() -> None:
    """If every weight is 0, there is no snips, and the effective sample size is 0."""
    summary = summarise(np.zeros(3), np.ones(3))
    assert estimators.snips(summary) is estimators.gain(summary) is None
    assert estimators.effective_sample_size(summary) == 0.0


def test_empty_block() -> None:
    """Merging an empty block changes nothing, with or without a model."""
    nothing = summarise(np.empty(0), np.empty(0))
    for log in (summarise(*random_log(1, 9)), summarise(*random_log(1, 9)[:2])):
        assert merge(nothing, log) is merge(log, nothing) is log
    assert merge(nothing, nothing).n == nothing.max_weight == 0
    assert UserTotals().summarise().n == 0


def test_equal_weights_other_than_one() -> None:
    """Equal weights other than 1 are infinitely many standard errors from 1."""
    assert estimators.weight_off(summarise(np.full(9, 0.5), np.ones(9))) == math.inf


def test_coverage_of_intervals() -> None:
    """95 % intervals cover the truth in 930 to 970 of 1000 random worlds.

    Each world has moments, candidates, a policy, a target and a wrong model of its own. The truth is the target's mean
    reward over the distribution of moments, not over the moments that were drawn.
    """
    worlds, n, moments, candidates = 1000, 400, 6, 4
    rng = np.random.default_rng(20261123)
    covered = dict.fromkeys(("ips", "snips", "dr"), 0)
    errors: dict[str, list[float]] = {name: [] for name in covered}
    for _ in range(worlds):
        chance = rng.dirichlet(np.full(moments, 5.0))
        logged = 0.3 / candidates + 0.7 * rng.dirichlet(np.ones(candidates), moments)
        target = rng.dirichlet(np.ones(candidates), moments)
        mean = rng.uniform(0.1, 0.9, (moments, candidates))
        model = mean + rng.normal(scale=0.2, size=mean.shape)
        truth = chance @ (target * mean).sum(axis=1)

        moment = rng.choice(moments, n, p=chance)
        action = (rng.random((n, 1)) > logged[moment].cumsum(axis=1)).sum(axis=1).clip(max=candidates - 1)
        reward = (rng.random(n) < mean[moment, action]).astype(np.float64)
        weight = target[moment, action] / logged[moment, action]
        summary = summarise(weight, reward, model[moment, action], (target * model).sum(axis=1)[moment])
        for name in covered:
            estimate = getattr(estimators, name)(summary)
            covered[name] += estimate.low <= truth <= estimate.high
            errors[name].append(estimate.estimate - truth)
    assert all(930 <= count <= 970 for count in covered.values()), covered
    for name, off in errors.items():
        # No bias either: the mean error is within three of its standard errors.
        assert abs(np.mean(off)) < 3 * np.std(off) / math.sqrt(worlds), name
    assert max(np.std(errors["dr"]), np.std(errors["snips"])) < 0.9 * np.std(errors["ips"])


def test_coverage_with_different_users() -> None:
    """If users differ, 95 % intervals cover the truth in 920 to 980 of 1000 worlds; from decisions, in fewer than 700.

    Each world has 120 users whose base rates have a standard deviation of 0.2, and who decide 5 to 75 times each.
    Decisions are drawn at random, and the target prefers the better candidate. The truth is the mean over all users.
    """
    worlds, users = 1000, 120
    rng = np.random.default_rng(20261126)
    names = ("observed", "ips", "snips", "dr")
    covered, covered_by_decisions = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    target, lift = np.array([0.2, 0.8]), np.array([-0.05, 0.05])
    truths = {"observed": 0.5} | dict.fromkeys(names[1:], 0.5 + target @ lift)
    for _ in range(worlds):
        base = 0.5 + 0.2 * rng.choice([-1.0, 0.0, 0.0, 1.0], users) * math.sqrt(2)
        user = np.repeat(np.arange(users), rng.integers(5, 76, users))
        n = len(user)
        action = rng.integers(0, 2, n)
        reward = (rng.random(n) < base[user] + lift[action]).astype(np.float64)
        # A model that knows the candidates, but not the users.
        columns = (target[action] / 0.5, reward, 0.5 + lift[action], np.full(n, 0.5 + target @ lift))
        totals = UserTotals()
        totals.add(list(user), *columns)
        for counts, summary in ((covered, totals.summarise()), (covered_by_decisions, summarise(*columns))):
            for name in names:
                estimate = getattr(estimators, name)(summary)
                counts[name] += estimate.low <= truths[name] <= estimate.high
    assert all(920 <= count <= 980 for count in covered.values()), covered
    assert all(count < 700 for count in covered_by_decisions.values()), covered_by_decisions
