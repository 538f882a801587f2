"""Sums by day of decisions and what became of them: rows that upkeep adds to (storage/days.py), nobody's data.

Schema rollup completes them with what is newer; schema analytics shows them.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Numeric,
    SmallInteger,
    Table,
    UniqueConstraint,
)

from oo_ml.storage.declarations import metadata, name

counted = Table(
    "counted",
    metadata,
    name("source", "feature_history, reward_ledger or generations", primary_key=True),
    Column("counted_until", BigInteger, nullable=False, comment="The daily tables hold every row up to this position"),
    Column("settled_until", BigInteger, nullable=False, comment="No row up to this position is yet to be committed"),
    Column("next_until", BigInteger, comment="The next settled_until, once no transaction below next_xid is under way"),
    Column("next_xid", BigInteger, comment="The first transaction that can have no row up to next_until"),
    CheckConstraint("counted_until <= settled_until", name="counted_range"),
    comment="How far the daily tables have come. One row a source. Without any, upkeep counts everything anew",
)


def _count(name: str, comment: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False, comment=comment)


def _sum(name: str, comment: str) -> Column[Any]:
    # numeric: a sum that is exact comes out the same whatever it is added up in, and can be taken back.
    return Column(name, Numeric, nullable=False, comment=comment)


daily_reactions = Table(
    "daily_reactions",
    metadata,
    Column("day", Date, nullable=False, comment="Day of the decisions, UTC"),
    name("policy", "The policy that decided"),
    name("prompt_version", "Prompt version that wrote the tip, if a model did", nullable=True),
    Column("exploring", Boolean, nullable=False, comment="Whether the tip was drawn at random"),
    name("reaction", "done, helpful, snooze, not_helpful, dismiss, other; none so far; default: one was assumed"),
    _count("decisions", "How many there are"),
    _sum("rewards", "Sum of r, their rewards"),
    _sum("rewards_squared", "Sum of r^2"),
    _sum("weights", "Sum of w = 1 / (propensity x prompt_probability)"),
    _sum("weights_squared", "Sum of w^2"),
    _sum("weighted_rewards", "Sum of w r"),
    _sum("squared_weights_rewards", "Sum of w^2 r"),
    _sum("weighted_rewards_squared", "Sum of w^2 r^2"),
    UniqueConstraint(
        "day",
        "policy",
        "prompt_version",
        "exploring",
        "reaction",
        name="uq_daily_reactions",
        postgresql_nulls_not_distinct=True,
    ),
    comment="Decisions by day and by the reaction that counts now. Kept by upkeep; schema analytics adds what is newer",
)

daily_learning = Table(
    "daily_learning",
    metadata,
    Column("day", Date, primary_key=True, comment="Day of the decisions, UTC"),
    name("policy", "The policy that decided", primary_key=True),
    Column(
        "first_pull", BigInteger, primary_key=True, autoincrement=False, comment="First of the pulls taken together"
    ),
    _count("decisions", "How many there are"),
    _count("rewarded", "Those with a reward that counts"),
    _sum("rewards", "Sum of r, their rewards"),
    _sum("rewards_squared", "Sum of r^2"),
    comment="Decisions by day and by their number in the epoch: up to 99 one by one, then in steps of a tenth.",
)

daily_delays = Table(
    "daily_delays",
    metadata,
    Column("day", Date, primary_key=True, comment="Day of the decisions, UTC"),
    name("policy", "The policy that decided", primary_key=True),
    Column(
        "delay_step",
        SmallInteger,
        primary_key=True,
        autoincrement=False,
        comment="ceil(20 log2(1 + seconds)) from decision to reaction",
    ),
    _count("decisions", "How many there are"),
    comment="Decisions with a reaction, by day and by how long it took. Each step is 3.5 % longer than the one before.",
)

daily_exploration = Table(
    "daily_exploration",
    metadata,
    Column("day", Date, primary_key=True, comment="Day of the decisions, UTC"),
    name("policy", "The policy that decided", primary_key=True),
    _count("decisions", "How many there are whose exploration is known"),
    _count("explored", "Those drawn at random"),
    _sum("expected", "Sum of e, the share that was to be drawn at random"),
    _sum("expected_variance", "Sum of e (1 - e)"),
    _sum("shares", "Sum of u = 1 / (n propensity), n the tips that could be chosen; its mean is to be 1"),
    _sum("shares_squared", "Sum of u^2"),
    comment="What was explored against what was to be, by day.",
)


daily_costs = Table(
    "daily_costs",
    metadata,
    Column("day", Date, primary_key=True, comment="Day of the calls, UTC"),
    name("prompt_version", "The version used", primary_key=True),
    _count("calls", "How many there are"),
    _count("failed", "Those that gave no tips"),
    _count("retries", "Times that the model was asked again in a call"),
    _count("prompt_tokens", "Tokens of their prompts"),
    _count("completion_tokens", "Tokens of the replies"),
    comment="Calls of the language model, by day and version. Kept by upkeep; schema analytics adds what is newer",
)

daily_latencies = Table(
    "daily_latencies",
    metadata,
    Column("day", Date, primary_key=True, comment="Day of the calls, UTC"),
    name("prompt_version", "The version used", primary_key=True),
    Column(
        "latency_step",
        SmallInteger,
        primary_key=True,
        autoincrement=False,
        comment="round(20 log2(1 + milliseconds)) spent waiting",
    ),
    _count("calls", "How many there are"),
    comment="Calls of the language model, by day and how long they took. A step is 3.5 % longer than the one before.",
)
