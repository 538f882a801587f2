"""Verifying: silent where all is well, and one sentence for whatever somebody has done to the tables."""

import re
import tomllib
from pathlib import Path
from string import Template
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, text

from oo_ml.services.audit.verify import Report, Survey, VerifyCommand, everybody, person, some, verify
from oo_ml.services.decisions.learn import learn
from oo_ml.services.decisions.reset import reset
from oo_ml.storage.audit import EVERYBODY
from tests.conftest import make_settings
from tests.services.decisions.test_batches import counted, rewards, score, scores
from tests.services.scenario import decision, teach, tell
from tests.superuser import superuser

ALL = VerifyCommand(*EVERYBODY)

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
def told(db: Engine) -> Engine:
    """A database in which ada and ben have lived."""
    tell(db)
    return db


def look(db: Engine, command: VerifyCommand = ALL, **options: Any) -> Report:  # noqa: ANN401 - as verify has them
    """Verify in a transaction of its own."""
    with db.begin() as connection:
        [report] = verify(connection, [command], **options)
    return report


def run(db: Engine, statements: str) -> None:
    """Do something to the tables; each statement does."""
    with superuser(db) as connection:
        for statement in statements.split(";"):
            assert connection.execute(text(statement)).rowcount, statement


def sentences(survey: Survey) -> list[str]:
    """Return what a survey finds."""
    return [f"{one.difference.user_id}: {one.difference.sentence}" for one in survey.reports if one.difference]


def test_what_the_services_did_is_in_order(told: Engine) -> None:
    """Every kind of change, a reset, an import and a late correction: nothing differs."""
    assert look(told) == Report(people=2, states=3, changes=12, decisions=8, difference=None)
    assert look(told, VerifyCommand.person("ben")) == Report(1, 1, 2, 1, None)


def test_a_crowd_is_in_order(db: Engine) -> None:
    """In whatever order decisions, rewards and resets come."""
    with db.begin() as connection:
        score(connection, scores(1, 100))
        learn(connection, rewards(2, 200))
        reset(connection, ["ben"])
        score(connection, scores(3, 100))
        learn(connection, rewards(4, 100))
    assert look(db) == Report(people=3, states=6, changes=300, decisions=200, difference=None)


def test_somebody_never_seen_is_in_order(told: Engine) -> None:
    """Nothing is stored of them, and nothing is wrong with that."""
    assert look(told, VerifyCommand.person("zoe")) == Report(0, 0, 0, 0, None)


@pytest.mark.parametrize("what", TAMPERING)
def test_whatever_was_tampered_with_is_said(told: Engine, what: str) -> None:
    """Where it is, what was expected there and what was found; whoever else is asked for is in order."""
    case = TAMPERING[what]
    run(told, case["sql"])
    difference = look(told).difference
    assert difference is not None
    if "says" in case:
        assert difference.sentence == case["says"]
    else:
        assert re.fullmatch(case["matches"], difference.sentence)
    assert difference.sentence.startswith(difference.policy)
    assert look(told, VerifyCommand.person(difference.user_id)).difference == difference
    other = {"ada": "ben", "ben": "ada"}[difference.user_id]
    assert look(told, VerifyCommand.person(other)).difference is None


def test_the_first_difference_is_reported(told: Engine) -> None:
    """People in order, then policies, whatever kind of difference it is."""
    for statement, first in (
        ("UPDATE oo_ml.policy_state SET pulls = 99 WHERE user_id = 'ben'", ("ben", "linucb-v1")),
        (TAMPERING["reward of a decision lost"]["sql"], ("ada", "linucb-v1")),
        (TAMPERING["explore_count"]["sql"], ("ada", "egreedy-v1")),
    ):
        run(told, statement)
        difference = look(told).difference
        assert difference is not None
        assert (difference.user_id, difference.policy) == first


def test_what_retention_took_away_is_no_difference(told: Engine) -> None:
    """The ledger and the counters still know of it; before retention ever ran, it is missing."""
    run(told, f"{TAMPERING['decision lost']['sql']}; {TAMPERING['old decision lost']['sql']}")
    assert look(told).difference is not None
    run(told, RETAINED)
    assert look(told).difference is None


@pytest.mark.parametrize(("history_from", "may_miss_it"), [("00:00:00", False), ("00:00:00.001", True)])
def test_what_came_after_retention_has_to_be_there(told: Engine, history_from: str, may_miss_it: bool) -> None:
    """To the millisecond of a decision's id: what is older may be gone, nothing else may."""
    run(told, RETAINED.replace("now()", f"'1970-01-01 {history_from}Z'"))
    run(told, TAMPERING["old decision lost"]["sql"])
    assert (look(told).difference is None) == may_miss_it


@pytest.mark.parametrize("user_id", ["A", "adam", "zoe", "\U0010ffff" * 50])
@pytest.mark.parametrize(("kept", "lost"), [("ledger", "history"), ("history", "ledger")])
def test_what_belongs_to_nobody_is_found(told: Engine, user_id: str, kept: str, lost: str) -> None:
    """Before, between and behind those who have a state, in the part that it lies in, and it is the only difference."""
    tables = {"ledger": "reward_ledger", "history": "feature_history"}
    for table in ("policy_state", tables[lost]):
        run(told, f"DELETE FROM oo_ml.{table} WHERE user_id = 'ben'")  # noqa: S608
    with told.begin() as connection:
        rename = f"UPDATE oo_ml.{tables[kept]} SET user_id = :user_id WHERE user_id = 'ben'"  # noqa: S608
        connection.execute(text(rename), {"user_id": user_id})
    sentence = f"{user_id}: linucb-v1: expected a state, since the {kept} knows of one, found none"
    assert sentences(everybody(told, make_settings(), part_size=1)) == [sentence]


@pytest.mark.parametrize("part_size", [1, 2, 3, 100])
def test_everybody_is_verified_once(told: Engine, part_size: int) -> None:
    """In parts of some states, which part no person, up to the last; a survey says how many states to expect."""
    with told.begin() as connection:
        score(connection, scores(1, 100))
    survey = everybody(told, make_settings(), part_size=part_size)
    reports = list(survey.reports)
    assert survey.states == sum(report.states for report in reports) == 6
    assert (sum(report.people for report in reports), sum(report.changes for report in reports)) == (3, 12)
    assert sum(report.decisions for report in reports) == 108
    assert len(reports) == {1: 4, 2: 4, 3: 2, 100: 1}[part_size]


def test_a_sample_is_of_people_who_have_a_state(told: Engine) -> None:
    """As many as were asked for, or all of them; each with both policies."""
    survey = some(told, make_settings(), 1)
    [report] = survey.reports
    assert (report.people, report.states) == (1, survey.states)
    assert [report.people for report in some(told, make_settings(), 9).reports] == [1, 1]
    run(told, "UPDATE oo_ml.policy_state SET pulls = 99")
    assert len(sentences(some(told, make_settings(), 9))) == 2


def test_one_person_is_verified(told: Engine) -> None:
    """A survey of one."""
    survey = person(told, make_settings(), "ada")
    assert (survey.states, list(survey.reports)) == (2, [Report(1, 2, 10, 7, None)])


@pytest.mark.parametrize(("rows", "pages"), [(9, 1), (10, 2), (39, 4)])
def test_the_ledger_is_read_in_pages(db: Engine, rows: int, pages: int) -> None:
    """So that no more than a page of it is in memory; nothing else grows with it."""
    with db.begin() as connection:
        learn(connection, rewards(1, rows))
    with counted(db) as statements:
        assert look(db, page_size=10).changes == rows
    assert [re.findall(r"FROM oo_ml\.(\w+)|$", statement)[0] for statement in statements] == [
        "",
        "",
        "upkeep",
        "policy_state",
        "feature_history",
        *["reward_ledger"] * pages,
        "reward_ledger",
        "feature_history",
    ]


def test_it_is_all_read_as_it_was_at_one_moment(told: Engine) -> None:
    """A reward that is committed between any two of its statements is no difference, and no change of what is read."""
    for place in range(2, 10):
        before = look(told)
        with told.connect() as connection, connection.begin():
            _after_statement(connection, place, told)
            assert verify(connection, [ALL], page_size=5) == [before]
        assert look(told).changes == before.changes + 2


def _after_statement(connection: Connection, place: int, db: Engine) -> None:
    """Let somebody else do something behind the statement at `place`."""
    count = 0

    def disturb(*_: object) -> None:
        nonlocal count
        count += 1
        if count == place + 1:
            teach(db, "ada")
            teach(db, "ben")

    event.listen(connection, "after_cursor_execute", disturb)


def test_retention_waits_for_it(told: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """From before the snapshot until the end the history keeps its partitions; nobody else is kept waiting."""
    refused = []

    def detach(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("SET"):
            teach(told, "ada")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                postgresql.execute("LOCK TABLE oo_ml.feature_history IN ACCESS EXCLUSIVE MODE NOWAIT")
            postgresql.rollback()
            refused.append(statement)

    with told.connect() as connection, connection.begin():
        event.listen(connection, "after_cursor_execute", detach)
        assert verify(connection, [ALL])[0].difference is None
    assert refused[0].startswith("LOCK")
    assert len(refused) == 7
