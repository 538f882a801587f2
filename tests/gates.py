"""Gates for tests of concurrency: hold a row lock, wait until other sessions wait for it, let it go."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from oo_ml.storage.postgres.sessions import Writing
from tests.sessions import open_session, writing
from tests.waiting import until


@contextmanager
def holding_state(db: Engine, user_id: str, policy: str) -> Iterator[Writing]:
    """Lock a state row as the service would, until the block ends or the connection commits."""
    with open_session(db) as holder:
        locked = holder.execute(
            text("SELECT 1 FROM oo_ml.policy_state WHERE user_id = :user AND policy = :policy FOR NO KEY UPDATE"),
            {"user": user_id, "policy": policy},
        ).all()
        assert len(locked) == 1
        yield holder


def wait_until_blocked(db: Engine, waiting: int) -> None:
    """Return as soon as `waiting` sessions of this database wait for a lock of another session."""
    until(lambda: count_blocked(db) == waiting)


def count_blocked(db: Engine) -> int:
    """Return the number of sessions of this database that wait for a lock of another session."""
    counted = scalar(
        db,
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0",
    )
    assert isinstance(counted, int)
    return counted


def has_blocked(db: Engine, seconds: float) -> bool:
    """Tell whether a session of this database has waited for a lock of another session for longer than `seconds`."""
    return bool(
        scalar(
            db,
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
            " AND clock_timestamp() - query_start > make_interval(secs => :seconds)",
            seconds=seconds,
        )
    )


def scalar(db: Engine, statement: str, **parameters: object) -> object:
    """Return the one value that a statement gives, in a transaction of its own."""
    with writing(db) as connection:
        return connection.execute(text(statement), parameters).scalar_one()
