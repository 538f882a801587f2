"""`oo-ml verify`, as it is typed."""

import signal
import subprocess
from typing import Any

import pytest
from sqlalchemy import Engine, text

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
def known(service: Service) -> Service:
    """A service that knows ada, who decided and reacted, ben, who decided, and one whose id a terminal would obey."""
    for user in ("ada", "ben", "\u202ecleo"):
        service.client.post("/score", json=calls.score(user))
    service.client.post("/reward", json=calls.reward())
    service.client.post("/reward/egreedy", json=calls.reward())
    return service


@pytest.mark.usefixtures("known")
def test_without_a_difference_it_prints_what_was_compared(database_url: str) -> None:
    """Everybody unless told otherwise; how far it has come goes to standard error."""
    everybody = Done(0, "No difference: users 3, states 4, ledger entries 2, decisions 3\n", "Verifying: 4 of 4\n")
    assert verify(database_url) == everybody
    assert verify(database_url, "--all") == everybody
    ben = Done(0, "No difference: users 1, states 1, ledger entries 0, decisions 1\n", "Verifying: 1 of 1\n")
    assert verify(database_url, "--user", "ben") == ben
    sampled = verify(database_url, "--sample", "10")
    assert (sampled.code, sampled.out) == (0, everybody.out)
    assert sampled.err.splitlines()[-1] == "Verifying: 4 of 4"
    assert verify(database_url, "--sample", "1").out.startswith("No difference: users 1, ")


@pytest.mark.usefixtures("known")
def test_the_first_difference_ends_it(database_url: str, db: Engine) -> None:
    """Exit code 1; whose it is, and nothing that a terminal would obey."""
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


def test_somebody_never_seen_is_no_difference(database_url: str) -> None:
    """It is said that nothing is known; an empty database is fine too."""
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
def test_what_makes_no_sense_is_refused(words: list[str], reason: str) -> None:
    """Before anything is connected to."""
    done = oo_ml("verify", *words, OO_ML_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert (done.code, done.out) == (2, "")
    assert reason in done.err


def test_a_database_that_is_not_migrated_is_said_so(empty_database_url: str) -> None:
    """One line, with what to do."""
    done = verify(empty_database_url)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: The database has not been migrated")


@pytest.mark.usefixtures("known")
def test_ctrl_c_ends_it(database_url: str, db: Engine) -> None:
    """At once, with what was compared so far, and without a traceback."""
    with writing(db) as connection:
        connection.execute(text("LOCK TABLE oo_ml.feature_history IN ACCESS EXCLUSIVE MODE"))
        process = start("verify", OO_ML_DATABASE_URL=database_url, OO_ML_LOCK_TIMEOUT=30, **PATIENT)
        try:
            wait_until_blocked(db, 1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 130
    assert out == "Stopped before the end; no difference so far: users 0, states 0, ledger entries 0, decisions 0\n"
    assert "Traceback" not in err
