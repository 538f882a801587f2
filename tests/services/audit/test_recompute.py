"""Recomputed decisions: verify finds a latest decision that its state, definition and candidates do not give."""

import re
from typing import Final

import pytest
from sqlalchemy import Engine, text

from oo_ml.services.audit import recompute
from oo_ml.services.audit.verify import verify
from oo_ml.storage.user_ranges import ALL_USERS
from tests.services.policies.readers import NOON, Readers, publish_policy
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers
from tests.superuser import superuser

_PLACE: Final = r"news-v1, epoch 0, decision [0-9a-f-]{36}: expected "
_RECOMPUTED: Final = ", recomputed from its state and candidates, found "
_OTHER_TOPIC: Final = """
    candidates = jsonb_set(candidates, '{1,features,topic}', to_jsonb(
        CASE candidates #>> '{1,features,topic}' WHEN 'news' THEN 'arts' ELSE 'news' END
    ))
"""
_OTHER_ORDER: Final = """
    candidates = (
        SELECT jsonb_agg(c.value ORDER BY c.place DESC)
        FROM jsonb_array_elements(candidates) WITH ORDINALITY AS c (value, place)
    )
"""
# One vote of 64, from the candidate with most votes to another.
_OTHER_VOTE: Final = """
    propensities = ARRAY(
        SELECT p.value + CASE p.rank WHEN 1 THEN -1 WHEN 2 THEN 1 ELSE 0 END * 0.98 / 64
        FROM (
            SELECT value, place, row_number() OVER (ORDER BY value DESC, place) AS rank
            FROM unnest(propensities) WITH ORDINALITY AS u (value, place)
        ) AS p
        ORDER BY p.place
    )
"""
_WITHOUT_PROPENSITIES: Final = "exploration = NULL, exploit = NULL, explore = NULL, propensities = NULL"
TAMPERED: Final = {
    "one bit of x": ("x[1] = x[1] + 2.3e-16", rf"x\[0\] = 1\.0{_RECOMPUTED}1\.0000000000000002"),
    "context": ("context = '{\"hour\": 3.5}'", rf"(x|exploit)\[\d+\] = .*{_RECOMPUTED}.*"),
    "absent context": ("context = '{}'", "a context and candidates that news-v1 can have decided on, found others"),
    "features": ("features = features || '{\"words\": 1}'", "features to be those of the tip among .*, found others"),
    "features of a candidate": (_OTHER_TOPIC, rf"(x|exploit|propensities)\[\d+\] = .*{_RECOMPUTED}.*"),
    "order of candidates": (_OTHER_ORDER, rf"(exploit|propensities)\[\d+\] = .*{_RECOMPUTED}.*"),
    "candidate lost": ("candidates = candidates - 4", "a context and candidates that .*"),
    "tip": ("tip_id = 'another'", "tip_id to be one of its candidates, found another"),
    "exploit": ("exploit[3] = exploit[3] + 0.01", rf"exploit\[2\] = .*{_RECOMPUTED}.*"),
    "propensities": (_OTHER_VOTE, rf"propensities\[\d\] = .*{_RECOMPUTED}.*"),
    "propensity": ("propensity = propensity * 0.5", rf"propensity = .*{_RECOMPUTED}.*"),
    "alpha": ("alpha = 3", rf"propensities\[\d\] = .*{_RECOMPUTED}.*"),
    "exploration": ("exploration = 0.03", rf"propensities\[\d\] = .*{_RECOMPUTED}.*"),
    "version": ("version = 1", rf"(exploit|propensities)\[\d\] = .*{_RECOMPUTED}.*"),
    "version to come": ("version = 99", "a version that the ledger has reached, found 99"),
}


@pytest.fixture
def readers(db: Engine) -> Readers:
    """Two readers; the rewards of ada have moved the model away from 0."""
    simulated = Readers(db, publish_policy(db, "news-v1"))
    for user_id in ("ada", "ben"):
        simulated.live(user_id)
    return simulated


def find_sentence(db: Engine) -> str | None:
    """Return the difference that verify finds."""
    with writing(db) as connection:
        [report] = verify(connection, [ALL_USERS])
    return None if report.difference is None else report.difference.sentence


def tamper(db: Engine, change: str, number: int) -> None:
    """Change the decision with this number, from 1, of ada."""
    with superuser(db) as connection:
        statement = f"UPDATE oo_ml.feature_history SET {change} WHERE user_id = 'ada' AND pull = {number}"  # noqa: S608
        assert connection.execute(text(statement)).rowcount == 1


@pytest.mark.usefixtures("readers")
@pytest.mark.parametrize("what", TAMPERED)
def test_tampering(db: Engine, what: str) -> None:
    """The sentence names the decision, the expected and the found."""
    assert find_sentence(db) is None
    change, sentence = TAMPERED[what]
    tamper(db, change, 12)
    found = find_sentence(db)
    assert found is not None
    assert re.fullmatch(_PLACE + sentence, found), found


@pytest.mark.parametrize("users", [1, 40])
def test_sample(db: Engine, monkeypatch: pytest.MonkeyPatch, users: int) -> None:
    """Of many users the latest decision of each is recomputed, of few users more; candidates end a sample too."""
    monkeypatch.setattr(recompute, "_DECISIONS", 40)
    simulated = Readers(db, publish_policy(db, "news-v1"))
    for user_id in ["ada", *(f"user {number}" for number in range(1, users))]:
        for _ in range(2):
            simulated.react(simulated.decide(user_id))
    tamper(db, "alpha = 9", 1)
    assert (find_sentence(db) is None) == (users == 40)
    tamper(db, "alpha = 9", 2)
    assert find_sentence(db) is not None
    monkeypatch.setattr(recompute, "_CANDIDATES", 5)
    # The first decision of the sample reaches the limit.
    assert find_sentence(db) is not None


def test_decisions_that_are_not_recomputed(db: Engine) -> None:
    """Decisions of earlier epochs, and older ones without propensities, are left out; imported states are used."""
    simulated = SimulatedUsers(db, 3)
    simulated.import_state("ada")
    for number in range(6):
        simulated.react(simulated.decide("ada"), 0.5)
        if number == 2:
            simulated.reset("ada")
    for _ in range(3):
        simulated.react(simulated.decide("ben", at=NOON), 0.5)
    with superuser(db) as connection:
        for change in (
            "alpha = 9 WHERE user_id = 'ada' AND epoch = 1",
            f"{_WITHOUT_PROPENSITIES} WHERE user_id = 'ben' AND pull < 3",
        ):
            assert connection.execute(text(f"UPDATE oo_ml.feature_history SET {change}")).rowcount  # noqa: S608
    assert find_sentence(db) is None
    simulated.import_state("cleo")
    simulated.decide("cleo")
    assert find_sentence(db) is None
    with superuser(db) as connection:
        change = "UPDATE oo_ml.feature_history SET exploit = (SELECT array_agg(e + 1) FROM unnest(exploit) AS e)"
        assert connection.execute(text(f"{change} WHERE user_id = 'cleo'")).rowcount
    found = find_sentence(db)
    assert found is not None
    assert found.startswith("linucb-v1, epoch 1, decision ")
