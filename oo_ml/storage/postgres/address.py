"""The address of a PostgreSQL server, as libpq takes it: postgresql://... or words like `host=db dbname=oo_ml`.

No message quotes the address, or what libpq says about it: both may hold a part of the password.
"""

import re
from collections.abc import Mapping
from typing import Final

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import URL

from oo_ml.errors import ConfigurationError

_VARIABLE: Final = "OO_ML_DATABASE_URL"
_SCHEME: Final = re.compile(r"([A-Za-z]\w*)(?:\+\w+)?://")
_ENCODE: Final = "in the user and the password write @ as %40, / as %2F, : as %3A and % as %25"
_UNKNOWN: Final = re.compile(r'invalid (?:URI query parameter:|connection option) "(\w+)"')
# Parameters of other tools, and the way to the same end here.
_INSTEAD: Final[Mapping[str, str]] = {
    "pgbouncer": "set OO_ML_DATABASE_PREPARE_THRESHOLD=-1 for PgBouncer",
    "schema": "the tables are always in schema oo_ml",
    "ssl": "use sslmode",
    "connection_limit": "use OO_ML_LANES, OO_ML_DATABASE_WORKERS, OO_ML_DATABASE_READERS and OO_ML_LONG_WORKERS",
}
_HIGHEST_PORT: Final = 65_535


def parse_url(address: str) -> URL:
    """Return `address` for SQLAlchemy, with all that is not user, password or database in its query.

    The scheme may be postgres or postgresql, with or without a driver.

    Raises:
        ConfigurationError: it is not the address of a PostgreSQL server.
    """
    parameters = _parse(_with_usual_scheme(address.strip()))
    return URL.create(
        "postgresql+psycopg",
        username=parameters.pop("user", None),
        password=parameters.pop("password", None),
        database=parameters.pop("dbname", None),
        query=parameters,
    )


def _with_usual_scheme(address: str) -> str:
    found = _SCHEME.match(address)
    if found is None:
        return address
    if found[1] not in {"postgresql", "postgres"}:
        raise ConfigurationError(f"{_VARIABLE} must name PostgreSQL, not {found[1]}")
    rest = address[found.end() :]
    _refuse_bare_characters(rest)
    return f"postgresql://{rest}"


def _refuse_bare_characters(rest: str) -> None:
    """Refuse a @ or / in the password: libpq would take the rest of the password for the name of a host."""
    path = rest.partition("?")[0]
    has_user = "@" in path.partition("/")[0]
    if path.count("@") != has_user:
        raise ConfigurationError(f"{_VARIABLE} has a @ or / too many: {_ENCODE}")


def _parse(address: str) -> dict[str, str]:
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(address).items()}
    except ProgrammingError as error:
        refusal = _explain(str(error), address)
    except ValueError:
        refusal = "is not UTF-8"
    else:
        if not (parameters or address):
            refusal = "is not a database address"
        elif not all(map(_is_port, parameters.get("port", "").split(","))):
            refusal = (
                f"has a port that is not a number from 1 to {_HIGHEST_PORT}; if it is a part of the password: {_ENCODE}"
            )
        elif not re.fullmatch(r"-?\d{1,9}", parameters.get("connect_timeout", "0")):
            refusal = "has a connect_timeout that is not a number of seconds"
        else:
            return parameters
    # Raised here, so that the error has no context with the address.
    raise ConfigurationError(f"{_VARIABLE} {refusal}")


def _is_port(port: str) -> bool:
    return not port or (port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT)


def _explain(message: str, address: str) -> str:
    """Return the reason why libpq does not take `address`."""
    is_url = address.startswith("postgresql://")
    query = address.partition("?")[2]
    # An unquoted password with a space or a @ looks like parameters.
    if (unknown := _UNKNOWN.search(message)) and "@" not in query and (is_url or "password" not in address):
        name = unknown[1]
        way_out = f"; {_INSTEAD[name]}" if name in _INSTEAD else ""
        return f"has the parameter {name}, which PostgreSQL does not know: remove it{way_out}"
    if is_url and "key/value separator" in message:
        return "must have name=value after the ?, joined by &: write = and & in a value as %3D and %26"
    if is_url and "percent-encoded" in message:
        return f"has a % that does not begin a character: {_ENCODE}"
    return "is not a database address: it must be like postgresql://user:password@host:5432/database"
