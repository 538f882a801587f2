"""Counting by day, as upkeep does it."""

import asyncio

from sqlalchemy import Engine, text

from oo_ml.services.database import single_worker
from oo_ml.services.upkeep.daily_sums import Days, count_days
from tests.conftest import make_settings
from tests.services.upkeep.daily_sums.people import NOW
from tests.waiting import until

_WAITING = """
    SELECT count(*) FROM (
        SELECT decisions FROM rollup.uncounted
        UNION ALL
        SELECT calls FROM rollup.uncounted_costs
    ) AS left_over
"""


def count(url: str, **limits: int) -> Days:
    """Count, as upkeep does."""
    with single_worker(make_settings(), url) as worker:
        return asyncio.run(count_days(worker, NOW, **limits))


def count_all(db: Engine, url: str, **limits: int) -> None:
    """Count until all is counted: other tests' transactions on this server hold it up."""

    def is_done() -> bool:
        count(url, **limits)
        return waiting(db) == 0

    until(is_done)


def waiting(db: Engine) -> int:
    """How much is not counted yet."""
    with db.begin() as connection:
        return int(connection.scalar(text(_WAITING)) or 0)
