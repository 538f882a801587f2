"""A limit on the wait for row locks: for one transaction, each of its statements, and no longer."""

import time

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from oo_ml.domain.policies import LINUCB
from oo_ml.storage import states
from oo_ml.storage.postgres.engine import create, limit_lock_wait
from oo_ml.storage.states import StateKey
from tests.conftest import make_settings
from tests.gates import holding_state

ADA = StateKey("ada", LINUCB)


def limit(connection: Connection) -> object:
    """Return the limit that holds."""
    return connection.scalars(text("SHOW lock_timeout")).one()


def test_a_row_that_is_held_is_waited_for_no_longer(db: Engine) -> None:
    """Whatever the session's own limit is: here twenty seconds."""
    with db.begin() as connection:
        states.lock_or_create_states(connection, [ADA])
    with holding_state(db, *ADA), db.connect() as connection:
        limit_lock_wait(connection, 0.1)
        began = time.monotonic()
        with pytest.raises(OperationalError) as refused:
            states.lock_states(connection, [ADA])
        took = time.monotonic() - began
    assert isinstance(refused.value.orig, psycopg.errors.LockNotAvailable)
    assert 0.1 <= took < 10


def test_a_row_that_is_let_go_in_time_is_had(db: Engine) -> None:
    """A limit is no refusal."""
    with db.begin() as connection:
        states.lock_or_create_states(connection, [ADA])
    with db.begin() as connection:
        limit_lock_wait(connection, 0.1)
        assert states.lock_states(connection, [ADA]).keys() == {ADA}


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_limit_ends_with_its_transaction(database_url: str, end: str) -> None:
    """It holds for all its statements; the connection goes back to the pool as it was."""
    engine = create(database_url, make_settings(lock_timeout=3), threads=1)
    with engine.connect() as connection:
        limit_lock_wait(connection, 0.05)
        assert [limit(connection), limit(connection)] == ["50ms", "50ms"]
        getattr(connection, end)()
        assert limit(connection) == "3s"
    with engine.connect() as connection:
        assert limit(connection) == "3s"
    engine.dispose()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "1ms"), (0.0001, "1ms"), (0.0101, "11ms"), (0.02, "20ms"), (1, "1s"), (61.5, "61500ms")]
)
def test_no_limit_is_ever_no_limit(db: Engine, seconds: float, shown: str) -> None:
    """0 would mean none to PostgreSQL: fractions of a millisecond are rounded up."""
    with db.begin() as connection:
        limit_lock_wait(connection, seconds)
        assert limit(connection) == shown


def test_the_last_limit_counts(db: Engine) -> None:
    """Even a longer one."""
    with db.begin() as connection:
        limit_lock_wait(connection, 0.02)
        limit_lock_wait(connection, 0.04)
        assert limit(connection) == "40ms"


def test_a_pool_may_have_a_limit_of_its_own(database_url: str) -> None:
    """That of lanes is shorter than others'."""
    engine = create(database_url, make_settings(lock_timeout=3, lane_lock_timeout=0.25), threads=1, lanes=True)
    with engine.connect() as connection:
        assert limit(connection) == "250ms"
    engine.dispose()
