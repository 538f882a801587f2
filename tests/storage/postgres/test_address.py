"""Addresses: what libpq takes is taken, anything else is refused in one sentence, and an error holds nothing secret."""

from pathlib import Path

import pytest
from sqlalchemy import text

from oo_ml.errors import ConfigurationError
from oo_ml.storage.postgres import engine
from oo_ml.storage.postgres.address import parse_url
from oo_ml.storage.postgres.dialect import Dialect
from oo_ml.storage.postgres.parameters import connection_parameters, named_options
from tests.conftest import make_settings

UNKNOWN = "which PostgreSQL does not know: remove it"
ENCODE = "in the user and the password write @ as %40"


def parameters(address: str) -> dict[str, object]:
    """Return what SQLAlchemy's dialect passes to psycopg for an address."""
    return Dialect().create_connect_args(parse_url(address))[1]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_schemes(scheme: str) -> None:
    """Every scheme that hosting services use selects our driver."""
    found = parameters(f"{scheme}://u:p@h:5433/d?sslmode=require")
    assert found == {"user": "u", "password": "p", "host": "h", "port": "5433", "dbname": "d", "sslmode": "require"}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://h1:5433,h2,[::1]:5434/d", {"host": "h1,h2,::1", "port": "5433,,5434", "dbname": "d"}),
        (
            "postgresql://u@%2Frun%2Fpg%20sql:6000/d",
            {"user": "u", "host": "/run/pg sql", "port": "6000", "dbname": "d"},
        ),
        ("postgresql://u@/d?host=/run/a,/run/b", {"user": "u", "host": "/run/a,/run/b", "dbname": "d"}),
        ("postgresql://h/d?user=ada@server", {"user": "ada@server", "host": "h", "dbname": "d"}),
        ("postgresql://u:p%40ss%2F@h/d", {"user": "u", "password": "p@ss/", "host": "h", "dbname": "d"}),
        ("postgresql://u:a?b#c:d@h/d", {"user": "u", "password": "a?b#c:d", "host": "h", "dbname": "d"}),
        ("postgresql:///?service=tips", {"service": "tips"}),
        ("postgresql://", {}),
        (" postgresql://h/d\r\n", {"host": "h", "dbname": "d"}),
        ("host=h1,h2 dbname=d password='a b'", {"host": "h1,h2", "dbname": "d", "password": "a b"}),
    ],
)
def test_syntax_of_libpq(address: str, expected: dict[str, str]) -> None:
    """Several hosts, encoded directories, services, words and the white space of secrets are read as libpq does."""
    assert parameters(address) == expected


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "is not a database address"),
        ("nonsense:sesame", "must be like postgresql://user:password@host:5432/database"),
        ("mysql://u:sesame@h/d", "must name PostgreSQL, not mysql"),
        ("postgresql://u:sesame@h:port/d", "a port that is not a number"),
        ("postgresql://u:sesame@h:1,h:65536/d", "a port that is not a number"),
        ("postgresql://u:ses@me@h/d", ENCODE),
        ("postgresql://u:ses/me@h/d", ENCODE),
        ("postgresql://u:12/sesame@h/d", ENCODE),
        ("postgresql://ada@server:sesame@h/d", ENCODE),
        ("postgresql://u:sesame%me@h/d", ENCODE),
        ("postgresql://u:sesame?x=1/me@h/d", "is not a database address"),
        ("postgresql://[::1/sesame", "is not a database address"),
        ("postgresql://u:sesame@h/d?connection_limit=3", f"parameter connection_limit, {UNKNOWN}; use OO_ML_LANES"),
        ("postgresql://u:sesame@h/d?pgbouncer=true", f"pgbouncer, {UNKNOWN}; set OO_ML_DATABASE_PREPARE_THRESHOLD=-1"),
        (
            "postgresql://u:sesame@h/d?schema=tips",
            f"parameter schema, {UNKNOWN}; the tables are always in schema oo_ml",
        ),
        ("postgresql://u:sesame@h/d?statusColor=f", f"parameter statusColor, {UNKNOWN}"),
        ("host=h pool_mode=x", f"parameter pool_mode, {UNKNOWN}"),
        ("host=h password=a sesame=b", "is not a database address"),
        ("postgresql://u:sesame@h/d?options=-cjit=on", "write = and & in a value as %3D and %26"),
        ("postgresql://u:sesame@h/d?connect_timeout=5s", "connect_timeout that is not a number"),
        ("postgresql://u:sesame\udcff@h/d", "is not UTF-8"),
    ],
)
def test_refused_address(address: str, sentence: str) -> None:
    """A refusal is one sentence that names the setting; neither it nor its cause or context shows the value."""
    with pytest.raises(ConfigurationError, match="OO_ML_DATABASE_URL") as caught:
        parse_url(address)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def service_file(directory: Path, content: str) -> Path:
    """Write a service file with one service, `tips`."""
    file = directory / "pg_service.conf"
    file.write_text(f"# of the operator\n[other]\nport=1\n\n[tips]\n{content}", "utf-8")
    return file


def sent(address: str, **options: str) -> dict[str, str]:
    """Return the parameters that the service adds to those of an address."""
    return connection_parameters(parse_url(address), application="oo-ml", timeout=2, options=options)


def test_own_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word of the operator, a connection has a name, a time limit, keepalives, and text in UTF-8."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    assert sent("postgresql://h/d", jit="off") == {
        "fallback_application_name": "oo-ml",
        "connect_timeout": "2",
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "30000",
        "client_encoding": "UTF8",
        "options": "-c jit=off",
    }
    # PgBouncer refuses options, even empty ones.
    assert "options" not in sent("postgresql://h/d")


def test_parameters_of_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Parameters of the operator win: first those of the address, then of its service file, then of the environment."""
    address = "connect_timeout=7&options=-cjit%3Don&keepalives_idle=99"
    service = "connect_timeout=8\ntcp_user_timeout=88\n"
    monkeypatch.setenv("PGSERVICEFILE", str(service_file(tmp_path, service)))
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=64kB")
    of_environment = sent("postgresql://h/d", jit="off")
    assert (of_environment["connect_timeout"], of_environment["options"]) == ("9", "-c jit=off -c work_mem=64kB")
    of_service = sent("postgresql:///?service=tips")
    assert (of_service["connect_timeout"], of_service["tcp_user_timeout"]) == ("8", "88")
    of_address = sent(f"postgresql:///?service=tips&{address}", jit="off")
    assert (of_address["connect_timeout"], of_address["tcp_user_timeout"]) == ("7", "88")
    assert (of_address["keepalives_idle"], of_address["options"]) == ("99", "-c jit=off -cjit=on")


def test_options_of_the_address() -> None:
    """The settings of a session are found in any spelling that PostgreSQL takes."""
    address = "postgresql://h/d?options=-cjit%3Don%20-c%20work_mem%3D64kB%20--statement-timeout%3D5s%20--search_path%3Da,%5C%20b%20-B%205"
    assert named_options(parse_url(address)) == {
        "jit": "on",
        "work_mem": "64kB",
        "statement_timeout": "5s",
        "search_path": "a, b",
    }


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({}, ["mine", "on", "7s", "5s", "20s", "UTC"]),
        ({"lanes": True}, ["mine", "on", "7s", "100ms", "20s", "UTC"]),
        ({"database_prepare_threshold": -1}, ["mine", "on", "7s", "5s", "20s", "UTC"]),
    ],
    ids=str,
)
def test_session_of_the_address(database_url: str, kind: dict[str, bool], expected: list[str]) -> None:
    """The name and the limits of the address hold in every transaction; lanes keep their own wait for locks."""
    limits = "-c%20jit%3Don%20-c%20statement_timeout%3D7s%20-c%20lock_timeout%3D5s"
    lanes = kind.get("lanes", False)
    settings = make_settings(lane_lock_timeout=0.1, **{name: value for name, value in kind.items() if name != "lanes"})
    own = engine.create(f"{database_url}&application_name=mine&options={limits}", settings, threads=1, lanes=lanes)
    names = ("application_name", "jit", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    with own.begin() as connection:
        shown = [connection.scalar(text(f"SHOW {name}")) for name in (*names, "timezone")]
    own.dispose()
    assert shown == expected
