"""Declarations of the tables of upkeep: its progress, and the sums by day. They hold no data of single users.

Upkeep adds to the sums (storage/daily_sums.py). Schema rollup adds the rows that are not counted yet; schema analytics
shows the result.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

from oo_ml.storage.schema.column_types import LOCAL, REFERENCE, metadata, moment, name


def _count(name: str, comment: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False, comment=comment)


def _sum(name: str, comment: str) -> Column[Any]:
    # numeric is exact: the order of additions does not matter, and a sum can be subtracted again.
    return Column(name, Numeric, nullable=False, comment=comment)


def _day(rows: str) -> Column[Any]:
    return Column("day", Date, primary_key=True, comment=f"Day of the {rows}, UTC")


def _group(name: str, comment: str, type_: type[TypeEngine[int]] = SmallInteger) -> Column[Any]:
    return Column(name, type_, primary_key=True, autoincrement=False, comment=comment)


upkeep = Table(
    "upkeep",
    metadata,
    name("task", "days, default-rewards, priors or retention", primary_key=True),
    moment("done_until", "Decisions before this time are done; null: none is", nullable=True),
    moment("ran_at", "Time of the last run", nullable=True),
    comment="One row for each task of upkeep, locked during a step, so that one process takes it; any may fit priors",
    info=LOCAL,
)

counted = Table(
    "counted",
    metadata,
    name("source", "feature_history, reward_ledger or generations", primary_key=True),
    _count("counted_until", "The daily tables include all rows up to this position"),
    _count("settled_until", "All transactions with a row up to this position have ended"),
    Column("next_until", BigInteger, comment="The next settled_until, once all transactions below next_xid have ended"),
    Column("next_xid", BigInteger, comment="No transaction from this number on has a row up to next_until"),
    CheckConstraint("counted_until <= settled_until", name="counted_range"),
    comment="Progress of the daily tables, one row for each source. If it is empty, upkeep counts everything again",
    info=REFERENCE,
)


def _cell(*more: Column[Any]) -> list[Column[Any]]:
    return [
        Column("day", Date, nullable=False, comment="Day of the decisions, UTC"),
        name("policy", "The policy that decided"),
        name("prompt_version", "Prompt version that wrote the tip, if a model did", nullable=True),
        Column("exploring", Boolean, nullable=False, comment="True if the tip was drawn at random"),
        name(
            "reaction",
            "done, helpful, snooze, not_helpful, dismiss, other; none: no reward; default: an assumed one",
        ),
        *more,
        _count("decisions", "Number of decisions"),
    ]


_CELL_KEY = ("day", "policy", "prompt_version", "exploring", "reaction")
_UNSUPPORTED = "Number of decisions in which some candidate had a propensity below 1e-12, or propensities are unknown"

daily_reactions = Table(
    "daily_reactions",
    metadata,
    *_cell(),
    _sum("weights", "Sum of w = 1 / (propensity x prompt_probability)"),
    _sum("weights_squared", "Sum of w^2"),
    _sum("weighted_rewards", "Sum of w r, r the reward"),
    _count("unsupported", _UNSUPPORTED),
    UniqueConstraint(*_CELL_KEY, name="uq_daily_reactions", postgresql_nulls_not_distinct=True),
    comment="Decisions by day and by the reaction that counts. Upkeep adds to it; schema analytics adds newer rows",
    info=REFERENCE,
)

daily_user_groups = Table(
    "daily_user_groups",
    metadata,
    *_cell(
        Column("user_group", SmallInteger, nullable=False, comment="Group of the users that decided, from 0 to 15"),
        Column("assigned", Boolean, nullable=False, comment="True if the traffic chose the policy by the user"),
    ),
    _sum("rewards", "Sum of the rewards r"),
    _sum("weights", "Sum of w = 1 / (propensity x prompt_probability)"),
    _sum("weights_squared", "Sum of w^2"),
    _sum("weighted_rewards", "Sum of w r"),
    _count("modelled", "Number of decisions with a reward and with the expected reward of each candidate"),
    _sum("random_estimates", "Sum over these of d, the doubly robust estimate of the reward of a draw at random"),
    _count("choices", "Number of decisions among more than one candidate"),
    _count("unsupported", _UNSUPPORTED),
    UniqueConstraint(
        *_CELL_KEY, "user_group", "assigned", name="uq_daily_user_groups", postgresql_nulls_not_distinct=True
    ),
    comment="Decisions by day, by the reaction that counts and by group of users. Upkeep adds to it; schema analytics"
    " adds newer rows",
    info=REFERENCE,
)

daily_learning = Table(
    "daily_learning",
    metadata,
    _day("decisions"),
    name("policy", "The policy that decided", primary_key=True),
    _group("first_pull", "First decision number of the group", BigInteger),
    _count("decisions", "Number of decisions"),
    _count("rewarded", "Number of decisions with a reward that counts"),
    _sum("rewards", "Sum of the rewards r"),
    _sum("rewards_squared", "Sum of r^2"),
    comment="Decisions by day and by their number in the epoch: one by one up to 99, then in groups of a tenth",
    info=REFERENCE,
)

daily_first_decisions = Table(
    "daily_first_decisions",
    metadata,
    _day("decisions"),
    name("policy", "The policy that decided", primary_key=True),
    _group("prior_version", "Version of the prior that the decisions started from", Integer),
    _group("first_pull", "First decision number of the group: 1, 6, 11 or 16", BigInteger),
    _group("user_group", "Group of the users that decided, from 0 to 15"),
    _count("decisions", "Number of decisions"),
    _count("rewarded", "Number of decisions with a reward that counts"),
    _sum("rewards", "Sum of the rewards r"),
    comment="The first 20 decisions of each user by a pooled policy, by day, by the version of the prior and by"
    " group of users",
    info=REFERENCE,
)

daily_delays = Table(
    "daily_delays",
    metadata,
    _day("decisions"),
    name("policy", "The policy that decided", primary_key=True),
    _group("delay_step", "ceil(20 log2(1 + seconds)) from the decision to the reaction"),
    _count("decisions", "Number of decisions"),
    comment="Decisions with a reaction, by day and by the delay of the reaction. A step is 3.5 % longer than the last",
    info=REFERENCE,
)

daily_exploration = Table(
    "daily_exploration",
    metadata,
    _day("decisions"),
    name("policy", "The policy that decided", primary_key=True),
    _count("decisions", "Number of decisions whose exploration is known"),
    _count("explored", "Number of decisions drawn at random"),
    _sum("expected", "Sum of e, the probability of a draw at random"),
    _sum("expected_variance", "Sum of e (1 - e)"),
    _sum("shares", "Sum of u = 1 / (n propensity), n the number of candidates; the mean of u should be 1"),
    _sum("shares_squared", "Sum of u^2"),
    comment="Random draws by day, beside the number that was expected",
    info=REFERENCE,
)

daily_costs = Table(
    "daily_costs",
    metadata,
    _day("calls"),
    name("prompt_version", "The prompt version used", primary_key=True),
    name("model", "The model that answered; empty: none did", primary_key=True),
    _count("calls", "Number of calls"),
    _count("failed", "Number of calls that gave no tips"),
    _count("retries", "Number of further requests to the model within a call"),
    _count("prompt_tokens", "Tokens of the prompts"),
    _count("completion_tokens", "Tokens of the replies"),
    comment="Calls of the language model by day, version and model. Upkeep adds to it; schema analytics adds newer"
    " rows",
    info=REFERENCE,
)

daily_rewards = Table(
    "daily_rewards",
    metadata,
    _day("ledger entries"),
    name("policy", "The policy that learned", primary_key=True),
    _count("learned", "Number of rewards learned, less those retracted"),
    comment="Rewards of each policy by day, with and without a decision. Upkeep adds to it, and fits priors by it",
    info=REFERENCE,
)

daily_done = Table(
    "daily_done",
    metadata,
    _day("calls"),
    name("prompt_version", "The prompt version used", primary_key=True),
    _count("done", "Number of decisions with reaction done"),
    comment="Decisions with reaction done, by the day and version of the call that wrote their tip. Upkeep adds to it",
    info=REFERENCE,
)

daily_latencies = Table(
    "daily_latencies",
    metadata,
    _day("calls"),
    name("prompt_version", "The prompt version used", primary_key=True),
    _group("latency_step", "round(20 log2(1 + milliseconds)) spent waiting"),
    _count("calls", "Number of calls"),
    comment="Calls of the language model by day and by latency. A step is 3.5 % longer than the last",
    info=REFERENCE,
)
