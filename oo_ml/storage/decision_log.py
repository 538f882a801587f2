"""The log of decisions as an evaluation reads it: in the order in which they were made, a few at a time."""

from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from oo_ml.storage.audit import WITHIN, People

_ROWS_AT_ONCE: Final = 100


class Logged(NamedTuple):
    """A decision with a reward that counts.

    Attributes:
        x: features of the tip that was chosen, shape (d,).
        propensity: the probability with which that was chosen.
        propensities, exploit: of each candidate, shape (n,): the same, and theta.x.
        versions: the prompt version that wrote each candidate's tip, None where nobody knows; None: not asked for.
        prompt_probability: the probability, below 1, with which the chosen tip's version was drawn; None where nobody
            knows, or no other version had a chance.
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


class LeftOut(NamedTuple):
    """How many decisions have no reward that counts; and how many of the others are from before they were explained."""

    unrewarded: int
    unexplained: int


_ASKED: Final = f"""
    h.{WITHIN} AND h.policy = ANY (CAST(:policies AS text[]))
    AND h.decided_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
"""

# Of the tip that was chosen, the decision itself says who wrote it. Of another, the candidate does if the client named
# its version, else the tip that was the latest of that id at the time, as /score takes it.
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


def _decisions(versions: str) -> str:
    return f"""
        SELECT
            h.user_id, h.policy, h.epoch, h.version, h.decision_id, h.tip_id, h.x, h.context,
            h.candidates, h.reward, h.propensity, h.propensities, h.exploit,
            {versions}, nullif(h.prompt_probability, 1)
        FROM oo_ml.feature_history AS h
        WHERE {_ASKED} AND h.reward IS NOT NULL AND h.propensities IS NOT NULL
        ORDER BY h.user_id, h.policy, h.epoch, h.position
    """


_WITH_VERSIONS = text(_decisions(_VERSIONS))
_WITHOUT_VERSIONS = text(_decisions("CAST(NULL AS text[])"))

_LEFT_OUT = text(f"""
    SELECT count(*) FILTER (WHERE h.reward IS NULL), count(*) FILTER (WHERE h.reward IS NOT NULL)
    FROM oo_ml.feature_history AS h
    WHERE {_ASKED} AND (h.reward IS NULL OR h.propensities IS NULL)
""")


def decisions(
    connection: Connection, people: People, policies: Sequence[str], since: datetime | None, *, versions: bool
) -> Generator[Logged]:
    """Yield the decisions of `people` that have a reward and are explained, by user, policy, epoch and position.

    To be closed before the transaction ends. Asking for `versions` costs a look at each candidate.
    """
    if not policies:
        return
    statement = _WITH_VERSIONS if versions else _WITHOUT_VERSIONS
    asked = {**people._asdict(), "policies": list(policies), "since": since}
    # Closed before the transaction ends, even by whoever does not want them all: its cursor lives no longer.
    with connection.execute(statement, asked, execution_options={"yield_per": _ROWS_AT_ONCE}) as result:
        for row in result:
            yield Logged._make(row)


def left_out(connection: Connection, people: People, policies: Sequence[str], since: datetime | None) -> LeftOut:
    """Count the decisions of `people` that `decisions` leaves out."""
    if not policies:
        return LeftOut(0, 0)
    asked = {**people._asdict(), "policies": list(policies), "since": since}
    return LeftOut._make(connection.execute(_LEFT_OUT, asked).one())
