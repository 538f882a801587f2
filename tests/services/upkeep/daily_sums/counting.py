"""Daily sums, counted as upkeep counts them."""

import asyncio
from datetime import UTC, datetime

from sqlalchemy import Engine, text

from oo_ml.services.database import single_worker
from oo_ml.services.upkeep.daily_sums import Days, count_days
from tests.conftest import make_settings
from tests.sessions import writing
from tests.waiting import until

# The time at which the tests count; the views compare with the clock of the server.
NOW = datetime.now(UTC)

_WAITING = """
    SELECT count(*) FROM (
        SELECT decisions FROM rollup.uncounted
        UNION ALL
        SELECT calls FROM rollup.uncounted_costs
    ) AS left_over
"""


def count(url: str, **limits: int) -> Days:
    """Count once."""
    with single_worker(make_settings(), url) as worker:
        return asyncio.run(count_days(worker, NOW, **limits))


def count_all(db: Engine, url: str, **limits: int) -> None:
    """Count until everything is counted; transactions of other tests on this server can delay it."""

    def is_done() -> bool:
        count(url, **limits)
        return read_uncounted(db) == 0

    until(is_done)


def read_uncounted(db: Engine) -> int:
    """Return the number of rows that are not counted yet."""
    with writing(db) as connection:
        return int(connection.scalar(text(_WAITING)) or 0)
