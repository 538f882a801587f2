"""OO_ML_PROMPT_STICKY: a user keeps the prompt version that was drawn first."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text

from oo_ml.execution import retry
from oo_ml.services.prompts.pick_version import PickCommand, pick
from oo_ml.storage import prompt_versions
from oo_ml.storage.postgres import engine
from tests.conftest import make_settings
from tests.gates import scalar, wait_until_blocked
from tests.services.prompts.versions import (
    CHI_SQUARE,
    NOON,
    V1,
    V2,
    V3,
    describe,
    pick_versions,
    retire_version,
    set_weights,
)
from tests.sessions import open_session, writing


def read_assignments(db: Engine) -> list[Any]:
    """Return the rows of prompt_assignments by user."""
    with writing(db) as connection:
        return [
            tuple(row) for row in connection.execute(text("SELECT * FROM oo_ml.prompt_assignments ORDER BY user_id"))
        ]


def test_kept_version(db: Engine) -> None:
    """A user keeps a version and its probability while the version has a weight, even if weights change."""
    sticky = partial(pick_versions, db, prompt_sticky=True)
    set_weights(db, v2=1, v3=3)
    [first, *later] = sticky(range(1, 30))
    assert set(later) == {first}
    assert read_assignments(db) == [("ada", *first, NOON)]
    set_weights(db, v1=96)
    assert set(sticky(range(30))) == {first}
    assert {version for version, _ in sticky(range(30), user_id="ben")} == {read_assignments(db)[1][1]}
    set_weights(db, **{first[0].split("-")[0]: 0})
    [moved, *again] = sticky(range(30))
    assert moved[0] != first[0]
    assert moved[1] == pytest.approx({V1: 96, V2: 1, V3: 3}[moved[0]] / (100 - {V2: 1, V3: 3}[first[0]]))
    assert set(again) == {moved}
    retire_version(db, moved[0])
    assert moved[0] not in {version for version, _ in sticky(range(30))}


def test_stored_probability_is_frequency_among_users(db: Engine) -> None:
    """Users keep each version as often as `prompt_probability` says; a user's first generation decides."""
    set_weights(db, v1=1, v2=1, v3=2)
    first = {
        f"user {number}": pick_versions(db, [number], user_id=f"user {number}", prompt_sticky=True)[0]
        for number in range(400)
    }
    counts = Counter(first.values())
    assert counts.keys() == {(V1, 0.25), (V2, 0.25), (V3, 0.5)}
    assert sum((counts[one] - 400 * one[1]) ** 2 / (400 * one[1]) for one in counts) < CHI_SQUARE
    assert {user: (version, p) for user, version, p, _ in read_assignments(db)} == first


@pytest.mark.parametrize("how", ["off", "named", "listed", "auto", "no weights"])
def test_versions_that_are_not_kept(db: Engine, how: str) -> None:
    """Only a version drawn by weights is kept; any other choice leaves the kept version alone."""
    set_weights(db, v2=1, v3=1)
    pick_versions(db, [1], prompt_sticky=True)
    before = read_assignments(db)
    settings: dict[str, dict[str, Any]] = {
        "off": {"prompt_sticky": False},
        "named": {"named": V1},
        "listed": {"tip_prompt_version": "v1,v2-mentor"},
        "auto": {"tip_prompt_version": "auto"},
        "no weights": {},
    }
    if how == "no weights":
        set_weights(db, v2=0, v3=0)
    drawn = pick_versions(db, range(60), **{"prompt_sticky": True, **settings[how]})
    expected = {"off": {V2, V3}, "named": {V1}, "listed": {V1, V2}, "auto": {V1, V2, V3}, "no weights": {V1}}
    assert {version for version, _ in drawn} == expected[how]
    assert read_assignments(db) == before
    assert len(before) == 1


CROWD = 50


def test_concurrent_first_generations(database_url: str, db: Engine) -> None:
    """Fifty concurrent first generations of a user draw different versions, and all get the version that is kept."""
    set_weights(db, v1=1, v2=1, v3=1)
    assert len(set(pick_versions(db, range(CROWD)))) == 3
    settings = make_settings(prompt_sticky=True)

    def first_call(number: int) -> tuple[str, float]:
        command = PickCommand("ada", UUID(int=number), NOON + timedelta(seconds=number))
        service = partial(pick, settings=settings)
        return describe(retry.run(crowded, service, [command], time.monotonic() + 60)[0])

    crowded = engine.create(database_url, settings, threads=CROWD)
    with ThreadPoolExecutor(CROWD) as threads:
        with open_session(db) as first:
            prompt_versions.assign(first, "ada", V1, 1.0, NOON)
            calls = [threads.submit(first_call, number) for number in range(CROWD)]
            wait_until_blocked(db, CROWD)
            first.rollback()
        [got] = {call.result() for call in calls}
    crowded.dispose()
    [(user_id, *one, at)] = read_assignments(db)
    assert (user_id, tuple(one)) == ("ada", got)
    drew = {
        NOON + timedelta(seconds=number): version for number, (version, _) in enumerate(pick_versions(db, range(CROWD)))
    }
    assert drew[at] == got[0]


def test_concurrent_generations_after_a_retirement(database_url: str, db: Engine) -> None:
    """Fifty concurrent generations replace a retired version, and all get the version that is kept."""
    set_weights(db, v1=1, v2=1, v3=1)
    [(before, _)] = pick_versions(db, [0], prompt_sticky=True)
    retire_version(db, before)
    settings = make_settings(prompt_sticky=True)

    def call(number: int) -> tuple[str, float]:
        service = partial(pick, settings=settings)
        command = PickCommand("ada", UUID(int=number), NOON + timedelta(seconds=number))
        return describe(retry.run(crowded, service, [command], time.monotonic() + 60)[0])

    crowded = engine.create(database_url, settings, threads=CROWD)
    with ThreadPoolExecutor(CROWD) as threads:
        with writing(db) as other:
            other.execute(text("SELECT FROM oo_ml.prompt_assignments FOR UPDATE"))
            calls = [threads.submit(call, number) for number in range(CROWD)]
            wait_until_blocked(db, CROWD)
        [got] = {call.result() for call in calls}
    crowded.dispose()
    [(_, *one, at)] = read_assignments(db)
    assert tuple(one) == got
    assert got[0] != before
    drew = {
        NOON + timedelta(seconds=number): version for number, (version, _) in enumerate(pick_versions(db, range(CROWD)))
    }
    assert drew[at] == got[0]


def test_writes_of_a_kept_version(db: Engine) -> None:
    """While the kept version is in use, further generations read its row without writing or locking it."""
    set_weights(db, v1=1, v2=1, v3=1)
    row = "SELECT (ctid, xmin, xmax)::text FROM oo_ml.prompt_assignments"
    [(version, _)] = pick_versions(db, [0], prompt_sticky=True)
    before = scalar(db, row)
    for number in range(1, 10):
        pick_versions(db, [number], prompt_sticky=True)
    assert scalar(db, row) == before
    retire_version(db, version)
    pick_versions(db, [0], prompt_sticky=True)
    after = scalar(db, row)
    assert after != before
    pick_versions(db, [1], prompt_sticky=True)
    assert scalar(db, row) == after


def test_update_without_subquery(db: Engine) -> None:
    """SET assigns parameters only, because a distributed PostgreSQL refuses a subquery there."""
    statements: list[str] = []
    event.listen(db, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for version in (V1, V2):
        assign(db, version)
    assigned = [statement.partition(" SET")[2] for statement in statements if " SET" in statement]
    assert len(assigned) == 2
    assert not [clause for clause in assigned if "SELECT" in clause]


def test_second_session_waits_for_the_first(db: Engine) -> None:
    """A session waits for another one that keeps a version for the user, and gets that version."""
    with ThreadPoolExecutor(1) as other:
        with open_session(db) as first, first.begin():
            assert prompt_versions.assign(first, "ada", V2, 0.25, NOON) == (V2, 0.25)
            with writing(db) as connection:
                prompt_versions.set_weight(connection, V2, 1)
            second = other.submit(assign, db, V3)
            wait_until_blocked(db, 1)
        assert second.result() == (V2, 0.25)


def assign(db: Engine, version: str) -> tuple[str, float]:
    """Assign a version to ada; return the version that is kept."""
    with writing(db) as connection:
        return prompt_versions.assign(connection, "ada", version, 0.75, NOON)
