"""The limit on waits for row locks in one transaction."""

import time

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from oo_ml.domain.policies import LINUCB
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres.engine import create, limit_lock_wait
from tests.conftest import make_settings
from tests.gates import holding_state
from tests.policies import FRESH
from tests.sessions import open_session, writing

ADA = StateKey("ada", LINUCB)


def limit(connection: Connection) -> object:
    """Return the current lock_timeout."""
    return connection.scalars(text("SHOW lock_timeout")).one()


def test_limit_with_a_locked_row(db: Engine) -> None:
    """A wait for a locked row ends after the limit, although the session's own limit is twenty seconds."""
    with writing(db) as connection:
        policy_state.lock_or_create_states(connection, {ADA: FRESH[ADA.policy]})
    with holding_state(db, *ADA), open_session(db) as connection:
        limit_lock_wait(connection, 0.1)
        began = time.monotonic()
        with pytest.raises(OperationalError) as refused:
            policy_state.lock_states(connection, [ADA])
        took = time.monotonic() - began
    assert isinstance(refused.value.orig, psycopg.errors.LockNotAvailable)
    assert 0.1 <= took < 10


def test_limit_with_a_free_row(db: Engine) -> None:
    """A free row can be locked under a limit."""
    with writing(db) as connection:
        policy_state.lock_or_create_states(connection, {ADA: FRESH[ADA.policy]})
    with writing(db) as connection:
        limit_lock_wait(connection, 0.1)
        assert policy_state.lock_states(connection, [ADA]).keys() == {ADA}


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_end_of_the_limit(database_url: str, end: str) -> None:
    """The limit holds for all statements of the transaction, and ends with it."""
    engine = create(database_url, make_settings(lock_timeout=3), threads=1)
    with open_session(engine) as connection:
        limit_lock_wait(connection, 0.05)
        assert [limit(connection), limit(connection)] == ["50ms", "50ms"]
        getattr(connection, end)()
        assert limit(connection) == "3s"
    with open_session(engine) as connection:
        assert limit(connection) == "3s"
    engine.dispose()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "1ms"), (0.0001, "1ms"), (0.0101, "11ms"), (0.02, "20ms"), (1, "1s"), (61.5, "61500ms")]
)
def test_rounding_of_the_limit(db: Engine, seconds: float, shown: str) -> None:
    """Limits are rounded up to whole milliseconds, because 0 means no limit to PostgreSQL."""
    with writing(db) as connection:
        limit_lock_wait(connection, seconds)
        assert limit(connection) == shown


def test_second_limit(db: Engine) -> None:
    """A second limit replaces the first, even if it is longer."""
    with writing(db) as connection:
        limit_lock_wait(connection, 0.02)
        limit_lock_wait(connection, 0.04)
        assert limit(connection) == "40ms"


def test_limit_of_lanes(database_url: str) -> None:
    """The engine of the lanes has its own limit."""
    engine = create(database_url, make_settings(lock_timeout=3, lane_lock_timeout=0.25), threads=1, lanes=True)
    with open_session(engine) as connection:
        assert limit(connection) == "250ms"
    engine.dispose()
