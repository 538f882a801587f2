"""The table policy_priors: a row for each version of the prior of a policy. Rows are inserted and deleted."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, exists, select, true, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from oo_ml.domain.population import Prior
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.policy_tables import policies, policy_priors


@dataclass(frozen=True, slots=True)
class PriorRow:
    """A row of policy_priors.

    Attributes:
        fitted_at: time of the fit.
        users: the number of users that it was fitted to.
        rewards: the number of rewards of the policy that counted then, those before a reset included.
        erasures: the number of erased users of the policy then.
    """

    policy: str
    prior: Prior
    fitted_at: datetime
    users: int
    rewards: int
    erasures: int = 0


class Fit(NamedTuple):
    """The time of a fit, and the version that it gave."""

    fitted_at: datetime
    version: int


_OF_PRIOR: Final = ("version", "mean", "covariance", "mean_covariance", "noise_variance")
_COLUMNS: Final = tuple(
    policy_priors.c[name] for name in ("policy", "fitted_at", "users", "rewards", "erasures", *_OF_PRIOR)
)
# By policy, from the end of the primary key: a policy may have many versions.
_LAST: Final = (
    select(policy_priors)
    .where(policy_priors.c.policy == policies.c.policy)
    .order_by(policy_priors.c.version.desc())
    .limit(1)
    .lateral("last")
)
_LATEST: Final = select(*(_LAST.c[column.name] for column in _COLUMNS)).select_from(policies.join(_LAST, true()))
_FITTED: Final = select(_LAST.c.policy, _LAST.c.fitted_at).select_from(policies.join(_LAST, true()))
_NEXT: Final = policy_priors.alias("next")
_FITS: Final = (
    select(policy_priors.c.fitted_at, policy_priors.c.version)
    .where(policy_priors.c.policy == bindparam("policy"))
    .order_by(policy_priors.c.fitted_at, policy_priors.c.version)
)
_INSERT: Final = upsert(policy_priors).on_conflict_do_nothing().returning(policy_priors.c.policy)


def read_latest(connection: Reading) -> dict[str, Prior]:
    """Return the latest version of each policy that has one."""
    return {name: row.prior for name, row in read_latest_rows(connection).items()}


def read_latest_rows(connection: Reading) -> dict[str, PriorRow]:
    """Return the row of the latest version of each policy that has one."""
    return {row.policy: row for row in _rows(connection.execute(_LATEST))}


def read_fit_times(connection: Reading) -> dict[str, datetime]:
    """Return the time of the latest fit of each policy that has one."""
    return {row.policy: row.fitted_at for row in connection.execute(_FITTED)}


def list_versions(connection: Reading, policy: str, limit: int, offset: int) -> list[PriorRow]:
    """Return at most `limit` versions of a policy, the latest first, after the first `offset`."""
    statement = select(*_COLUMNS).where(policy_priors.c.policy == policy).order_by(policy_priors.c.version.desc())
    return _rows(connection.execute(statement.limit(limit).offset(offset)))


def find(connection: Reading, names: Iterable[tuple[str, int]]) -> dict[tuple[str, int], PriorRow]:
    """Return the rows that exist among these policies and versions."""
    wanted = tuple_(policy_priors.c.policy, policy_priors.c.version).in_(list(names))
    return {(row.policy, row.prior.version): row for row in _rows(connection.execute(select(*_COLUMNS).where(wanted)))}


def list_fits(connection: Reading, policy: str) -> list[Fit]:
    """Return the versions of a policy that have a row, by the time of their fit."""
    return [Fit._make(row) for row in connection.execute(_FITS, {"policy": policy})]


def insert(connection: Writing, row: PriorRow) -> bool:
    """Insert a version; return whether no other transaction has inserted it meanwhile."""
    values = {
        "policy": row.policy,
        "fitted_at": row.fitted_at,
        "users": row.users,
        "rewards": row.rewards,
        "erasures": row.erasures,
        **{name: getattr(row.prior, name) for name in _OF_PRIOR},
    }
    return connection.execute(_INSERT, values).first() is not None


def delete_replaced(connection: Writing, before: datetime) -> int:
    """Delete the versions that a newer one had replaced by this time; return their number."""
    replaced = exists().where(
        _NEXT.c.policy == policy_priors.c.policy, _NEXT.c.version > policy_priors.c.version, _NEXT.c.fitted_at < before
    )
    return connection.execute(delete(policy_priors).where(replaced)).rowcount


def _rows(rows: Iterable[Any]) -> list[PriorRow]:
    return [
        PriorRow(policy, Prior(*prior), fitted_at, users, rewards, erasures)
        for policy, fitted_at, users, rewards, erasures, *prior in rows
    ]
