"""The decisions that an evaluation reads, in the order in which they were made."""

from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.user_ranges import WITHIN, UserRange

_ROWS_AT_ONCE: Final = 100


class LoggedDecision(NamedTuple):
    """A decision with a reward.

    Attributes:
        x: features of the chosen tip, shape (d,).
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
    tip_id: str
    x: NDArray[np.float64]
    context: dict[str, Any]
    candidates: list[dict[str, Any]]
    reward: float
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


def _build_select(versions: str) -> str:
    return f"""
        SELECT
            {", ".join(f"h.{column}" for column in LoggedDecision._fields[:-2])},
            {versions}, nullif(h.prompt_probability, 1)
        FROM oo_ml.feature_history AS h
        WHERE {_ASKED} AND h.reward IS NOT NULL AND h.propensities IS NOT NULL
        ORDER BY h.user_id, h.policy, h.epoch, h.position
    """


_WITH_VERSIONS = text(_build_select(_VERSIONS))
_WITHOUT_VERSIONS = text(_build_select("CAST(NULL AS text[])"))

_LEFT_OUT = text(f"""
    SELECT count(*) FILTER (WHERE h.reward IS NULL), count(*) FILTER (WHERE h.reward IS NOT NULL)
    FROM oo_ml.feature_history AS h
    WHERE {_ASKED} AND (h.reward IS NULL OR h.propensities IS NULL)
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
