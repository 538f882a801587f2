"""Queries of the reports of schema analytics: filtered, ordered, in pages."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause, text

from oo_ml.storage.postgres.sessions import Reading


class Report(StrEnum):
    """A report, by its name in the path."""

    REACTION_RATES = "reaction-rates"
    POLICY_VALUES = "policy-values"
    POLICY_LIFT = "policy-lift"
    POLICY_TRAFFIC_BY_DAY = "policy-traffic-by-day"
    REWARDS_BY_DAY = "rewards-by-day"
    LEARNING_CURVE = "learning-curve"
    PRIOR_HISTORY = "prior-history"
    LEARNING_BY_PRIOR = "learning-by-prior"
    PROMPT_COSTS = "prompt-costs"
    LOOP_HEALTH = "loop-health"


@dataclass(frozen=True, slots=True)
class Filters:
    """The decisions of a report: of the days from `since` to `until`, both included; None: no limit.

    Attributes:
        by: the grouping of reaction rates: prompt_version, policy or all.
    """

    since: date | None = None
    until: date | None = None
    policy: str | None = None
    prompt_version: str | None = None
    by: str = "prompt_version"


@dataclass(frozen=True, slots=True)
class Choices:
    """The values that filters can take."""

    policies: list[str]
    prompt_versions: list[str]
    first_day: date | None
    last_day: date | None


_PERIOD: Final = "CAST(:since AS date), CAST(:until AS date)"
_OF_POLICY: Final = "(CAST(:policy AS text) IS NULL OR policy = :policy)"
_OF_VERSION: Final = "(CAST(:prompt_version AS text) IS NULL OR prompt_version = :prompt_version)"


def _add_page(statement: str, order: str) -> TextClause:
    return text(f"SELECT * FROM ({statement}) AS found ORDER BY {order} LIMIT CAST(:limit AS bigint) OFFSET :offset")


_REPORTS: Final = {
    # A filter by a column that is not grouped by needs the rows that are grouped by it too.
    Report.REACTION_RATES: _add_page(
        f"""
        SELECT * FROM analytics.reaction_rates_between({_PERIOD})
        WHERE grouped_by = CASE
                WHEN (CAST(:by AS text) = 'policy' OR CAST(:policy AS text) IS NOT NULL)
                    AND (CAST(:by AS text) = 'prompt_version' OR CAST(:prompt_version AS text) IS NOT NULL) THEN 'both'
                WHEN CAST(:by AS text) = 'policy' OR CAST(:policy AS text) IS NOT NULL THEN 'policy'
                WHEN CAST(:by AS text) = 'prompt_version' OR CAST(:prompt_version AS text) IS NOT NULL
                    THEN 'prompt_version'
                ELSE 'all'
            END
            AND {_OF_POLICY} AND {_OF_VERSION}
        """,
        "shown DESC, prompt_version, policy",
    ),
    Report.POLICY_VALUES: _add_page(
        f"SELECT * FROM analytics.policy_values_between({_PERIOD}) WHERE {_OF_POLICY}", "policy"
    ),
    # The function compares all policies, so the filter comes after it.
    Report.POLICY_LIFT: _add_page(
        f"SELECT * FROM analytics.policy_lift_between({_PERIOD}) WHERE {_OF_POLICY}", "policy"
    ),
    Report.POLICY_TRAFFIC_BY_DAY: _add_page(
        f"SELECT * FROM analytics.policy_traffic_by_day_between({_PERIOD}) WHERE {_OF_POLICY}", "day, policy"
    ),
    Report.REWARDS_BY_DAY: _add_page(
        f"""
        SELECT * FROM analytics.rewards_by_day_between(
            {_PERIOD}, CAST(:policy AS text), CAST(:prompt_version AS text)
        )
        """,
        "day, exploring",
    ),
    Report.LEARNING_CURVE: _add_page(
        f"SELECT * FROM analytics.learning_curve_between({_PERIOD}) WHERE {_OF_POLICY}", "policy, first_decision"
    ),
    Report.PRIOR_HISTORY: _add_page(
        f"SELECT * FROM analytics.prior_history_between({_PERIOD}) WHERE {_OF_POLICY}", "policy, version DESC"
    ),
    Report.LEARNING_BY_PRIOR: _add_page(
        f"SELECT * FROM analytics.learning_by_prior_between({_PERIOD}) WHERE {_OF_POLICY}",
        "policy, first_version, first_decision",
    ),
    Report.PROMPT_COSTS: _add_page(
        f"SELECT * FROM analytics.prompt_costs_between({_PERIOD}) WHERE {_OF_VERSION}", "calls DESC, prompt_version"
    ),
    Report.LOOP_HEALTH: _add_page(
        f"""
        SELECT *, row_number() OVER () AS place FROM analytics.loop_health_between({_PERIOD})
        WHERE policy IS NULL OR {_OF_POLICY}
        """,
        "place, policy",
    ),
}

_CHOICES = text("""
    SELECT
        coalesce(array_agg(DISTINCT policy ORDER BY policy), '{}'),
        coalesce(array_agg(DISTINCT prompt_version ORDER BY prompt_version) FILTER (WHERE prompt_version <> ''), '{}'),
        min(day),
        max(day)
    FROM rollup.reactions
""")

# UUIDv7 ids sort by time, and the primary key begins with user_id, decision_id.
_DECISIONS = text("""
    SELECT
        decision_id, served_at, policy, tip_id, content, prompt_version, score, propensity, exploring, reward, reaction,
        rewarded_at
    FROM analytics.tip_scores
    WHERE user_id = :user_id AND decision_id < coalesce(CAST(:before AS uuid), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    ORDER BY decision_id DESC
    LIMIT :limit
""")


def read_report(
    connection: Reading, which: Report, filters: Filters, limit: int | None = None, offset: int = 0
) -> list[Mapping[str, Any]]:
    """Return at most `limit` rows of a report, None for all, after its first `offset`; columns by name."""
    parameters = {**asdict(filters), "limit": limit, "offset": offset}
    statement = _REPORTS[which]
    named = {name: value for name, value in parameters.items() if name in statement.compile().params}
    return [dict(row) for row in connection.execute(statement, named).mappings()]


def read_choices(connection: Reading) -> Choices:
    """Return the values that filters can take."""
    return Choices(*connection.execute(_CHOICES).one())


def read_decisions(connection: Reading, user_id: str, before: UUID | None, limit: int) -> list[Mapping[str, Any]]:
    """Return up to `limit` decisions of a user, of all epochs, latest first, before the decision `before` if given."""
    rows = connection.execute(_DECISIONS, {"user_id": user_id, "before": before, "limit": limit})
    return [dict(row) for row in rows.mappings()]
