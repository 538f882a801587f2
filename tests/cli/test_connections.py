"""Connections of commands: what libpq can reach they reach, and what they can't reach is one line with the cause."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import make_url

from tests import calls
from tests.cli.refusing_server import refusing_server
from tests.commands import Done, oo_ml, run_serve
from tests.conftest import as_role, make_settings
from tests.faults.proxy import run_proxy
from tests.serving import serving

COMMANDS = [("db", "current"), ("prompts", "list")]


def run(words: Sequence[str], address: str, **variables: object) -> Done:
    """Run a command on the database at `address`, with time for a busy machine."""
    variables |= {"OO_ML_DATABASE_URL": address, "OO_ML_DATABASE_CONNECT_TIMEOUT": 30, "OO_ML_REQUEST_TIMEOUT": 60}
    return oo_ml(*words, stdin="", **variables)


def refused(cause: str) -> Done:
    """Return the outcome of a command that has no connection."""
    return Done(1, "", f"error: The database can't be reached: {cause}\n")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("sqlstate", "message"),
    [
        ("28P01", 'password authentication failed for user "web"'),
        ("28P01", "Passwort-Authentifizierung für Benutzer »web« fehlgeschlagen"),
        ("3D000", 'database "tips" does not exist'),
        ("53300", "sorry, too many clients already"),
        ("28000", 'no pg_hba.conf entry for host "10.0.0.1", user "web", database "tips", no encryption'),
        ("57P03", "the database system is starting up"),
    ],
)
def test_refused_login(words: tuple[str, ...], sqlstate: str, message: str) -> None:
    """The reason of the server for refusing a login is passed on, in its language, with the address it came from."""
    with refusing_server(sqlstate, message) as port:
        done = run(words, f"postgresql://web:sesame@127.0.0.1:{port}/tips")
    assert done == refused(f"{message} (127.0.0.1:{port})")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_other_causes(words: tuple[str, ...], tmp_path: Path) -> None:
    """So are a name that is not found, a port that is closed, a missing socket, and TLS that the server lacks."""
    with refusing_server("53300", "full") as port:
        causes = {
            "postgresql://web:sesame@nowhere.invalid/tips": "failed to resolve host 'nowhere.invalid': ",
            "postgresql://web:sesame@127.0.0.1:1/tips": "Connection refused (127.0.0.1:1)\n",
            f"postgresql://web:sesame@/tips?host={tmp_path}": f"No such file or directory ({tmp_path}/.s.PGSQL.5432)\n",
            f"postgresql://web:sesame@127.0.0.1:{port}/tips?sslmode=require": (
                f"server does not support SSL, but SSL was required (127.0.0.1:{port})\n"
            ),
            f"postgresql://web:sesame@127.0.0.1:1,127.0.0.1:{port}/tips": (
                f"Connection refused (127.0.0.1:1); full (127.0.0.1:{port})\n"
            ),
        }
        for address, cause in causes.items():
            done = run(words, address)
            assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
            assert done.err.startswith(f"error: The database can't be reached: {cause}")


def test_cause_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The log of the service has the reason of the server; a client of HTTP, who may be a stranger, is not told."""
    with (
        refusing_server("28P01", 'password authentication failed for user "web"') as port,
        serving(make_settings(), f"postgresql://web:sesame@127.0.0.1:{port}/tips") as service,
    ):
        answers = [service.client.get("/readyz"), service.client.post("/score", json=calls.score())]
    reached = "The database can't be reached"
    assert [(answer.status_code, answer.json()["detail"]) for answer in answers] == [(503, reached)] * 2
    assert f'{reached}: password authentication failed for user "web" (127.0.0.1:{port})' in caplog.text
    assert "sesame" not in caplog.text


@pytest.mark.parametrize("words", [*COMMANDS, ("serve", "--port", "0")], ids=" ".join)
@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ("?sslmode=always", """can't be used: invalid sslmode value: "always\""""),
        ("?target_session_attrs=main", """can't be used: invalid target_session_attrs value: "main\""""),
        ("?service=nowhere", """can't be used: definition of service "nowhere" not found"""),
        ("?sslaccept=strict", "has the parameter sslaccept, which PostgreSQL does not know: remove it"),
    ],
)
def test_unusable_address(words: tuple[str, ...], parameters: str, sentence: str) -> None:
    """A parameter or a value that libpq does not know is refused in one line; the service does not start either."""
    done = oo_ml(*words, OO_ML_DATABASE_URL=f"postgresql://web:sesame@127.0.0.1:1/tips{parameters}")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == f"error: OO_ML_DATABASE_URL {sentence}"
    assert "sesame" not in done.err


def test_several_servers(database_url: str) -> None:
    """The first server that answers, and is what target_session_attrs asks for, is used by commands and the service."""
    with run_proxy(as_role(database_url, "service")) as (proxy, url):
        both = url.replace("@", "@127.0.0.1:1,")
        for address in (both, f"{both}?target_session_attrs=read-write"):
            assert [run(words, address).code for words in COMMANDS] == [0, 0]
        done = run(COMMANDS[0], f"{both}?target_session_attrs=standby")
        assert done == refused(
            f"Connection refused (127.0.0.1:1); server is not in hot standby mode (127.0.0.1:{proxy.port})"
        )


def test_service_file(empty_database_url: str, tmp_path: Path) -> None:
    """A service of libpq's file is an address for migrations and for `serve`; its search_path counts for neither."""
    address = make_url(empty_database_url)
    file = tmp_path / "pg_service.conf"
    parameters = {"user": address.username, "dbname": address.database, **address.query}
    parameters["options"] = "-c search_path=elsewhere"
    file.write_text("\n".join(["[tips]", *(f"{name}={value}" for name, value in parameters.items())]), "utf-8")
    tips = "postgresql:///?service=tips"
    assert run(["db", "upgrade"], tips, PGSERVICEFILE=file).code == 0
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=tips, PGSERVICEFILE=file) as service:
        assert service.client.get("/readyz").status_code == 200
        assert service.client.post("/score", json=calls.score()).status_code == 200


def test_encoded_socket_directory(database_url: str) -> None:
    """A socket's directory may stand in the place of the host, with its slashes encoded."""
    address = make_url(database_url)
    directory = quote(str(address.query["host"]), safe="")
    encoded = f"postgresql://{address.username}@{directory}:{address.query['port']}/{address.database}"
    assert [run(words, encoded).code for words in COMMANDS] == [0, 0]
