"""`oo-ml log export`."""

import csv
import io
import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from pyarrow import parquet
from sqlalchemy import Engine

from oo_ml.files.decision_log_writers import COLUMNS, Format
from oo_ml.services.analytics import decision_log
from oo_ml.storage.decision_pages import PageSize
from tests.commands import Done, oo_ml, oo_ml_process
from tests.simulated_users import NOON, SimulatedUsers
from tests.superuser import tamper

DECISIONS: Final = 40
PATIENT: Final[dict[str, Any]] = {
    "OO_ML_DATABASE_CONNECT_TIMEOUT": 20,
    "OO_ML_REQUEST_TIMEOUT": 30,
    "OO_ML_STATEMENT_TIMEOUT": 30,
}


def export(database_url: str, *words: str) -> Done:
    """Run the command on a database."""
    return oo_ml("log", "export", *words, OO_ML_DATABASE_URL=database_url, **PATIENT)


@pytest.fixture
def users(db: Engine) -> SimulatedUsers:
    """A decision a day, each second one with a reward."""
    simulated = SimulatedUsers(db, 8)
    for number in range(DECISIONS):
        made = simulated.decide(f"user {number % 3}", at=NOON + timedelta(days=number))
        if number % 2:
            simulated.react(made)
    return simulated


@pytest.mark.usefixtures("users")
def test_formats(analyst_url: str, tmp_path: Path) -> None:
    """The files of all formats hold the same decisions, in the order of time; an analyst's rights are enough."""
    read: dict[Format, list[tuple[Any, ...]]] = {}
    for format_ in Format:
        file = tmp_path / f"log.{format_}"
        done = export(analyst_url, "--format", format_, "--output", str(file))
        assert (done.code, done.out) == (0, "")
        assert done.err.splitlines()[-1] == "Exporting: 40 of 40"
        match format_:
            case Format.PARQUET:
                rows = parquet.read_table(file).to_pylist()
            case Format.CSV:
                rows = list(csv.DictReader(io.StringIO(file.read_text("utf-8"), newline="")))
            case Format.JSONL:
                rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        assert [list(row) for row in rows] == [list(COLUMNS)] * DECISIONS
        read[format_] = [
            (row["decision_id"], float(row["propensity"]), row["reward"] if row["reward"] != "" else None)
            for row in rows
        ]
    assert read[Format.PARQUET] == read[Format.JSONL]
    rewards = [(key, propensity, reward and float(reward)) for key, propensity, reward in read[Format.CSV]]
    assert rewards == read[Format.JSONL]
    assert sum(reward is not None for *_, reward in rewards) == DECISIONS / 2


def test_period(users: SimulatedUsers, database_url: str) -> None:
    """--since is included, --until is not; standard output has the log alone."""
    done = export(database_url, "--format", "jsonl", "--since", "2026-11-25T13:00+01:00", "--until", "2026-11-28T12:00")
    assert done.code == 0
    days = {key: (command.decided_at - NOON).days for key, command in users.decisions.items()}
    found = [json.loads(line)["decision_id"] for line in done.out.splitlines()]
    assert sorted(days[key] for key in days if str(key) in found) == [2, 3, 4]
    assert len(found) == 3
    assert done.err.splitlines()[-1] == "Exporting: 3 of 3"


@pytest.mark.parametrize("format_", Format)
@pytest.mark.usefixtures("users")
def test_failure(
    db: Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: Format
) -> None:
    """If the export fails, an older file is unchanged, no part of a new one is left, and the exit code is 1."""
    monkeypatch.setattr(decision_log, "walk_decisions", partial(decision_log.walk_decisions, size=PageSize(8)))
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("what was there before", "utf-8")
    # A candidate list that is no list can't be read. It is in the second page.
    late = NOON + timedelta(days=12)
    tamper(db, "UPDATE oo_ml.feature_history SET candidates = '1' WHERE decided_at = :late", late=late)
    for file in (old, new):
        done = export(database_url, "--format", format_, "--output", str(file))
        assert (done.code, done.out) == (1, "")
        assert "Exporting: 8 of 40" in done.err
        assert done.err.endswith("error: Internal error; the log of the service has the details\n")
    assert [one.name for one in tmp_path.iterdir()] == ["old"]
    assert old.read_text("utf-8") == "what was there before"


@pytest.mark.usefixtures("users")
def test_unwritable_files(database_url: str, tmp_path: Path) -> None:
    """The error names the file and the reason."""
    missing = tmp_path / "missing" / "log.csv"
    done = export(database_url, "--format", "csv", "--output", str(missing))
    assert done == Done(1, "", f"error: Cannot write {missing}: No such file or directory\n")


@pytest.mark.usefixtures("users")
def test_standard_output(database_url: str) -> None:
    """A process writes the log to a pipe, with progress on standard error."""
    words = ("log", "export", "--format", "csv")
    whole = oo_ml_process(*words, OO_ML_DATABASE_URL=database_url, **PATIENT)
    assert (whole.code, len(list(csv.reader(io.StringIO(whole.out, newline=""))))) == (0, DECISIONS + 1)
    assert whole.err.splitlines()[-1] == "Exporting: 40 of 40"


def test_file_permissions(database_url: str, tmp_path: Path) -> None:
    """Only its owner can read the file, because it has the ids of users."""
    file = tmp_path / "log.csv"
    assert export(database_url, "--format", "csv", "--output", str(file)).code == 0
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "Missing option '--format'"),
        (["--format", "xml"], "'xml' is not one of"),
        (["--format", "parquet"], "parquet needs --output"),
        (["--format", "csv", "--since", "now"], "must be a date or time in ISO 8601"),
        (["--format", "csv", "--since", "2026-11-23", "--until", "2026-11-23"], "--since must be before --until"),
    ],
)
def test_invalid_options(words: list[str], reason: str) -> None:
    """Invalid options are refused with exit code 2, before any connection."""
    done = oo_ml("log", "export", *words, OO_ML_DATABASE_URL="postgresql://u@127.0.0.1:1/d")
    assert (done.code, done.out) == (2, "")
    assert reason in done.err


def test_database_without_migrations(empty_database_url: str, tmp_path: Path) -> None:
    """The error says what to do, and no file is left."""
    done = export(empty_database_url, "--format", "jsonl", "--output", str(tmp_path / "log"))
    message = "error: The database has not been migrated to this release: run `oo-ml db upgrade`\n"
    assert done == Done(1, "", message)
    assert list(tmp_path.iterdir()) == []
