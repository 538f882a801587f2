"""Grants of rights to a role, all in one transaction."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from oo_ml.errors import GrantRefusedError
from oo_ml.settings import Settings
from oo_ml.storage import roles
from oo_ml.storage.roles import Rights, quote
from oo_ml.storage.schema import migrate

# PostgreSQL truncates longer names, which could then name another role.
_LONGEST_NAME: Final = 63


@dataclass(frozen=True, slots=True)
class Granted:
    """The role's name, quoted for SQL, and whether it was created (without a password)."""

    role: str
    is_new: bool


def grant(url: str, settings: Settings, name: str, rights: Rights) -> Granted:
    """Grant `rights` to the role `name`, and create the role if it does not exist. Idempotent.

    Raises:
        GrantRefusedError: the caller lacks the rights for this, or the name is invalid.
        UnavailableError: the database has not been migrated to this release.
    """
    # Under the lock of migrations, because a concurrent migration could create tables that the grant misses.
    with migrate.migration_connection(url, settings) as connection:
        granted = _grant(connection, name, rights)
        connection.commit()
        return granted


def _grant(connection: Connection, name: str, rights: Rights) -> Granted:
    if (problem := migrate.readiness(connection)) is not None:
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
