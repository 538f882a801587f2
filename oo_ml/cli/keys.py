"""`oo-ml keys`: API keys."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from oo_ml.cli.database import open_database
from oo_ml.domain.access import PURPOSES, Scope
from oo_ml.execution.outcomes import only
from oo_ml.services.access import keys
from oo_ml.services.access.audit_log import audited_command
from oo_ml.services.access.keys import CreateKeyCommand
from oo_ml.services.database import run_once

app = typer.Typer(
    help="Create, list and revoke API keys. Of a key, only the SHA-256 of its token is stored.",
    no_args_is_help=True,
    add_completion=False,
)

_PERIOD: Final = re.compile(r"([1-9]\d{0,4})([dh])")
_KEY_ID: Final = re.compile("[0-9a-f]{12}")
_UNITS: Final = {"d": "days", "h": "hours"}
_LONGEST_NAME: Final = 100
_PURPOSES: Final = "; ".join(f"{scope}: {purpose}" for scope, purpose in PURPOSES.items())


def _period(text: str) -> timedelta:
    match = _PERIOD.fullmatch(text)
    if match is None:
        raise typer.BadParameter("must be days or hours, such as 90d or 12h")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _name(text: str) -> str:
    if not (text.isprintable() and text.strip() == text and 0 < len(text.encode()) <= _LONGEST_NAME):
        raise typer.BadParameter(f"must be printable text of 1 to {_LONGEST_NAME} bytes")
    return text


def _new_name(text: str) -> str:
    if _KEY_ID.fullmatch(text):
        raise typer.BadParameter("looks like the id of a key")
    return _name(text)


Name = Annotated[str, typer.Argument(help="Name of the client that uses the key", callback=_new_name)]


@app.command()
def create(
    name: Name,
    scope: Annotated[list[Scope], typer.Option(help=f"Scope of the key, several times for several. {_PURPOSES}")],
    expires: Annotated[
        timedelta | None, typer.Option(parser=_period, metavar="PERIOD", help="Such as 90d or 12h; default: never")
    ] = None,
) -> None:
    """Create a key and print its token, which is shown this once. Exit code 1 if a key in use has the name."""
    now = datetime.now(UTC)
    command = CreateKeyCommand(name, sorted(set(scope)), now, None if expires is None else now + expires)
    service = audited_command(keys.create, "key.created", attrgetter("name"))
    with open_database() as (url, settings):
        created = only(run_once(settings, url, service, [command]))
    typer.echo(created.token)
    until = "" if created.key.expires_at is None else f", until {created.key.expires_at:%Y-%m-%d %H:%M} UTC"
    typer.echo(
        f"Key {created.key.key_id} ({', '.join(command.scopes)}){until}. The token is not shown again.", err=True
    )


@app.command("list")
def list_() -> None:
    """List every key, revoked and expired ones included, the oldest first. Read-only."""
    with open_database() as (url, settings):
        [listing] = run_once(settings, url, keys.list_keys, [None], read_only=True)
    table = Table("id", "name", "scopes", "created", "expires", "last used", "state")
    now = datetime.now(UTC)
    for key in listing:
        has_expired = key.expires_at is not None and key.expires_at <= now
        table.add_row(
            key.key_id,
            key.name,
            " ".join(key.scopes),
            f"{key.created_at:%Y-%m-%d}",
            "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d}",
            "never" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:00}",
            "revoked" if key.revoked_at else "expired" if has_expired else "in use",
        )
    Console().print(table)


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="Name or id of the key", callback=_name)]) -> None:
    """Revoke a key. Services refuse it after OO_ML_KEY_MAX_AGE. Exit code 1 if no key in use has the name."""
    service = audited_command(partial(keys.revoke, revoked_at=datetime.now(UTC)), "key.revoked", str)
    with open_database() as (url, settings):
        key_id = only(run_once(settings, url, service, [name]))
    typer.echo(f"Revoked {key_id}")
