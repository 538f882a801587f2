"""verify: no difference in rows that the services wrote, one sentence for each kind of tampering."""

import re
import tomllib
from pathlib import Path
from string import Template
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, text

from oo_ml.services.audit.verify import Report, verify
from oo_ml.services.decisions.learn import learn
from oo_ml.services.decisions.reset import reset
from oo_ml.services.walk_users import Walk, walk_all, walk_sample, walk_users
from oo_ml.storage.user_ranges import ALL_USERS, UserRange
from tests.conftest import make_settings
from tests.services.decisions.batches import collect_statements, rewards, score, scores
from tests.services.scenario import create_ada_and_ben, decision, teach
from tests.sessions import open_session, writing
from tests.superuser import superuser

_LINUCB = "user_id = 'ada' AND policy = 'linucb-v1'"
_NAMES = {
    "LINUCB": _LINUCB,
    "OLD": f"{_LINUCB} AND epoch = 0",
    "NEW": f"{_LINUCB} AND epoch = 1",
    "EGREEDY": "user_id = 'ada' AND policy = 'egreedy-v1'",
    **{f"D{number}": str(decision(number)) for number in range(1, 9)},
}
TAMPERING = tomllib.loads(
    Template((Path(__file__).parents[2] / "data" / "tampering.toml").read_text("utf-8")).substitute(_NAMES)
)
RETAINED = "UPDATE oo_ml.upkeep SET done_until = now() WHERE task = 'retention'"


@pytest.fixture
def scenario_db(db: Engine) -> Engine:
    """Return a database with the scenario of ada and ben."""
    create_ada_and_ben(db)
    return db


def verify_range(db: Engine, users: UserRange = ALL_USERS, **options: Any) -> Report:  # noqa: ANN401 - as verify has them
    """Verify in a transaction of its own."""
    with writing(db) as connection:
        [report] = verify(connection, [users], **options)
    return report


def run(db: Engine, statements: str) -> None:
    """Change the tables; each statement must change rows."""
    with superuser(db) as connection:
        for statement in statements.split(";"):
            assert connection.execute(text(statement)).rowcount, statement


def read_sentences(walk: Walk[Report]) -> list[str]:
    """Return the differences that a walk finds."""
    return [f"{one.difference.user_id}: {one.difference.sentence}" for one in walk.parts if one.difference]


def test_no_difference_after_every_kind_of_entry(scenario_db: Engine) -> None:
    """Every kind of ledger entry, a reset, an import and a late correction verify without a difference."""
    assert verify_range(scenario_db) == Report(users=2, states=3, entries=12, decisions=8, difference=None)
    assert verify_range(scenario_db, UserRange.of("ben")) == Report(1, 1, 2, 1, None)


def test_no_difference_after_batches(db: Engine) -> None:
    """Batches of decisions and rewards of several users, with a reset between them, verify without a difference."""
    with writing(db) as connection:
        score(connection, scores(1, 100))
        learn(connection, rewards(2, 200))
        reset(connection, ["ben"])
        score(connection, scores(3, 100))
        learn(connection, rewards(4, 100))
    assert verify_range(db) == Report(users=3, states=6, entries=300, decisions=200, difference=None)


def test_unknown_user(scenario_db: Engine) -> None:
    """An unknown user has no states and no difference."""
    assert verify_range(scenario_db, UserRange.of("zoe")) == Report(0, 0, 0, 0, None)


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering(scenario_db: Engine, what: str) -> None:
    """The difference names the place, the expected and the found; other users have none."""
    case = TAMPERING[what]
    run(scenario_db, case["sql"])
    difference = verify_range(scenario_db).difference
    assert difference is not None
    if "says" in case:
        assert difference.sentence == case["says"]
    else:
        assert re.fullmatch(case["matches"], difference.sentence)
    assert difference.sentence.startswith(difference.policy)
    assert verify_range(scenario_db, UserRange.of(difference.user_id)).difference == difference
    other = {"ada": "ben", "ben": "ada"}[difference.user_id]
    assert verify_range(scenario_db, UserRange.of(other)).difference is None


def test_order_of_differences(scenario_db: Engine) -> None:
    """The difference of the first user and policy is reported, whatever its kind."""
    for statement, first in (
        ("UPDATE oo_ml.policy_state SET pulls = 99 WHERE user_id = 'ben'", ("ben", "linucb-v1")),
        (TAMPERING["reward of a decision lost"]["sql"], ("ada", "linucb-v1")),
        (TAMPERING["explore_count"]["sql"], ("ada", "egreedy-v1")),
    ):
        run(scenario_db, statement)
        difference = verify_range(scenario_db).difference
        assert difference is not None
        assert (difference.user_id, difference.policy) == first


def test_decisions_removed_by_retention(scenario_db: Engine) -> None:
    """A missing decision is a difference, unless retention has run."""
    run(scenario_db, f"{TAMPERING['decision lost']['sql']}; {TAMPERING['old decision lost']['sql']}")
    assert verify_range(scenario_db).difference is not None
    run(scenario_db, RETAINED)
    assert verify_range(scenario_db).difference is None


@pytest.mark.parametrize(("history_from", "may_miss_it"), [("00:00:00", False), ("00:00:00.001", True)])
def test_decisions_after_retention(scenario_db: Engine, history_from: str, may_miss_it: bool) -> None:
    """Only decisions before the time of retention may be missing, to the millisecond of their ids."""
    run(scenario_db, RETAINED.replace("now()", f"'1970-01-01 {history_from}Z'"))
    run(scenario_db, TAMPERING["old decision lost"]["sql"])
    assert (verify_range(scenario_db).difference is None) == may_miss_it


@pytest.mark.parametrize("user_id", ["A", "adam", "zoe", "\U0010ffff" * 50])
@pytest.mark.parametrize(("kept", "lost"), [("reward_ledger", "feature_history"), ("feature_history", "reward_ledger")])
def test_rows_of_users_without_a_state(scenario_db: Engine, user_id: str, kept: str, lost: str) -> None:
    """Rows of a user id before, between or after the users with a state are the only difference."""
    for table in ("policy_state", lost):
        run(scenario_db, f"DELETE FROM oo_ml.{table} WHERE user_id = 'ben'")  # noqa: S608
    with writing(scenario_db) as connection:
        rename = f"UPDATE oo_ml.{kept} SET user_id = :user_id WHERE user_id = 'ben'"  # noqa: S608
        connection.execute(text(rename), {"user_id": user_id})
    sentence = f"{user_id}: linucb-v1: expected a row in policy_state, because {kept} has rows, found none"
    assert read_sentences(walk_all(scenario_db, make_settings(), verify, part_size=1)) == [sentence]


@pytest.mark.parametrize("part_size", [1, 2, 3, 100])
def test_walk_over_all_users(scenario_db: Engine, part_size: int) -> None:
    """Each user is in exactly one part, up to the last user; the walk announces the number of states."""
    with writing(scenario_db) as connection:
        score(connection, scores(1, 100))
    walk = walk_all(scenario_db, make_settings(), verify, part_size=part_size)
    reports = list(walk.parts)
    assert walk.states == sum(report.states for report in reports) == 6
    assert (sum(report.users for report in reports), sum(report.entries for report in reports)) == (3, 12)
    assert sum(report.decisions for report in reports) == 108
    assert len(reports) == {1: 4, 2: 4, 3: 2, 100: 1}[part_size]


def test_walk_over_a_sample(scenario_db: Engine) -> None:
    """A sample has the size asked for, or all users with a state, each with all their states."""
    walk = walk_sample(scenario_db, make_settings(), verify, 1)
    [report] = walk.parts
    assert (report.users, report.states) == (1, walk.states)
    assert [report.users for report in walk_sample(scenario_db, make_settings(), verify, 9).parts] == [1, 1]
    run(scenario_db, "UPDATE oo_ml.policy_state SET pulls = 99")
    assert len(read_sentences(walk_sample(scenario_db, make_settings(), verify, 9))) == 2


def test_walk_over_one_user(scenario_db: Engine) -> None:
    """A walk over one user reports that user's states, entries and decisions."""
    walk = walk_users(scenario_db, make_settings(), verify, ["ada"])
    assert (walk.states, list(walk.parts)) == (2, [Report(1, 2, 10, 7, None)])


@pytest.mark.parametrize(("rows", "pages"), [(9, 1), (10, 2), (39, 4)])
def test_ledger_pages(db: Engine, rows: int, pages: int) -> None:
    """Only the number of pages of the ledger grows with it; every other statement runs once."""
    with writing(db) as connection:
        learn(connection, rewards(1, rows))
    with collect_statements(db) as statements:
        assert verify_range(db, page_size=10).entries == rows
    assert [re.findall(r"FROM oo_ml\.(\w+)|$", statement)[0] for statement in statements] == [
        "",
        "",
        "upkeep",
        "policy_state",
        "feature_history",
        "policies",
        "policy_state",
        *["reward_ledger"] * pages,
        "reward_ledger",
        "feature_history",
        "feature_history",
        "reward_ledger",
        "policy_state",
    ]


def test_snapshot(scenario_db: Engine) -> None:
    """Rewards committed between any two of its statements change neither what verify reads nor its result."""
    for place in range(2, 12):
        before = verify_range(scenario_db)
        with open_session(scenario_db) as connection, connection.begin():
            _after_statement(connection, place, scenario_db)
            assert verify(connection, [ALL_USERS], page_size=5) == [before]
        assert verify_range(scenario_db).entries == before.entries + 2


def _after_statement(connection: Connection, place: int, db: Engine) -> None:
    """Commit rewards of both users after the statement at `place`."""
    count = 0

    def disturb(*_: object) -> None:
        nonlocal count
        count += 1
        if count == place + 1:
            teach(db, "ada")
            teach(db, "ben")

    event.listen(connection, "after_cursor_execute", disturb)


def test_retention_waits_for_verify(scenario_db: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """Verify blocks the detaching of partitions from before its snapshot until its end, and blocks no reward."""
    refused = []

    def detach(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("SET"):
            teach(scenario_db, "ada")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                postgresql.execute("LOCK TABLE oo_ml.feature_history IN ACCESS EXCLUSIVE MODE NOWAIT")
            postgresql.rollback()
            refused.append(statement)

    with open_session(scenario_db) as connection, connection.begin():
        event.listen(connection, "after_cursor_execute", detach)
        assert verify(connection, [ALL_USERS])[0].difference is None
    assert refused[0].startswith("LOCK")
    assert len(refused) == 12
