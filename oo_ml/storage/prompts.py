"""prompt_versions: the registry, which version a person keeps, and what the rewards say of each.

A version's text is written once; only its status and its weight change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from oo_ml.domain.experiments import Evidence
from oo_ml.storage.schema.prompt_tables import prompt_versions


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
_ACTIVE = select(*_COLUMNS).where(prompt_versions.c.status == "active").order_by(prompt_versions.c.version)
_LIST = select(*_COLUMNS).order_by(prompt_versions.c.published_at, prompt_versions.c.version)
_INSERT = upsert(prompt_versions).on_conflict_do_nothing().returning(prompt_versions.c.version)

_KEPT = text("""
    SELECT kept.prompt_version, kept.probability, v.status = 'active' AND v.weight > 0 AS in_use
    FROM oo_ml.prompt_assignments AS kept
    LEFT JOIN oo_ml.prompt_versions AS v ON v.version = kept.prompt_version
    WHERE kept.user_id = :user_id
""")

# Returns nothing if the user keeps another version than :unused by now.
_KEEP = text("""
    INSERT INTO oo_ml.prompt_assignments AS kept (user_id, prompt_version, probability, assigned_at)
    VALUES (:user_id, :version, :probability, :assigned_at)
    ON CONFLICT (user_id) DO UPDATE SET
        prompt_version = excluded.prompt_version, probability = excluded.probability, assigned_at = excluded.assigned_at
    WHERE kept.prompt_version = :unused
    RETURNING prompt_version, probability
""")

# Each reward is worth w = 1 / (propensity x prompt_probability), so that what was shown seldom counts as much as what
# was shown often; (sum of w)^2 / (sum of w^2) is how many rewards of equal worth that is (Kish 1965). Rewards that were
# taken back leave sums of 0.
_EVIDENCE = text("""
    SELECT prompt_version, sum(weighted_rewards) / sum(weights), sum(weights) * sum(weights) / sum(weights_squared)
    FROM rollup.reactions
    WHERE reaction <> 'none' AND prompt_version = ANY (:versions)
    GROUP BY prompt_version
    HAVING sum(decisions) > 0
""")


def active(connection: Connection) -> list[PromptVersion]:
    """Return every version in use, by name."""
    return [PromptVersion(*row) for row in connection.execute(_ACTIVE)]


def evidence(connection: Connection, versions: Sequence[str]) -> dict[str, Evidence]:
    """Return what the rewards so far say of those of `versions` that had any."""
    if not versions:
        return {}
    rows = connection.execute(_EVIDENCE, {"versions": list(versions)})
    return {version: Evidence(float(mean), float(rewards)) for version, mean, rewards in rows}


def keep(
    connection: Connection, user_id: str, version: str, probability: float, assigned_at: datetime
) -> tuple[str, float]:
    """Return the version that a person keeps and the probability that it was picked with.

    It is `version`, picked with `probability`, if the user keeps none yet, or one that is no longer in use. A version
    that is in use is only read. Of several first calls at once all return the version of the one that writes first:
    the others wait for its row, and read it.
    """
    offered = {"user_id": user_id, "version": version, "probability": probability, "assigned_at": assigned_at}
    while True:
        kept = connection.execute(_KEPT, {"user_id": user_id}).one_or_none()
        if kept is None or not kept.in_use:
            unused = None if kept is None else kept.prompt_version
            kept = connection.execute(_KEEP, {**offered, "unused": unused}).one_or_none()
        if kept is not None:
            return kept.prompt_version, kept.probability


def find(connection: Connection, versions: Sequence[str]) -> dict[str, PromptVersion]:
    """Return those of `versions` that exist, by name."""
    rows = connection.execute(select(*_COLUMNS).where(prompt_versions.c.version.in_(versions)))
    return {row.version: PromptVersion(*row) for row in rows}


def listing(connection: Connection, limit: int | None = None, offset: int = 0) -> list[PromptVersion]:
    """Return at most `limit` versions, None for all, the oldest first, without the first `offset`."""
    return [PromptVersion(*row) for row in connection.execute(_LIST.limit(limit).offset(offset))]


def insert(connection: Connection, prompt: PromptVersion) -> bool:
    """Write a new version; return whether the name was free."""
    values = {name: getattr(prompt, name) for name in PromptVersion.__dataclass_fields__}
    return connection.execute(_INSERT, values).first() is not None


def set_weight(connection: Connection, version: str, weight: float) -> bool:
    """Give a version in use a weight; return whether there is such a one."""
    statement = (
        update(prompt_versions)
        .where(prompt_versions.c.version == version, prompt_versions.c.status == "active")
        .values(weight=weight)
    )
    return bool(connection.execute(statement).rowcount)


def retire(connection: Connection, version: str, retired_at: datetime) -> None:
    """Mark a version as retired; one that is so already keeps its date."""
    connection.execute(
        update(prompt_versions)
        .where(prompt_versions.c.version == version, prompt_versions.c.status == "active")
        .values(status="retired", retired_at=retired_at)
    )
