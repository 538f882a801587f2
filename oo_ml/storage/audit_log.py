"""The table audit_log: administrative actions. It never contains the id of a user."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select

from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.access_tables import audit_log


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A row of audit_log."""

    entry_id: UUID
    happened_at: datetime
    actor: str
    request_id: str | None
    action: str
    subject: str | None


_COLUMNS = tuple(audit_log.c[name] for name in AuditEntry.__dataclass_fields__)
_LATEST = select(*_COLUMNS).order_by(audit_log.c.happened_at.desc(), audit_log.c.entry_id.desc())


def append(connection: Writing, entries: Sequence[AuditEntry]) -> None:
    """Append entries."""
    if entries:
        values = [{name: getattr(entry, name) for name in AuditEntry.__dataclass_fields__} for entry in entries]
        connection.execute(insert(audit_log), values)


def list_latest(connection: Reading, limit: int) -> list[AuditEntry]:
    """Return at most `limit` entries, the latest first."""
    return [AuditEntry(*row) for row in connection.execute(_LATEST.limit(limit))]
