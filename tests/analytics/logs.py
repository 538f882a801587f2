"""Random logs of decisions as columns of a table."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, text

from tests.analytics.intervals import find_group

Numbers = NDArray[np.float64]
# The columns of analytics.estimate.
Row = tuple[int, float | None, float | None, float | None, float | None, float | None, str | None, int]

LOG = """
    unnest(
        CAST(:r AS float8[]), CAST(:q_logged AS float8[]), CAST(:q_target AS float8[]),
        CAST(:p_target AS float8[]), CAST(:p_logged AS float8[]), CAST(:user_id AS text[])
    ) WITH ORDINALITY AS log (r, q_logged, q_target, p_target, p_logged, user_id, place)
"""
ARGUMENTS = {
    "ips": "r, p_target, p_logged, user_id",
    "snips": "r, p_target, p_logged, user_id",
    "dr": "r, q_logged, q_target, p_target, p_logged, user_id",
}


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """n decisions: rewards, expected rewards by a model, the probabilities of the chosen actions, and the users."""

    r: Numbers
    q_logged: Numbers
    q_target: Numbers
    p_target: Numbers
    p_logged: Numbers
    user_id: NDArray[np.str_]

    @property
    def w(self) -> Numbers:
        """The weights p_target / p_logged."""
        return self.p_target / self.p_logged

    @property
    def groups(self) -> list[int]:
        """The group of the user of each decision."""
        return [find_group(user_id) for user_id in self.user_id]

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The columns, as parameters of a query."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}


def random_log(seed: int, n: int, offset: float = 0.0) -> Log:
    """Return n decisions with rewards around `offset`; some weights are 0, some are large; their mean is 1 or more."""
    rng = np.random.default_rng(seed)
    log = Log(
        r=offset + rng.uniform(-1, 1, n),
        q_logged=offset + rng.normal(size=n),
        q_target=offset + rng.normal(size=n),
        p_target=rng.random(n) * (rng.random(n) < 0.8),
        p_logged=np.clip(rng.random(n) ** 2, 1e-3, 0.999),
        user_id=np.array([f"user {number}" for number in rng.integers(0, 2 + n // 4, n)]),
    )
    # A log whose mean weight is far below 1 supports no estimate.
    return log if not n or log.w.mean() >= 1 else replace(log, p_logged=log.p_logged * min(log.w.mean() or 1, 1))


def estimate(db: Engine, name: str, columns: dict[str, list[Any]]) -> Row:
    """Return the result of an aggregate for a log."""
    with db.begin() as connection:
        statement = f"SELECT (analytics.{name}({ARGUMENTS[name]})).* FROM {LOG}"  # noqa: S608 - names of ours
        n, value, variance, low, high, mean_weight, reason, groups = connection.execute(text(statement), columns).one()
        return n, value, variance, low, high, mean_weight, reason, groups


def estimate_ess(db: Engine, columns: dict[str, list[Any]]) -> float | None:
    """Return the effective sample size of a log, None if the log does not support its target policy."""
    with db.begin() as connection:
        statement = f"SELECT analytics.ess(p_target, p_logged, user_id) FROM {LOG}"  # noqa: S608 - names of ours
        size: float | None = connection.scalar(text(statement), columns)
        return size
