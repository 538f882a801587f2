"""Moving in from the file-based service: bit for bit, once, and never over what has gone on here."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import Engine

from oo_ml.domain.evidence import Evidence, observe
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, Rule, choose
from oo_ml.domain.ridge import Ridge, stack, theta
from oo_ml.errors import DatabaseTimeoutError
from oo_ml.execution import retry
from oo_ml.files.legacy_state import FileState, read
from oo_ml.services.users import import_state
from oo_ml.services.users.import_state import ImportCommand, Outcome, Verdict, import_files
from oo_ml.storage.postgres import engine as engines
from tests.candidates import build_context, build_task
from tests.conftest import make_settings
from tests.file_service import write_state_file
from tests.policies import builtin
from tests.serving import Service

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EARLY, LATE = "2026-03-01T08:30:00Z", "2026-03-02T08:30:00Z"
CANDIDATES = [
    {"id": "t1", "content": "one", "source": "todoist", "features": {"is_overdue": True, "priority": 4}},
    {"id": "t2", "content": "two", "source": "todoist", "features": {"task_age_days": 12, "priority": 2}},
]
X = (
    builtin(EPSILON_GREEDY)
    .features.encode(
        [build_context(9, 3)],
        [
            build_task(is_overdue=True, task_age_days=0, priority=4),
            build_task(is_overdue=False, task_age_days=12, priority=2),
        ],
        [2],
    )
    .X
)


def run(
    db: Engine, directory: Path, users: Sequence[str] | None = None, *, dry_run: bool = False
) -> dict[str, Outcome]:
    """Import a directory; return each file's outcome."""
    listed = None
    if users is not None:
        listed = directory / "users.txt"
        listed.write_text("\n".join(users), "utf-8")
    source = import_state.find_source(directory, listed)
    outcomes = dict(import_state.list_refused(source))
    for batch in import_files(db, make_settings(), source, imported_at=NOW, dry_run=dry_run):
        outcomes |= batch
    return outcomes


def drop_reasons(outcomes: dict[str, Outcome]) -> dict[str, str]:
    """Leave the reasons out."""
    return {file: outcome.verdict.value for file, outcome in outcomes.items()}


def everything(connection: psycopg.Connection[Any]) -> list[Any]:
    """Every row of state and ledger, with where it lies and which transaction wrote it."""
    rows: list[Any] = []
    for table in ("policy_state", "reward_ledger"):
        rows += connection.execute(f"SELECT ctid, xmin, t.* FROM oo_ml.{table} AS t ORDER BY 3, 4, 5, 6").fetchall()  # noqa: S608
    connection.rollback()
    return rows


def test_decisions_after_an_import(db: Engine, service: Service, tmp_path: Path) -> None:
    """The stats are the file's, the next scores come from its matrices, and the next reward continues from them."""
    linucb = write_state_file(tmp_path, "ada", LINUCB, seed=1)
    egreedy = write_state_file(tmp_path, "ada", EPSILON_GREEDY, seed=2)
    assert drop_reasons(run(db, tmp_path)) == {"ada.json": "imported", "ada_egreedy.json": "imported"}
    for path, state in (("/stats/ada", linucb), ("/stats/egreedy/ada", egreedy)):
        stats = service.client.get(path).json()
        meta = state["meta"]
        assert stats["theta"] == np.linalg.solve(state["A"], state["b"]).tolist()
        assert stats["pulls"] == meta["pulls"]
        assert stats["reward_count"] == meta["reward_count"]
        assert stats["cumulative_reward"] == meta["cumulative_reward"]
        assert stats["last_updated"] == "2026-03-01T08:30:00.123456Z"
    assert service.client.get("/stats/egreedy/ada").json()["exploration_rate"] == 2 / 12
    body = {"user_id": "ada", "candidates": CANDIDATES, "context": {"hour_of_day": 9, "day_of_week": 3}}
    model = Ridge(np.array(linucb["A"]), np.array(linucb["b"]))
    [expected] = choose(Rule(0.0, 1.0), stack([model]), [0], X[:, :5], [2], [0])
    answer = service.client.post("/score", json=body).json()
    assert (answer["tip_id"], answer["score"]) == (f"t{1 + expected.index}", expected.score)
    greedy = Ridge(np.array(egreedy["A"]), np.array(egreedy["b"]))
    answer = service.client.post("/score/egreedy", json=body).json()
    assert answer["score"] == pytest.approx((X @ theta(greedy)).max(), rel=1e-14)
    features = {"hour_of_day": 9, "is_overdue": True, "priority": 4}
    reward = {"user_id": "ada", "tip_id": "t1", "reward": 1, "features": features}
    assert service.client.post("/reward", json=reward).json()["applied"] is True
    learned = observe(Evidence(model.A, model.b), X[0, :5], 1)
    assert service.client.get("/stats/ada").json()["theta"] == theta(Ridge(learned.A, learned.b)).tolist()


def test_ledger_entry_of_an_import(db: Engine, postgresql: psycopg.Connection[Any], tmp_path: Path) -> None:
    """Version 1 of the epoch has one ledger entry, and the state computed from it is exactly the stored state."""
    meta = write_state_file(tmp_path, "ada", EPSILON_GREEDY)["meta"]
    run(db, tmp_path)
    [row] = postgresql.execute("""
        SELECT l.kind, l.epoch, l.version, l.recorded_at, l.start_pulls, l.start_explore_count, l.start_reward_count,
            l.start_cumulative_reward, l.start_a = s.a AND l.start_b = s.b, s.epoch, s.version, s.pulls,
            s.explore_count, s.reward_count, s.cumulative_reward
        FROM oo_ml.reward_ledger AS l JOIN oo_ml.policy_state AS s USING (user_id, policy)
    """).fetchall()
    counters = (meta["pulls"], meta["explore_count"], meta["reward_count"], meta["cumulative_reward"])
    assert row == ("import", 0, 1, NOW, *counters, True, 0, 1, *counters)


def test_second_import(db: Engine, postgresql: psycopg.Connection[Any], tmp_path: Path) -> None:
    """A second import of the same files writes no row."""
    for name in ("ada", "bob"):
        write_state_file(tmp_path, name, LINUCB)
        write_state_file(tmp_path, name, EPSILON_GREEDY, last_updated=None)
    assert set(drop_reasons(run(db, tmp_path)).values()) == {"imported"}
    before = everything(postgresql)
    assert len(before) == 8
    assert set(drop_reasons(run(db, tmp_path)).values()) == {"unchanged"}
    assert everything(postgresql) == before


def test_dry_run(database_url: str, postgresql: psycopg.Connection[Any], tmp_path: Path) -> None:
    """A dry run reports what an import would do, on a read-only connection."""
    write_state_file(tmp_path, "ada")
    write_state_file(tmp_path, "a_b")
    expected = {"ada.json": "imported", "a_b.json": "unknown"}
    read_only = engines.create(database_url, make_settings(), threads=1, read_only=True)
    assert drop_reasons(run(read_only, tmp_path, dry_run=True)) == expected
    read_only.dispose()
    assert everything(postgresql) == []


def test_import_after_a_rehearsal(
    db: Engine, service: Service, postgresql: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """Newer files begin a new epoch, older files are not imported, and the rehearsal stays in the ledger."""
    write_state_file(tmp_path, "ada", last_updated=EARLY, seed=1)
    write_state_file(tmp_path, "bob", last_updated=LATE, seed=1)
    write_state_file(tmp_path, "eve", last_updated=None, seed=1)
    run(db, tmp_path)
    later = write_state_file(tmp_path, "ada", last_updated=LATE, seed=2)
    write_state_file(tmp_path, "bob", last_updated=EARLY, seed=2)
    write_state_file(tmp_path, "eve", last_updated=EARLY, seed=2)
    expected = {"ada.json": "imported", "bob.json": "kept newer", "eve.json": "imported"}
    assert drop_reasons(run(db, tmp_path, dry_run=True)) == expected
    outcomes = run(db, tmp_path)
    assert drop_reasons(outcomes) == expected
    assert outcomes["bob.json"].reason == "linucb-v1 of 'bob' was imported from a file that is no older"
    assert service.client.get("/stats/ada").json()["theta"] == np.linalg.solve(later["A"], later["b"]).tolist()
    epochs = postgresql.execute("SELECT user_id, epoch, version FROM oo_ml.reward_ledger ORDER BY 1, 2").fetchall()
    assert epochs == [("ada", 0, 1), ("ada", 1, 1), ("bob", 0, 1), ("eve", 0, 1), ("eve", 1, 1)]
    postgresql.rollback()
    before = everything(postgresql)
    assert drop_reasons(run(db, tmp_path)) == expected | {"ada.json": "unchanged", "eve.json": "unchanged"}
    assert everything(postgresql) == before


@pytest.mark.parametrize(("part", "place", "value"), [("A", 0, [9, 0, 0, 0, 0]), ("b", 4, 0.5), ("meta", "pulls", 99)])
def test_other_content_of_the_same_age(
    db: Engine, service: Service, tmp_path: Path, part: str, place: int | str, value: object
) -> None:
    """A file that differs from the imported one but is not newer is reported as not imported."""
    state = write_state_file(tmp_path, "ada", rewards=0)
    run(db, tmp_path)
    before = service.client.get("/stats/ada").json()
    state[part][place] = value
    (tmp_path / "ada.json").write_text(json.dumps(state), "utf-8")
    assert drop_reasons(run(db, tmp_path)) == {"ada.json": "kept newer"}
    assert service.client.get("/stats/ada").json() == before


@pytest.mark.parametrize("imported_first", [True, False])
@pytest.mark.parametrize("event", ["score", "reward", "reset"])
def test_newer_state(
    db: Engine,
    service: Service,
    postgresql: psycopg.Connection[Any],
    tmp_path: Path,
    event: str,
    imported_first: bool,
) -> None:
    """A state with a decision, a reward or a reset is never overwritten, whatever time the file has."""
    if imported_first:
        write_state_file(tmp_path, "ada", last_updated=EARLY)
        run(db, tmp_path)
    else:
        service.client.post("/score", json={"user_id": "ada", "candidates": CANDIDATES})
    body: dict[str, Any] = {"user_id": "ada"}
    if event == "score":
        service.client.post("/score", json=body | {"candidates": CANDIDATES})
    elif event == "reward":
        service.client.post("/reward", json=body | {"tip_id": "t1", "reward": 0, "features": {}})
    else:
        service.client.post("/reset/ada")
    write_state_file(tmp_path, "ada", last_updated="2999-01-01T00:00:00Z")
    before = everything(postgresql)
    assert run(db, tmp_path) == {"ada.json": Outcome(Verdict.KEPT, "linucb-v1 of 'ada' has gone on here")}
    assert everything(postgresql) == before


def test_one_user_twice_in_a_batch(db: Engine, tmp_path: Path) -> None:
    """Commands of one user are applied in order, as in every other service."""
    states: list[FileState] = []
    for last_updated in (EARLY, LATE, EARLY):
        write_state_file(tmp_path, "ada", last_updated=last_updated, seed=len(states))
        states.append(read(tmp_path, "ada.json"))
    commands = [ImportCommand("ada", state) for state in states]

    def service(connection: Any, batch: Sequence[ImportCommand]) -> list[Outcome]:  # noqa: ANN401
        return import_state.import_states(connection, batch, imported_at=NOW)

    outcomes = retry.run(db, service, commands, time.monotonic() + 20)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.IMPORTED, Verdict.IMPORTED, Verdict.KEPT]


def test_owners_of_files(db: Engine, postgresql: psycopg.Connection[Any], tmp_path: Path) -> None:
    """A file is imported only if exactly one listed id that the service accepts belongs to its name."""
    for name in ("a_b", "c_d", "me_home_org", "tab_bed", "gone"):
        write_state_file(tmp_path, name)
    write_state_file(tmp_path, "x", EPSILON_GREEDY, seed=1)
    write_state_file(tmp_path, "y_egreedy", LINUCB, seed=2)
    listed = ["a.b", "a b", "me@home.org", "tab\tbed", "x", "x egreedy", "y", "y egreedy"]
    outcomes = run(db, tmp_path, listed)
    assert outcomes == {
        "a_b.json": Outcome(Verdict.AMBIGUOUS, "linucb-v1 of either of 'a.b', 'a b'"),
        "c_d.json": Outcome(Verdict.UNKNOWN, "linucb-v1 of the name 'c_d': no such id is listed"),
        "gone.json": Outcome(Verdict.UNKNOWN, "linucb-v1 of the name 'gone': no such id is listed"),
        "me_home_org.json": Outcome(Verdict.IMPORTED),
        "tab_bed.json": Outcome(Verdict.BAD, "linucb-v1 of 'tab\\tbed': the service accepts no such id"),
        "'tab\\tbed'": Outcome(Verdict.BAD, "listed, but the service accepts no such id"),
        "x_egreedy.json": Outcome(Verdict.IMPORTED),
        "y_egreedy.json": Outcome(Verdict.IMPORTED),
    }
    rows = postgresql.execute("SELECT user_id, policy FROM oo_ml.policy_state ORDER BY 1").fetchall()
    assert rows == [("me@home.org", LINUCB), ("x", EPSILON_GREEDY), ("y egreedy", LINUCB)]


def test_names_without_a_list(db: Engine, tmp_path: Path) -> None:
    """Without a list of ids, only files with names of letters and digits are imported."""
    for policy in (LINUCB, EPSILON_GREEDY):
        write_state_file(tmp_path, "ada", policy)
        write_state_file(tmp_path, "a_b", policy)
    outcomes = run(db, tmp_path)
    assert drop_reasons(outcomes) == {
        "ada.json": "imported",
        "ada_egreedy.json": "imported",
        "a_b.json": "unknown",
        "a_b_egreedy.json": "unknown",
    }
    reason = "egreedy-v1 of the name 'a_b': its id can't be told without --users"
    assert outcomes["a_b_egreedy.json"].reason == reason


def writers(connection: psycopg.Connection[Any]) -> list[Any]:
    """Each transaction's users, with how many rows of states and of the ledger it has written."""
    rows = connection.execute("""
        SELECT array_agg(DISTINCT user_id), count(*)
        FROM (
            SELECT xmin, user_id FROM oo_ml.policy_state UNION ALL SELECT xmin, user_id FROM oo_ml.reward_ledger
        ) AS written
        GROUP BY xmin::text
        ORDER BY 1
    """).fetchall()
    connection.rollback()
    return rows


def test_transaction_per_user(db: Engine, postgresql: psycopg.Connection[Any], tmp_path: Path) -> None:
    """A user's two files share one transaction, even with files between them; no two users share a transaction."""
    names = ["ada", "ada1", "x", "x_egreedy"]
    for name in names:
        write_state_file(tmp_path, name, LINUCB)
    for name in ("ada", "ada1", "x_egreedy"):
        write_state_file(tmp_path, name, EPSILON_GREEDY)
    users = ["ada", "ada1", "x", "x egreedy"]
    assert set(drop_reasons(run(db, tmp_path, users)).values()) == {"imported"}
    assert writers(postgresql) == [(["ada"], 4), (["ada1"], 4), (["x"], 2), (["x egreedy"], 4)]


def test_failure_in_the_middle(
    db: Engine, database_url: str, postgresql: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """If another session locks a row of the third user, none of its files is imported; a second run does the rest."""
    for name in ("ada", "ben", "cy", "dora"):
        write_state_file(tmp_path, name, LINUCB, last_updated=EARLY)
        write_state_file(tmp_path, name, EPSILON_GREEDY, last_updated=EARLY)
    postgresql.execute(
        "INSERT INTO oo_ml.policy_state VALUES ('cy', 'linucb-v1', 0, 0, 1, 0, 0, 0, now(), '{{1}}', '{0}')"
    )
    hurried = make_settings(lock_timeout=0.05)
    impatient = engines.create(database_url, hurried, threads=1)
    batches = import_files(impatient, hurried, import_state.find_source(tmp_path, None), imported_at=NOW)
    assert [sorted(file for file, _ in next(batches)) for _ in range(2)] == [
        ["ada.json", "ada_egreedy.json"],
        ["ben.json", "ben_egreedy.json"],
    ]
    with pytest.raises(DatabaseTimeoutError):
        next(batches)
    impatient.dispose()
    postgresql.rollback()
    before = everything(postgresql)
    assert writers(postgresql) == [(["ada"], 4), (["ben"], 4)]
    found = list(drop_reasons(run(db, tmp_path)).values())
    assert (found.count("unchanged"), found.count("imported")) == (4, 4)
    assert [row for row in everything(postgresql) if row in before] == before
    assert len(writers(postgresql)) == 4
