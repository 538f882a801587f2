"""The walk over the log of decisions: by pages of bounded size, each decision once, in the order of time."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import Engine, event

from oo_ml.domain.policies import LINUCB
from oo_ml.services.analytics.decision_log import LogWalk, Period, walk_decisions
from oo_ml.services.users.erase import erase
from oo_ml.storage.decision_pages import PageSize
from oo_ml.storage.postgres.engine import count_connections
from tests.conftest import make_settings
from tests.sessions import writing
from tests.simulated_users import NOON, SimulatedUsers
from tests.superuser import tamper

SIZES: Final = [PageSize(1), PageSize(7), PageSize(90), PageSize(1000, 1), PageSize(1000, 20)]
PERIODS: Final = [(None, None), (1, None), (None, 2), (0, 3), (2, 2.5), (9, None), (None, -1)]


@pytest.fixture
def users(db: Engine) -> SimulatedUsers:
    """Three users with decisions of three days; many of them have the same time."""
    simulated = SimulatedUsers(db, 5)
    for number in range(90):
        at = NOON + timedelta(days=number % 3, seconds=number // 15)
        simulated.decide(f"user {number % 4}", LINUCB, at=at)
    return simulated


@pytest.fixture
def statements(db: Engine) -> Iterator[list[str]]:
    """Return the statements on the log that the engine has sent, as a list that grows."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "decision_log" in statement:
            sent.append(statement)

    event.listen(db, "before_cursor_execute", note)
    yield sent
    event.remove(db, "before_cursor_execute", note)


def walk(db: Engine, since: float | None, until: float | None, size: PageSize) -> LogWalk:
    """Walk over the decisions from one day to another, counted from noon."""
    days = [None if day is None else NOON + timedelta(days=day) for day in (since, until)]
    return walk_decisions(db, make_settings(), Period(*days), size)


def keys(pages: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Return time, user and id of each row."""
    return [(row["decided_at"], row["user_id"], row["decision_id"]) for page in pages for row in page]


@pytest.mark.parametrize(("since", "until"), PERIODS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_decision_once(
    db: Engine, users: SimulatedUsers, size: PageSize, since: float | None, until: float | None
) -> None:
    """The decisions of the period come once each, by time, user and id, with pages of any size."""
    expected = sorted(
        (command.decided_at, command.user_id, command.decision_id)
        for command in users.decisions.values()
        if (since is None or command.decided_at >= NOON + timedelta(days=since))
        and (until is None or command.decided_at < NOON + timedelta(days=until))
    )
    found = walk(db, since, until, size)
    pages = list(found.pages)
    assert (keys(pages), found.decisions) == (expected, len(expected))
    assert all(0 < len(page) <= size.decisions for page in pages)
    # The last decision of a page may reach the limit of candidates, and no other.
    assert all(sum(len(row["candidates"]) for row in page[:-1]) < size.candidates for page in pages)


@pytest.mark.usefixtures("users")
def test_pages_are_read_when_asked_for(db: Engine, statements: list[str]) -> None:
    """One page is in memory at a time: the next one is read when it is asked for, in a transaction of its own."""
    found = walk(db, None, None, PageSize(20))
    assert len(statements) == 1
    for number, page in enumerate(found.pages, 2):
        assert len(statements) == number
        assert len(page) == (20 if number < 6 else 10)
        assert count_connections(db)[0] == 0


def test_changes_during_a_walk(db: Engine, users: SimulatedUsers) -> None:
    """Later decisions do not come, and those of a user who is erased meanwhile come no more."""
    found = walk(db, None, None, PageSize(30))
    first = next(found.pages)
    users.decide("user 1", LINUCB, at=NOON + timedelta(days=9))
    with writing(db) as connection:
        erase(connection, ["user 0"])
    rest = keys(list(found.pages))
    assert {user for _, user, _ in rest} == {"user 1", "user 2", "user 3"}
    assert max(rest)[0] < NOON + timedelta(days=9)
    assert len(set(keys([first])) | set(rest)) == len(first) + len(rest)


def test_numbers(db: Engine) -> None:
    """Numbers that jsonb writes without a fraction, or with many digits, are floats again."""
    users = SimulatedUsers(db, 1)
    users.decide(ids=["a", "b"])
    tamper(
        db,
        """
        UPDATE oo_ml.feature_history SET exploit = '{1e300, -2}', explore = '{0, 0.1}', propensities = '{1, 0}',
            candidates = jsonb_set(candidates, '{0,features,task_age_days}', to_jsonb(CAST(1e300 AS float8)))
        """,
    )
    [[row]] = walk(db, None, None, PageSize()).pages
    numbers = [(one["exploit"], one["explore"], one["score"], one["propensity"]) for one in row["candidates"]]
    assert numbers == [(1e300, 0.0, 1e300, 1.0), (-2.0, 0.1, -1.9, 0.0)]
    assert all(type(number) is float for one in numbers for number in one)
    assert row["candidates"][0]["features"]["task_age_days"] == 1e300
    assert all(type(one["features"]["task_age_days"]) is float for one in row["candidates"])
    assert all(type(number) is float for number in row["x"])


def test_empty_log(db: Engine) -> None:
    """A log without decisions has no pages."""
    found = walk(db, None, None, PageSize())
    assert (found.decisions, list(found.pages)) == (0, [])
