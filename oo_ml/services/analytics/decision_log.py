"""The log of decisions in pages, each read in a transaction of its own, so that no transaction is open for long.

A reward that comes while the log is read may be in it or not. A decision that is committed meanwhile may be missing.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Engine

from oo_ml.execution import retry
from oo_ml.services.each import each
from oo_ml.settings import Settings
from oo_ml.storage import decision_pages
from oo_ml.storage.decision_pages import Extent, LoggedRow, PageSize, Period, Place

__all__ = ["LogWalk", "Period", "walk_decisions"]

PAGE_SIZE: Final = PageSize()


@dataclass(frozen=True, slots=True)
class LogWalk:
    """The decisions of a period: their number when the walk began, and their rows in pages, read when asked for."""

    decisions: int
    pages: Iterator[Sequence[LoggedRow]]


def walk_decisions(engine: Engine, settings: Settings, period: Period, size: PageSize = PAGE_SIZE) -> LogWalk:
    """Read analytics.decision_log by time. Memory holds one page, whatever the length of the log.

    Raises, also when a page is asked for:
        UnavailableError: the database is unavailable.
    """
    [extent] = retry.run(engine, each(decision_pages.read_extent), [period], _deadline(settings))
    return LogWalk(extent.decisions, _generate_pages(engine, settings, period, extent, size))


def _generate_pages(
    engine: Engine, settings: Settings, period: Period, extent: Extent, size: PageSize
) -> Iterator[Sequence[LoggedRow]]:
    start: Place | None = None if extent.last is None else Place(period.since)
    while start is not None:
        read = partial(each(decision_pages.read_page), last=extent.last, size=size)
        [page] = retry.run(engine, read, [start], _deadline(settings))
        if page.rows:
            yield page.rows
        start = page.end


def _deadline(settings: Settings) -> float:
    return time.monotonic() + settings.long_timeout
