"""Replay of a user who learned from others: every column is kept, and priors stay where they were fitted."""

import json
from typing import Final

import pytest
from sqlalchemy import Engine, text

from oo_ml.errors import ReplayRefusedError
from oo_ml.services.decisions.reset import reset
from tests.services.audit.test_recompute import find_sentence
from tests.services.policies.readers import NOON, Readers, publish_policy
from tests.services.policies.shared_readers import SHARED, insert_prior, live_with_priors
from tests.services.sample_users import dump_export, export_user, parse_export, parse_without_positions, replay_bytes
from tests.sessions import writing
from tests.superuser import superuser

_BITS: Final = """
    SELECT array_send(a), array_send(b), float8send(weight), float8send(squares)
    FROM oo_ml.policy_state WHERE user_id = 'ada'
"""


@pytest.fixture
def readers(db: Engine, other_db: Engine) -> Readers:
    """Readers of two epochs here, with three versions of a prior; the other database knows their policy only."""
    publish_policy(other_db, "shared-v1", SHARED)
    readers = live_with_priors(db, decisions=3)
    with writing(db) as connection:
        reset(connection, ["ada"])
    readers.live("ada", 3)
    return readers


@pytest.mark.usefixtures("readers")
def test_without_priors(db: Engine, other_db: Engine) -> None:
    """All rows and every bit of the state are the same there; decisions from versions unknown there are left out."""
    before = export_user(db, "ada")
    assert not replay_bytes(other_db, before).unchanged
    after = export_user(other_db, "ada")
    assert json.dumps(parse_without_positions(after)) == json.dumps(parse_without_positions(before))
    with writing(db) as here, writing(other_db) as there:
        assert here.execute(text(_BITS)).one() == there.execute(text(_BITS)).one()
    assert find_sentence(other_db) is None
    assert replay_bytes(other_db, before).unchanged


def test_later_fits(db: Engine, other_db: Engine, readers: Readers) -> None:
    """Versions that the other database fits later are other ones, and change nothing."""
    replay_bytes(other_db, export_user(db, "ada"))
    for version in (1, 2):
        insert_prior(other_db, readers.policy, version, readers.now, seed=version + 7)
    assert find_sentence(other_db) is None


def test_other_priors(db: Engine, other_db: Engine, readers: Readers) -> None:
    """A user is refused if the other database had another prior under the same version number by then."""
    for version in (1, 2):
        insert_prior(other_db, readers.policy, version, NOON, seed=version + 7)
    with pytest.raises(
        ReplayRefusedError, match=r"expected (exploit|propensities)\[\d\] = .*, recomputed from its state"
    ):
        replay_bytes(other_db, export_user(db, "ada"))


def test_with_priors(db: Engine, other_db: Engine, readers: Readers) -> None:
    """With the same versions there, the decisions are recomputed there too."""
    for version in (1, 2):
        insert_prior(other_db, readers.policy, version, NOON)
    replay_bytes(other_db, export_user(db, "ada"))
    assert find_sentence(other_db) is None
    with superuser(other_db) as connection:
        connection.execute(text("UPDATE oo_ml.feature_history SET alpha = 9 WHERE epoch = 1"))
    assert find_sentence(other_db) is not None


@pytest.mark.usefixtures("readers")
def test_forged_weight(db: Engine, other_db: Engine) -> None:
    """A weight that is not that of its decision's time is refused, also in an epoch that no state depends on."""
    document = parse_export(export_user(db, "ada"))
    decision, *_ = document["feature_history"]
    for row in (decision, *document["reward_ledger"]):
        if row["decision_id"] == decision["decision_id"]:
            row["weight"] *= 1e9
    with pytest.raises(
        ReplayRefusedError, match=r"shared-v1, epoch 0, version 1, decision .*: expected weight = .*, by its policy"
    ):
        replay_bytes(other_db, dump_export(document))


@pytest.mark.parametrize("column", ["weight", "squares"])
@pytest.mark.usefixtures("readers")
def test_tampering(db: Engine, other_db: Engine, column: str) -> None:
    """Sums that are not those of the ledger are refused."""
    document = parse_export(export_user(db, "ada"))
    document["policy_state"][0][column] *= 1 + 1e-15
    with pytest.raises(ReplayRefusedError, match=f"shared-v1, epoch 1, version 6: expected {column} = .*, found "):
        replay_bytes(other_db, dump_export(document))
