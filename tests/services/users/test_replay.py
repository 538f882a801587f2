"""Replay: an exported user is written to another database bit for bit, or nothing is written."""

import json
import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from oo_ml.errors import ReplayRefusedError
from oo_ml.files.export_document import open_export
from oo_ml.services.audit.verify import verify
from oo_ml.services.decisions.learn import learn
from oo_ml.services.users.erase import erase
from oo_ml.services.users.replay import Replayed
from oo_ml.services.users.stats import read_features
from oo_ml.storage.user_ranges import UserRange
from tests.gates import scalar
from tests.services.decisions.batches import rewards, score, scores
from tests.services.sample_users import (
    ADA,
    create_users,
    detach_the_past,
    dump_export,
    export_user,
    insert_generations,
    parse_export,
    parse_without_positions,
    replay_bytes,
    replay_export,
    rows_of,
)
from tests.services.scenario import teach
from tests.services.users.exports import find_row
from tests.services.users.stored_rows import ORDER, read_rows
from tests.sessions import writing
from tests.superuser import tamper


@pytest.mark.parametrize("user_id", ["ada", "ben", "zoë"])
def test_replay_on_another_database(db: Engine, other_db: Engine, user_id: str) -> None:
    """Every row is the same in the same order, bit for bit, and so is an export of the other database."""
    create_users(db)
    teach(other_db, "other")
    with writing(other_db) as connection:
        score(connection, scores(1, 10, ["other"]))
    before = export_user(db, user_id)
    done = replay_bytes(other_db, before)
    assert not done.unchanged
    assert done.rows == {table: len(read_rows(db, table, user_id)) for table in sorted(ORDER)}
    after = export_user(other_db, user_id)
    assert json.dumps(parse_without_positions(after)) == json.dumps(parse_without_positions(before))
    assert _bits(other_db, user_id) == _bits(db, user_id) != []
    for table in ("feature_history", "reward_ledger"):
        others = scalar(other_db, f"SELECT max(position) FROM oo_ml.{table} WHERE user_id = 'other'")  # noqa: S608
        assert all(row["position"] > others for row in read_rows(other_db, table, user_id))
    with writing(db) as here, writing(other_db) as there:
        assert read_features(there, [user_id]) == read_features(here, [user_id])
    with writing(other_db) as connection:
        [report] = verify(connection, [UserRange.of(user_id)])
    assert report.difference is None


def _bits(db: Engine, user_id: str) -> list[Any]:
    """Return the numbers of a state as the bytes that PostgreSQL sends."""
    statement = """
        SELECT policy, epoch, version, pulls, explore_count, reward_count, float8send(cumulative_reward),
            array_send(a), array_send(b), last_updated
        FROM oo_ml.policy_state WHERE user_id = :user ORDER BY policy
    """
    with writing(db) as connection:
        return list(connection.execute(text(statement), {"user": user_id}))


def test_decisions_and_rewards_after_a_replay(db: Engine, other_db: Engine) -> None:
    """The next decisions and rewards change the state on both databases in the same way."""
    create_users(db)
    replay_bytes(other_db, export_user(db, "ada"))
    for one in (db, other_db):
        with writing(one) as connection:
            score(connection, scores(5, 20, ["ada"]))
            learn(connection, [command for command in rewards(6, 60) if command.user_id == "ada"])
    assert _bits(other_db, "ada") == _bits(db, "ada")
    assert parse_without_positions(export_user(other_db, "ada")) == parse_without_positions(export_user(db, "ada"))


def test_second_replay(db: Engine, other_db: Engine) -> None:
    """A second replay writes no row, nor does a replay on the database of the export."""
    create_users(db)
    content = export_user(db, "ada")
    replay_bytes(other_db, content)
    before = _places(other_db)
    assert replay_bytes(other_db, content) == Replayed(ADA, unchanged=True)
    assert replay_bytes(db, content) == Replayed(ADA, unchanged=True)
    assert _places(other_db) == before


def _places(db: Engine) -> list[Any]:
    """Return the place of each row, and the transaction that wrote it."""
    with writing(db) as connection:
        return [
            connection.execute(text(f"SELECT ctid, xmin FROM oo_ml.{table} ORDER BY 1")).all()  # noqa: S608
            for table in sorted(ORDER)
        ]


def test_detached_months(db: Engine, other_db: Engine) -> None:
    """Decisions of detached months go into the history, and a user with detached months is known as unchanged."""
    create_users(db)
    detach_the_past(db)
    content = export_user(db, "ada")
    assert replay_bytes(other_db, content) == Replayed(ADA, unchanged=False)
    assert len(read_rows(other_db, "feature_history", "ada")) == 7
    assert replay_bytes(db, content).unchanged


def test_transaction_per_user(db: Engine, other_db: Engine) -> None:
    """One document is one transaction: all of its rows, in every table, were written by the same one."""
    create_users(db)
    for user_id in ("ada", "ben"):
        replay_bytes(other_db, export_user(db, user_id))
    rows = " UNION ALL ".join(f"SELECT xmin::text AS writer, user_id FROM oo_ml.{table}" for table in ORDER)  # noqa: S608
    with writing(other_db) as connection:
        written = connection.execute(text(f"SELECT writer, array_agg(DISTINCT user_id) FROM ({rows}) AS r GROUP BY 1"))  # noqa: S608
        assert sorted(users for _, users in written) == [["ada"], ["ben"]]


def test_unknown_user(db: Engine, other_db: Engine) -> None:
    """The export of an unknown user has no rows to replay."""
    content = export_user(db, "unknown")
    assert replay_bytes(other_db, content) == Replayed(dict.fromkeys(sorted(ORDER), 0), unchanged=False)
    assert replay_bytes(other_db, content) == Replayed(dict.fromkeys(sorted(ORDER), 0), unchanged=False)


@pytest.mark.parametrize("known", ["state", "tips", "other reward", "less", "detached"])
def test_known_users(db: Engine, other_db: Engine, known: str) -> None:
    """A user with any other row in any table is not changed; after an erasure, the replay works."""
    create_users(db)
    content = export_user(db, "ada")
    if known == "state":
        teach(other_db, "ada")
    elif known == "tips":
        insert_generations(other_db, "ada", 4)
    else:
        replay_bytes(other_db, content)
        with writing(other_db) as connection:
            if known == "other reward":
                connection.execute(text("UPDATE oo_ml.feature_history SET score = -0.0 WHERE tip_id = 't1'"))
            else:
                connection.execute(text("DELETE FROM oo_ml.tips WHERE tip_id = 'tip-1'"))
        if known == "detached":
            detach_the_past(other_db)
    before = rows_of(other_db, "ada")
    with pytest.raises(ReplayRefusedError, match=r"^'ada' is known here, but not as exported; erase the user first$"):
        replay_bytes(other_db, content)
    assert rows_of(other_db, "ada") == before
    with writing(other_db) as connection:
        erase(connection, ["ada"])
    assert replay_bytes(other_db, content) == Replayed(ADA, unchanged=False)


def test_columns_that_are_newer_than_the_export(db: Engine, other_db: Engine) -> None:
    """A column that an older release has not exported gets its default; a second replay changes nothing."""
    create_users(db)
    document = parse_export(export_user(db, "ada"))
    del document["prompt_assignments"]
    for row in document["feature_history"]:
        del row["request_digest"], row["pull"], row["prompt_probability"]
    for row in document["reward_ledger"]:
        del row["position"]
    document["reward_ledger"].sort(key=lambda row: (row["policy"], row["epoch"], row["version"]))
    content = dump_export(document)
    there = ADA | {"prompt_assignments": 0}
    assert replay_bytes(other_db, content) == Replayed(there, unchanged=False)
    assert replay_bytes(other_db, content) == Replayed(there, unchanged=True)


def test_notation(db: Engine, other_db: Engine) -> None:
    """The order of names and the notation of numbers do not matter."""
    create_users(db)
    content = export_user(db, "ada")
    document = parse_export(content)
    find_row(document, "reward_ledger", policy="linucb-v1", epoch=1, version=1)["reward"] = 1
    assert replay_bytes(other_db, dump_export(document, sort_keys=True)) == Replayed(ADA, unchanged=False)
    assert _bits(other_db, "ada") == _bits(db, "ada")
    assert replay_bytes(other_db, content).unchanged


def test_pre_release_export(other_db: Engine) -> None:
    """An export of the pre-release is replayed, since its databases cannot be upgraded."""
    content = (Path(__file__).parents[2] / "data" / "pre_release_export.json").read_bytes()
    done = replay_bytes(other_db, content)
    assert {name: count for name, count in done.rows.items() if count} == {
        "feature_history": 4,
        "policy_state": 2,
        "reward_ledger": 3,
    }
    with writing(other_db) as connection:
        [report] = verify(connection, [UserRange.of("ada")])
    assert (report.entries, report.difference) == (3, None)
    assert replay_bytes(other_db, content).unchanged


def test_columns_of_a_later_release(db: Engine, other_db: Engine) -> None:
    """Columns that a later release has added to a table are exported and replayed."""
    for one in (db, other_db):
        tamper(one, "ALTER TABLE oo_ml.generations ADD COLUMN later text")
    insert_generations(db, "ada", 0)
    tamper(db, "UPDATE oo_ml.generations SET later = 'x: y'")
    content = export_user(db, "ada")
    done = replay_bytes(other_db, content)
    assert {name: count for name, count in done.rows.items() if count} == {"generations": 2, "tips": 2}
    assert export_user(other_db, "ada") == content
    assert scalar(other_db, "SELECT array_agg(DISTINCT later) FROM oo_ml.generations") == ["x: y"]


@pytest.mark.slow
def test_memory(db: Engine, other_db: Engine) -> None:
    """An export of 3,000 decisions is read, written and compared a few rows at a time."""
    with writing(db) as connection:
        score(connection, scores(1, 3000, ["ada"]))
        learn(connection, [command for command in rewards(2, 600) if command.user_id == "ada"])
    content = export_user(db, "ada")
    for unchanged in (False, True):
        tracemalloc.start()
        with open_export(BytesIO(content)) as export:
            done = replay_export(other_db, export)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert done.unchanged is unchanged
        assert done.rows["feature_history"] == 3000
        assert peak < len(content) / 2
    assert scalar(other_db, "SELECT count(*) FROM oo_ml.feature_history") == 3000
