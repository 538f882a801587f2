"""The daily tables: sums by day of decisions, rewards and calls of the model, and the progress of counting (ADR 11).

The views of schema rollup (alembic/sql) define what a row adds. Every sum is exact, so it can be subtracted again. A
row is counted once no transaction can still commit a lower position: positions are assigned in order, but committed in
any order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

from sqlalchemy import text

from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.all_tables import ORDERS
from oo_ml.storage.schema.column_types import SCHEMA

DECISIONS: Final = "feature_history"
REWARDS: Final = "reward_ledger"
GENERATIONS: Final = "generations"
# Below every position.
_START_POSITION: Final = -1


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a source: a row of the table `counted`."""

    counted_until: int
    settled_until: int
    next_until: int | None
    next_xid: int | None


class Range(NamedTuple):
    """The positions after `after` up to and including `until`."""

    after: int
    until: int


_PROGRESS = text("SELECT source, counted_until, settled_until, next_until, next_xid FROM oo_ml.counted")

_RESTART = text("""
    WITH reactions AS (DELETE FROM oo_ml.daily_reactions), user_groups AS (DELETE FROM oo_ml.daily_user_groups),
        learning AS (DELETE FROM oo_ml.daily_learning), first_decisions AS (DELETE FROM oo_ml.daily_first_decisions),
        delays AS (DELETE FROM oo_ml.daily_delays), exploration AS (DELETE FROM oo_ml.daily_exploration),
        costs AS (DELETE FROM oo_ml.daily_costs), latencies AS (DELETE FROM oo_ml.daily_latencies),
        done AS (DELETE FROM oo_ml.daily_done), rewards AS (DELETE FROM oo_ml.daily_rewards),
        gone AS (DELETE FROM oo_ml.counted WHERE source <> ALL (CAST(:sources AS text[])))
    INSERT INTO oo_ml.counted (source, counted_until, settled_until)
    SELECT source, :start, :start FROM unnest(CAST(:sources AS text[])) AS source
    ON CONFLICT (source) DO UPDATE SET counted_until = excluded.counted_until
""")

_SAVE = text("""
    UPDATE oo_ml.counted
    SET counted_until = :counted_until, settled_until = :settled_until, next_until = :next_until, next_xid = :next_xid
    WHERE source = :source
""")

_MAY_SUMMARIZE = text("SELECT has_function_privilege('oo_ml.summarize_positions()', 'EXECUTE')")

_SUMMARIZE = text("SELECT oo_ml.summarize_positions()")

_COUNTED = text("SELECT source, counted_until FROM oo_ml.counted")

_LAST_POSITION = text("SELECT coalesce(pg_sequence_last_value(CAST(:sequence AS regclass)), 0)")

# All transactions below the first number have ended; no transaction has the second number or a higher one yet.
_TRANSACTIONS = text("""
    SELECT CAST(CAST(pg_snapshot_xmin(s) AS text) AS bigint), CAST(CAST(pg_snapshot_xmax(s) AS text) AS bigint)
    FROM pg_current_snapshot() AS s
""")

_ASSIGN_XID = text("SELECT pg_current_xact_id()")


_OF_REACTIONS: Final = ("decisions", "weights", "weights_squared", "weighted_rewards", "unsupported")
_OF_USER_GROUPS: Final = (*_OF_REACTIONS, "rewards", "modelled", "random_estimates", "choices")
_CELL: Final = (
    "day, policy, prompt_version, exploring, first_pull, prior_version, delay_step, reaction, user_group, assigned"
)


def _add_sums(table: str, key: str, sums: Sequence[str], source: str, conflict: str = "") -> str:
    """Return the statement that adds the sums of `source` by `key`, times :sign, to a daily table."""
    return f"""
        INSERT INTO oo_ml.{table} AS d ({key}, {", ".join(sums)})
        SELECT {key}, {", ".join(f"CAST(:sign AS integer) * sum({name})" for name in sums)}
        FROM {source}
        GROUP BY {key}
        ON CONFLICT {conflict or f"({key})"} DO UPDATE
        SET {", ".join(f"{name} = d.{name} + excluded.{name}" for name in sums)}
    """


def _add_decisions(decisions: str, rewards: str) -> str:
    """Return the statement for the decisions and ledger entries that meet these conditions."""
    # Three views and not one union: see alembic/sql/0001/06_rollup.sql.
    views = (("decision_cells", decisions), ("departure_cells", rewards), ("arrival_cells", rewards))
    cells = " UNION ALL ".join(
        f"""
        SELECT
            {_CELL}, {", ".join(f"sum({name}) AS {name}" for name in (*_OF_USER_GROUPS, "rewards_squared"))},
            CASE WHEN reaction = 'none' THEN 0 ELSE sum(decisions) END AS rewarded
        FROM rollup.{view}
        WHERE {condition}
        GROUP BY {_CELL}
        """
        for view, condition in views
    )
    reactions = _add_sums(
        "daily_reactions",
        "day, policy, prompt_version, exploring, reaction",
        _OF_REACTIONS,
        "cells",
        "ON CONSTRAINT uq_daily_reactions",
    )
    user_groups = _add_sums(
        "daily_user_groups",
        "day, policy, prompt_version, exploring, reaction, user_group, assigned",
        _OF_USER_GROUPS,
        "cells",
        "ON CONSTRAINT uq_daily_user_groups",
    )
    learning = _add_sums(
        "daily_learning",
        "day, policy, first_pull",
        ("decisions", "rewarded", "rewards", "rewards_squared"),
        "cells WHERE first_pull IS NOT NULL",
    )
    first_decisions = _add_sums(
        "daily_first_decisions",
        "day, policy, prior_version, first_pull, user_group",
        ("decisions", "rewarded", "rewards"),
        """(
            SELECT
                day, policy, prior_version, rollup.first_of_five(first_pull) AS first_pull, user_group,
                decisions, rewarded, rewards
            FROM cells
            WHERE prior_version IS NOT NULL
        ) AS firsts""",
    )
    delays = _add_sums("daily_delays", "day, policy, delay_step", ("decisions",), "cells WHERE delay_step IS NOT NULL")
    exploration = _add_sums(
        "daily_exploration",
        "day, policy",
        ("decisions", "explored", "expected", "expected_variance", "shares", "shares_squared"),
        f"rollup.exploration_cells WHERE {decisions}",
    )
    return f"""
        WITH cells AS MATERIALIZED ({cells}), reactions AS ({reactions}), user_groups AS ({user_groups}),
            learning AS ({learning}), first_decisions AS ({first_decisions}), delays AS ({delays})
        {exploration}
    """


def _add_calls(condition: str) -> str:
    """Return the statement for the calls of the model that meet this condition."""
    latencies = _add_sums("daily_latencies", "day, prompt_version, latency_step", ("calls",), "cells")
    costs = _add_sums(
        "daily_costs",
        "day, prompt_version, model",
        ("calls", "failed", "retries", "prompt_tokens", "completion_tokens"),
        "cells",
    )
    return f"""
        WITH cells AS MATERIALIZED (SELECT * FROM rollup.cost_cells WHERE {condition}), latencies AS ({latencies})
        {costs}
    """


def _add_done(condition: str) -> str:
    """Return the statement for the decisions that ledger entries which meet this condition made done, or undid."""
    return _add_sums("daily_done", "day, prompt_version", ("done",), f"rollup.done_cells WHERE {condition}")


def _add_rewards(condition: str) -> str:
    """Return the statement for the rewards of ledger entries that meet this condition."""
    return _add_sums("daily_rewards", "day, policy", ("learned",), f"rollup.reward_cells WHERE {condition}")


def _counted_of_user(source: str) -> str:
    """Return the condition for the counted rows of one user."""
    return f"""
        user_id = :user_id
        AND position <= (SELECT c.counted_until FROM oo_ml.counted AS c WHERE c.source = '{source}')
    """


_ADD_DECISIONS = text(
    _add_decisions(
        "position > :decisions_after AND position <= :decisions_until",
        "position > :rewards_after AND position <= :rewards_until",
    )
)

_ADD_CALLS = text(_add_calls("position > :after AND position <= :until"))

_ADD_DONE = text(_add_done("position > :after AND position <= :until"))

_ADD_REWARDS = text(_add_rewards("position > :after AND position <= :until"))

_SUBTRACT_DECISIONS = text(_add_decisions(_counted_of_user(DECISIONS), _counted_of_user(REWARDS)))

_SUBTRACT_CALLS = text(_add_calls(_counted_of_user(GENERATIONS)))

_SUBTRACT_DONE = text(_add_done(_counted_of_user(REWARDS)))

_SUBTRACT_REWARDS = text(_add_rewards(_counted_of_user(REWARDS)))

# With many ledger entries in a step, PostgreSQL would read the whole history instead of looking up their decisions: it
# adds up the cost of a look-up in every partition, though only one is opened.
_LOOK_UP = text("SET LOCAL enable_seqscan = off")

_COUNT_REWARDS = text("SELECT policy, CAST(sum(learned) AS bigint) AS learned FROM rollup.rewards GROUP BY policy")


def read_progress(connection: Reading) -> dict[str, Progress]:
    """Return the progress of each source; if it is missing for any, empty the daily tables and start again."""
    rows = {row.source: Progress(*row[1:]) for row in connection.execute(_PROGRESS)}
    if rows.keys() != ORDERS.keys():
        connection.execute(_RESTART, {"sources": list(ORDERS), "start": _START_POSITION})
        rows = {source: Progress(_START_POSITION, _START_POSITION, None, None) for source in ORDERS}
    return rows


def save_progress(connection: Writing, source: str, progress: Progress) -> None:
    """Write the progress of a source."""
    connection.execute(_SAVE, {"source": source, **asdict(progress)})


def summarize_positions(connection: Writing) -> None:
    """Add new rows to the indexes on position, if this role may."""
    if connection.scalar(_MAY_SUMMARIZE):
        connection.execute(_SUMMARIZE)


def assign_transaction_id(connection: Writing) -> None:
    """Assign this transaction its id before it takes a position; a transaction that has locked a state has one."""
    connection.execute(_ASSIGN_XID)


def read_last_positions(connection: Reading) -> dict[str, int]:
    """Return the last position assigned in each source; its transaction may not have committed yet."""
    return {
        source: connection.scalar(_LAST_POSITION, {"sequence": f"{SCHEMA}.{order.name}"}) or 0
        for source, order in ORDERS.items()
    }


def count_uncounted(connection: Reading) -> int:
    """Return the number of positions of all sources that are not counted yet, whether a row took them or not."""
    counted: dict[str, int] = {row.source: row.counted_until for row in connection.execute(_COUNTED)}
    last = read_last_positions(connection)
    return sum(max(0, last[source] - max(0, counted.get(source, 0))) for source in ORDERS)


def count_rewards(connection: Reading) -> dict[str, int]:
    """Return the number of rewards of each policy that has any; the cost grows with days, and not with users."""
    return {row.policy: row.learned for row in connection.execute(_COUNT_REWARDS)}


def read_transactions(connection: Reading) -> tuple[int, int]:
    """Return the id of the oldest transaction that may still run, and the first id not yet assigned."""
    oldest, next_xid = connection.execute(_TRANSACTIONS).one()
    return oldest, next_xid


def add(connection: Writing, ranges: Mapping[str, Range]) -> None:
    """Add the rows in a range of positions of each source to the daily tables."""
    decisions, rewards, generations = (ranges[source] for source in (DECISIONS, REWARDS, GENERATIONS))
    connection.execute(_LOOK_UP)
    connection.execute(
        _ADD_DECISIONS,
        {
            "sign": 1,
            "decisions_after": decisions.after,
            "decisions_until": decisions.until,
            "rewards_after": rewards.after,
            "rewards_until": rewards.until,
        },
    )
    connection.execute(_ADD_DONE, {"sign": 1, **rewards._asdict()})
    connection.execute(_ADD_REWARDS, {"sign": 1, **rewards._asdict()})
    connection.execute(_ADD_CALLS, {"sign": 1, **generations._asdict()})


def subtract_user(connection: Writing, user_id: str) -> None:
    """Subtract a user's counted rows from the daily tables; the caller excludes the task `days` meanwhile."""
    for statement in (_SUBTRACT_DECISIONS, _SUBTRACT_DONE, _SUBTRACT_REWARDS, _SUBTRACT_CALLS):
        connection.execute(statement, {"sign": -1, "user_id": user_id})
