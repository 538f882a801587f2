"""What people reacted to, as numbers: the reports of schema analytics, and a person's decisions one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from oo_ml.storage import analytics
from oo_ml.storage.analytics import Choices, Filters, Page, Report


@dataclass(frozen=True, slots=True)
class ReportCommand:
    """Ask for `limit` rows of a report, None for all, from the one with number `offset` on."""

    report: Report
    filters: Filters
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class DecisionsCommand:
    """Ask for the last `limit` decisions of a person before the one named."""

    user_id: str
    before: UUID | None
    limit: int


@dataclass(frozen=True, slots=True)
class Decisions:
    """Some decisions, the latest first, and the one to name for those before; None: there are none."""

    rows: Sequence[Mapping[str, Any]]
    next: UUID | None


def report(connection: Connection, commands: Sequence[ReportCommand]) -> list[Page]:
    """Return each report asked for."""
    return [
        analytics.report(connection, command.report, command.filters, command.limit, command.offset)
        for command in commands
    ]


def choices(connection: Connection, commands: Sequence[None]) -> list[Choices]:
    """Return what there is to filter by."""
    return [analytics.choices(connection) for _ in commands]


def decisions(connection: Connection, commands: Sequence[DecisionsCommand]) -> list[Decisions]:
    """Return the decisions of each person."""
    return [_decisions(connection, command) for command in commands]


def _decisions(connection: Connection, command: DecisionsCommand) -> Decisions:
    # One more than asked for tells whether there are more.
    rows = analytics.latest(connection, command.user_id, command.before, command.limit + 1)
    shown = rows[: command.limit]
    return Decisions(shown, shown[-1]["decision_id"] if len(rows) > len(shown) else None)
