"""Replay and upkeep: what retention removed is no error, and overdue decisions still get their default rewards."""

import asyncio
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from sqlalchemy import Engine, text

from oo_ml.errors import ReplayRefusedError
from oo_ml.files.export_document import open_export
from oo_ml.services.audit.verify import verify
from oo_ml.services.database import single_worker
from oo_ml.services.upkeep.default_rewards import Defaults, give_default_rewards
from oo_ml.services.users.replay import replay
from oo_ml.storage.user_ranges import UserRange
from tests.conftest import make_settings
from tests.gates import scalar
from tests.services.sample_users import (
    ADA,
    create_users,
    detach_the_past,
    dump_export,
    export_user,
    parse_export,
    replay_bytes,
    rows_of,
)
from tests.services.scenario import NOON
from tests.services.users.exports import SELF, find_row
from tests.sessions import open_session, writing
from tests.superuser import tamper

RETENTION = "SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'"
FEBRUARY = datetime(1970, 2, 1, tzinfo=UTC)


def give(url: str, now: datetime) -> Defaults:
    """Give default rewards to decisions that have waited for an hour, as upkeep does."""
    settings = make_settings(reward_wait=3600, default_reward=0)
    with single_worker(settings, url) as worker:
        return asyncio.run(give_default_rewards(worker, settings, now))


def set_upkeep(db: Engine, task: str, done_until: datetime | None) -> None:
    """Set the time up to which a task of upkeep is done."""
    with writing(db) as connection:
        statement = "UPDATE oo_ml.upkeep SET done_until = :done_until WHERE task = :task"
        connection.execute(text(statement), {"task": task, "done_until": done_until})


@pytest.mark.parametrize("here", [None, datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 20, tzinfo=UTC), NOON])
def test_decisions_that_retention_removed(db: Engine, other_db: Engine, here: datetime | None) -> None:
    """Verification learns that decisions may be missing, unless it knows already; a second replay changes nothing."""
    create_users(db)
    detach_the_past(db)
    tamper(db, "DROP TABLE oo_ml.feature_history_1970_01")
    set_upkeep(other_db, "retention", here)
    content = export_user(db, "ada")
    assert replay_bytes(other_db, content).rows == {**ADA, "feature_history": 0}
    needs_it = here is None or here == datetime(1970, 1, 1, tzinfo=UTC)
    assert scalar(other_db, RETENTION) == (FEBRUARY if needs_it else here)
    with writing(other_db) as connection:
        assert verify(connection, [UserRange.of("ada")])[0].difference is None
    assert replay_bytes(other_db, content).unchanged


def test_upkeep_that_was_not_restored(db: Engine, other_db: Engine) -> None:
    """A replay works on a database whose upkeep table is empty."""
    create_users(db)
    detach_the_past(db)
    tamper(db, "DROP TABLE oo_ml.feature_history_1970_01")
    with writing(other_db) as connection:
        connection.execute(text("DELETE FROM oo_ml.upkeep"))
    replay_bytes(other_db, export_user(db, "ada"))
    assert scalar(other_db, RETENTION) == FEBRUARY


def test_complete_history_after_retention(db: Engine, other_db: Engine) -> None:
    """If no decision of the user is missing, verification on the other database still requires all of them."""
    create_users(db)
    detach_the_past(db)
    replay_bytes(other_db, export_user(db, "ada"))
    assert scalar(other_db, RETENTION) is None


@pytest.mark.parametrize(
    ("history_from", "message"),
    [
        (..., f"{SELF}epoch 1, version 4: expected pulls = 2, found 3"),
        (None, f"{SELF}epoch 1, version 4: expected pulls = 2, found 3"),
        (
            "1970-01-01T00:00:00Z",
            f"{SELF}epoch 1, decision .*: expected a row in feature_history, because ledger version 4 .*",
        ),
        ("9999-01-01T00:00:00Z", "history_from is in the future: the clocks of the two databases differ"),
        ("9999-12-31T23:59:59-14:00", "history_from is in the future: the clocks of the two databases differ"),
    ],
)
def test_decisions_that_are_missing(life: bytes, other_db: Engine, history_from: object, message: str) -> None:
    """An export that misses a decision is refused, whatever retention has removed on this database."""
    set_upkeep(other_db, "retention", NOON)
    document = parse_export(life) | {"history_from": history_from}
    if history_from is ...:
        del document["history_from"]
    document["feature_history"].remove(find_row(document, "feature_history", tip_id="t5"))
    with pytest.raises(ReplayRefusedError, match=f"^{message}$"):
        replay_bytes(other_db, dump_export(document))
    assert rows_of(other_db, "ada") == {}
    assert scalar(other_db, RETENTION) == NOON


@pytest.mark.parametrize("hours", [None, -1, 0, 1])
def test_default_rewards_after_a_replay(
    db: Engine, other_db: Engine, other_database_url: str, hours: int | None
) -> None:
    """Open decisions get their default reward, even if default rewards had passed their time before the replay."""
    create_users(db)
    done_until = None if hours is None else NOON + timedelta(hours=hours)
    set_upkeep(other_db, "default-rewards", done_until)
    replay_bytes(other_db, export_user(db, "zoë"))
    found = "SELECT done_until FROM oo_ml.upkeep WHERE task = 'default-rewards'"
    assert scalar(other_db, found) == done_until
    replay_bytes(other_db, export_user(db, "ada"))
    assert scalar(other_db, found) == (min(done_until, NOON) if done_until else None)
    assert give(other_database_url, NOON + timedelta(hours=1.1)) == Defaults(1)
    assert scalar(other_db, "SELECT reward_kind FROM oo_ml.feature_history WHERE tip_id = 't6'") == "default"


def test_default_rewards_during_a_replay(db: Engine, other_db: Engine, other_database_url: str) -> None:
    """A run of default rewards stops while a replay is under way; the run after COMMIT gives the rewards."""
    create_users(db)
    set_upkeep(other_db, "default-rewards", NOON - timedelta(hours=1))
    later = NOON + timedelta(hours=3)
    with open_export(BytesIO(export_user(db, "ada"))) as export, open_session(other_db) as connection:
        replay(connection, [export])
        assert give(other_database_url, later) == Defaults(0, is_busy=True)
        connection.commit()
    assert give(other_database_url, later) == Defaults(1)
