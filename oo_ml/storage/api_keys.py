"""The table api_keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.access_tables import api_keys


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A row of api_keys. The token is not stored, only its SHA-256."""

    key_id: str
    name: str
    token_sha256: bytes
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


_COLUMNS = tuple(api_keys.c[name] for name in ApiKey.__dataclass_fields__)
_ALL = select(*_COLUMNS).order_by(api_keys.c.created_at, api_keys.c.key_id)
_IN_USE = _ALL.where(api_keys.c.revoked_at.is_(None))
# A conflict: a key in use has this name.
_INSERT = upsert(api_keys).on_conflict_do_nothing().returning(api_keys.c.key_id)

# To the hour, so that a key in use changes its row once an hour.
_TOUCH = text("""
    UPDATE oo_ml.api_keys SET last_used_at = :hour
    WHERE key_id = :key_id AND (last_used_at IS NULL OR last_used_at < :hour)
""")


def list_all(connection: Reading) -> list[ApiKey]:
    """Return every key, revoked and expired ones included, the oldest first."""
    return [ApiKey(*row) for row in connection.execute(_ALL)]


def list_in_use(connection: Reading) -> list[ApiKey]:
    """Return the keys that are not revoked, the oldest first; some may have expired."""
    return [ApiKey(*row) for row in connection.execute(_IN_USE)]


def insert(connection: Writing, key: ApiKey) -> bool:
    """Insert a key; return whether its name was free."""
    values = {name: getattr(key, name) for name in ApiKey.__dataclass_fields__}
    return connection.execute(_INSERT, values).first() is not None


def revoke(connection: Writing, name_or_id: str, revoked_at: datetime) -> list[str]:
    """Revoke the key in use with this id or name; return the ids of revoked keys."""
    statement = (
        update(api_keys)
        .where((api_keys.c.key_id == name_or_id) | (api_keys.c.name == name_or_id), api_keys.c.revoked_at.is_(None))
        .values(revoked_at=revoked_at)
        .returning(api_keys.c.key_id)
    )
    return list(connection.scalars(statement))


def touch(connection: Writing, key_id: str, hour: datetime) -> None:
    """Record that a key was used in the hour that begins at `hour`."""
    connection.execute(_TOUCH, {"key_id": key_id, "hour": hour})
