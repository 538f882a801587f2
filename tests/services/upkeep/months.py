"""Helpers for tests of the monthly partitions of feature_history."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Engine

from oo_ml.services.database import single_worker
from oo_ml.services.upkeep.partitions import Months, keep_months
from oo_ml.storage.schema import partitions
from oo_ml.storage.schema.partitions import MOVABLE
from tests.conftest import make_settings
from tests.migrations.rows import uuid7
from tests.sessions import writing
from tests.superuser import tamper

NOW = datetime.now(UTC)
OWNER = "run `oo-ml db grant-service` for this role, or `oo-ml upkeep` as the owner of the tables"
CROWDED = (
    "feature_history gets no partition for {:%Y-%m}, because moving its decisions out of feature_history_default would"
    " block calls: run `oo-ml db upgrade` as the owner at a quiet time"
)


def run_keep_months(
    url: str, *, now: datetime = NOW, retention: int | None = None, movable: int = MOVABLE, is_patient: bool = False
) -> Months:
    """Run `keep_months` as upkeep does."""
    settings = make_settings(history_retention=retention)
    with single_worker(settings, url) as worker:
        return asyncio.run(keep_months(worker, settings, now, movable=movable, is_patient=is_patient))


def describe_problems(months: Months) -> list[tuple[type[Exception], str]]:
    """Return the problems."""
    return [(type(problem), problem.message) for problem in months.problems]


def partition_name(month: datetime) -> str:
    """Return the partition of a month."""
    return f"feature_history_{month:%Y_%m}"


def list_partitions(db: Engine) -> list[str]:
    """Return the attached partitions."""
    with writing(db) as connection:
        return [partition_name(month) for month in partitions.read_layout(connection).months]


def run(db: Engine, statement: str) -> None:
    """Run a statement as superuser."""
    tamper(db, statement)


@contextmanager
def limited_service(db: Engine) -> Iterator[str]:
    """Yield the address of the service's role, without rights to make months or to read the default partition."""
    rights = (
        "{} EXECUTE ON ALL FUNCTIONS IN SCHEMA oo_ml {} service",
        "{} SELECT ON oo_ml.feature_history_default {} service",
    )
    for right in rights:
        run(db, right.format("REVOKE", "FROM"))
    yield db.url.set(drivername="postgresql").render_as_string()
    for right in rights:
        run(db, right.format("GRANT", "TO"))


def crowd_month(db: Engine, month: datetime) -> None:
    """Put more decisions of a coming month into the default partition than upkeep moves, instead of into its own."""
    run(db, f"DROP TABLE oo_ml.{partition_name(month)}")
    first = uuid7(month).hex
    run(
        db,
        f"""
        INSERT INTO oo_ml.feature_history (
            user_id, decision_id, policy, epoch, version, decided_at, score, propensity, exploring, tip_id,
            x, context, features, candidates, answer
        )
        SELECT 'ada', ('{first[:20]}' || lpad(to_hex(n), 12, '0'))::uuid, 'linucb-v1', 0, 0, now(), 1, 1, false, 't1',
            '{{1,2}}', '{{}}', '{{}}', '[]', '{{}}'
        FROM generate_series(0, 10000) AS n
        """,  # noqa: S608 - an id
    )
