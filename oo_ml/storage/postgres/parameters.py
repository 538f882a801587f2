"""Parameters of a new connection: the service's own are defaults; those that an address names win.

So do those of a service file and of the environment (PGCONNECT_TIMEOUT), as libpq does it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from psycopg.pq import Conninfo
from sqlalchemy.engine import URL

# Of a connection on which nothing comes: the first probe after half a minute, given up after another.
_KEEPALIVE: Final = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# `-c name=value` or `--name=value`; a space in a value has a backslash before it.
_OPTION: Final = re.compile(r"(?:^|\s)(?:-c\s*|--)([A-Za-z][\w.-]*)=((?:\\.|[^\s\\])*)")


def connection_parameters(url: URL, *, application: str, timeout: int, options: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's parameters for a connection to `url`, apart from those that only the address names.

    Args:
        url: the address.
        application: name of the session.
        timeout: seconds to wait for a connection.
        options: settings of the session.
    """
    named = named_parameters(url)
    ours = {"fallback_application_name": application, "connect_timeout": str(timeout), **_KEEPALIVE}
    parameters = {name: named.get(name, value) for name, value in ours.items()}
    # Ids and tips are text in any language, whatever PGCLIENTENCODING says.
    parameters["client_encoding"] = "UTF8"
    # The last one of a name wins.
    all_options = [*(f"-c {name}={value}" for name, value in options.items()), named.get("options", "")]
    # Without any, the parameter is not sent: PgBouncer refuses it.
    return parameters | ({"options": " ".join(filter(None, all_options))} if any(all_options) else {})


def named_options(url: URL) -> dict[str, str]:
    """Return the session's settings that an address names in `options`; of one that is repeated, the last value."""
    found = _OPTION.findall(named_parameters(url).get("options", ""))
    return {name.replace("-", "_").lower(): re.sub(r"\\(.)", r"\1", value) for name, value in found}


def named_parameters(url: URL) -> dict[str, str]:
    """Return the parameters that an address names, its service file included, or else the environment."""
    address = {name: value for name, value in url.query.items() if isinstance(value, str)}
    with _service(address.get("service")):
        defaults = Conninfo.get_defaults()
    elsewhere = {one.keyword.decode(): one.val.decode() for one in defaults if one.val and one.val != one.compiled}
    return elsewhere | address


@contextmanager
def _service(name: str | None) -> Iterator[None]:
    """Let libpq read the service file of an address: it says what the file has only for this variable."""
    before = os.environ.get("PGSERVICE")
    if name:
        os.environ["PGSERVICE"] = name
    try:
        yield
    finally:
        if name and before is None:
            del os.environ["PGSERVICE"]
        elif name and before is not None:
            os.environ["PGSERVICE"] = before
