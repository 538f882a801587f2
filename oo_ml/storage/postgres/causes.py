"""Causes of a failed connection, from libpq's text, because a failed login has no SQLSTATE. No text holds a password.

Texts of a server may be in any language, so they are passed on as they are.
"""

import re
from collections.abc import Iterator
from typing import Final

# How psycopg introduces the failure of one of several servers, and of any.
_INTRODUCTION: Final = re.compile(r"(- host: .*, hostaddr: ('[^']*'|None): )?(connection (failed|is bad): )?")
_PLACE: Final = re.compile(
    r'connection to server (at "(?P<host>[^"]*)"( \([^)]*\))?, port (?P<port>\d+)|on socket "(?P<socket>[^"]*)")'
    " failed: "
)
# psycopg repeats the last failure in front of this.
_ALL: Final = "Multiple connection attempts failed. All failures were:"
# FATAL, in the language of the server, or the number of an error of the system.
_MARK: Final = re.compile(r"\w+:  |(?<=: )\[Errno -?\d+\] ")
# libpq found these before it connected, or PgBouncer before it let the service in: they stay until the address changes.
_OF_ADDRESS: Final = re.compile(
    r"invalid \w+ value|invalid integer value|invalid port number|could not parse network address"
    r"|definition of service|service file"
)
_POOLER: Final = re.compile(r"unsupported startup parameter")


def describe(text: str) -> str:
    """Return libpq's text about a failed connection as a clause of a sentence; several servers are joined by `;`."""
    return "; ".join(dict.fromkeys(_clauses(text)))


def is_of_address(text: str) -> bool:
    """Return whether the address itself can't be used, whatever the server does."""
    return bool(_OF_ADDRESS.search(text) or _POOLER.search(text))


def _clauses(text: str) -> Iterator[str]:
    for line in text.rpartition(_ALL)[2].splitlines():
        # A line that is indented is advice of libpq.
        if not line.strip() or line.startswith("\t"):
            continue
        rest = _INTRODUCTION.sub("", line, count=1)
        place = _PLACE.match(rest)
        clause = _MARK.sub("", rest[place.end() if place else 0 :], count=1)
        if _POOLER.search(clause):
            clause = f"{clause}: for PgBouncer set OO_ML_DATABASE_PREPARE_THRESHOLD=-1"
        yield f"{clause} ({_name(place)})" if place else clause


def _name(place: re.Match[str]) -> str:
    host = place["host"]
    if host is None:
        return str(place["socket"])
    return f"[{host}]:{place['port']}" if ":" in host else f"{host}:{place['port']}"
