"""Doubts: an evaluation says why its estimates can't be relied on."""

from io import BytesIO

import pytest

from oo_ml.services.evaluation.doubts import DoubtKind
from oo_ml.services.evaluation.from_file import evaluate_file

HEADER = "action,reward,propensity,p_target"
MODELLED = f"{HEADER},q_logged,q_target"


def find_kinds(*lines: str, header: str = HEADER) -> list[DoubtKind]:
    """Return the kinds of doubts about a log."""
    content = "\n".join([header, *lines])
    return [doubt.kind for doubt in evaluate_file(BytesIO(content.encode())).doubts]


@pytest.mark.parametrize(("decisions", "kinds"), [(98, [DoubtKind.SMALL_SAMPLE]), (100, []), (102, [])])
def test_effective_sample(decisions: int, kinds: list[DoubtKind]) -> None:
    """Below an effective sample size of 100 the result is doubtful; here every weight is 1."""
    assert find_kinds(*["a,1,0.5,0.5", "b,0,0.5,0.5"] * (decisions // 2)) == kinds


def test_effective_sample_of_unequal_weights() -> None:
    """The number that counts is the effective sample size, and not the number of decisions."""
    # Half of the decisions have the weight 0, the others 2.
    assert find_kinds(*["a,0.5,0.5,1", "b,1,0.5,0"] * 99) == [DoubtKind.SMALL_SAMPLE]
    assert find_kinds(*["a,0.5,0.5,1", "b,1,0.5,0"] * 100) == []


@pytest.mark.parametrize(("propensity", "is_doubtful"), [("0.01", True), ("0.02", False)])
def test_decision_with_much_weight(propensity: str, is_doubtful: bool) -> None:
    """One decision with more than a tenth of all weight makes the result doubtful."""
    # The weights of the others add up to 600, so the tenth is 66.7.
    kinds = find_kinds(*["a,0.5,0.5,0.5", "b,0,0.5,0.5"] * 300, f"c,1,{propensity},1")
    assert (DoubtKind.DOMINANT_DECISION in kinds) == is_doubtful


@pytest.mark.parametrize(("users", "kinds"), [(1, [DoubtKind.FEW_USERS]), (19, [DoubtKind.FEW_USERS]), (20, [])])
def test_few_users(users: int, kinds: list[DoubtKind]) -> None:
    """Fewer than 20 users are doubtful, however many decisions they made."""
    lines = [f"{number % users},a,{number % 3},0.5,0.5" for number in range(400)]
    assert find_kinds(*lines, header=f"user,{HEADER}") == kinds


def test_single_decision() -> None:
    """One decision has no interval, and all the weight."""
    evaluation = evaluate_file(BytesIO(f"{HEADER}\na,1,0.5,0.5".encode()))
    assert [doubt.kind for doubt in evaluation.doubts] == [DoubtKind.SMALL_SAMPLE, DoubtKind.DOMINANT_DECISION]
    assert (evaluation.largest_share, evaluation.gain.low) == (1, None)


def test_estimators_that_disagree() -> None:
    """The reasons name each pair of estimators whose intervals do not overlap."""
    # By the rewards the target earns 0.5, but the model expects 0.9 of its choice and its correction is lost: every
    # decision has a propensity that is twice too high.
    lines = ["a,1,1,0.5,0.9,0.9", "b,0,0.999,0.5,0.9,0.9"] * 200
    content = "\n".join([MODELLED, *lines]).encode()
    reasons = {doubt.reason.partition(" do not")[0] for doubt in evaluate_file(BytesIO(content)).doubts}
    assert {"the 95 % intervals of SNIPS and IPS", "the 95 % intervals of DR and IPS"} <= reasons


def test_estimators_that_agree() -> None:
    """A model that is far off, with right propensities, leaves intervals that overlap."""
    lines = ["a,1,0.5,0.5,-1,-1", "b,0,0.5,0.5,3,3", "a,0,0.5,0.5,2,2", "b,1,0.5,0.5,0,0"] * 100
    assert find_kinds(*lines, header=MODELLED) == []


def test_equal_estimates_without_variance() -> None:
    """Estimates that differ in the last bits do not disagree: every reward is 0.1."""
    assert find_kinds(*["a,0.1,0.3,0.3,0.1,0.1", "b,0.1,0.7,0.7,0.1,0.1"] * 333, header=MODELLED) == []


def test_wrong_propensities() -> None:
    """A mean weight far from 1 makes the result doubtful."""
    assert find_kinds(*["a,1,0.5,1", "b,0,0.5,0"] * 100) == []
    assert DoubtKind.MEAN_WEIGHT in find_kinds(*["a,1,0.9,1", "b,0,0.9,0"] * 100)
