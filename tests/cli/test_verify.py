"""`oo-ml verify`."""

import signal
import subprocess
from typing import Any

import pytest
from sqlalchemy import Engine, text

from oo_ml.cli.exit_codes import ExitCode
from tests import calls
from tests.commands import Done, oo_ml, start
from tests.gates import wait_until_blocked
from tests.serving import Service
from tests.sessions import writing
from tests.waiting import PATIENCE

PATIENT: dict[str, Any] = {
    "OO_ML_DATABASE_CONNECT_TIMEOUT": 20,
    "OO_ML_REQUEST_TIMEOUT": 30,
    "OO_ML_STATEMENT_TIMEOUT": 30,
}


def verify(database_url: str, *words: str) -> Done:
    """Run the command on a database."""
    return oo_ml("verify", *words, OO_ML_DATABASE_URL=database_url, **PATIENT)


@pytest.fixture
def known_users(service: Service) -> Service:
    """A service that knows ada, who decided and reacted, ben, who decided, and one whose id a terminal would obey."""
    for user in ("ada", "ben", "\u202ecleo"):
        service.client.post("/score", json=calls.score(user))
    service.client.post("/reward", json=calls.reward())
    service.client.post("/reward/egreedy", json=calls.reward())
    return service


@pytest.mark.usefixtures("known_users")
def test_no_difference(database_url: str) -> None:
    """All users are verified by default, and the totals are printed; progress goes to standard error."""
    all_users = Done(0, "No difference: users 3, states 4, ledger entries 2, decisions 3\n", "Verifying: 4 of 4\n")
    assert verify(database_url) == all_users
    assert verify(database_url, "--all") == all_users
    ben = Done(0, "No difference: users 1, states 1, ledger entries 0, decisions 1\n", "Verifying: 1 of 1\n")
    assert verify(database_url, "--user", "ben") == ben
    sampled = verify(database_url, "--sample", "10")
    assert (sampled.code, sampled.out) == (0, all_users.out)
    assert sampled.err.splitlines()[-1] == "Verifying: 4 of 4"
    assert verify(database_url, "--sample", "1").out.startswith("No difference: users 1, ")


@pytest.mark.usefixtures("known_users")
def test_difference(database_url: str, db: Engine) -> None:
    """The first difference ends the command with exit code 1; the user's id is printed without control characters."""
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.policy_state SET pulls = 2 WHERE user_id >= 'b'"))
    sentence = "linucb-v1, epoch 0, version 0: expected pulls = 1, found 2"
    ben = verify(database_url)
    assert (ben.code, ben.out.splitlines()) == (
        1,
        [f"difference: ben: {sentence}", "Stopped there: users 3, states 4, ledger entries 2, decisions 3"],
    )
    cleo = verify(database_url, "--user", "\u202ecleo")
    assert cleo.code == 1
    assert cleo.out.splitlines()[0] == rf"difference: '\u202ecleo': {sentence}"
    assert verify(database_url, "--sample", "9").out.splitlines()[0] == f"difference: ben: {sentence}"
    assert verify(database_url, "--user", "ada").code == 0


def test_unknown_user(database_url: str) -> None:
    """An unknown user and an empty database are no difference."""
    nothing = "No difference: users 0, states 0, ledger entries 0, decisions 0\n"
    assert verify(database_url, "--user", "zoe") == Done(0, f"Nothing is known of zoe\n{nothing}", "")
    assert verify(database_url) == Done(0, nothing, "")
    assert verify(database_url, "--sample", "3") == Done(0, nothing, "")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--all", "--user", "ada"], "--user, --sample and --all exclude each other"),
        (["--sample", "3", "--user", "ada"], "--user, --sample and --all exclude each other"),
        (["--sample", "3", "--all"], "--user, --sample and --all exclude each other"),
        (["--sample", "0"], "greater than or equal to 1"),
        (["--user", "a\nb"], "the service accepts no such id"),
        (["--user", ""], "the service accepts no such id"),
    ],
)
def test_invalid_options(words: list[str], reason: str) -> None:
    """Invalid options are refused with exit code 2, before any connection."""
    done = oo_ml("verify", *words, OO_ML_DATABASE_URL="postgresql://u@127.0.0.1:1/d")
    assert (done.code, done.out) == (2, "")
    assert reason in done.err


def test_database_without_migrations(empty_database_url: str) -> None:
    """The error says what to do."""
    done = verify(empty_database_url)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: The database has not been migrated")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)]
)
@pytest.mark.usefixtures("known_users")
def test_interruption(database_url: str, db: Engine, number: signal.Signals, code: ExitCode) -> None:
    """Ctrl-C and SIGTERM end the command at once, with the totals so far and without a traceback."""
    with writing(db) as connection:
        connection.execute(text("LOCK TABLE oo_ml.feature_history IN ACCESS EXCLUSIVE MODE"))
        process = start("verify", OO_ML_DATABASE_URL=database_url, OO_ML_LOCK_TIMEOUT=30, **PATIENT)
        try:
            wait_until_blocked(db, 1)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == code
    assert out == "Stopped before the end; no difference so far: users 0, states 0, ledger entries 0, decisions 0\n"
    assert "Traceback" not in err
