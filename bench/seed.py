"""Rows by the million for the benchmark: states by one statement, decisions by COPY, month by month.

No simulated users: nothing reacts here, and every decision is a copy of a few that the service has made.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

from psycopg import sql
from rich.console import Console

from bench import patterns
from bench.database import Database
from bench.errors import BenchError
from bench.open_decisions import OpenDecisions
from bench.patterns import Part, Row
from bench.plan import Plan
from oo_ml.domain.evidence import Evidence
from oo_ml.domain.policies import LINUCB
from oo_ml.progress import progress
from oo_ml.storage.schema.partitions import month_of

# All of one length, so that wrk need not count how long a body is.
_FIRST_USER: Final = 10_000_000
_FIRST_REFERENCE_USER: Final = 20_000_000
# Decisions of a user of the large database, by month; the last one is this month.
_BY_MONTH: Final = (2, 2, 3, 3)
_CONNECTIONS: Final = 2
_LINES: Final = 10

# No state has a reward yet.
_STATES: Final = """
    INSERT INTO oo_ml.policy_state (
        user_id, policy, epoch, version, pulls, explore_count, reward_count, cumulative_reward, last_updated, a, b
    )
    SELECT
        CAST(%(first)s + i AS text), %(policy)s, 0, 0, %(pulls)s, 0, 0, 0, now(),
        CAST(%(a)s AS float8[]), CAST(%(b)s AS float8[])
    FROM generate_series(0, %(users)s - 1) AS i
"""


def small(
    database: Database, rows: list[Row], plan: Plan, now: datetime, console: Console
) -> tuple[OpenDecisions, OpenDecisions]:
    """Insert open decisions of this month, and return those for the service and those for pgbench."""
    month = month_of(now)
    first_time = _milliseconds(month)
    for_service, for_pgbench = (
        OpenDecisions(first_user, plan.users, plan.users * decisions, first_time)
        for first_user, decisions in (
            (_FIRST_USER, plan.open_decisions),
            (_FIRST_REFERENCE_USER, plan.reference_open_decisions),
        )
    )
    for one in (for_service, for_pgbench):
        _make_states(database, one.first_user, one.users, one.count // one.users)
    parts = [Part(one.first_user, one.users, one.count, first_time) for one in (for_service, for_pgbench)]
    _make_decisions(database, rows, {month: parts}, f"{plan.users:,} users", console)
    _settle(database)
    return for_service, for_pgbench


def large(database: Database, rows: list[Row], plan: Plan, now: datetime, console: Console) -> OpenDecisions:
    """Insert many users with decisions of this month and the months before; none of them can be named as open."""
    users = plan.large_users
    months = [month_of(now, later) for later in range(1 - len(_BY_MONTH), 1)]
    with database.connect() as connection:
        connection.execute("SELECT oo_ml.create_feature_history_months(%s, %s)", [months[0], len(months)])
    parts = {}
    for month, decisions in zip(months, _BY_MONTH, strict=True):
        first_time = _milliseconds(month)
        duration = _milliseconds(min(month_of(month, 1), now)) - first_time
        step = max(1, duration // (users * decisions))
        parts[month] = [Part(_FIRST_USER, users, users * decisions, first_time, step)]
    _make_states(database, _FIRST_USER, users, sum(_BY_MONTH))
    _make_decisions(database, rows, parts, f"{users:,} users", console)
    _settle(database)
    return OpenDecisions(_FIRST_USER, users, 0, _milliseconds(months[-1]))


def _make_states(database: Database, first_user: int, users: int, pulls: int) -> None:
    # The number of features of linucb-v1.
    fresh = Evidence.alone(5)
    with database.connect() as connection:
        connection.execute(
            _STATES,
            {
                "first": first_user,
                "policy": LINUCB,
                "pulls": pulls,
                "a": fresh.A.tolist(),
                "b": fresh.b.tolist(),
                "users": users,
            },
        )


def _make_decisions(
    database: Database, rows: list[Row], months: dict[datetime, list[Part]], title: str, console: Console
) -> None:
    total = sum(part.count for parts in months.values() for part in parts)
    is_over = threading.Event()
    lock = threading.Lock()
    with progress(console.file, f"Making decisions of {title}", total, lines=_LINES) as advance:

        def report(done: int) -> None:
            with lock:
                advance(done)
            if is_over.is_set():
                raise BenchError("the other part failed, or the program was interrupted")

        with ThreadPoolExecutor(_CONNECTIONS) as threads:
            futures = [threads.submit(_copy, database, rows, month, parts, report) for month, parts in months.items()]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                is_over.set()
                raise


def _copy(
    database: Database, rows: list[Row], month: datetime, parts: Sequence[Part], report: Callable[[int], None]
) -> None:
    table = sql.Identifier("oo_ml", f"feature_history_{month:%Y_%m}")
    columns = sql.SQL(", ").join(map(sql.Identifier, patterns.columns(rows)))
    with database.connect() as connection, connection.transaction(), connection.cursor() as cursor:
        # Rows that come into an empty table of this transaction's need no vacuum later, in the middle of a measurement.
        cursor.execute(sql.SQL("TRUNCATE {}").format(table))
        statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (FREEZE)").format(table, columns)
        with cursor.copy(statement) as copy:
            for part in parts:
                for lines, count in patterns.blocks(rows, part):
                    copy.write(lines)
                    report(count)


def _settle(database: Database) -> None:
    """Vacuum and checkpoint now, so that neither happens during a measurement."""
    with database.connect_as_superuser() as connection:
        connection.execute("VACUUM (ANALYZE) oo_ml.policy_state, oo_ml.feature_history, oo_ml.reward_ledger")
        connection.execute("CHECKPOINT")


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
