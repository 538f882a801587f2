"""The daily tables: sums by day of decisions, of what became of them and of calls of the model; how far they have come.

The views of schema rollup (alembic/sql) define what a row adds. Every sum is exact, so whatever
was added can be taken away again. A row is counted when no row before it can come any more: positions are given out in
order and committed in any.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from oo_ml.storage.schema.column_types import SCHEMA
from oo_ml.storage.schema.tables import ORDERS

DECISIONS: Final = "feature_history"
REWARDS: Final = "reward_ledger"
GENERATIONS: Final = "generations"
# Below every position.
_NOTHING: Final = -1


@dataclass(frozen=True, slots=True)
class Counted:
    """How far a source has come; see the table `counted`."""

    counted_until: int
    settled_until: int
    next_until: int | None
    next_xid: int | None


class Range(NamedTuple):
    """The positions after the first up to and including the last."""

    after: int
    until: int


_COUNTED = text("SELECT source, counted_until, settled_until, next_until, next_xid FROM oo_ml.counted")

_START = text("""
    WITH reactions AS (DELETE FROM oo_ml.daily_reactions), learning AS (DELETE FROM oo_ml.daily_learning),
        delays AS (DELETE FROM oo_ml.daily_delays), exploration AS (DELETE FROM oo_ml.daily_exploration),
        costs AS (DELETE FROM oo_ml.daily_costs), latencies AS (DELETE FROM oo_ml.daily_latencies),
        gone AS (DELETE FROM oo_ml.counted WHERE source <> ALL (CAST(:sources AS text[])))
    INSERT INTO oo_ml.counted (source, counted_until, settled_until)
    SELECT source, :nothing, :nothing FROM unnest(CAST(:sources AS text[])) AS source
    ON CONFLICT (source) DO UPDATE SET counted_until = excluded.counted_until
""")

_SAVE = text("""
    UPDATE oo_ml.counted
    SET counted_until = :counted_until, settled_until = :settled_until, next_until = :next_until, next_xid = :next_xid
    WHERE source = :source
""")

_LAST = text("SELECT coalesce(pg_sequence_last_value(CAST(:sequence AS regclass)), 0)")

# Every transaction below the first number has ended; none has the second or a higher one yet.
_TRANSACTIONS = text("""
    SELECT CAST(CAST(pg_snapshot_xmin(s) AS text) AS bigint), CAST(CAST(pg_snapshot_xmax(s) AS text) AS bigint)
    FROM pg_current_snapshot() AS s
""")

_NUMBER = text("SELECT pg_current_xact_id()")


def _added(cells: str, exploration_cells: str) -> str:
    """Return the statement that adds cells, :sign times, to the daily tables."""
    return f"""
        WITH cells AS MATERIALIZED ({cells}), reactions AS (
            INSERT INTO oo_ml.daily_reactions AS d (
                day, policy, prompt_version, exploring, reaction, decisions, rewards, rewards_squared, weights,
                weights_squared, weighted_rewards, squared_weights_rewards, weighted_rewards_squared
            )
            SELECT
                day, policy, prompt_version, exploring, reaction, :sign * sum(decisions), :sign * sum(rewards),
                :sign * sum(rewards_squared), :sign * sum(weights), :sign * sum(weights_squared),
                :sign * sum(weighted_rewards), :sign * sum(squared_weights_rewards),
                :sign * sum(weighted_rewards_squared)
            FROM cells
            GROUP BY day, policy, prompt_version, exploring, reaction
            ON CONFLICT ON CONSTRAINT uq_daily_reactions DO UPDATE SET
                decisions = d.decisions + excluded.decisions,
                rewards = d.rewards + excluded.rewards,
                rewards_squared = d.rewards_squared + excluded.rewards_squared,
                weights = d.weights + excluded.weights,
                weights_squared = d.weights_squared + excluded.weights_squared,
                weighted_rewards = d.weighted_rewards + excluded.weighted_rewards,
                squared_weights_rewards = d.squared_weights_rewards + excluded.squared_weights_rewards,
                weighted_rewards_squared = d.weighted_rewards_squared + excluded.weighted_rewards_squared
        ), learning AS (
            INSERT INTO oo_ml.daily_learning AS d (
                day, policy, first_pull, decisions, rewarded, rewards, rewards_squared
            )
            SELECT
                day, policy, first_pull, :sign * sum(decisions),
                :sign * coalesce(sum(decisions) FILTER (WHERE reaction <> 'none'), 0),
                :sign * sum(rewards), :sign * sum(rewards_squared)
            FROM cells
            WHERE first_pull IS NOT NULL
            GROUP BY day, policy, first_pull
            ON CONFLICT (day, policy, first_pull) DO UPDATE SET
                decisions = d.decisions + excluded.decisions,
                rewarded = d.rewarded + excluded.rewarded,
                rewards = d.rewards + excluded.rewards,
                rewards_squared = d.rewards_squared + excluded.rewards_squared
        ), delays AS (
            INSERT INTO oo_ml.daily_delays AS d (day, policy, delay_step, decisions)
            SELECT day, policy, delay_step, :sign * sum(decisions)
            FROM cells
            WHERE delay_step IS NOT NULL
            GROUP BY day, policy, delay_step
            ON CONFLICT (day, policy, delay_step) DO UPDATE SET decisions = d.decisions + excluded.decisions
        )
        INSERT INTO oo_ml.daily_exploration AS d (
            day, policy, decisions, explored, expected, expected_variance, shares, shares_squared
        )
        SELECT
            day, policy, :sign * sum(decisions), :sign * sum(explored), :sign * sum(expected),
            :sign * sum(expected_variance), :sign * sum(shares), :sign * sum(shares_squared)
        FROM ({exploration_cells}) AS e
        GROUP BY day, policy
        ON CONFLICT (day, policy) DO UPDATE SET
            decisions = d.decisions + excluded.decisions,
            explored = d.explored + excluded.explored,
            expected = d.expected + excluded.expected,
            expected_variance = d.expected_variance + excluded.expected_variance,
            shares = d.shares + excluded.shares,
            shares_squared = d.shares_squared + excluded.shares_squared
    """.replace(":sign", "CAST(:sign AS integer)")


def _costs_added(cells: str) -> str:
    """Return the statement that adds cells, :sign times, to the daily tables of calls of the model."""
    return f"""
        WITH cells AS MATERIALIZED ({cells}), latencies AS (
            INSERT INTO oo_ml.daily_latencies AS d (day, prompt_version, latency_step, calls)
            SELECT day, prompt_version, latency_step, :sign * sum(calls)
            FROM cells
            GROUP BY day, prompt_version, latency_step
            ON CONFLICT (day, prompt_version, latency_step) DO UPDATE SET calls = d.calls + excluded.calls
        )
        INSERT INTO oo_ml.daily_costs AS d (
            day, prompt_version, calls, failed, retries, prompt_tokens, completion_tokens
        )
        SELECT
            day, prompt_version, :sign * sum(calls), :sign * sum(failed), :sign * sum(retries),
            :sign * sum(prompt_tokens), :sign * sum(completion_tokens)
        FROM cells
        GROUP BY day, prompt_version
        ON CONFLICT (day, prompt_version) DO UPDATE SET
            calls = d.calls + excluded.calls,
            failed = d.failed + excluded.failed,
            retries = d.retries + excluded.retries,
            prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = d.completion_tokens + excluded.completion_tokens
    """.replace(":sign", "CAST(:sign AS integer)")


# Each view by itself, summed up by cell: see alembic/sql/0001/06_rollup.sql.
_CELL: Final = "day, policy, prompt_version, exploring, first_pull, delay_step, reaction"
_SUMS: Final = (
    "decisions",
    "rewards",
    "rewards_squared",
    "weights",
    "weights_squared",
    "weighted_rewards",
    "squared_weights_rewards",
    "weighted_rewards_squared",
)


def _cells(decisions: str, rewards: str) -> str:
    """Return the query for cells of the decisions and ledger entries that meet these conditions."""
    sums = ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
    return " UNION ALL ".join(
        f"SELECT {_CELL}, {sums} FROM rollup.{view} WHERE {condition} GROUP BY {_CELL}"
        for view, condition in (("decision_cells", decisions), ("departure_cells", rewards), ("arrival_cells", rewards))
    )


_ADD = text(
    _added(
        _cells(
            "position > :decisions_after AND position <= :decisions_until",
            "position > :rewards_after AND position <= :rewards_until",
        ),
        "SELECT * FROM rollup.exploration_cells WHERE position > :decisions_after AND position <= :decisions_until",
    )
)

_ADD_COSTS = text(_costs_added("SELECT * FROM rollup.cost_cells WHERE position > :after AND position <= :until"))


def _of_user(source: str) -> str:
    """Return the condition for the rows of one user that the daily tables include."""
    return f"""
        user_id = :user_id
        AND position <= (SELECT c.counted_until FROM oo_ml.counted AS c WHERE c.source = '{source}')
    """


_TAKE_AWAY = text(
    _added(
        _cells(_of_user(DECISIONS), _of_user(REWARDS)),
        f"SELECT * FROM rollup.exploration_cells WHERE {_of_user(DECISIONS)}",
    )
)

_TAKE_COSTS_AWAY = text(_costs_added(f"SELECT * FROM rollup.cost_cells WHERE {_of_user(GENERATIONS)}"))


def counted(connection: Connection) -> dict[str, Counted]:
    """Return how far each source has come; where that isn't known the daily tables begin anew, with nothing."""
    rows = {row.source: Counted(*row[1:]) for row in connection.execute(_COUNTED)}
    if rows.keys() != ORDERS.keys():
        connection.execute(_START, {"sources": list(ORDERS), "nothing": _NOTHING})
        rows = {source: Counted(_NOTHING, _NOTHING, None, None) for source in ORDERS}
    return rows


def save(connection: Connection, source: str, now: Counted) -> None:
    """Write down how far a source has come."""
    connection.execute(
        _SAVE,
        {
            "source": source,
            "counted_until": now.counted_until,
            "settled_until": now.settled_until,
            "next_until": now.next_until,
            "next_xid": now.next_xid,
        },
    )


def take_number(connection: Connection) -> None:
    """Give this transaction its number before it takes a position, as whoever locks a state first has: see above."""
    connection.execute(_NUMBER)


def last_positions(connection: Connection) -> dict[str, int]:
    """Return the last position that each source has given out; who has it may not have committed yet."""
    return {
        source: connection.scalar(_LAST, {"sequence": f"{SCHEMA}.{order.name}"}) or 0
        for source, order in ORDERS.items()
    }


def transactions(connection: Connection) -> tuple[int, int]:
    """Return the number of the first transaction that may be under way, and of the first that can't have begun."""
    first, next_one = connection.execute(_TRANSACTIONS).one()
    return first, next_one


def add(connection: Connection, ranges: Mapping[str, Range]) -> None:
    """Add what the rows in a range of positions of each source have changed."""
    decisions, rewards, generations = (ranges[source] for source in (DECISIONS, REWARDS, GENERATIONS))
    connection.execute(
        _ADD,
        {
            "sign": 1,
            "decisions_after": decisions.after,
            "decisions_until": decisions.until,
            "rewards_after": rewards.after,
            "rewards_until": rewards.until,
        },
    )
    connection.execute(_ADD_COSTS, {"sign": 1, "after": generations.after, "until": generations.until})


def take_away(connection: Connection, user_id: str) -> None:
    """Take what a person did away from the sums, as far as it is in them; nobody may be adding meanwhile."""
    for statement in (_TAKE_AWAY, _TAKE_COSTS_AWAY):
        connection.execute(statement, {"sign": -1, "user_id": user_id})
