"""Reports of schema analytics, and the list of a user's decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from oo_ml.services.each import each
from oo_ml.services.paging import Found, PageCommand, by_offset
from oo_ml.storage import reports
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.reports import Choices, Filters, Report

__all__ = [
    "Choices",
    "DecisionsCommand",
    "Filters",
    "Report",
    "ReportCommand",
    "list_decisions",
    "read_choices",
    "read_reports",
]


@dataclass(frozen=True, slots=True)
class ReportCommand:
    """Ask for a page of a report; None: all rows."""

    report: Report
    filters: Filters
    page: PageCommand | None = None


@dataclass(frozen=True, slots=True)
class DecisionsCommand:
    """Ask for the latest `limit` decisions of a user, before the decision `before` if given."""

    user_id: str
    before: UUID | None
    limit: int


@each
def read_reports(connection: Reading, command: ReportCommand) -> Found[Mapping[str, Any], int]:
    """Return a page of a report."""
    page = command.page
    if page is None:
        return Found(reports.read_report(connection, command.report, command.filters))
    # One row more than the page has tells whether another page follows.
    return by_offset(
        reports.read_report(connection, command.report, command.filters, page.limit + 1, page.offset), page
    )


@each
def read_choices(connection: Reading, _: None) -> Choices:
    """Return the values that filters can take."""
    return reports.read_choices(connection)


@each
def list_decisions(connection: Reading, command: DecisionsCommand) -> Found[Mapping[str, Any], UUID]:
    """Return decisions of a user, latest first; the cursor is the id of the last decision of the page."""
    rows = reports.read_decisions(connection, command.user_id, command.before, command.limit + 1)
    shown = rows[: command.limit]
    return Found(shown, shown[-1]["decision_id"] if len(rows) > len(shown) else None)
