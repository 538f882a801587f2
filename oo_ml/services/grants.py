"""Grants of rights to a role, all in one transaction."""

from dataclasses import dataclass
from typing import Final

from oo_ml.errors import GrantRefusedError
from oo_ml.settings import Settings
from oo_ml.storage import roles
from oo_ml.storage.postgres.sessions import Writing
from oo_ml.storage.roles import Rights, quote
from oo_ml.storage.schema import revisions
from oo_ml.storage.schema.migration_session import migration_connection

# PostgreSQL truncates longer names, which could then name another role.
_LONGEST_NAME: Final = 63


@dataclass(frozen=True, slots=True)
class Granted:
    """The role's name, quoted for SQL, and whether it was created (without a password)."""

    role: str
    is_new: bool


def grant_service(url: str, settings: Settings, name: str) -> Granted:
    """Grant the role `name` the rights of the service; the arguments and errors are those of `grant_analyst`."""
    return _grant_in_transaction(url, settings, name, Rights.SERVICE)


def grant_analyst(url: str, settings: Settings, name: str) -> Granted:
    """Grant the role `name` the rights of an analyst. The role is created if it does not exist.

    Granting again changes nothing.

    Raises:
        GrantRefusedError: the session's role may not grant this, or no role can have this name.
        UnavailableError: the database has not been migrated to this release.
    """
    return _grant_in_transaction(url, settings, name, Rights.ANALYST)


def _grant_in_transaction(url: str, settings: Settings, name: str, rights: Rights) -> Granted:
    # The lock of migrations: a migration that runs meanwhile may make tables that would be missed.
    with migration_connection(url, settings) as connection:
        granted = _grant(connection, name, rights)
        connection.commit()
        return granted


def _grant(connection: Writing, name: str, rights: Rights) -> Granted:
    if (problem := revisions.readiness(connection)) is not None:
        raise problem
    if len(name.encode()) > _LONGEST_NAME:
        raise GrantRefusedError(f"The name of a role has at most {_LONGEST_NAME} bytes")
    where = roles.read_surroundings(connection, name)
    role, caller = quote(name), quote(where.caller)
    if not where.is_owner:
        raise GrantRefusedError(f"{caller} does not own the tables: run this as {quote(where.owner)}")
    if not where.exists:
        if not where.may_create_roles:
            raise GrantRefusedError(
                f"There is no role {role}, and {caller} may not create it; run CREATE ROLE {role} LOGIN"
            )
        roles.create(connection, name)
    roles.grant(connection, name, where.owner, rights)
    return Granted(role, is_new=not where.exists)
