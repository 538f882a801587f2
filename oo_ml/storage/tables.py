"""The schema on one page, as the code sees it; alembic/versions/ carries the same as migrations.

tests/migrations compares a dump of one with a dump of the other, so neither can drift.
Tables that hold a user's data have user_id first in their primary key: it is what a sharded database distributes by.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Sequence,
    SmallInteger,
    Table,
    Text,
    Uuid,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA, DOUBLE_PRECISION, JSONB

from oo_ml.storage import day_tables  # noqa: F401 - a part of the schema, on a page of its own
from oo_ml.storage.declarations import (
    Float8Array,
    by_position,
    finite,
    finite_elements,
    is_probability,
    length,
    metadata,
    moment,
    name,
    probability,
)
from oo_ml.storage.routines import (
    HISTORY_DEFAULT_PARTITION,
    HISTORY_MONTHS,
    HISTORY_RETENTION,
    PROMPTS_IMMUTABLE,
    PROMPTS_IMMUTABLE_TRIGGER,
)

__all__ = [
    "feature_history",
    "generations",
    "metadata",
    "policy_state",
    "prompt_assignments",
    "prompt_versions",
    "reward_ledger",
    "tips",
    "upkeep",
]

policy_state = Table(
    "policy_state",
    metadata,
    name("user_id", "The person, as the client names them", primary_key=True),
    name("policy", "linucb-v1 or egreedy-v1", primary_key=True),
    Column("epoch", Integer, nullable=False, comment="Grows by one with each reset or import over older state"),
    Column("version", BigInteger, nullable=False, comment="Rows of reward_ledger in this epoch"),
    Column("pulls", BigInteger, nullable=False, comment="Decisions made"),
    Column("explore_count", BigInteger, nullable=False, comment="Decisions drawn at random"),
    Column("reward_count", BigInteger, nullable=False, comment="Rewards received"),
    Column("cumulative_reward", DOUBLE_PRECISION, nullable=False, comment="Sum of rewards received"),
    moment("last_updated", "Last decision or reward; null after a reset", nullable=True),
    Column("a", Float8Array, nullable=False, comment="A = I + sum of x x^T over rewards, d rows of d numbers"),
    Column("b", Float8Array, nullable=False, comment="b = sum of reward times x, d numbers"),
    length("user_id", 200),
    length("policy", 100),
    CheckConstraint("epoch >= 0", name="epoch_range"),
    CheckConstraint("version >= 0", name="version_range"),
    CheckConstraint("pulls >= 0", name="pulls_range"),
    CheckConstraint("explore_count BETWEEN 0 AND pulls", name="explore_count_range"),
    CheckConstraint("reward_count >= 0", name="reward_count_range"),
    finite("cumulative_reward"),
    CheckConstraint(
        "array_ndims(b) = 1 AND array_ndims(a) = 2"
        " AND array_length(a, 1) = array_length(b, 1) AND array_length(a, 2) = array_length(b, 1)",
        name="dimensions",
    ),
    finite_elements("a"),
    finite_elements("b"),
    comment="One row a user and policy: the model A, b and its counters. The only row that is locked.",
    # Room on each page for the new version of a row, so that an update stays on it and touches no index (HOT);
    # dead versions are many and small, so they are swept early.
    postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0},
)

history_order = Sequence("feature_history_order", metadata=metadata, data_type=BigInteger)

feature_history = Table(
    "feature_history",
    metadata,
    name("user_id", "The person", primary_key=True),
    Column("decision_id", Uuid, primary_key=True, comment="UUIDv7 of the decision; its time part picks the partition"),
    name("policy", "The policy that decided"),
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
    moment("decided_at", "When it was decided"),
    Column("score", DOUBLE_PRECISION, nullable=False, comment="Score of the chosen tip, as answered"),
    Column("propensity", DOUBLE_PRECISION, nullable=False, comment="Probability with which this tip was chosen"),
    Column("exploring", Boolean, nullable=False, comment="Whether the tip was drawn at random"),
    name("tip_id", "The tip that was chosen"),
    name("prompt_version", "Prompt version that wrote the tip, if a model did", nullable=True),
    Column("generation_id", Uuid, comment="Generation that the tip came from, if known"),
    Column("x", Float8Array, nullable=False, comment="Feature vector of the chosen tip, d numbers"),
    Column("context", JSONB, nullable=False, comment="The moment: hour_of_day and day_of_week"),
    Column("features", JSONB, nullable=False, comment="Raw features of the chosen tip, as /features shows them"),
    Column("candidates", JSONB, nullable=False, comment="The candidates considered, in the order given"),
    Column("answer", JSONB, nullable=False, comment="The answer as sent"),
    Column("reward", DOUBLE_PRECISION, comment="The reward that counts, null so far or retracted"),
    moment("rewarded_at", "When the reward that counts came", nullable=True),
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
    probability("prompt_probability", "Probability with which the tip's prompt version was picked, if known"),
    length("user_id", 200),
    length("policy", 100),
    length("tip_id", 200),
    length("prompt_version", 200),
    CheckConstraint("epoch >= 0", name="epoch_range"),
    CheckConstraint("version >= 0", name="version_range"),
    finite("score"),
    CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity_range"),
    CheckConstraint("array_ndims(x) = 1", name="dimensions"),
    finite_elements("x"),
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
    finite_elements("exploit"),
    finite_elements("explore"),
    CheckConstraint("0 <= ALL (propensities) AND 1 >= ALL (propensities)", name="propensities_range"),
    CheckConstraint("pull >= 1", name="pull_range"),
    is_probability("prompt_probability"),
    # tip_id last: the search for a tip's latest decision walks the index alone.
    Index(None, "user_id", "policy", "epoch", "position", "tip_id"),
    # What is asked for by time, such as decisions whose wait for a reward is over. Neither partial nor BRIN: were it
    # bound to `reward`, no reward could be written in place (HOT); and rows that rewards move lie scattered in time.
    Index(None, "decided_at"),
    # What came after a position. Positions lie in the order of the pages, so a note for every 64 of them is enough.
    by_position("feature_history"),
    comment="One row a decision, never changed but for its reward. Partitioned by month of decision_id.",
    postgresql_partition_by="RANGE (decision_id)",
)

ledger_order = Sequence("reward_ledger_order", metadata=metadata, data_type=BigInteger)

reward_ledger = Table(
    "reward_ledger",
    metadata,
    name("user_id", "The person", primary_key=True),
    name("policy", "The policy that learned", primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False, comment="policy_state.epoch at the change"),
    Column("version", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, ... within the epoch"),
    moment("recorded_at", "When it was applied"),
    name(
        "kind",
        "reward: a reaction came in; default: none came in time; amend: another one counts from now on; retract: none"
        " does any more; import: the state starts from that of another service",
    ),
    Column("reward", DOUBLE_PRECISION, comment="The reward that counts from now on"),
    Column("x", Float8Array, comment="Feature vector it was applied with, d numbers"),
    name("tip_id", "The tip it was for", nullable=True),
    Column("decision_id", Uuid, comment="The decision it was for, if known"),
    name("idempotency_key", "The client's key for the call, if it sent one", nullable=True),
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
    length("user_id", 200),
    length("policy", 100),
    length("tip_id", 200),
    length("idempotency_key", 200),
    CheckConstraint("epoch >= 0", name="epoch_range"),
    CheckConstraint("version >= 1", name="version_range"),
    CheckConstraint("kind IN ('reward', 'default', 'amend', 'retract', 'import')", name="kind_known"),
    CheckConstraint("reward BETWEEN -1 AND 1", name="reward_range"),
    CheckConstraint("array_ndims(x) = 1", name="dimensions"),
    finite_elements("x"),
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
    by_position("reward_ledger"),
    comment="One row for each change of A and b, append only: policy_state is the fold of it.",
)

upkeep = Table(
    "upkeep",
    metadata,
    name("task", "days, default-rewards or retention", primary_key=True),
    moment("done_until", "Everything decided before this has been seen to; null: nothing yet", nullable=True),
    moment("ran_at", "When it last ran", nullable=True),
    comment="One row a task of upkeep. Whoever runs it holds the row, so that no two processes do at once.",
)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    name("version", "Name of the version", primary_key=True),
    name("status", "active, or retired: kept for the record, refused for new generations"),
    Column(
        "weight",
        DOUBLE_PRECISION,
        nullable=False,
        server_default=text("0"),
        comment="Share of the calls that name no version, relative to the others; 0: none",
    ),
    moment("published_at", "When it was published"),
    moment("retired_at", "When it was retired", nullable=True),
    Column("description", Text, nullable=False, comment="What is special about it"),
    Column("system_template", Text, nullable=False, comment="Jinja2 template of the system message"),
    Column("user_template", Text, nullable=False, comment="Jinja2 template of the user message"),
    length("version", 100),
    CheckConstraint("status IN ('active', 'retired')", name="status_known"),
    CheckConstraint("(status = 'retired') = (retired_at IS NOT NULL)", name="retired_at_present"),
    CheckConstraint("weight >= 0 AND weight < 'Infinity'", name="weight_range"),
    CheckConstraint("octet_length(description) <= 1000", name="description_length"),
    length("system_template", 65536),
    length("user_template", 65536),
    comment="The prompt registry. A published text never changes; a trigger holds it.",
)

generation_order = Sequence("generations_order", metadata=metadata, data_type=BigInteger)

generations = Table(
    "generations",
    metadata,
    name("user_id", "The person that tips were asked for", primary_key=True),
    Column("generation_id", Uuid, primary_key=True, comment="UUIDv7 of the generation"),
    Column(
        "prompt_version",
        Text(collation="C"),
        ForeignKey(prompt_versions.c.version),
        nullable=False,
        comment="The version used",
    ),
    moment("created_at", "When the call came in"),
    Column("latency_ms", Integer, nullable=False, comment="Time spent waiting for the gateway, all attempts"),
    Column("prompt_tokens", Integer, nullable=False, comment="Summed over the attempts"),
    Column("completion_tokens", Integer, nullable=False, comment="Summed over the attempts"),
    Column("requested", SmallInteger, nullable=False, comment="Tips asked for"),
    Column("attempts", SmallInteger, nullable=False, comment="Times the model was asked"),
    name("outcome", "ok, or the code of the error that was answered"),
    name("model", "The model that answered, as the gateway names it", nullable=True),
    Column("error", Text, comment="What went wrong, as answered"),
    probability("prompt_probability", "Probability with which the version was picked: 1 if the client named it"),
    Column(
        "position",
        BigInteger,
        generation_order,
        server_default=generation_order.next_value(),
        nullable=False,
        comment="Order in which generations were written; 0: before there were positions",
    ),
    length("user_id", 200),
    CheckConstraint("latency_ms >= 0", name="latency_ms_range"),
    CheckConstraint("prompt_tokens >= 0", name="prompt_tokens_range"),
    CheckConstraint("completion_tokens >= 0", name="completion_tokens_range"),
    CheckConstraint("requested >= 1", name="requested_range"),
    CheckConstraint("attempts >= 0", name="attempts_range"),
    length("outcome", 100),
    length("model", 200),
    CheckConstraint("(outcome = 'ok') = (error IS NULL)", name="error_present"),
    CheckConstraint("octet_length(error) <= 8192", name="error_length"),
    is_probability("prompt_probability"),
    by_position("generations"),
    comment="One row a call of /generate that asked the model, failed ones included.",
)

tips = Table(
    "tips",
    metadata,
    name("user_id", "The person it was written for", primary_key=True),
    name("tip_id", "Id of the tip; another generation may use it again", primary_key=True),
    Column("generation_id", Uuid, primary_key=True, comment="The generation that wrote it"),
    name("prompt_version", "The prompt version that wrote it"),
    moment("created_at", "When it was written"),
    Column("place", SmallInteger, nullable=False, comment="Its place in the model's reply, from 0"),
    Column("content", Text, nullable=False, comment="The text shown"),
    Column("rationale", Text, comment="Why the model proposed it"),
    probability("prompt_probability", "Probability with which the version was picked, as in its generation"),
    length("user_id", 200),
    length("tip_id", 200),
    length("prompt_version", 100),
    CheckConstraint("place >= 0", name="place_range"),
    length("content", 16384),
    CheckConstraint("octet_length(rationale) <= 16384", name="rationale_length"),
    is_probability("prompt_probability"),
    ForeignKeyConstraint(["user_id", "generation_id"], [generations.c.user_id, generations.c.generation_id]),
    comment="One row a tip that a model wrote. The latest row of a tip_id is the one in use.",
)

prompt_assignments = Table(
    "prompt_assignments",
    metadata,
    name("user_id", "The person", primary_key=True),
    Column(
        "prompt_version",
        Text(collation="C"),
        ForeignKey(prompt_versions.c.version),
        nullable=False,
        comment="The version that they get as long as it is in use",
    ),
    Column("probability", DOUBLE_PRECISION, nullable=False, comment="Probability with which it was picked for them"),
    moment("assigned_at", "When it was picked"),
    length("user_id", 200),
    is_probability("probability"),
    comment="Which prompt version a person keeps, where OO_ML_PROMPT_STICKY is on. One row a person.",
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

# The tables that number their rows, and the sequences that the numbers come from.
ORDERS: Final = {
    "feature_history": history_order.name,
    "reward_ledger": ledger_order.name,
    "generations": generation_order.name,
}
