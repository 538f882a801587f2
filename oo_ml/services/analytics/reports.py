"""What people reacted to, as numbers: the reports of schema analytics, and a person's decisions one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from oo_ml.services.paging import Found, PageCommand, by_offset
from oo_ml.storage import reports
from oo_ml.storage.reports import Choices, Filters, Report

__all__ = ["Choices", "DecisionsCommand", "Filters", "Report", "ReportCommand", "choices", "decisions", "report"]


@dataclass(frozen=True, slots=True)
class ReportCommand:
    """Ask for a page of a report; None: all of it."""

    report: Report
    filters: Filters
    page: PageCommand | None = None


@dataclass(frozen=True, slots=True)
class DecisionsCommand:
    """Ask for the last `limit` decisions of a user before the one named."""

    user_id: str
    before: UUID | None
    limit: int


def report(connection: Connection, commands: Sequence[ReportCommand]) -> list[Found[Mapping[str, Any], int]]:
    """Return each report asked for."""
    return [_report(connection, command) for command in commands]


def choices(connection: Connection, commands: Sequence[None]) -> list[Choices]:
    """Return what there is to filter by."""
    return [reports.choices(connection) for _ in commands]


def decisions(connection: Connection, commands: Sequence[DecisionsCommand]) -> list[Found[Mapping[str, Any], UUID]]:
    """Return decisions of each user, the latest first; the cursor is the last one of the page."""
    return [_decisions(connection, command) for command in commands]


def _report(connection: Connection, command: ReportCommand) -> Found[Mapping[str, Any], int]:
    page = command.page
    if page is None:
        return Found(reports.report(connection, command.report, command.filters))
    # One row more than the page has tells whether another page follows.
    rows = reports.report(connection, command.report, command.filters, page.limit + 1, page.offset)
    return by_offset(rows, page.limit, page.offset)


def _decisions(connection: Connection, command: DecisionsCommand) -> Found[Mapping[str, Any], UUID]:
    rows = reports.latest(connection, command.user_id, command.before, command.limit + 1)
    shown = rows[: command.limit]
    return Found(shown, shown[-1]["decision_id"] if len(rows) > len(shown) else None)
