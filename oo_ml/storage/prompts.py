"""prompt_versions: the registry. A version's text is written once; only its status changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from oo_ml.storage.tables import prompt_versions


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """A row of prompt_versions; the templates are Jinja2 (oo_ml/templates)."""

    version: str
    status: str
    weight: float
    published_at: datetime
    retired_at: datetime | None
    description: str
    system_template: str
    user_template: str


_COLUMNS = tuple(prompt_versions.c[name] for name in PromptVersion.__dataclass_fields__)
_LIST = select(*_COLUMNS).order_by(prompt_versions.c.published_at, prompt_versions.c.version)
_INSERT = upsert(prompt_versions).on_conflict_do_nothing().returning(prompt_versions.c.version)


def find(connection: Connection, versions: Sequence[str]) -> dict[str, PromptVersion]:
    """Return those of `versions` that exist, by name."""
    rows = connection.execute(select(*_COLUMNS).where(prompt_versions.c.version.in_(versions)))
    return {row.version: PromptVersion(*row) for row in rows}


def listing(connection: Connection) -> list[PromptVersion]:
    """Return every version, the oldest first."""
    return [PromptVersion(*row) for row in connection.execute(_LIST)]


def insert(connection: Connection, prompt: PromptVersion) -> bool:
    """Write a new version; return whether the name was free."""
    values = {name: getattr(prompt, name) for name in PromptVersion.__dataclass_fields__}
    return connection.execute(_INSERT, values).first() is not None


def retire(connection: Connection, version: str, retired_at: datetime) -> None:
    """Mark a version as retired; one that is so already keeps its date."""
    connection.execute(
        update(prompt_versions)
        .where(prompt_versions.c.version == version, prompt_versions.c.status == "active")
        .values(status="retired", retired_at=retired_at)
    )
