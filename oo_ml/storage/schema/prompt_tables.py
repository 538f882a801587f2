"""Declarations of the prompt registry and of the tips that a language model wrote."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKeyConstraint,
    Integer,
    Numeric,
    Sequence,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.schema import SchemaItem

from oo_ml.storage.schema.column_types import (
    REFERENCE,
    USERS,
    by_position,
    is_probability,
    length,
    metadata,
    moment,
    name,
    position,
    probability,
)


def _parameters(model: str, model_comment: str) -> tuple[SchemaItem, ...]:
    """Return the columns of the parameters of a request to the model, with their CHECKs."""
    return (
        name(model, model_comment, nullable=True),
        Column("temperature", DOUBLE_PRECISION, comment="Temperature of the model"),
        Column("max_tokens", Integer, comment="Tokens of a reply, at most"),
        name("response_format", "none, json_object, json_schema or json_schema_bounded", nullable=True),
        Column("stop", ARRAY(Text), comment="Texts that end a reply"),
        length(model, 200),
        CheckConstraint("temperature BETWEEN 0 AND 2", name="temperature_range"),
        CheckConstraint("max_tokens >= 1", name="max_tokens_range"),
        CheckConstraint(
            "response_format IN ('none', 'json_object', 'json_schema', 'json_schema_bounded')",
            name="response_format_known",
        ),
        CheckConstraint(
            "stop IS NULL OR (array_ndims(stop) = 1 AND cardinality(stop) <= 4 AND array_position(stop, NULL) IS NULL"
            " AND '' <> ALL (stop)) IS TRUE",
            name="stop_texts",
        ),
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
    Column("description", Text, nullable=False, comment="Description of the version: its purpose and style"),
    Column("system_template", Text, nullable=False, comment="Jinja2 template of the system message"),
    Column("user_template", Text, nullable=False, comment="Jinja2 template of the user message"),
    *_parameters("model", "Model to ask for; null, here and in the next four: as the settings of the service say"),
    length("version", 100),
    CheckConstraint("status IN ('active', 'retired')", name="status_known"),
    CheckConstraint("(status = 'retired') = (retired_at IS NOT NULL)", name="retired_at_present"),
    CheckConstraint("weight >= 0 AND weight < 'Infinity'", name="weight_range"),
    CheckConstraint("octet_length(description) <= 1000", name="description_length"),
    length("system_template", 65536),
    length("user_template", 65536),
    comment="Registry of prompt versions. A trigger refuses every change of published texts and parameters",
    info=REFERENCE,
)

generation_order = Sequence("generations_order", metadata=metadata, data_type=BigInteger)

generations = Table(
    "generations",
    metadata,
    name("user_id", "The user that tips were requested for", primary_key=True),
    Column("generation_id", Uuid, primary_key=True, comment="UUIDv7 of the generation"),
    position(generation_order, "Order in which generations were written"),
    name("prompt_version", "The prompt version used", refers_to=prompt_versions.c.version),
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
    name("finish_reason", "The end of the last reply: stop, length, refusal, content_filter, ...", nullable=True),
    Column(
        "repaired",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="True if the tips are from a reply that was not quite JSON",
    ),
    *_parameters("requested_model", "The model that was asked for"),
    length("finish_reason", 200),
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
    name(
        "prompt_version",
        "The version that the user gets while it is active and has a weight",
        refers_to=prompt_versions.c.version,
    ),
    Column("probability", DOUBLE_PRECISION, nullable=False, comment="Probability with which the version was drawn"),
    moment("assigned_at", "Time of the draw"),
    length("user_id", 200),
    is_probability("probability"),
    comment="The prompt version that a user keeps if OO_ML_PROMPT_STICKY is on. One row for each user",
    info=USERS,
)

model_prices = Table(
    "model_prices",
    metadata,
    name("model", "The model, as generations.model names it", primary_key=True),
    Column("since", Date, primary_key=True, comment="First day of the price, UTC; it holds until the next one"),
    Column("prompt_price", Numeric, nullable=False, comment="Price of a million tokens of prompts"),
    Column("completion_price", Numeric, nullable=False, comment="Price of a million tokens of replies"),
    length("model", 200),
    CheckConstraint("prompt_price >= 0 AND prompt_price < 1e9", name="prompt_price_range"),
    CheckConstraint("completion_price >= 0 AND completion_price < 1e9", name="completion_price_range"),
    comment="Prices of models for the report prompt_costs, all in one currency. Optional: a model without a price has"
    " no cost",
    info=REFERENCE,
)
