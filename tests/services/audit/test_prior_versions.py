"""Decisions of users who learn from each other: verify recomputes each from its own version of the prior."""

import re
from datetime import timedelta
from typing import Final

import pytest
from sqlalchemy import Engine, text

from oo_ml.services.decisions.reset import reset
from tests.services.audit.test_recompute import find_sentence
from tests.services.audit.test_verify import RETAINED
from tests.services.decisions.batches import collect_statements
from tests.services.policies.readers import Readers, define, publish_policy
from tests.services.policies.shared_readers import SHARED, insert_prior, live_with_priors
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers
from tests.superuser import superuser

_PLACE: Final = r"shared-v1, epoch 0, decision [0-9a-f-]{36}: expected "
_ENTRY: Final = r"shared-v1, epoch 0, version \d+(, decision [0-9a-f-]{36})?: expected "
_NUMBER: Final = r"[0-9.e+]+"
# The open decision of ada from version 1.
_HISTORY: Final = """
    UPDATE oo_ml.feature_history SET {}
    WHERE user_id = 'ada' AND reward_kind IS NULL AND reward IS NULL AND prior_version = 1
"""
_REWARDED: Final = "UPDATE oo_ml.feature_history SET {} WHERE user_id = 'ada' AND pull = 1"
_OLD: Final = "UPDATE oo_ml.reward_ledger SET {} WHERE user_id = 'ada' AND epoch = 0 AND kind = 'amend'"
_STATE: Final = "UPDATE oo_ml.policy_state SET {} WHERE user_id = 'ada'"
_NEXT_BIT: Final = "* (1 + 2.0::float8 ^ -52)"
TAMPERED: Final = {
    "prior_version": (
        "UPDATE oo_ml.feature_history SET prior_version = 1 WHERE user_id = 'ada' AND prior_version = 2",
        rf"{_PLACE}(exploit|propensities)\[\d\] = .*",
    ),
    "first prior_version": (_HISTORY.format("prior_version = 0"), rf"{_PLACE}(exploit|propensities)\[\d\] = .*"),
    "prior_score": (
        _HISTORY.format("prior_score = prior_score + 0.001"),
        rf"{_PLACE}prior_score = .*, recomputed from its state and candidates, found .*",
    ),
    "weight": (
        _HISTORY.format("weight = weight * 1.00000001"),
        rf"{_PLACE}weight = .*, by its policy and time, found .*",
    ),
    "time": (_HISTORY.format("decided_at = decided_at + interval '1 day'"), rf"{_PLACE}weight = .*"),
    "no prior": (
        _HISTORY.format("prior_version = NULL, prior_score = NULL, weight = NULL"),
        rf"{_PLACE}weight = [0-9.]+, by its policy and time, found null",
    ),
    "weight of a rewarded decision": (
        _REWARDED.format(f"weight = weight {_NEXT_BIT}"),
        rf"{_PLACE}weight = [0-9.]+, as in its last ledger entry, version \d+, found [0-9.]+",
    ),
    "state's weight": (_STATE.format(f"weight = weight {_NEXT_BIT}"), rf"{_ENTRY}weight = [0-9.]+, found [0-9.]+"),
    "state's squares": (_STATE.format(f"squares = squares {_NEXT_BIT}"), rf"{_ENTRY}squares = [0-9.]+, found [0-9.]+"),
    "state of a policy that is not pooled": (
        _STATE.format("weight = NULL, squares = NULL"),
        rf"{_ENTRY}weight = .*, found null",
    ),
    "entry's weight": (
        "UPDATE oo_ml.reward_ledger SET weight = weight * 2 WHERE user_id = 'ada' AND version = 1",
        rf"{_ENTRY}A\[0\]\[0\] = [0-9.]+, found [0-9.]+",
    ),
    "entry without a weight": (
        "UPDATE oo_ml.reward_ledger SET weight = NULL WHERE user_id = 'ada' AND version = 1",
        rf"{_ENTRY}a weight, because the policy is pooled, found none",
    ),
}


def run(db: Engine, statement: str) -> None:
    """Change rows."""
    with superuser(db) as connection:
        assert connection.execute(text(statement)).rowcount, statement


@pytest.fixture
def readers(db: Engine) -> Readers:
    """Two readers with decisions from three versions of a prior."""
    return live_with_priors(db)


@pytest.mark.usefixtures("readers")
def test_each_version(db: Engine) -> None:
    """Each decision is recomputed from the version that it started from, also after later fits."""
    with writing(db) as connection:
        versions = connection.scalars(text("SELECT DISTINCT prior_version FROM oo_ml.feature_history ORDER BY 1")).all()
    assert versions == [0, 1, 2]
    assert find_sentence(db) is None


@pytest.mark.usefixtures("readers")
@pytest.mark.parametrize("what", TAMPERED)
def test_tampering(db: Engine, what: str) -> None:
    """The sentence names the decision, entry or state, the expected and the found."""
    statement, sentence = TAMPERED[what]
    run(db, statement)
    found = find_sentence(db)
    assert found is not None
    assert re.fullmatch(sentence, found), found


def test_weight_of_an_old_epoch(db: Engine, readers: Readers) -> None:
    """All entries of a decision have its weight, in epochs before the last reset too."""
    with writing(db) as connection:
        reset(connection, ["ada"])
    readers.react(readers.decide("ada"))
    assert find_sentence(db) is None
    run(db, _OLD.format(f"weight = weight {_NEXT_BIT}"))
    found = find_sentence(db)
    assert found is not None
    assert re.fullmatch(rf"{_ENTRY}weight = [0-9.]+, that of version \d+ of the same decision, found [0-9.]+", found)


@pytest.mark.parametrize(
    ("entries", "decisions", "place"),
    [
        ("decision_id = '{first}'", "decision_id = '{first}'", r"version 1, decision [0-9a-f-]{36}"),
        ("decision_id IS NULL", "false", r"version \d+"),
        ("false", "decision_id = '{open}'", r"decision [0-9a-f-]{36}"),
    ],
    ids=["of a decision", "without a decision", "open"],
)
def test_forged_weights(db: Engine, readers: Readers, entries: str, decisions: str, place: str) -> None:
    """Every weight follows from its policy and time, in every epoch, also where decisions and ledger agree."""
    readers.teach("ada")
    own = [decision_id for decision_id, (user_id, _) in readers.decisions.items() if user_id == "ada"]
    names = {"first": own[0], "open": own[-1]}
    with writing(db) as connection:
        reset(connection, ["ada"])
    assert find_sentence(db) is None
    with superuser(db) as connection:
        changed = 0
        for table, condition in (("reward_ledger", entries), ("feature_history", decisions)):
            change = f"UPDATE oo_ml.{table} SET weight = weight * 1000 WHERE user_id = 'ada' AND "  # noqa: S608
            changed += connection.execute(text(change + condition.format(**names))).rowcount
    assert changed
    found = find_sentence(db)
    assert found is not None
    assert re.fullmatch(
        rf"shared-v1, epoch 0, {place}: expected weight = {_NUMBER}, by its policy and time, found {_NUMBER}", found
    ), found


@pytest.mark.parametrize(("factor", "is_found"), [(0.5, False), (1.1, False), (1.11, True), (1e6, True)])
@pytest.mark.usefixtures("readers")
def test_weight_past_retention(db: Engine, factor: float, is_found: bool) -> None:
    """An entry whose decision was removed has at most the weight of a decision that came a day after the entry."""
    with writing(db) as connection:
        reset(connection, ["ada"])
    run(db, RETAINED)
    with superuser(db) as connection:
        change = f"""
            WITH removed AS (DELETE FROM oo_ml.feature_history WHERE user_id = 'ada' AND pull = 1 RETURNING decision_id)
            UPDATE oo_ml.reward_ledger AS l SET weight = weight * {factor}
            FROM removed WHERE l.user_id = 'ada' AND l.decision_id = removed.decision_id
        """  # noqa: S608
        assert connection.execute(text(change)).rowcount == 1
    found = find_sentence(db)
    assert (found is not None) == is_found
    if found is not None:
        assert re.fullmatch(rf"{_ENTRY}weight <= {_NUMBER}, by its policy and time, found {_NUMBER}", found), found


def test_weights_of_all_time(db: Engine) -> None:
    """The weights of many years are those that verify expects, with and without a half-life."""
    for name, half_life in (("short-v1", 7), ("long-v1", 36_500), ("ever-v1", None)):
        evidence = {"prior": "population", "half_life_days": half_life}
        readers = Readers(db, publish_policy(db, name, define(evidence=evidence)), timedelta(days=700))
        for _ in range(10):
            readers.react(readers.decide(name))
    assert find_sentence(db) is None


def test_weight_without_a_population(db: Engine) -> None:
    """Neither a decision nor an entry of a policy that is not pooled has a weight."""
    simulated = SimulatedUsers(db, 1)
    simulated.react(simulated.decide("ada"), 0.5)
    simulated.decide("ada")
    assert find_sentence(db) is None
    run(db, "UPDATE oo_ml.feature_history SET prior_version = 0, prior_score = 0, weight = 1 WHERE reward IS NULL")
    found = find_sentence(db)
    assert found is not None
    assert found.endswith(": expected weight = null, by its policy and time, found 1.0")
    run(db, "UPDATE oo_ml.reward_ledger SET weight = 1")
    assert find_sentence(db) == (
        "linucb-v1, epoch 0, version 1: expected no weight, because the policy is not pooled, found 1.0"
    )


@pytest.mark.parametrize("fitted_later", [False, True])
def test_unknown_version(db: Engine, readers: Readers, fitted_later: bool) -> None:
    """Decisions from a version that was deleted, or fitted after them, are left out; others are recomputed."""
    run(db, "DELETE FROM oo_ml.policy_priors WHERE version = 1")
    if fitted_later:
        insert_prior(db, readers.policy, 1, readers.now, seed=9)
    run(db, "UPDATE oo_ml.feature_history SET alpha = 9 WHERE prior_version = 1")
    assert find_sentence(db) is None
    run(db, "UPDATE oo_ml.feature_history SET alpha = 9 WHERE prior_version = 2")
    assert find_sentence(db) is not None


def test_statements(db: Engine) -> None:
    """The versions that decisions need are read by one statement; version 0 is not read."""

    def count() -> int:
        with collect_statements(db) as statements:
            assert find_sentence(db) is None
        return sum("policy_priors" in statement for statement in statements)

    Readers(db, publish_policy(db, "start-v1", SHARED)).live("zoe")
    assert count() == 0
    live_with_priors(db)
    assert count() == 1
