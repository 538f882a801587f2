"""What the service's log can't support, or contradicts, is not evaluated; it is said why, and what to do."""

from datetime import timedelta
from typing import Final

import pytest
from sqlalchemy import Engine

from oo_ml.domain.evaluation.targets import Prompt, Ruled, Uniform, describe
from oo_ml.domain.policies import DIMENSIONS, EPSILON_GREEDY, LINUCB, Rule
from oo_ml.errors import EvaluationRefusedError, LogContradictedError, NothingToEvaluateError
from oo_ml.storage.audit import People
from tests.services.evaluation.evaluating import found_of, look, run
from tests.simulated_users import CERTAIN, EXPLORING, NOON, SimulatedUsers


@pytest.mark.parametrize(
    ("policy", "variable"),
    [(LINUCB, "OO_ML_EXPLORATION"), (EPSILON_GREEDY, "OO_ML_EPSILON")],
    ids=["linucb", "egreedy"],
)
def test_a_deterministic_log_supports_no_other_policy(db: Engine, policy: str, variable: str) -> None:
    """It is said how much had no chance, and what to set; the policy that made the log is no other."""
    simulated = SimulatedUsers(db, 5, CERTAIN)
    for _ in range(20):
        simulated.react(simulated.decide(policy=policy, ids=["a", "b"]))
    for target, share in ((Uniform(), "50.0%"), (Ruled(Rule(0.2, 0.7)), "")):
        with pytest.raises(EvaluationRefusedError) as refused:
            look(db, target)
        assert refused.value.message.startswith(f"The log can't tell what {describe(target)} would earn: its policy is")
        assert "deterministic" in refused.value.message
        assert share in refused.value.message
        assert f"Set {variable} ({policy}) above 0" in refused.value.message
        assert "--since" in refused.value.message
        assert "\n" not in refused.value.message
    own = Ruled(Rule(0.0, 0.7) if policy == LINUCB else Rule(0.0))
    assert look(db, own).max_weight == 1.0


def test_a_log_that_explored_later_supports_others_since_then(db: Engine) -> None:
    """Before that, too much had no chance; both policies' settings are named if both lacked."""
    simulated = SimulatedUsers(db, 6)
    for policy in DIMENSIONS:
        for number in range(40):
            later = number >= 20
            at = NOON + timedelta(days=int(later), seconds=number)
            parameters = EXPLORING if later else CERTAIN
            simulated.react(simulated.decide(policy=policy, ids=["a", "b"], parameters=parameters, at=at))
    with pytest.raises(
        EvaluationRefusedError, match=r"some of it has no chance .* 25\.0% .*egreedy-v1\) and .*linucb-v1"
    ):
        look(db, Uniform())
    assert look(db, Uniform(), since=NOON + timedelta(days=1)).n == 40
    assert look(db, Uniform(), since=NOON + timedelta(days=1), policy=LINUCB).n == 20
    assert look(db, Ruled(Rule(0.0, 0.7)), policy=LINUCB).n == 40
    # The moment itself is in.
    last = NOON + timedelta(days=1, seconds=39)
    assert look(db, Uniform(), since=last).n == 2
    assert look(db, Uniform(), since=last.astimezone()).n == 2
    with pytest.raises(NothingToEvaluateError):
        look(db, Uniform(), since=last + timedelta(microseconds=1))


@pytest.mark.parametrize(("certain", "is_refused"), [(2, False), (3, True)])
def test_a_little_without_support_is_put_up_with(db: Engine, certain: int, is_refused: bool) -> None:
    """Up to a hundredth of what the target would show."""
    simulated = SimulatedUsers(db, 7)
    for number in range(100):
        parameters = CERTAIN if number < certain else EXPLORING
        simulated.react(simulated.decide(ids=["a", "b"], parameters=parameters))
    if is_refused:
        with pytest.raises(EvaluationRefusedError, match=r"1\.5%"):
            look(db, Uniform())
    else:
        assert look(db, Uniform()).share_without_support == 0.01


def test_what_no_decision_says_is_not_made_up(db: Engine) -> None:
    """No decision, none with a reward, none of a prompt version, and all of another."""
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
    with pytest.raises(NothingToEvaluateError, match="only 1 without a reward, 1 without a tip by that version"):
        look(db, Prompt("v3"))
    with pytest.raises(EvaluationRefusedError, match=f"what prompt:{other} would earn: it would choose nothing"):
        look(db, Prompt(other))
    one = look(db, Uniform())
    assert (one.n, one.unrewarded, one.ips.low, one.gain.low) == (1, 1, None, None)


TAMPERED: Final = {
    "x": "UPDATE oo_ml.feature_history SET x = x[1:4] || float8 '0.25' WHERE {one}",
    "length of x": "UPDATE oo_ml.feature_history SET x = x[1:4] WHERE {one}",
    "moment": """UPDATE oo_ml.feature_history SET context = '{{"hour_of_day": 25, "day_of_week": 1}}' WHERE {one}""",
    "context": "UPDATE oo_ml.feature_history SET context = '{{}}' WHERE {one}",
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
def test_a_log_that_contradicts_the_ledger_is_not_evaluated(db: Engine, what: str) -> None:
    """It is said where it does, and what can say more."""
    simulated = SimulatedUsers(db, 11)
    simulated.import_state("a\tda")
    for user_id in ("a\tda", "ben"):
        for _ in range(12):
            simulated.react(simulated.decide(user_id, ids=["a", "b"]))
    own = Ruled(Rule(0.3, 0.7))
    assert look(db, own).n == 24
    run(db, TAMPERED[what].format(own="user_id LIKE 'a%'", one="user_id LIKE 'a%' AND version = 7"))
    with pytest.raises(LogContradictedError, match=r"^'a\\tda': (linucb|egreedy)-v1, .*`oo-ml verify`"):
        look(db, own)
    # Everybody else's is fine.
    [ben] = found_of(db, own, People("ben", "ben"))
    assert ben.summary.n == 12


def test_a_change_that_changed_no_score_is_missed(db: Engine) -> None:
    """As long as nothing was liked theta is 0, whatever the ledger says."""
    simulated = SimulatedUsers(db, 15)
    for _ in range(4):
        simulated.react(simulated.decide(ids=["a", "b"]), 0.0)
    run(db, "DELETE FROM oo_ml.reward_ledger WHERE version = 2")
    with pytest.raises(LogContradictedError, match=r"decision .*, version 2:"):
        look(db, Uniform())
    run(db, "DELETE FROM oo_ml.feature_history WHERE version = 2")
    with pytest.raises(LogContradictedError, match="epoch 0, version 3:"):
        look(db, Uniform())
