"""Refusals: targets that the log can't support, and logs that contradict the ledger."""

from datetime import timedelta
from typing import Final

import pytest
from sqlalchemy import Engine

from oo_ml.domain.evaluation.targets import OwnPolicy, Prompt, Uniform, describe
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, Rule
from oo_ml.errors import EvaluationRefusedError, LogContradictedError, NothingToEvaluateError
from oo_ml.storage.user_ranges import UserRange
from tests.policies import DIMENSIONS
from tests.services.evaluation.evaluating import evaluate_ranges, look, run
from tests.simulated_users import CERTAIN, EXPLORING, NOON, SimulatedUsers


@pytest.mark.parametrize(
    ("policy", "variable"),
    [(LINUCB, "OO_ML_EXPLORATION"), (EPSILON_GREEDY, "OO_ML_EPSILON")],
    ids=["linucb", "egreedy"],
)
def test_deterministic_log(db: Engine, policy: str, variable: str) -> None:
    """A deterministic log supports only its own policy; the error names the share and the setting to change."""
    simulated = SimulatedUsers(db, 5, CERTAIN)
    for _ in range(20):
        simulated.react(simulated.decide(policy=policy, ids=["a", "b"]))
    for target, share in ((Uniform(), "50.0%"), (OwnPolicy(Rule(0.2, 0.7)), "")):
        with pytest.raises(EvaluationRefusedError) as refused:
            look(db, target)
        assert refused.value.message.startswith(f"Cannot evaluate {describe(target)}: {share}")
        assert "had propensity 0 in the log, and no decision was drawn at random. " in refused.value.message
        assert f"Set {variable} ({policy}) above 0" in refused.value.message
        assert "--since" in refused.value.message
        assert "\n" not in refused.value.message
    own = OwnPolicy(Rule(0.0, 0.7) if policy == LINUCB else Rule(0.0))
    assert look(db, own).max_weight == 1.0


def test_log_that_explores_later(db: Engine) -> None:
    """Only decisions of the period count; the error names the settings of both policies."""
    simulated = SimulatedUsers(db, 6)
    for policy in DIMENSIONS:
        for number in range(40):
            later = number >= 20
            at = NOON + timedelta(days=int(later), seconds=number)
            parameters = EXPLORING if later else CERTAIN
            simulated.react(simulated.decide(policy=policy, ids=["a", "b"], parameters=parameters, at=at))
    with pytest.raises(
        EvaluationRefusedError,
        match=r"25\.0% of the tips it would show had propensity 0 in the log\. .*egreedy-v1\) and .*linucb-v1",
    ):
        look(db, Uniform())
    assert look(db, Uniform(), since=NOON + timedelta(days=1)).n == 40
    assert look(db, Uniform(), since=NOON + timedelta(days=1), policy=LINUCB).n == 20
    assert look(db, OwnPolicy(Rule(0.0, 0.7)), policy=LINUCB).n == 40
    # `since` itself is included.
    last = NOON + timedelta(days=1, seconds=39)
    assert look(db, Uniform(), since=last).n == 2
    assert look(db, Uniform(), since=last.astimezone()).n == 2
    with pytest.raises(NothingToEvaluateError):
        look(db, Uniform(), since=last + timedelta(microseconds=1))
    # `until` itself is not.
    assert look(db, Uniform(), since=NOON + timedelta(days=1), until=last).n == 38
    with pytest.raises(NothingToEvaluateError, match=r"no decision to evaluate$"):
        look(db, Uniform(), until=NOON)


@pytest.mark.parametrize(("certain", "is_refused"), [(2, False), (3, True)])
def test_limit_of_missing_support(db: Engine, certain: int, is_refused: bool) -> None:
    """Up to 1 % of the tips that the target would show may have propensity 0."""
    simulated = SimulatedUsers(db, 7)
    for number in range(100):
        parameters = CERTAIN if number < certain else EXPLORING
        simulated.react(simulated.decide(ids=["a", "b"], parameters=parameters))
    if is_refused:
        with pytest.raises(EvaluationRefusedError, match=r"1\.5%"):
            look(db, Uniform())
    else:
        assert look(db, Uniform()).share_without_support == 0.01


def test_nothing_to_evaluate(db: Engine) -> None:
    """An empty log, decisions without rewards and decisions without the prompt version are refused."""
    with pytest.raises(NothingToEvaluateError) as nothing:
        look(db, Uniform())
    assert nothing.value.message == "The log holds no decision to evaluate"
    simulated = SimulatedUsers(db, 8)
    decision_id = simulated.decide(ids=["a", "b"], versions=["v1", "v2"])
    simulated.decide(ids=["a", "b"])
    with pytest.raises(NothingToEvaluateError, match="to evaluate, only 2 without a reward"):
        look(db, Uniform())
    simulated.react(decision_id)
    other = {"a": "v2", "b": "v1"}[simulated.chosen[decision_id]]
    with pytest.raises(NothingToEvaluateError, match="only 1 without a reward, 1 without a tip of that prompt version"):
        look(db, Prompt("v3"))
    with pytest.raises(
        EvaluationRefusedError, match=f"Cannot evaluate prompt:{other}: it would choose none of the tips"
    ):
        look(db, Prompt(other))
    one = look(db, Uniform())
    assert (one.n, one.unrewarded, one.ips.low, one.gain.low) == (1, 1, None, None)


TAMPERED: Final = {
    "x": "UPDATE oo_ml.feature_history SET x = x[1:4] || float8 '0.25' WHERE {one}",
    "length of x": "UPDATE oo_ml.feature_history SET x = x[1:4] WHERE {one}",
    "moment": """UPDATE oo_ml.feature_history SET context = '{{"hour_of_day": 25, "day_of_week": 1}}' WHERE {one}""",
    "context": """UPDATE oo_ml.feature_history SET context = '{{"hour_of_day": "noon"}}' WHERE {one}""",
    "candidates": "UPDATE oo_ml.feature_history SET candidates = candidates - 0 WHERE {one}",
    "no candidates": "UPDATE oo_ml.feature_history SET candidates = '[]' WHERE {one}",
    "other candidates": """UPDATE oo_ml.feature_history SET candidates = '[{{"id": "a"}}, 1]' WHERE {one}""",
    "tip": "UPDATE oo_ml.feature_history SET tip_id = 'c' WHERE {one}",
    "propensity": "UPDATE oo_ml.feature_history SET propensity = propensity / 2 WHERE {one}",
    "propensities": "UPDATE oo_ml.feature_history SET propensities = '{{0.1, 0.2}}' WHERE {one}",
    "exploit": "UPDATE oo_ml.feature_history SET exploit = '{{0.1, 0.2}}' WHERE {one}",
    "version": "UPDATE oo_ml.feature_history SET version = 5 WHERE {one}",
    "version beyond the ledger": "UPDATE oo_ml.feature_history SET version = 99 WHERE {one}",
    "epoch": "UPDATE oo_ml.feature_history SET epoch = 0 WHERE {one}",
    "reward in the ledger": "UPDATE oo_ml.reward_ledger SET reward = -1 WHERE {own} AND version = 4",
    "x in the ledger": "UPDATE oo_ml.reward_ledger SET x = x[1:4] WHERE {own} AND version = 4",
    "change lost": "DELETE FROM oo_ml.reward_ledger WHERE {own} AND version = 4",
    "last change lost": "DELETE FROM oo_ml.reward_ledger WHERE {own} AND version = 10",
    "import lost": "DELETE FROM oo_ml.reward_ledger WHERE {own} AND kind = 'import'",
    "import": (
        "UPDATE oo_ml.reward_ledger SET start_a = start_a[1:4][1:4], start_b = start_b[1:4]"
        " WHERE {own} AND kind = 'import'"
    ),
    "import of zeros": (
        "UPDATE oo_ml.reward_ledger SET start_a = array_fill(0.0, ARRAY[cardinality(start_b), cardinality(start_b)])"
        " WHERE {own} AND kind = 'import'"
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_log_that_contradicts_the_ledger(db: Engine, what: str) -> None:
    """A decision that the ledger contradicts fails the evaluation, with its place and a hint at `oo-ml verify`."""
    simulated = SimulatedUsers(db, 11)
    simulated.import_state("a\tda")
    for user_id in ("a\tda", "ben"):
        for _ in range(12):
            simulated.react(simulated.decide(user_id, ids=["a", "b"]))
    own = OwnPolicy(Rule(0.3, 0.7))
    assert look(db, own).n == 24
    run(db, TAMPERED[what].format(own="user_id LIKE 'a%'", one="user_id LIKE 'a%' AND version = 7"))
    with pytest.raises(LogContradictedError, match=r"^'a\\tda': (linucb|egreedy)-v1, .*`oo-ml verify`"):
        look(db, own)
    # Other users can be evaluated.
    [ben] = evaluate_ranges(db, own, UserRange.of("ben"))
    assert ben.summary.n == 12


def test_missing_entry_without_effect(db: Engine) -> None:
    """A missing ledger entry is found even if it would not change any score."""
    simulated = SimulatedUsers(db, 15)
    for _ in range(4):
        simulated.react(simulated.decide(ids=["a", "b"]), 0.0)
    run(db, "DELETE FROM oo_ml.reward_ledger WHERE version = 2")
    with pytest.raises(LogContradictedError, match=r"decision .*, version 2:"):
        look(db, Uniform())
    run(db, "DELETE FROM oo_ml.feature_history WHERE version = 2")
    with pytest.raises(LogContradictedError, match="epoch 0, version 3:"):
        look(db, Uniform())
