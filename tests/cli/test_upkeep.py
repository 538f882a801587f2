"""`oo-ml upkeep`."""

import json
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import LINUCB
from oo_ml.services.decisions.decide import DecideCommand
from oo_ml.storage.schema.partitions import month_of
from tests.candidates import build_candidate, build_context, build_task
from tests.commands import Done, oo_ml, start
from tests.gates import scalar, wait_until_blocked
from tests.migrations.rows import uuid7
from tests.policies import Parameters, builtin, decide_by
from tests.services.upkeep.months import NOW, crowd_month, partition_name, run
from tests.sessions import writing
from tests.waiting import PATIENCE

ALARM = "run `oo-ml db grant-service` for this role, or `oo-ml upkeep` as the owner of the tables\n"


@pytest.fixture
def decisions(db: Engine) -> None:
    """Make 1,200 decisions for thirty users."""
    candidate = build_candidate("t1", "todoist", build_task(is_overdue=False, task_age_days=0, priority=4))
    commands = [
        DecideCommand(f"user {number % 30}", builtin(LINUCB), uuid7(NOW, number), NOW, build_context(9, 2), [candidate])
        for number in range(1200)
    ]
    with writing(db) as connection:
        decide_by(Parameters(alpha=1.0, epsilon=0.0), connection, commands)


def upkeep(
    url: str,
    *,
    wait: float | None = None,
    reward: float | None = None,
    retention: int | None = None,
    lock_timeout: float | None = None,
) -> Done:
    """Run `oo-ml upkeep` on a database."""
    return oo_ml(
        "upkeep",
        OO_ML_DATABASE_URL=url,
        OO_ML_REWARD_WAIT=wait,
        OO_ML_DEFAULT_REWARD=reward,
        OO_ML_HISTORY_RETENTION=retention,
        OO_ML_LOCK_TIMEOUT=lock_timeout,
    )


def month(later: int) -> str:
    """Return the name of a month's partition."""
    return partition_name(month_of(NOW, later))


def test_nothing_to_do(database_url: str) -> None:
    """With default settings and all partitions present, nothing is printed."""
    assert upkeep(database_url) == Done(0, "", "")


@pytest.mark.usefixtures("decisions")
def test_output(database_url: str, db: Engine) -> None:
    """Each partition made or detached and the number of default rewards are printed; a second run finds none left."""
    run(db, f"DROP TABLE oo_ml.{month(3)}")
    run(db, "SELECT oo_ml.create_feature_history_months('2001-05-01Z', 1)")
    said = f"made {month(3)}\ndetached feature_history_2001_05\ndefault rewards given: 1200\n"
    assert upkeep(database_url, wait=0.001, reward=0.25, retention=6) == Done(0, said, "")
    assert upkeep(database_url, wait=0.001, reward=0.25, retention=6) == Done(0, "default rewards given: 0\n", "")
    assert scalar(db, "SELECT array_agg(DISTINCT (reward, reward_kind)::text) FROM oo_ml.feature_history") == [
        "(0.25,default)"
    ]


@pytest.mark.usefixtures("decisions")
def test_two_processes(database_url: str, db: Engine) -> None:
    """Two processes at once give each default reward once, and both succeed."""
    processes = [start("upkeep", OO_ML_DATABASE_URL=database_url, OO_ML_REWARD_WAIT=0.001) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [(process.returncode, err) for process, (_, err) in zip(processes, said, strict=True)] == [(0, "")] * 2
    lines = [line for out, _ in said for line in out.splitlines() if line.startswith("default rewards given: ")]
    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == 1200
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 1200
    assert scalar(db, "SELECT sum(reward_count)::integer FROM oo_ml.policy_state") == 1200


def test_default_rewards_by_another_process(database_url: str, db: Engine) -> None:
    """If another process is giving default rewards, the command says so and succeeds."""
    with writing(db) as other:
        other.execute(text("SELECT FROM oo_ml.upkeep WHERE task = 'default-rewards' FOR UPDATE"))
        done = upkeep(database_url, wait=60)
    assert done == Done(0, "default rewards given: 0\nanother process is giving default rewards\n", "")


@pytest.mark.usefixtures("decisions")
def test_role_without_the_right_to_partitions(service_url: str, database_url: str, db: Engine) -> None:
    """Without the right to make partitions it fails only if one is missing, and names the command that helps."""
    run(db, "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA oo_ml FROM service")
    assert upkeep(service_url) == Done(0, "", "")
    run(db, f"DROP TABLE oo_ml.{month(3)}")
    refused = f"error: making months of feature_history: this role lacks the rights; {ALARM}"
    done = upkeep(service_url, wait=0.001)
    assert done == Done(1, "default rewards given: 1200\n", refused)
    run(db, f"DROP TABLE oo_ml.{month(1)}")
    missing = f"error: feature_history has no partition for {month_of(NOW, 1):%Y-%m}: {ALARM}"
    assert upkeep(service_url) == Done(1, "", refused + missing)
    assert oo_ml("db", "grant-service", "service", OO_ML_DATABASE_URL=database_url).code == 0
    assert upkeep(service_url) == Done(0, f"made {month(1)}\nmade {month(3)}\n", "")


def test_detach_of_a_table_in_use(database_url: str, db: Engine) -> None:
    """A partition that is read for longer than OO_ML_LOCK_TIMEOUT is not detached, and the command fails."""
    run(db, "SELECT oo_ml.create_feature_history_months('2001-05-01Z', 1)")
    with db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        done = upkeep(database_url, retention=6, lock_timeout=0.1)
    assert (done.code, done.out) == (1, "")
    refused = (
        "error: detaching months of feature_history: The database did not answer in time: another session holds a lock"
    )
    assert done.err.splitlines()[-1] == refused
    assert upkeep(database_url, retention=6) == Done(0, "detached feature_history_2001_05\n", "")


def test_wait_for_a_table_in_use(database_url: str, db: Engine) -> None:
    """The command waits up to OO_ML_LOCK_TIMEOUT for a table in use; the service would give up at once."""
    run(db, "SELECT oo_ml.create_feature_history_months('2001-05-01Z', 1)")
    patient = {"OO_ML_LOCK_TIMEOUT": PATIENCE, "OO_ML_STATEMENT_TIMEOUT": PATIENCE, "OO_ML_REQUEST_TIMEOUT": PATIENCE}
    with db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        process = start("upkeep", OO_ML_DATABASE_URL=database_url, OO_ML_HISTORY_RETENTION=6, **patient)
        wait_until_blocked(db, 1)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        reader.rollback()
    assert process.communicate(timeout=PATIENCE) == ("detached feature_history_2001_05\n", "")
    assert process.returncode == 0


def test_crowded_default_partition(database_url: str, db: Engine) -> None:
    """Too many decisions in the default partition are left to `oo-ml db upgrade`, and the command fails."""
    crowd_month(db, month_of(NOW, 3))
    crowded = (
        f"error: feature_history gets no partition for {month_of(NOW, 3):%Y-%m}, because moving its decisions out of"
        " feature_history_default would block calls: run `oo-ml db upgrade` as the owner at a quiet time\n"
    )
    assert upkeep(database_url) == Done(1, "", crowded)
    assert oo_ml("db", "upgrade", OO_ML_DATABASE_URL=database_url).code == 0
    assert upkeep(database_url) == Done(0, "", "")


@pytest.mark.usefixtures("decisions")
def test_failed_default_reward(database_url: str, db: Engine) -> None:
    """A decision that can't be given its default reward is an error; all others get theirs."""
    broken = scalar(db, "SELECT decision_id::text FROM oo_ml.feature_history ORDER BY decision_id OFFSET 700 LIMIT 1")
    run(db, f"UPDATE oo_ml.feature_history SET x = '{{1,2}}' WHERE decision_id = '{broken}'")  # noqa: S608 - an id
    done = upkeep(database_url, wait=0.001)
    assert (done.code, done.out) == (1, "default rewards given: 1199\n")
    assert f"decision {broken} can't be given the default reward and is stepped over\n" in done.err
    assert done.err.splitlines()[-1] == "error: default rewards that could not be given, see above: 1"


def test_unreachable_server(tmp_path: Path) -> None:
    """The last line of an unreachable server is the error."""
    done = upkeep(f"postgresql://u@/d?host={tmp_path}")
    missing = f"No such file or directory ({tmp_path}/.s.PGSQL.5432)"
    last = f"error: The database can't be reached: {missing}"
    assert (done.code, done.out, done.err.splitlines()[-1]) == (1, "", last)


def test_database_without_migrations(empty_database_url: str) -> None:
    """The error says what to do."""
    done = upkeep(empty_database_url)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("error: The database has not been migrated to this release")


def test_private_database(home: Path) -> None:
    """Without OO_ML_DATABASE_URL the command starts the private PostgreSQL."""
    assert oo_ml("upkeep", OO_ML_DATA_DIR=home / "data") == Done(0, "", "")


@pytest.mark.usefixtures("decisions")
def test_json_of_a_run_that_failed(database_url: str, db: Engine) -> None:
    """JSON tells what was done before a task failed, and why that one failed."""
    run(db, "ALTER TABLE oo_ml.counted RENAME TO moved_away")
    done = oo_ml("upkeep", "--json", OO_ML_DATABASE_URL=database_url, OO_ML_REWARD_WAIT=0.001)
    told = json.loads(done.out)
    assert (done.code, told["default_rewards_given"], len(told["errors"])) == (1, 1200, 1)
    assert done.err.splitlines()[-1] == f"error: {told['errors'][0]}"
