"""The schema on one page, as the code sees it; alembic/versions/ carries the same as migrations.

tests/migrations compares a dump of one with a dump of the other, so neither can drift.
Tables that hold a user's data have user_id first in their primary key: it is what a sharded database distributes by.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Date,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Numeric,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA, DOUBLE_PRECISION, JSONB, TIMESTAMP
from sqlalchemy.types import UserDefinedType

from oo_ml.storage.routines import (
    HISTORY_DEFAULT_PARTITION,
    HISTORY_MONTHS,
    HISTORY_RETENTION,
    PROMPTS_IMMUTABLE,
    PROMPTS_IMMUTABLE_TRIGGER,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Float8Array(UserDefinedType[Any]):
    """float8[] of any number of dimensions, exchanged as numpy arrays (storage/arrays.py)."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the type's name in DDL."""
        return "double precision[]"


def _name(name: str, comment: str, *, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    # "C": names are compared as bytes, so the order in which rows are locked is the same on every server.
    return Column(name, Text(collation="C"), primary_key=primary_key, nullable=nullable, comment=comment)


def _time(name: str, comment: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), nullable=nullable, comment=comment)


def _length(column: str, limit: int) -> CheckConstraint:
    return CheckConstraint(f"octet_length({column}) BETWEEN 1 AND {limit}", name=f"{column}_length")


def _probability(name: str, comment: str) -> Column[Any]:
    return Column(name, DOUBLE_PRECISION, comment=comment)


def _is_probability(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} > 0 AND {column} <= 1", name=f"{column}_range")


def _by_position(table: str) -> Index:
    return Index(
        f"ix_{table}_position",
        "position",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 64, "autosummarize": "on"},
    )


def _finite(column: str) -> CheckConstraint:
    # PostgreSQL sorts NaN above every number, so one comparison each way refuses it as well.
    return CheckConstraint(f"{column} > '-Infinity' AND {column} < 'Infinity'", name=f"{column}_finite")


def _finite_elements(column: str) -> CheckConstraint:
    return CheckConstraint(f"'-Infinity' < ALL ({column}) AND 'Infinity' > ALL ({column})", name=f"{column}_finite")


policy_state = Table(
    "policy_state",
    metadata,
    _name("user_id", "The person, as the client names them", primary_key=True),
    _name("policy", "linucb-v1 or egreedy-v1", primary_key=True),
    Column("epoch", Integer, nullable=False, comment="Grows by one with each reset or import over older state"),
    Column("version", BigInteger, nullable=False, comment="Rows of reward_ledger in this epoch"),
    Column("pulls", BigInteger, nullable=False, comment="Decisions made"),
    Column("explore_count", BigInteger, nullable=False, comment="Decisions drawn at random"),
    Column("reward_count", BigInteger, nullable=False, comment="Rewards received"),
    Column("cumulative_reward", DOUBLE_PRECISION, nullable=False, comment="Sum of rewards received"),
    _time("last_updated", "Last decision or reward; null after a reset", nullable=True),
    Column("a", Float8Array, nullable=False, comment="A = I + sum of x x^T over rewards, d rows of d numbers"),
    Column("b", Float8Array, nullable=False, comment="b = sum of reward times x, d numbers"),
    _length("user_id", 200),
    _length("policy", 100),
    CheckConstraint("epoch >= 0", name="epoch_range"),
    CheckConstraint("version >= 0", name="version_range"),
    CheckConstraint("pulls >= 0", name="pulls_range"),
    CheckConstraint("explore_count BETWEEN 0 AND pulls", name="explore_count_range"),
    CheckConstraint("reward_count >= 0", name="reward_count_range"),
    _finite("cumulative_reward"),
    CheckConstraint(
        "array_ndims(b) = 1 AND array_ndims(a) = 2"
        " AND array_length(a, 1) = array_length(b, 1) AND array_length(a, 2) = array_length(b, 1)",
        name="dimensions",
    ),
    _finite_elements("a"),
    _finite_elements("b"),
    comment="One row a user and policy: the model A, b and its counters. The only row that is locked.",
    # Room on each page for the new version of a row, so that an update stays on it and touches no index (HOT);
    # dead versions are many and small, so they are swept early.
    postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0},
)

history_order = Sequence("feature_history_order", metadata=metadata, data_type=BigInteger)

feature_history = Table(
    "feature_history",
    metadata,
    _name("user_id", "The person", primary_key=True),
    Column("decision_id", Uuid, primary_key=True, comment="UUIDv7 of the decision; its time part picks the partition"),
    _name("policy", "The policy that decided"),
    Column("epoch", Integer, nullable=False, comment="policy_state.epoch at the decision"),
    Column("version", BigInteger, nullable=False, comment="policy_state.version at the decision"),
    Column(
        "position",
        BigInteger,
        history_order,
        server_default=history_order.next_value(),
        nullable=False,
        comment="Order in which decisions were made, whatever their ids and clocks",
    ),
    _time("decided_at", "When it was decided"),
    Column("score", DOUBLE_PRECISION, nullable=False, comment="Score of the chosen tip, as answered"),
    Column("propensity", DOUBLE_PRECISION, nullable=False, comment="Probability with which this tip was chosen"),
    Column("exploring", Boolean, nullable=False, comment="Whether the tip was drawn at random"),
    _name("tip_id", "The tip that was chosen"),
    _name("prompt_version", "Prompt version that wrote the tip, if a model did", nullable=True),
    Column("generation_id", Uuid, comment="Generation that the tip came from, if known"),
    Column("x", Float8Array, nullable=False, comment="Feature vector of the chosen tip, d numbers"),
    Column("context", JSONB, nullable=False, comment="The moment: hour_of_day and day_of_week"),
    Column("features", JSONB, nullable=False, comment="Raw features of the chosen tip, as /features shows them"),
    Column("candidates", JSONB, nullable=False, comment="The candidates considered, in the order given"),
    Column("answer", JSONB, nullable=False, comment="The answer as sent"),
    Column("reward", DOUBLE_PRECISION, comment="The reward that counts, null so far or retracted"),
    _time("rewarded_at", "When the reward that counts came", nullable=True),
    Column(
        "reward_kind",
        Text(collation="C"),
        comment="Where it is not as first received: default (assumed), amend (corrected) or retract (taken back)",
    ),
    Column("request_digest", BYTEA, comment="SHA-256 of the request, where the client named the decision"),
    Column("exploration", DOUBLE_PRECISION, comment="Share of decisions drawn at random when this one was made"),
    Column("alpha", DOUBLE_PRECISION, comment="Width of the confidence bound; null for egreedy-v1"),
    Column("exploit", Float8Array, comment="theta.x of each candidate"),
    Column("explore", Float8Array, comment="alpha sqrt(x^T A^-1 x) of each candidate; 0 for egreedy-v1"),
    Column("propensities", Float8Array, comment="Probability with which each candidate was to be chosen"),
    Column("pull", BigInteger, comment="policy_state.pulls with this decision: its number in the epoch, from 1"),
    _probability("prompt_probability", "Probability with which the tip's prompt version was picked, if known"),
    _length("user_id", 200),
    _length("policy", 100),
    _length("tip_id", 200),
    _length("prompt_version", 200),
    CheckConstraint("epoch >= 0", name="epoch_range"),
    CheckConstraint("version >= 0", name="version_range"),
    _finite("score"),
    CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity_range"),
    CheckConstraint("array_ndims(x) = 1", name="dimensions"),
    _finite_elements("x"),
    CheckConstraint("reward BETWEEN -1 AND 1", name="reward_range"),
    CheckConstraint("(reward IS NULL) = (rewarded_at IS NULL)", name="rewarded_at_present"),
    CheckConstraint("reward_kind IN ('default', 'amend', 'retract')", name="reward_kind_known"),
    CheckConstraint("reward_kind IS NULL OR (reward IS NULL) = (reward_kind = 'retract')", name="reward_kind_matches"),
    CheckConstraint("octet_length(request_digest) = 32", name="request_digest_length"),
    CheckConstraint("exploration BETWEEN 0 AND 1", name="exploration_range"),
    CheckConstraint("alpha >= 0 AND alpha < 'Infinity'", name="alpha_range"),
    CheckConstraint(
        "num_nonnulls(exploration, exploit, explore, propensities) IN (0, 4)"
        " AND array_length(exploit, 1) = array_length(propensities, 1)"
        " AND array_length(explore, 1) = array_length(propensities, 1)",
        name="candidate_dimensions",
    ),
    _finite_elements("exploit"),
    _finite_elements("explore"),
    CheckConstraint("0 <= ALL (propensities) AND 1 >= ALL (propensities)", name="propensities_range"),
    CheckConstraint("pull >= 1", name="pull_range"),
    _is_probability("prompt_probability"),
    # tip_id last: the search for a tip's latest decision walks the index alone.
    Index(None, "user_id", "policy", "epoch", "position", "tip_id"),
    # What is asked for by time, such as decisions whose wait for a reward is over. Neither partial nor BRIN: were it
    # bound to `reward`, no reward could be written in place (HOT); and rows that rewards move lie scattered in time.
    Index(None, "decided_at"),
    # What came after a position. Positions lie in the order of the pages, so a note for every 64 of them is enough.
    _by_position("feature_history"),
    comment="One row a decision, never changed but for its reward. Partitioned by month of decision_id.",
    postgresql_partition_by="RANGE (decision_id)",
)

ledger_order = Sequence("reward_ledger_order", metadata=metadata, data_type=BigInteger)

reward_ledger = Table(
    "reward_ledger",
    metadata,
    _name("user_id", "The person", primary_key=True),
    _name("policy", "The policy that learned", primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False, comment="policy_state.epoch at the change"),
    Column("version", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, ... within the epoch"),
    _time("recorded_at", "When it was applied"),
    _name(
        "kind",
        "reward: a reaction came in; default: none came in time; amend: another one counts from now on; retract: none"
        " does any more; import: the state starts from that of another service",
    ),
    Column("reward", DOUBLE_PRECISION, comment="The reward that counts from now on"),
    Column("x", Float8Array, comment="Feature vector it was applied with, d numbers"),
    _name("tip_id", "The tip it was for", nullable=True),
    Column("decision_id", Uuid, comment="The decision it was for, if known"),
    _name("idempotency_key", "The client's key for the call, if it sent one", nullable=True),
    Column("start_pulls", BigInteger, comment="import: pulls brought along"),
    Column("start_explore_count", BigInteger, comment="import: explore_count brought along"),
    Column("start_reward_count", BigInteger, comment="import: reward_count brought along"),
    Column("start_cumulative_reward", DOUBLE_PRECISION, comment="import: cumulative_reward brought along"),
    Column("start_a", Float8Array, comment="import: the whole of A"),
    Column("start_b", Float8Array, comment="import: the whole of b"),
    Column("previous_reward", DOUBLE_PRECISION, comment="amend, retract: the reward that counted until now"),
    Column("corrects", BigInteger, comment="Version of the row before this one of the same decision"),
    Column("request_digest", BYTEA, comment="SHA-256 of the call that idempotency_key came with"),
    Column(
        "position",
        BigInteger,
        ledger_order,
        server_default=ledger_order.next_value(),
        nullable=False,
        comment="Order in which changes were made; 0: before there were positions",
    ),
    _length("user_id", 200),
    _length("policy", 100),
    _length("tip_id", 200),
    _length("idempotency_key", 200),
    CheckConstraint("epoch >= 0", name="epoch_range"),
    CheckConstraint("version >= 1", name="version_range"),
    CheckConstraint("kind IN ('reward', 'default', 'amend', 'retract', 'import')", name="kind_known"),
    CheckConstraint("reward BETWEEN -1 AND 1", name="reward_range"),
    CheckConstraint("array_ndims(x) = 1", name="dimensions"),
    _finite_elements("x"),
    CheckConstraint("(reward IS NULL) = (kind IN ('retract', 'import'))", name="reward_present"),
    CheckConstraint("num_nulls(x, tip_id) = CASE kind WHEN 'import' THEN 2 ELSE 0 END", name="x_present"),
    CheckConstraint(
        "num_nonnulls(start_pulls, start_explore_count, start_reward_count, start_cumulative_reward, start_a, start_b)"
        " = CASE kind WHEN 'import' THEN 6 ELSE 0 END",
        name="start_present",
    ),
    CheckConstraint("previous_reward BETWEEN -1 AND 1", name="previous_reward_range"),
    CheckConstraint("(previous_reward IS NOT NULL) = (kind IN ('amend', 'retract'))", name="previous_reward_present"),
    CheckConstraint(
        "(kind NOT IN ('amend', 'retract') OR corrects IS NOT NULL) AND (corrects IS NULL OR decision_id IS NOT NULL)"
        " AND (kind <> 'default' OR decision_id IS NOT NULL)",
        name="decision_present",
    ),
    CheckConstraint("corrects BETWEEN 1 AND version - 1", name="corrects_range"),
    CheckConstraint("octet_length(request_digest) = 32", name="request_digest_length"),
    # A decision has one first reward, and each of its rows is corrected by one other at most: it can't count twice.
    Index(
        None,
        "user_id",
        "decision_id",
        "corrects",
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=text("decision_id IS NOT NULL"),
    ),
    Index(None, "user_id", "idempotency_key", unique=True, postgresql_where=text("idempotency_key IS NOT NULL")),
    _by_position("reward_ledger"),
    comment="One row for each change of A and b, append only: policy_state is the fold of it.",
)

upkeep = Table(
    "upkeep",
    metadata,
    _name("task", "days, default-rewards or retention", primary_key=True),
    _time("done_until", "Everything decided before this has been seen to; null: nothing yet", nullable=True),
    _time("ran_at", "When it last ran", nullable=True),
    comment="One row a task of upkeep. Whoever runs it holds the row, so that no two processes do at once.",
)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    _name("version", "Name of the version", primary_key=True),
    _name("status", "active, or retired: kept for the record, refused for new generations"),
    Column(
        "weight",
        DOUBLE_PRECISION,
        nullable=False,
        server_default=text("0"),
        comment="Share of the calls that name no version, relative to the others; 0: none",
    ),
    _time("published_at", "When it was published"),
    _time("retired_at", "When it was retired", nullable=True),
    Column("description", Text, nullable=False, comment="What is special about it"),
    Column("system_template", Text, nullable=False, comment="Jinja2 template of the system message"),
    Column("user_template", Text, nullable=False, comment="Jinja2 template of the user message"),
    _length("version", 100),
    CheckConstraint("status IN ('active', 'retired')", name="status_known"),
    CheckConstraint("(status = 'retired') = (retired_at IS NOT NULL)", name="retired_at_present"),
    CheckConstraint("weight >= 0 AND weight < 'Infinity'", name="weight_range"),
    CheckConstraint("octet_length(description) <= 1000", name="description_length"),
    _length("system_template", 65536),
    _length("user_template", 65536),
    comment="The prompt registry. A published text never changes; a trigger holds it.",
)

generations = Table(
    "generations",
    metadata,
    _name("user_id", "The person that tips were asked for", primary_key=True),
    Column("generation_id", Uuid, primary_key=True, comment="UUIDv7 of the generation"),
    Column(
        "prompt_version",
        Text(collation="C"),
        ForeignKey(prompt_versions.c.version),
        nullable=False,
        comment="The version used",
    ),
    _time("created_at", "When the call came in"),
    Column("latency_ms", Integer, nullable=False, comment="Time spent waiting for the gateway, all attempts"),
    Column("prompt_tokens", Integer, nullable=False, comment="Summed over the attempts"),
    Column("completion_tokens", Integer, nullable=False, comment="Summed over the attempts"),
    Column("requested", SmallInteger, nullable=False, comment="Tips asked for"),
    Column("attempts", SmallInteger, nullable=False, comment="Times the model was asked"),
    _name("outcome", "ok, or the code of the error that was answered"),
    _name("model", "The model that answered, as the gateway names it", nullable=True),
    Column("error", Text, comment="What went wrong, as answered"),
    _probability("prompt_probability", "Probability with which the version was picked: 1 if the client named it"),
    _length("user_id", 200),
    CheckConstraint("latency_ms >= 0", name="latency_ms_range"),
    CheckConstraint("prompt_tokens >= 0", name="prompt_tokens_range"),
    CheckConstraint("completion_tokens >= 0", name="completion_tokens_range"),
    CheckConstraint("requested >= 1", name="requested_range"),
    CheckConstraint("attempts >= 0", name="attempts_range"),
    _length("outcome", 100),
    _length("model", 200),
    CheckConstraint("(outcome = 'ok') = (error IS NULL)", name="error_present"),
    CheckConstraint("octet_length(error) <= 8192", name="error_length"),
    _is_probability("prompt_probability"),
    comment="One row a call of /generate that asked the model, failed ones included.",
)

tips = Table(
    "tips",
    metadata,
    _name("user_id", "The person it was written for", primary_key=True),
    _name("tip_id", "Id of the tip; another generation may use it again", primary_key=True),
    Column("generation_id", Uuid, primary_key=True, comment="The generation that wrote it"),
    _name("prompt_version", "The prompt version that wrote it"),
    _time("created_at", "When it was written"),
    Column("place", SmallInteger, nullable=False, comment="Its place in the model's reply, from 0"),
    Column("content", Text, nullable=False, comment="The text shown"),
    Column("rationale", Text, comment="Why the model proposed it"),
    _probability("prompt_probability", "Probability with which the version was picked, as in its generation"),
    _length("user_id", 200),
    _length("tip_id", 200),
    _length("prompt_version", 100),
    CheckConstraint("place >= 0", name="place_range"),
    _length("content", 16384),
    CheckConstraint("octet_length(rationale) <= 16384", name="rationale_length"),
    _is_probability("prompt_probability"),
    ForeignKeyConstraint(["user_id", "generation_id"], [generations.c.user_id, generations.c.generation_id]),
    comment="One row a tip that a model wrote. The latest row of a tip_id is the one in use.",
)

prompt_assignments = Table(
    "prompt_assignments",
    metadata,
    _name("user_id", "The person", primary_key=True),
    Column(
        "prompt_version",
        Text(collation="C"),
        ForeignKey(prompt_versions.c.version),
        nullable=False,
        comment="The version that they get as long as it is in use",
    ),
    Column("probability", DOUBLE_PRECISION, nullable=False, comment="Probability with which it was picked for them"),
    _time("assigned_at", "When it was picked"),
    _length("user_id", 200),
    _is_probability("probability"),
    comment="Which prompt version a person keeps, where OO_ML_PROMPT_STICKY is on. One row a person.",
)

counted = Table(
    "counted",
    metadata,
    _name("source", "feature_history or reward_ledger", primary_key=True),
    Column("counted_until", BigInteger, nullable=False, comment="The daily tables hold every row up to this position"),
    Column("settled_until", BigInteger, nullable=False, comment="No row up to this position is yet to be committed"),
    Column("next_until", BigInteger, comment="The next settled_until, once no transaction below next_xid is under way"),
    Column("next_xid", BigInteger, comment="The first transaction that can have no row up to next_until"),
    CheckConstraint("counted_until <= settled_until", name="counted_range"),
    comment="How far the daily tables have come. One row a source. Without any, upkeep counts everything anew",
)


def _sum(name: str, comment: str) -> Column[Any]:
    # numeric: a sum that is exact comes out the same whatever it is added up in, and can be taken back.
    return Column(name, Numeric, nullable=False, comment=comment)


daily_reactions = Table(
    "daily_reactions",
    metadata,
    Column("day", Date, nullable=False, comment="Day of the decisions, UTC"),
    _name("policy", "The policy that decided"),
    _name("prompt_version", "Prompt version that wrote the tip, if a model did", nullable=True),
    Column("exploring", Boolean, nullable=False, comment="Whether the tip was drawn at random"),
    _name("reaction", "done, helpful, snooze, not_helpful, dismiss, other; none so far; default: one was assumed"),
    Column("decisions", BigInteger, nullable=False, comment="How many there are"),
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
    _name("policy", "The policy that decided", primary_key=True),
    Column(
        "first_pull", BigInteger, primary_key=True, autoincrement=False, comment="First of the pulls taken together"
    ),
    Column("decisions", BigInteger, nullable=False, comment="How many there are"),
    Column("rewarded", BigInteger, nullable=False, comment="Those with a reward that counts"),
    _sum("rewards", "Sum of r, their rewards"),
    _sum("rewards_squared", "Sum of r^2"),
    comment="Decisions by day and by their number in the epoch: up to 99 one by one, then in steps of a tenth.",
)

daily_delays = Table(
    "daily_delays",
    metadata,
    Column("day", Date, primary_key=True, comment="Day of the decisions, UTC"),
    _name("policy", "The policy that decided", primary_key=True),
    Column(
        "delay_step",
        SmallInteger,
        primary_key=True,
        autoincrement=False,
        comment="ceil(20 log2(1 + seconds)) from decision to reaction",
    ),
    Column("decisions", BigInteger, nullable=False, comment="How many there are"),
    comment="Decisions with a reaction, by day and by how long it took. Each step is 3.5 % longer than the one before.",
)

daily_exploration = Table(
    "daily_exploration",
    metadata,
    Column("day", Date, primary_key=True, comment="Day of the decisions, UTC"),
    _name("policy", "The policy that decided", primary_key=True),
    Column("decisions", BigInteger, nullable=False, comment="How many there are whose exploration is known"),
    Column("explored", BigInteger, nullable=False, comment="Those drawn at random"),
    _sum("expected", "Sum of e, the share that was to be drawn at random"),
    _sum("expected_variance", "Sum of e (1 - e)"),
    _sum("shares", "Sum of u = 1 / (n propensity), n the tips that could be chosen; its mean is to be 1"),
    _sum("shares_squared", "Sum of u^2"),
    comment="What was explored against what was to be, by day.",
)


def _after_create(table: Table, statement: str) -> None:
    def execute(_table: Table, connection: Connection, **_: object) -> None:
        connection.execute(text(statement))

    event.listen(table, "after_create", execute)


_after_create(feature_history, HISTORY_DEFAULT_PARTITION)
_after_create(feature_history, HISTORY_MONTHS)
_after_create(feature_history, HISTORY_RETENTION)
_after_create(prompt_versions, PROMPTS_IMMUTABLE)
_after_create(prompt_versions, PROMPTS_IMMUTABLE_TRIGGER)
