"""Letting an analyst in: a role that reads schema analytics and may do nothing else, proved before it counts."""

from dataclasses import dataclass

from sqlalchemy import Connection

from oo_ml.errors import GrantRefusedError, SchemaNotReadyError
from oo_ml.settings import Settings
from oo_ml.storage import analysts, migrations
from oo_ml.storage.engine import milliseconds


@dataclass(frozen=True, slots=True)
class Granted:
    """What became of a role.

    Attributes:
        role: its name, as SQL has it.
        database: the same of the database.
        is_new: whether it was made, without a password.
        can_login: whether it can log in: what its sessions begin with is for those alone.
        is_temporary_revoked: whether PUBLIC has lost the right to make temporary tables.
    """

    role: str
    database: str
    is_new: bool
    can_login: bool
    is_temporary_revoked: bool


def grant(url: str, settings: Settings, name: str) -> Granted:
    """Let the role `name`, made if there is none, read schema analytics; all of it, or nothing has happened.

    Raises:
        GrantRefusedError: it may do more than an analyst may, or the caller may not do this.
        SchemaNotReadyError: the database is older than this release.
    """
    # Beside a migration some of the views might be missed.
    with migrations.migration_connection(url, settings) as connection:
        granted = _grant(connection, name, milliseconds(settings.analyst_statement_timeout))
        connection.commit()
        return granted


def _grant(connection: Connection, name: str, statement_timeout: int) -> Granted:
    where = analysts.surroundings(connection)
    if where is None:
        raise SchemaNotReadyError
    role, caller = analysts.quoted(name), analysts.quoted(where.caller)
    if len(name.encode()) > where.longest_name:
        raise GrantRefusedError(f"The name of a role has at most {where.longest_name} bytes")
    if not where.is_owner:
        owner = analysts.quoted(where.owner)
        raise GrantRefusedError(f"{caller} may not grant anything in schema analytics: do this as {owner}, its owner")
    if not migrations.is_ready(connection):
        raise SchemaNotReadyError
    if not where.may_make_roles:
        raise GrantRefusedError(
            f"{caller} may neither make roles nor limit them: do this as a superuser, "
            f"or have one say ALTER ROLE {caller} CREATEROLE"
        )
    can_login = analysts.can_login(connection, name)
    if can_login is None:
        analysts.make(connection, name)
    is_temporary_revoked = analysts.allow(connection, name, where)
    if (excess := analysts.excess(connection, name)) is not None:
        via = "" if excess.via == name else f" as a member of {analysts.quoted(excess.via)}"
        raise GrantRefusedError(f"{role}{via} {excess.what}; an analyst reads schema analytics and may do nothing else")
    if not analysts.limit(connection, name, where, statement_timeout):
        raise GrantRefusedError(
            f"{caller} may not limit {role}, which somebody else has made: do this as a superuser, "
            f"or have one say GRANT {role} TO {caller} WITH ADMIN OPTION"
        )
    database = analysts.quoted(where.database)
    return Granted(role, database, can_login is None, can_login is not False, is_temporary_revoked)
