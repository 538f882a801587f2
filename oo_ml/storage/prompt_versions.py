"""The tables prompt_versions and prompt_assignments, and the mean rewards by prompt version.

Texts and parameters of a version never change; its status and weight do.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from oo_ml.domain.version_probabilities import Evidence
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.prompt_tables import prompt_versions


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """A row of prompt_versions; the templates are Jinja2 (oo_ml/templates).

    Attributes:
        model and the fields after it: parameters of the requests to the model; None: as the settings say.
    """

    version: str
    status: str
    weight: float
    published_at: datetime
    retired_at: datetime | None
    description: str
    system_template: str
    user_template: str
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    response_format: str | None = None
    stop: tuple[str, ...] | None = None


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

# Returns no row if another transaction has given the user a version other than :unused.
_KEEP = text("""
    INSERT INTO oo_ml.prompt_assignments AS kept (user_id, prompt_version, probability, assigned_at)
    VALUES (:user_id, :version, :probability, :assigned_at)
    ON CONFLICT (user_id) DO UPDATE SET
        prompt_version = excluded.prompt_version, probability = excluded.probability, assigned_at = excluded.assigned_at
    WHERE kept.prompt_version = :unused
    RETURNING prompt_version, probability
""")

# Each reward has the weight w = 1 / (propensity x prompt_probability), so that tips shown rarely count as much as tips
# shown often. (sum of w)^2 / (sum of w^2) is the effective sample size (Kish 1965). Retracted rewards leave sums of 0.
_EVIDENCE = text("""
    SELECT prompt_version, sum(weighted_rewards) / sum(weights), sum(weights) * sum(weights) / sum(weights_squared)
    FROM rollup.reactions
    WHERE reaction <> 'none' AND prompt_version = ANY (:versions)
    GROUP BY prompt_version
    HAVING sum(decisions) > 0
""")


def list_active(connection: Reading) -> list[PromptVersion]:
    """Return the active versions, by name."""
    return [_read(row) for row in connection.execute(_ACTIVE)]


def read_evidence(connection: Reading, versions: Sequence[str]) -> dict[str, Evidence]:
    """Return the weighted mean and effective number of rewards of each of `versions` with a reward."""
    if not versions:
        return {}
    rows = connection.execute(_EVIDENCE, {"versions": list(versions)})
    return {version: Evidence(float(mean), float(rewards)) for version, mean, rewards in rows}


def assign(
    connection: Writing, user_id: str, version: str, probability: float, assigned_at: datetime
) -> tuple[str, float]:
    """Return the user's assigned version and the probability with which it was drawn.

    Assign `version`, drawn with `probability`, if the user has no version yet, or one that is no longer in use. Of
    concurrent first calls, all return the version of the call that writes first: the others wait for its row.
    """
    offered = {"user_id": user_id, "version": version, "probability": probability, "assigned_at": assigned_at}
    while True:
        kept = connection.execute(_KEPT, {"user_id": user_id}).one_or_none()
        if kept is None or not kept.in_use:
            unused = None if kept is None else kept.prompt_version
            kept = connection.execute(_KEEP, {**offered, "unused": unused}).one_or_none()
        if kept is not None:
            return kept.prompt_version, kept.probability


def find(connection: Reading, versions: Sequence[str]) -> dict[str, PromptVersion]:
    """Return the existing versions among `versions`, by name."""
    rows = connection.execute(select(*_COLUMNS).where(prompt_versions.c.version.in_(versions)))
    return {row.version: _read(row) for row in rows}


def list_all(connection: Reading, limit: int | None = None, offset: int = 0) -> list[PromptVersion]:
    """Return at most `limit` versions, None for all, oldest first, after the first `offset`."""
    return [_read(row) for row in connection.execute(_LIST.limit(limit).offset(offset))]


def insert(connection: Writing, prompt: PromptVersion) -> bool:
    """Insert a version; return whether the name was free."""
    return connection.execute(_INSERT, asdict(prompt)).first() is not None


def set_weight(connection: Writing, version: str, weight: float) -> bool:
    """Set the weight of an active version; return whether it exists."""
    statement = (
        update(prompt_versions)
        .where(prompt_versions.c.version == version, prompt_versions.c.status == "active")
        .values(weight=weight)
    )
    return bool(connection.execute(statement).rowcount)


def retire(connection: Writing, version: str, retired_at: datetime) -> None:
    """Retire a version; an already retired one keeps its date."""
    connection.execute(
        update(prompt_versions)
        .where(prompt_versions.c.version == version, prompt_versions.c.status == "active")
        .values(status="retired", retired_at=retired_at)
    )


def _read(row: Row[Any]) -> PromptVersion:
    columns = row._asdict()
    return PromptVersion(**columns | {"stop": None if columns["stop"] is None else tuple(columns["stop"])})
