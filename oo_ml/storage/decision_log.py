"""The decisions that evaluation and verification rebuild, in the order in which they were made."""

from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from oo_ml.domain.learning import StoredEntry
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.user_ranges import WITHIN, UserRange

_ROWS_AT_ONCE: Final = 100


class LoggedDecision(NamedTuple):
    """A decision with its propensities.

    Attributes:
        exploration, alpha: the rule that made it, with the sigma of its policy; see domain/policies.py.
        prior_version: of the prior that it started from; None unless the policy is pooled, like the next two.
        prior_score: the part of theta.x of the chosen tip that the prior gave.
        weight: g, with which the reward counts; see domain/population.py.
        x: features of the chosen tip, shape (d,).
        reward: the reward that counts; None only in a sample, which is not asked for rewards.
        propensity: the probability with which it was chosen.
        propensities, exploit: the probability and theta.x of each candidate, shape (n,).
        versions: the prompt version of each candidate, None if unknown; None: not asked for.
        prompt_probability: the probability, below 1, with which the chosen tip's version was drawn; None if unknown, or
            if no other version could be drawn.
    """

    user_id: str
    policy: str
    epoch: int
    version: int
    decision_id: UUID
    decided_at: datetime
    tip_id: str
    exploration: float
    alpha: float | None
    prior_version: int | None
    prior_score: float | None
    weight: float | None
    x: NDArray[np.float64]
    context: dict[str, Any]
    features: dict[str, Any]
    candidates: list[dict[str, Any]]
    reward: float | None
    propensity: float
    propensities: NDArray[np.float64]
    exploit: NDArray[np.float64]
    versions: list[str | None] | None
    prompt_probability: float | None


class Asked(NamedTuple):
    """The decisions to read: those of `policies` from `since` on and before `until`; None: no limit."""

    policies: Sequence[str]
    since: datetime | None = None
    until: datetime | None = None


class Choice(NamedTuple):
    """The time of a decision, and the raw fields of its context and of its chosen tip."""

    decided_at: datetime
    context: dict[str, Any]
    features: dict[str, Any]


class LeftOut(NamedTuple):
    """Numbers of decisions without a reward, and of decisions with a reward but without propensities."""

    unrewarded: int
    unexplained: int


_ASKED: Final = f"""
    h.{WITHIN} AND h.policy = ANY (CAST(:policies AS text[]))
    AND h.decided_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
    AND h.decided_at < coalesce(CAST(:until AS timestamptz), 'infinity')
"""

# The decision itself holds the version of the chosen tip. The version of another candidate is the one that the client
# sent, else that of the latest tip of the same id at the time, as in /score.
_VERSIONS: Final = """
    ARRAY(
        SELECT CASE WHEN c.value ->> 'id' = h.tip_id THEN h.prompt_version ELSE coalesce(
            c.value ->> 'prompt_version',
            (
                SELECT t.prompt_version
                FROM oo_ml.tips AS t
                WHERE t.user_id = h.user_id AND t.tip_id = c.value ->> 'id' AND t.created_at <= h.decided_at
                ORDER BY t.generation_id DESC
                LIMIT 1
            )
        ) END
        FROM jsonb_array_elements(h.candidates) WITH ORDINALITY AS c (value, place)
        ORDER BY c.place
    )
"""


_DECISION: Final = ", ".join(f"h.{column}" for column in LoggedDecision._fields[:-2])
_NO_VERSIONS: Final = "CAST(NULL AS text[])"


def _build_select(versions: str) -> str:
    return f"""
        SELECT {_DECISION}, {versions}, nullif(h.prompt_probability, 1)
        FROM oo_ml.feature_history AS h
        WHERE {_ASKED} AND h.reward IS NOT NULL AND h.propensities IS NOT NULL
        ORDER BY h.user_id, h.policy, h.epoch, h.position
    """


_WITH_VERSIONS = text(_build_select(_VERSIONS))
_WITHOUT_VERSIONS = text(_build_select(_NO_VERSIONS))

_LEFT_OUT = text(f"""
    SELECT count(*) FILTER (WHERE h.reward IS NULL), count(*) FILTER (WHERE h.reward IS NOT NULL)
    FROM oo_ml.feature_history AS h
    WHERE {_ASKED} AND (h.reward IS NULL OR h.propensities IS NULL)
""")

# The latest decisions of each state are in one place of an index.
_SAMPLED: Final = f"""
    FROM oo_ml.policy_state AS s
    CROSS JOIN LATERAL (
        SELECT *
        FROM oo_ml.feature_history AS f
        WHERE f.user_id = s.user_id AND f.policy = s.policy AND f.epoch = s.epoch AND f.propensities IS NOT NULL
        ORDER BY f.position DESC
        LIMIT :of_each
    ) AS h
    WHERE s.{WITHIN}
"""
_SAMPLED_VERSIONS = text(f"SELECT h.user_id, h.policy, h.version {_SAMPLED}")
_SAMPLE = text(f"""
    SELECT {_DECISION}, {_NO_VERSIONS}, nullif(h.prompt_probability, 1)
    {_SAMPLED}
    ORDER BY h.user_id, h.policy, h.position
""")

_LEDGER = text(f"""
    SELECT {", ".join(f"l.{column}" for column in StoredEntry._fields)}, h.decided_at, h.context, h.features
    FROM (
        SELECT *
        FROM oo_ml.reward_ledger
        WHERE (user_id, policy, epoch, version)
                > (CAST(:user_id AS text), CAST(:policy AS text), CAST(:epoch AS integer), CAST(:version AS bigint))
            AND user_id <= CAST(:last AS text)
        ORDER BY user_id, policy, epoch, version
        LIMIT :size
    ) AS l
    LEFT JOIN oo_ml.feature_history AS h
        ON h.user_id = l.user_id AND h.decision_id = coalesce(l.decision_id, l.origin_decision_id)
        AND (l.origin_decision_id IS NOT NULL OR (h.policy = l.policy AND h.epoch = l.epoch))
    ORDER BY l.user_id, l.policy, l.epoch, l.version
""")


def read_decisions(connection: Reading, users: UserRange, asked: Asked, *, versions: bool) -> Generator[LoggedDecision]:
    """Yield the decisions of `users` with a reward and propensities, by user, policy, epoch and position.

    Close the generator before the transaction ends. Asking for `versions` costs a lookup for each candidate.
    """
    if not asked.policies:
        return
    statement = _WITH_VERSIONS if versions else _WITHOUT_VERSIONS
    parameters = {**users._asdict(), **asked._asdict()}
    # A server-side cursor ends with the transaction, and must be closed before.
    with connection.execute(statement, parameters, execution_options={"yield_per": _ROWS_AT_ONCE}) as result:
        for row in result:
            yield LoggedDecision._make(row)


def count_left_out(connection: Reading, users: UserRange, asked: Asked) -> LeftOut:
    """Return the numbers of decisions that `read_decisions` leaves out."""
    if not asked.policies:
        return LeftOut(0, 0)
    return LeftOut._make(connection.execute(_LEFT_OUT, {**users._asdict(), **asked._asdict()}).one())


def read_sampled_versions(connection: Reading, users: UserRange, of_each: int) -> set[tuple[StateKey, int]]:
    """Return the states, and their versions, at which the decisions of `read_sample` were made."""
    rows = connection.execute(_SAMPLED_VERSIONS, {**users._asdict(), "of_each": of_each})
    return {(StateKey(user_id, policy), version) for user_id, policy, version in rows}


def read_sample(connection: Reading, users: UserRange, of_each: int) -> Generator[LoggedDecision]:
    """Yield the latest decisions with propensities of each state, at most `of_each`, by user, policy and position.

    Close the generator before the transaction ends.
    """
    parameters = {**users._asdict(), "of_each": of_each}
    with connection.execute(_SAMPLE, parameters, execution_options={"yield_per": _ROWS_AT_ONCE}) as result:
        for row in result:
            yield LoggedDecision._make(row)


def read_ledger(connection: Reading, users: UserRange, page_size: int) -> Iterator[tuple[StoredEntry, Choice | None]]:
    """Yield the ledger of `users` by user, policy, epoch and version, each entry with the choice that it is for.

    A warm entry has the choice of the other policy. The choice is None if the entry has no decision, or the decision is
    past retention. At most `page_size` entries are
    in memory.
    """
    # No policy is empty and no epoch negative, so all entries of the first user come after this.
    after: Sequence[Any] = (users.first, "", -1, 0)
    while True:
        cursor = dict(zip(("user_id", "policy", "epoch", "version"), after, strict=True))
        page = connection.execute(_LEDGER, {**cursor, "last": users.last, "size": page_size}).all()
        for *entry, decided_at, context, features in page:
            yield StoredEntry._make(entry), None if decided_at is None else Choice(decided_at, context, features)
        if len(page) < page_size:
            return
        after = page[-1][:4]
