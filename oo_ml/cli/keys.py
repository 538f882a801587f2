"""`oo-ml keys`: API keys."""

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Final

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.results import AsJson, Column, print_json, print_records
from oo_ml.domain.access import PURPOSES, Scope

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

_COLUMNS: Final = (
    Column("id", lambda key: key["key_id"]),
    Column("name", lambda key: key["name"]),
    Column("scopes", lambda key: " ".join(key["scopes"])),
    Column("created", lambda key: f"{key['created_at']:%Y-%m-%d}"),
    Column("expires", lambda key: f"{key['expires_at']:%Y-%m-%d}" if key["expires_at"] else "never"),
    Column("last used", lambda key: f"{key['last_used_at']:%Y-%m-%d %H:00}" if key["last_used_at"] else "never"),
    Column("state", lambda key: key["state"]),
)


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
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Create a key and print its token, which is shown this once. Exit code 1 if a key in use has the name."""
    from oo_ml.execution.outcomes import only
    from oo_ml.services.access import keys
    from oo_ml.services.access.audit_log import audited_command
    from oo_ml.services.access.keys import CreateKeyCommand
    from oo_ml.services.database import run_once

    now = datetime.now(UTC)
    command = CreateKeyCommand(name, sorted(set(scope)), now, None if expires is None else now + expires)
    service = audited_command(keys.create, "key.created", attrgetter("name"))
    with open_database() as (url, settings):
        created = only(run_once(settings, url, service, [command]))
    if as_json:
        print_json(_describe(asdict(created.key), now) | {"token": created.token})
        return
    typer.echo(created.token)
    until = "" if created.key.expires_at is None else f", until {created.key.expires_at:%Y-%m-%d %H:%M} UTC"
    typer.echo(
        f"Key {created.key.key_id} ({', '.join(command.scopes)}){until}. The token is not shown again.", err=True
    )


@app.command("list")
def list_(as_json: AsJson = False) -> None:  # noqa: FBT002 - typer reads it as a flag
    """List every key, revoked and expired ones included, the oldest first. Read-only."""
    from oo_ml.services.access import keys
    from oo_ml.services.database import run_once

    with open_database() as (url, settings):
        [listing] = run_once(settings, url, keys.list_keys, [None], read_only=True)
    now = datetime.now(UTC)
    print_records([_describe(asdict(key), now) for key in listing], _COLUMNS, as_json=as_json)


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="Name or id of the key", callback=_name)]) -> None:
    """Revoke a key. Services refuse it after OO_ML_KEY_MAX_AGE. Exit code 1 if no key in use has the name."""
    from oo_ml.execution.outcomes import only
    from oo_ml.services.access import keys
    from oo_ml.services.access.audit_log import audited_command
    from oo_ml.services.database import run_once

    service = audited_command(partial(keys.revoke, revoked_at=datetime.now(UTC)), "key.revoked", str)
    with open_database() as (url, settings):
        key_id = only(run_once(settings, url, service, [name]))
    typer.echo(f"Revoked {key_id}")


def _describe(key: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the columns of a key without the SHA-256 of its token, and its state."""
    has_expired = key["expires_at"] is not None and key["expires_at"] <= now
    state = "revoked" if key["revoked_at"] else "expired" if has_expired else "in use"
    return {name: value for name, value in key.items() if name != "token_sha256"} | {"state": state}
