"""Declarations of the tables; alembic/sql/ creates the same tables, and a test compares the two.

Views, functions and triggers exist in alembic/sql/ alone, because no code builds statements from them.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Sequence,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import BYTEA, DOUBLE_PRECISION, JSONB

from oo_ml.storage.schema import daily_tables  # noqa: F401 - declares the tables of sums by day
from oo_ml.storage.schema.column_types import (
    LOCAL,
    REFERENCE,
    USERS,
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
    vector,
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

# ADR 16
policy_state = Table(
    "policy_state",
    metadata,
    name("user_id", "The user, as the client names them", primary_key=True),
    name("policy", "linucb-v1 or egreedy-v1", primary_key=True),
    Column("epoch", Integer, nullable=False, comment="Grows by one with each reset, and each import over older state"),
    Column("version", BigInteger, nullable=False, comment="Number of ledger entries in this epoch"),
    Column("pulls", BigInteger, nullable=False, comment="Number of decisions in this epoch"),
    Column("explore_count", BigInteger, nullable=False, comment="Number of these decisions that were drawn at random"),
    Column("reward_count", BigInteger, nullable=False, comment="Number of rewards that count"),
    Column("cumulative_reward", DOUBLE_PRECISION, nullable=False, comment="Sum of the rewards that count"),
    moment("last_updated", "Time of the last decision or reward; null after a reset", nullable=True),
    Column("a", Float8Array, nullable=False, comment="A = I + sum of x x^T over rewards; d rows of d numbers"),
    Column("b", Float8Array, nullable=False, comment="b = sum of reward times x; d numbers"),
    length("user_id", 200),
    length("policy", 100),
    CheckConstraint("epoch >= 0", name="epoch_range"),
    CheckConstraint("version >= 0", name="version_range"),
    CheckConstraint("pulls >= 0", name="pulls_range"),
    CheckConstraint("explore_count BETWEEN 0 AND pulls", name="explore_count_range"),
    CheckConstraint("reward_count >= 0", name="reward_count_range"),
    finite("cumulative_reward"),
    CheckConstraint(
        "(array_ndims(b) = 1 AND array_ndims(a) = 2"
        " AND array_length(a, 1) = array_length(b, 1) AND array_length(a, 2) = array_length(b, 1)) IS TRUE",
        name="dimensions",
    ),
    finite_elements("a"),
    finite_elements("b"),
    comment="State: one row for each user and policy, with A, b and counters. The only row that is locked",
    info=USERS,
    # Each page keeps room for the new version of a row, so that an update stays on its page and touches no index (HOT).
    # Dead versions are many and small, so vacuum comes early.
    postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0},
)

history_order = Sequence("feature_history_order", metadata=metadata, data_type=BigInteger)

feature_history = Table(
    "feature_history",
    metadata,
    name("user_id", "The user", primary_key=True),
    Column("decision_id", Uuid, primary_key=True, comment="UUIDv7 of the decision; its time selects the partition"),
    name("policy", "The policy that decided"),
    Column("epoch", Integer, nullable=False, comment="policy_state.epoch at the decision"),
    Column("version", BigInteger, nullable=False, comment="policy_state.version at the decision"),
    Column("pull", BigInteger, comment="Number of the decision in its epoch, from 1"),
    Column(
        "position",
        BigInteger,
        history_order,
        server_default=history_order.next_value(),
        nullable=False,
        comment="Order in which decisions were made, independent of ids and clocks",
    ),
    moment("decided_at", "Time of the decision"),
    name("tip_id", "The tip that was chosen"),
    Column(
        "content",
        Text,
        comment="Text of the chosen tip, as sent or as generated, if known; at most 2,000 characters",
    ),
    name("prompt_version", "Prompt version that wrote the tip, if a model did", nullable=True),
    probability("prompt_probability", "Probability with which the prompt version was drawn, if known"),
    Column("generation_id", Uuid, comment="Generation that the tip came from, if known"),
    Column("score", DOUBLE_PRECISION, nullable=False, comment="Score of the chosen tip, as answered"),
    Column("propensity", DOUBLE_PRECISION, nullable=False, comment="Probability with which this tip was chosen"),
    Column("exploring", Boolean, nullable=False, comment="Whether the tip was drawn at random"),
    Column("exploration", DOUBLE_PRECISION, comment="Probability of a draw at random when this decision was made"),
    Column("alpha", DOUBLE_PRECISION, comment="Width of the confidence bound; null for egreedy-v1"),
    Column("x", Float8Array, nullable=False, comment="Feature vector of the chosen tip; d numbers"),
    Column("context", JSONB, nullable=False, comment="Context of the decision: hour_of_day and day_of_week"),
    Column("features", JSONB, nullable=False, comment="Raw features of the chosen tip, as /features shows them"),
    Column("candidates", JSONB, nullable=False, comment="The candidates, in the order of the request"),
    Column("exploit", Float8Array, comment="theta.x of each candidate"),
    Column("explore", Float8Array, comment="alpha sqrt(x^T A^-1 x) of each candidate; 0 for egreedy-v1"),
    Column("propensities", Float8Array, comment="Probability of each candidate to be chosen"),
    Column("answer", JSONB, nullable=False, comment="The answer as sent"),
    Column("request_digest", BYTEA, comment="SHA-256 of the request, if the client named the decision"),
    Column("reward", DOUBLE_PRECISION, comment="The reward that counts; null before the first and after a retraction"),
    moment("rewarded_at", "Time of the reward that counts", nullable=True),
    Column(
        "reward_kind",
        Text(collation="C"),
        comment="default (assumed), amend (corrected) or retract (taken back); null: as first received, or none yet",
    ),
    length("user_id", 200),
    length("policy", 100),
    length("tip_id", 200),
    CheckConstraint("char_length(content) <= 2000", name="content_length"),
    length("prompt_version", 200),
    CheckConstraint("epoch >= 0", name="epoch_range"),
    CheckConstraint("version >= 0", name="version_range"),
    finite("score"),
    CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity_range"),
    vector("x"),
    finite_elements("x"),
    CheckConstraint("reward BETWEEN -1 AND 1", name="reward_range"),
    CheckConstraint("(reward IS NULL) = (rewarded_at IS NULL)", name="rewarded_at_present"),
    CheckConstraint("reward_kind IN ('default', 'amend', 'retract')", name="reward_kind_known"),
    CheckConstraint("reward_kind IS NULL OR (reward IS NULL) = (reward_kind = 'retract')", name="reward_kind_matches"),
    CheckConstraint("octet_length(request_digest) = 32", name="request_digest_length"),
    CheckConstraint("exploration BETWEEN 0 AND 1", name="exploration_range"),
    CheckConstraint("alpha >= 0 AND alpha < 'Infinity'", name="alpha_range"),
    CheckConstraint(
        "num_nonnulls(exploration, exploit, explore, propensities) = 0"
        " OR (array_ndims(propensities) = 1 AND array_ndims(exploit) = 1 AND array_ndims(explore) = 1"
        " AND array_length(exploit, 1) = array_length(propensities, 1)"
        " AND array_length(explore, 1) = array_length(propensities, 1)"
        " AND exploration IS NOT NULL) IS TRUE",
        name="candidate_dimensions",
    ),
    finite_elements("exploit", nullable=True),
    finite_elements("explore", nullable=True),
    CheckConstraint(
        "propensities IS NULL OR (0 <= ALL (propensities) AND 1 >= ALL (propensities)) IS TRUE",
        name="propensities_range",
    ),
    CheckConstraint("pull >= 1", name="pull_range"),
    is_probability("prompt_probability"),
    # tip_id is last: the search for a tip's latest decision reads the index alone.
    Index(None, "user_id", "policy", "epoch", "position", "tip_id"),
    # For queries by time, such as the decisions that have waited too long for a reward. Not partial: an index that
    # names `reward` would make every reward write to it (no HOT update). Not BRIN: updated rows lie scattered in time.
    Index(None, "decided_at"),
    by_position("feature_history"),
    comment="One row for each decision; only its reward changes. Partitioned by the month of decision_id",
    info=USERS,
    postgresql_partition_by="RANGE (decision_id)",
)

ledger_order = Sequence("reward_ledger_order", metadata=metadata, data_type=BigInteger)

reward_ledger = Table(
    "reward_ledger",
    metadata,
    name("user_id", "The user", primary_key=True),
    name("policy", "The policy that learned", primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False, comment="policy_state.epoch of the entry"),
    Column("version", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, ... within the epoch"),
    Column(
        "position",
        BigInteger,
        ledger_order,
        server_default=ledger_order.next_value(),
        nullable=False,
        comment="Order in which entries were written",
    ),
    moment("recorded_at", "Time at which the entry was applied"),
    name(
        "kind",
        "reward: a reaction came in; default: no reaction came in time; amend: another reward counts from now on;"
        " retract: no reward counts any more; import: the epoch starts from the state of another service",
    ),
    Column("reward", DOUBLE_PRECISION, comment="The reward that counts from now on"),
    Column("previous_reward", DOUBLE_PRECISION, comment="amend, retract: the reward that counted before"),
    Column("x", Float8Array, comment="Feature vector that the reward was applied with; d numbers"),
    name("tip_id", "The tip that the reward is for", nullable=True),
    Column("decision_id", Uuid, comment="The decision that the reward is for, if known"),
    Column("corrects", BigInteger, comment="Version of the previous entry for the same decision"),
    name("idempotency_key", "Idempotency-Key of the call, if it had one", nullable=True),
    Column("request_digest", BYTEA, comment="SHA-256 of the call that had idempotency_key"),
    Column("start_pulls", BigInteger, comment="import: pulls of the imported state"),
    Column("start_explore_count", BigInteger, comment="import: explore_count of the imported state"),
    Column("start_reward_count", BigInteger, comment="import: reward_count of the imported state"),
    Column("start_cumulative_reward", DOUBLE_PRECISION, comment="import: cumulative_reward of the imported state"),
    Column("start_a", Float8Array, comment="import: A of the imported state"),
    Column("start_b", Float8Array, comment="import: b of the imported state"),
    length("user_id", 200),
    length("policy", 100),
    length("tip_id", 200),
    length("idempotency_key", 200),
    CheckConstraint("epoch >= 0", name="epoch_range"),
    CheckConstraint("version >= 1", name="version_range"),
    CheckConstraint("kind IN ('reward', 'default', 'amend', 'retract', 'import')", name="kind_known"),
    CheckConstraint("reward BETWEEN -1 AND 1", name="reward_range"),
    vector("x", nullable=True),
    finite_elements("x", nullable=True),
    CheckConstraint("(reward IS NULL) = (kind IN ('retract', 'import'))", name="reward_present"),
    CheckConstraint("num_nulls(x, tip_id) = CASE kind WHEN 'import' THEN 2 ELSE 0 END", name="x_present"),
    CheckConstraint(
        "num_nonnulls(start_pulls, start_explore_count, start_reward_count, start_cumulative_reward, start_a, start_b)"
        " = CASE kind WHEN 'import' THEN 6 ELSE 0 END",
        name="start_present",
    ),
    CheckConstraint(
        "start_b IS NULL OR (array_ndims(start_b) = 1 AND array_ndims(start_a) = 2"
        " AND array_length(start_a, 1) = array_length(start_b, 1)"
        " AND array_length(start_a, 2) = array_length(start_b, 1)) IS TRUE",
        name="start_dimensions",
    ),
    finite_elements("start_a", nullable=True),
    finite_elements("start_b", nullable=True),
    CheckConstraint("previous_reward BETWEEN -1 AND 1", name="previous_reward_range"),
    CheckConstraint("(previous_reward IS NOT NULL) = (kind IN ('amend', 'retract'))", name="previous_reward_present"),
    CheckConstraint(
        "(kind NOT IN ('amend', 'retract') OR corrects IS NOT NULL) AND (corrects IS NULL OR decision_id IS NOT NULL)"
        " AND (kind <> 'default' OR decision_id IS NOT NULL)",
        name="decision_present",
    ),
    CheckConstraint("corrects BETWEEN 1 AND version - 1", name="corrects_range"),
    CheckConstraint("octet_length(request_digest) = 32", name="request_digest_length"),
    # A decision has one first reward, and at most one entry corrects each of its entries: a reward can't count twice.
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
    comment="One entry for each time that A and b were changed; append only. policy_state is the fold of these entries",
    info=USERS,
)

upkeep = Table(
    "upkeep",
    metadata,
    name("task", "days, default-rewards or retention", primary_key=True),
    moment("done_until", "Decisions before this time are done; null: none is", nullable=True),
    moment("ran_at", "Time of the last run", nullable=True),
    comment="One row for each task of upkeep. A process locks the row while it runs the task, so only one process does",
    info=LOCAL,
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
        comment="Share of the calls that name no version, relative to the other versions; 0: no calls",
    ),
    moment("published_at", "Time of publication"),
    moment("retired_at", "Time of retirement", nullable=True),
    Column("description", Text, nullable=False, comment="What is special about the version"),
    Column("system_template", Text, nullable=False, comment="Jinja2 template of the system message"),
    Column("user_template", Text, nullable=False, comment="Jinja2 template of the user message"),
    length("version", 100),
    CheckConstraint("status IN ('active', 'retired')", name="status_known"),
    CheckConstraint("(status = 'retired') = (retired_at IS NOT NULL)", name="retired_at_present"),
    CheckConstraint("weight >= 0 AND weight < 'Infinity'", name="weight_range"),
    CheckConstraint("octet_length(description) <= 1000", name="description_length"),
    length("system_template", 65536),
    length("user_template", 65536),
    comment="Registry of prompt versions. A trigger refuses every change of a published text",
    info=REFERENCE,
)

generation_order = Sequence("generations_order", metadata=metadata, data_type=BigInteger)

generations = Table(
    "generations",
    metadata,
    name("user_id", "The user that tips were requested for", primary_key=True),
    Column("generation_id", Uuid, primary_key=True, comment="UUIDv7 of the generation"),
    Column(
        "position",
        BigInteger,
        generation_order,
        server_default=generation_order.next_value(),
        nullable=False,
        comment="Order in which generations were written",
    ),
    Column(
        "prompt_version",
        Text(collation="C"),
        ForeignKey(prompt_versions.c.version),
        nullable=False,
        comment="The prompt version used",
    ),
    probability("prompt_probability", "Probability with which the version was drawn; 1 if the client named it"),
    moment("created_at", "Time of the call"),
    Column("latency_ms", Integer, nullable=False, comment="Time spent waiting for the gateway, over all attempts"),
    Column("prompt_tokens", Integer, nullable=False, comment="Sum over the attempts"),
    Column("completion_tokens", Integer, nullable=False, comment="Sum over the attempts"),
    Column("requested", SmallInteger, nullable=False, comment="Number of tips requested"),
    Column("attempts", SmallInteger, nullable=False, comment="Number of requests to the model"),
    name("outcome", "ok, or the code of the error in the answer"),
    name("model", "The model that answered, as the gateway names it", nullable=True),
    Column("error", Text, comment="The error message in the answer"),
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
    comment="One row for each call of /generate that reached the model, failed calls included",
    info=USERS,
)

tips = Table(
    "tips",
    metadata,
    name("user_id", "The user that the tip was written for", primary_key=True),
    name("tip_id", "Id of the tip; a later generation may use the same id", primary_key=True),
    Column("generation_id", Uuid, primary_key=True, comment="The generation that wrote the tip"),
    name("prompt_version", "The prompt version that wrote the tip"),
    probability("prompt_probability", "prompt_probability of the generation"),
    moment("created_at", "Time of the generation"),
    Column("place", SmallInteger, nullable=False, comment="Index of the tip in the model's reply, from 0"),
    Column("content", Text, nullable=False, comment="Text of the tip"),
    Column("rationale", Text, comment="The model's reason for the tip"),
    length("user_id", 200),
    length("tip_id", 200),
    length("prompt_version", 100),
    CheckConstraint("place >= 0", name="place_range"),
    length("content", 16384),
    CheckConstraint("octet_length(rationale) <= 16384", name="rationale_length"),
    is_probability("prompt_probability"),
    ForeignKeyConstraint(["user_id", "generation_id"], [generations.c.user_id, generations.c.generation_id]),
    comment="One row for each tip that a model wrote. The latest row of a tip_id is the one in use",
    info=USERS,
)

prompt_assignments = Table(
    "prompt_assignments",
    metadata,
    name("user_id", "The user", primary_key=True),
    Column(
        "prompt_version",
        Text(collation="C"),
        ForeignKey(prompt_versions.c.version),
        nullable=False,
        comment="The version that the user gets while it is active and has a weight",
    ),
    Column("probability", DOUBLE_PRECISION, nullable=False, comment="Probability with which the version was drawn"),
    moment("assigned_at", "Time of the draw"),
    length("user_id", 200),
    is_probability("probability"),
    comment="The prompt version that a user keeps if OO_ML_PROMPT_STICKY is on. One row for each user",
    info=USERS,
)

# The tables that number their rows, and the sequences that the numbers come from.
ORDERS: Final = {
    "feature_history": history_order,
    "reward_ledger": ledger_order,
    "generations": generation_order,
}
