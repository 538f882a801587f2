"""Pages of analytics.decision_log in the order of time, for an export. It needs the rights of an analyst only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from oo_ml.storage.postgres.sessions import Reading

_ROWS_AT_ONCE: Final = 50
_NUMBERS: Final = ("exploit", "explore", "score", "propensity")

# A decision by column of the view; see `read_page`.
LoggedRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Period:
    """The time from `since` on and before `until`; None: no limit."""

    since: datetime | None = None
    until: datetime | None = None


class Extent(NamedTuple):
    """The number of decisions of a period, and the time of the last one; None if there are none."""

    decisions: int
    last: datetime | None


class Place(NamedTuple):
    """Keyset cursor: the key of the decision after which a page begins; the default comes before all decisions."""

    decided_at: datetime | None = None
    user_id: str = ""
    decision_id: UUID = UUID(int=0)


# ADR 23
class PageSize(NamedTuple):
    """A page ends with the first decision that reaches one of these numbers."""

    decisions: int = 1000
    candidates: int = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Decisions, and the place of the last one; None if there are no more."""

    rows: Sequence[LoggedRow]
    end: Place | None


_EXTENT = text("""
    SELECT count(*), max(decided_at)
    FROM analytics.decision_log
    WHERE decided_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
        AND decided_at < coalesce(CAST(:until AS timestamptz), 'infinity')
""")

_FROM: Final = "coalesce(CAST(:decided_at AS timestamptz), '-infinity')"

# The first condition follows from the second, and is one that the index on decided_at can use.
_PAGE = text(f"""
    SELECT *
    FROM analytics.decision_log
    WHERE decided_at >= {_FROM} AND decided_at <= :last
        AND (decided_at, user_id, decision_id) > ({_FROM}, CAST(:user_id AS text), CAST(:decision_id AS uuid))
    ORDER BY decided_at, user_id, decision_id
    LIMIT :decisions
""")


def read_extent(connection: Reading, period: Period) -> Extent:
    """Return the extent of the decisions of a period."""
    found = connection.execute(_EXTENT, {"since": period.since, "until": period.until})
    return Extent._make(found.one())


def read_page(connection: Reading, start: Place, last: datetime, size: PageSize) -> Page:
    """Return the decisions after `start`, up to the time `last`.

    x and candidates of a row are lists, context and features mappings. Numbers that are no counts are floats.
    """
    rows: list[LoggedRow] = []
    candidates = 0
    asked = {**start._asdict(), "last": last, "decisions": size.decisions}
    with connection.execute(_PAGE, asked, execution_options={"yield_per": _ROWS_AT_ONCE}) as result:
        for row in result.mappings():
            rows.append(_restore_numbers(dict(row)))
            candidates += len(rows[-1]["candidates"])
            if candidates >= size.candidates or len(rows) == size.decisions:
                return Page(rows, Place(*(row[name] for name in Place._fields)))
    return Page(rows, None)


def _restore_numbers(row: LoggedRow) -> LoggedRow:
    """Return a row with floats where jsonb has written 1.0 as 1."""
    return {
        **row,
        "x": row["x"].tolist(),
        "features": _restore_age(row["features"]),
        "candidates": [_restore_candidate(candidate) for candidate in row["candidates"]],
    }


def _restore_candidate(candidate: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: None if candidate[name] is None else float(candidate[name]) for name in _NUMBERS}
    return {**candidate, **numbers, "features": _restore_age(candidate["features"])}


def _restore_age(features: Mapping[str, Any] | None) -> dict[str, Any] | None:
    age = None if features is None else features.get("task_age_days")
    # Fields of this name may be anything for other policies than the contract's.
    if features is None or not isinstance(age, int) or isinstance(age, bool):
        return None if features is None else dict(features)
    return {**features, "task_age_days": float(age)}
