"""Replay: the same user on another database, to the last bit, or no row at all."""

import asyncio
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from oo_ml.errors import ExportFileError, OoMlError, ReplayRefusedError
from oo_ml.files.export_document import open_export
from oo_ml.services.audit.verify import verify
from oo_ml.services.database import single_worker
from oo_ml.services.decisions.learn import learn
from oo_ml.services.upkeep.default_rewards import Defaults, give_default_rewards
from oo_ml.services.users.erase import erase
from oo_ml.services.users.replay import Replayed, replay
from oo_ml.services.users.stats import read_features
from oo_ml.storage.user_ranges import UserRange
from tests.conftest import make_settings
from tests.gates import scalar
from tests.services.decisions.test_batches import rewards, score, scores
from tests.services.sample_users import (
    ADA,
    detach_the_past,
    dump_export,
    export_user,
    live,
    parse_export,
    parse_without_positions,
    replay_bytes,
    replay_export,
    rows_of,
    write,
)
from tests.services.scenario import NOON, teach
from tests.services.users.test_export import ORDER, stored
from tests.sessions import open_session, writing
from tests.superuser import tamper

SELF = "The export contradicts itself: linucb-v1, "


@pytest.mark.parametrize("user_id", ["ada", "ben", "zoë"])
def test_replay_on_another_database(db: Engine, other_db: Engine, user_id: str) -> None:
    """Every row is the same in the same order, bit for bit, and so is an export of the other database."""
    live(db)
    teach(other_db, "other")
    with writing(other_db) as connection:
        score(connection, scores(1, 10, ["other"]))
    before = export_user(db, user_id)
    done = replay_bytes(other_db, before)
    assert not done.unchanged
    assert done.rows == {table: len(stored(db, table, user_id)) for table in sorted(ORDER)}
    after = export_user(other_db, user_id)
    assert json.dumps(parse_without_positions(after)) == json.dumps(parse_without_positions(before))
    assert _bits(other_db, user_id) == _bits(db, user_id) != []
    for table in ("feature_history", "reward_ledger"):
        others = scalar(other_db, f"SELECT max(position) FROM oo_ml.{table} WHERE user_id = 'other'")  # noqa: S608
        assert all(row["position"] > others for row in stored(other_db, table, user_id))
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
    live(db)
    replay_bytes(other_db, export_user(db, "ada"))
    for one in (db, other_db):
        with writing(one) as connection:
            score(connection, scores(5, 20, ["ada"]))
            learn(connection, [command for command in rewards(6, 60) if command.user_id == "ada"])
    assert _bits(other_db, "ada") == _bits(db, "ada")
    assert parse_without_positions(export_user(other_db, "ada")) == parse_without_positions(export_user(db, "ada"))


def test_second_replay(db: Engine, other_db: Engine) -> None:
    """A second replay writes no row, nor does a replay on the database of the export."""
    live(db)
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
    live(db)
    detach_the_past(db)
    content = export_user(db, "ada")
    assert replay_bytes(other_db, content) == Replayed(ADA, unchanged=False)
    assert len(stored(other_db, "feature_history", "ada")) == 7
    assert replay_bytes(db, content).unchanged


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
    live(db)
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
    live(db)
    detach_the_past(db)
    tamper(db, "DROP TABLE oo_ml.feature_history_1970_01")
    with writing(other_db) as connection:
        connection.execute(text("DELETE FROM oo_ml.upkeep"))
    replay_bytes(other_db, export_user(db, "ada"))
    assert scalar(other_db, RETENTION) == FEBRUARY


def test_complete_history_after_retention(db: Engine, other_db: Engine) -> None:
    """If no decision of the user is missing, verification on the other database still requires all of them."""
    live(db)
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
    document["feature_history"].remove(of(document, "feature_history", tip_id="t5"))
    with pytest.raises(ReplayRefusedError, match=f"^{message}$"):
        replay_bytes(other_db, dump_export(document))
    assert rows_of(other_db, "ada") == {}
    assert scalar(other_db, RETENTION) == NOON


@pytest.mark.parametrize("hours", [None, -1, 0, 1])
def test_default_rewards_after_a_replay(
    db: Engine, other_db: Engine, other_database_url: str, hours: int | None
) -> None:
    """Decisions that wait get their default reward, however far default rewards had come before the replay."""
    live(db)
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
    live(db)
    set_upkeep(other_db, "default-rewards", NOON - timedelta(hours=1))
    later = NOON + timedelta(hours=3)
    with open_export(BytesIO(export_user(db, "ada"))) as export, open_session(other_db) as connection:
        replay(connection, [export])
        assert give(other_database_url, later) == Defaults(0, is_busy=True)
        connection.commit()
    assert give(other_database_url, later) == Defaults(1)


def test_transaction_per_user(db: Engine, other_db: Engine) -> None:
    """One document is one transaction: all of its rows, in every table, were written by the same one."""
    live(db)
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
    live(db)
    content = export_user(db, "ada")
    if known == "state":
        teach(other_db, "ada")
    elif known == "tips":
        write(other_db, "ada", 4)
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


def of(document: dict[str, Any], table: str, **values: object) -> dict[str, Any]:
    """Return the row of a table that has these values."""
    [row] = [row for row in document[table] if all(row[name] == value for name, value in values.items())]
    return row  # type: ignore[no-any-return]


LINUCB = {"policy": "linucb-v1"}
OLD, NEW = {**LINUCB, "epoch": 0}, {**LINUCB, "epoch": 1}
POLICIES = ("feature_history", "policy_state", "reward_ledger")
Tampering = Callable[[dict[str, Any]], object]

TAMPERED: dict[str, tuple[Tampering, str]] = {
    # The state is not the fold of the ledger
    "A": (
        lambda d: of(d, "policy_state", **LINUCB)["a"][1].__setitem__(0, 1e-9),
        rf"{SELF}epoch 1, version 4: expected A\[1\]\[0\] = .*, found 1e-09",
    ),
    "dimension": (
        lambda d: of(d, "policy_state", **LINUCB).update(a=[[1]], b=[0]),
        rf"{SELF}epoch 1, version 4: expected A to be 5 rows of 5 finite numbers, found 1 rows of 1 finite numbers",
    ),
    "reward_count": (
        lambda d: of(d, "policy_state", **LINUCB).update(reward_count=3),
        rf"{SELF}epoch 1, version 4: expected reward_count = 2, found 3",
    ),
    "cumulative_reward": (
        lambda d: of(d, "policy_state", **LINUCB).update(cumulative_reward=-0.25 + 1e-16),
        rf"{SELF}epoch 1, version 4: expected cumulative_reward = -0.25, found -0.2.*",
    ),
    "version": (
        lambda d: of(d, "policy_state", **LINUCB).update(version=3),
        rf"{SELF}epoch 1, version 3: expected version = 4, the number of ledger entries, found 3",
    ),
    "epoch": (
        lambda d: of(d, "policy_state", **LINUCB).update(epoch=0),
        rf"{SELF}epoch 1, version 1: expected no ledger entry after the state's epoch 0, found this one",
    ),
    "reward": (
        lambda d: of(d, "reward_ledger", **NEW, version=4).update(reward=0.5),
        rf"{SELF}epoch 1, version 4: expected b\[0\] = .*, found .*",
    ),
    "x": (
        lambda d: of(d, "reward_ledger", **NEW, version=4).update(x=[0.5] * 4),
        rf"{SELF}epoch 1, version 4: expected x to be 5 finite numbers, found 4 finite numbers",
    ),
    "row lost": (
        lambda d: d["reward_ledger"].remove(of(d, "reward_ledger", **OLD, version=1)),
        rf"{SELF}epoch 0, version 2: expected version 1 as the next ledger entry, found this one",
    ),
    "state lost": (
        lambda d: d.update(policy_state=[]),
        (
            "The export contradicts itself: egreedy-v1: expected a row in policy_state, because feature_history has"
            " rows, found none"
        ),
    ),
    "policy": (
        lambda d: [row.update(policy="x") for t in ("policy_state", "reward_ledger") for row in d[t]],
        r"(line \d+ to )?line \d+: policy_state refuses a row: 23505 .*",
    ),
    "unknown policy": (
        lambda d: [row.update(policy="zz") for table in POLICIES for row in d[table] if row["policy"] == "linucb-v1"],
        "The export contradicts itself: zz: expected a policy of this release (.*), found another",
    ),
    # What could not be shown
    "features": (
        lambda d: d["feature_history"][0].update(features=[1]),
        r"line \d+: features: no decision has such JSON",
    ),
    "deep features": (
        lambda d: d["feature_history"][0].update(features={"a": [[[1]]]}),
        r"line \d+: features: no decision has such JSON",
    ),
    "no candidates": (
        lambda d: d["feature_history"][0].update(candidates=[]),
        r"line \d+: candidates: no decision has such JSON",
    ),
    "candidate": (
        lambda d: d["feature_history"][0]["candidates"][0].pop("id"),
        r"line \d+: candidates: no decision has such JSON",
    ),
    "time beyond time": (
        lambda d: d["policy_state"][0].update(last_updated="0001-01-01T00:00:00+14:00"),
        r"line \d+: last_updated: must be a time in ISO 8601 with its offset",
    ),
    # The rest does not belong together
    "reward of a decision": (
        lambda d: of(d, "feature_history", tip_id="t5").update(reward=0.5),
        f"{SELF}epoch 1, decision .*: expected reward 0.25, as in its last ledger entry, version 4, found reward 0.5",
    ),
    "x of a decision": (
        lambda d: of(d, "feature_history", tip_id="t6").update(x=[0.5]),
        f"{SELF}epoch 1, decision .*: expected x to be 5 finite numbers, found 1 finite numbers",
    ),
    "correction of something else": (
        lambda d: of(d, "reward_ledger", **OLD, version=3).update(previous_reward=0.5),
        f"{SELF}epoch 0, version 3, .*: expected previous_reward = 0.0, the reward of version 2, found 0.5",
    ),
    # The database refuses it
    "out of range": (
        lambda d: of(d, "reward_ledger", **NEW, version=4).update(reward=2),
        r"(line \d+ to )?line \d+: reward_ledger refuses a row: 23514 .*ck_reward_ledger_reward_range.*",
    ),
    "twice": (
        lambda d: d["tips"].append({**d["tips"][1], "content": "other"}),
        r"(line \d+ to )?line \d+: tips refuses a row: 23505 .*pk_tips.*",
    ),
    "order": (
        lambda d: d["feature_history"].reverse(),
        r"line 3: position: not larger than in the row before; export the user again",
    ),
    "tip of no generation": (
        lambda d: d["tips"][0].update(generation_id="00000000-0000-0000-0000-000000000001"),
        r"(line \d+ to )?line \d+: tips refuses a row: 23503 .*fk_tips_generations.*",
    ),
    "NUL within JSON": (
        lambda d: d["feature_history"][0].update(answer={"x": "\0"}),
        r"(line \d+ to )?line \d+: feature_history refuses a row: 22P05 .*",
    ),
    "deep": (
        lambda d: d["policy_state"][0].update(b=json.loads("[" * 900 + "]" * 900)),
        "A row is nested too deeply",
    ),
    "null": (
        lambda d: d["tips"][0].update(content=None),
        r"(line \d+ to )?line \d+: tips refuses a row: 23502 .*",
    ),
    "null in an array": (
        lambda d: of(d, "policy_state", **LINUCB)["b"].__setitem__(0, None),
        r"line \d+: b: must be a list of finite numbers, or of such lists of one length",
    ),
    # No column can hold it
    "text": (lambda d: d["tips"][0].update(content=1), r"line \d+: content: must be text without NUL .*"),
    "NUL": (lambda d: d["tips"][0].update(content="\0"), r"line \d+: content: must be text without NUL .*"),
    "surrogate": (lambda d: d["tips"][0].update(content="\ud800"), r"line \d+: content: must be text without .*"),
    "surrogate within JSON": (
        lambda d: d["feature_history"][0].update(answer={"x": "\ud800"}),
        r"line \d+: answer: must hold finite numbers and no unpaired surrogates",
    ),
    "integer": (lambda d: d["tips"][0].update(place=0.0), r"line \d+: place: must be an integer of 16 bits"),
    "large integer": (lambda d: d["tips"][1].update(place=2**15), r"line \d+: place: must be an integer of 16 bits"),
    "truth as integer": (
        lambda d: d["tips"][1].update(place=True),
        r"line \d+: place: must be an integer of 16 bits",
    ),
    "truth": (
        lambda d: d["feature_history"][0].update(exploring=0),
        r"line \d+: exploring: must be true or false",
    ),
    "number": (
        lambda d: d["feature_history"][0].update(score="1"),
        r"line \d+: score: must be a finite number",
    ),
    "large number": (
        lambda d: d["feature_history"][0].update(score=10**400),
        r"line \d+: score: must be a finite number",
    ),
    "ragged": (
        lambda d: of(d, "policy_state", **LINUCB).update(a=[[1, 2], [3]]),
        r"line \d+: a: must be a list of finite numbers, or of such lists of one length",
    ),
    "no array": (lambda d: d["policy_state"][0].update(b=1), r"line \d+: b: must be a list of finite numbers, .*"),
    "time": (
        lambda d: d["tips"][0].update(created_at="2026-11-23T12:00:00"),
        r"line \d+: created_at: must be a time in ISO 8601 with its offset",
    ),
    "no time": (
        lambda d: d["tips"][0].update(created_at="noon"),
        r"line \d+: created_at: must be a time in ISO 8601 with its offset",
    ),
    "uuid": (lambda d: d["tips"][0].update(generation_id="x"), r"line \d+: generation_id: must be a UUID"),
    "bytes": (
        lambda d: d["feature_history"][0].update(request_digest="xy"),
        r"line \d+: request_digest: must be bytes in hexadecimal",
    ),
    # There is no place for it
    "column": (
        lambda d: d["tips"][1].update(more=1),
        r"line \d+: tips has no column 'more' here; migrate this database to the release of the export",
    ),
    "columns": (lambda d: d["tips"][1].pop("place"), r"line \d+: other columns than in the first row of tips"),
    "table": (
        lambda d: d.update(more=[{"user_id": "ada"}]),
        r"line 26: this database has no table 'more'; migrate this database to the release of the export",
    ),
    "prompt version kept": (
        lambda d: d["prompt_assignments"][0].update(prompt_version="v9"),
        "The prompt version 'v9' is unknown here: publish it first",
    ),
    "prompt version": (
        lambda d: d["generations"][0].update(prompt_version="v9"),
        "The prompt version 'v9' is unknown here: publish it first",
    ),
}


@pytest.mark.parametrize(("tamper", "message"), TAMPERED.values(), ids=TAMPERED)
def test_tampering(life: bytes, other_db: Engine, tamper: Tampering, message: str) -> None:
    """An export that was changed in any way is refused in one sentence, and no row is written."""
    document = parse_export(life)
    tamper(document)
    with pytest.raises(OoMlError, match=f"^{message}$") as caught:
        replay_bytes(other_db, dump_export(document))
    assert isinstance(caught.value, ExportFileError | ReplayRefusedError)
    assert "\n" not in caught.value.message
    assert rows_of(other_db, "ada") == {}


def test_sign_of_zero(db: Engine, other_db: Engine) -> None:
    """States are compared as bits: 0.0 is not -0.0."""
    live(db)
    document = parse_export(export_user(db, "zoë"))
    [state] = document["policy_state"]
    state["a"][2][3] = 0.0
    message = r"egreedy-v1, epoch 0, version 1: expected A\[2\]\[3\] = -0.0, found 0.0$"
    with pytest.raises(ReplayRefusedError, match=message):
        replay_bytes(other_db, dump_export(document))


@pytest.fixture(scope="module")
def lives() -> dict[str, bytes]:
    """The exports that `life` has made so far; they are the same for every test."""
    return {}


@pytest.fixture
def life(lives: dict[str, bytes], request: pytest.FixtureRequest) -> bytes:
    """The export of ada."""
    if "ada" not in lives:
        db: Engine = request.getfixturevalue("db")
        live(db)
        lives["ada"] = export_user(db, "ada")
    return lives["ada"]


def test_columns_that_are_newer_than_the_export(db: Engine, other_db: Engine) -> None:
    """A column that an older release has not exported gets its default; a second replay changes nothing."""
    live(db)
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
    live(db)
    content = export_user(db, "ada")
    document = parse_export(content)
    of(document, "reward_ledger", **NEW, version=1)["reward"] = 1
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
    write(db, "ada", 0)
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
