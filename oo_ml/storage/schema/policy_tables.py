"""Declaration of the registry of policies."""

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from oo_ml.storage.schema.column_types import REFERENCE, length, metadata, moment, name

policies = Table(
    "policies",
    metadata,
    name("policy", "Name of the policy", primary_key=True),
    name("status", "active, or retired: kept for the record and for late rewards, refused for new decisions"),
    moment("published_at", "Time of publication"),
    moment("retired_at", "Time of retirement", nullable=True),
    Column("description", Text, nullable=False, comment="Description of the policy: its purpose"),
    Column("definition", JSONB, nullable=False, comment="Inputs, terms and rule, as published"),
    Column("dimension", Integer, nullable=False, comment="Number of features d"),
    length("policy", 100),
    CheckConstraint("status IN ('active', 'retired')", name="status_known"),
    CheckConstraint("(status = 'retired') = (retired_at IS NOT NULL)", name="retired_at_present"),
    CheckConstraint("octet_length(description) <= 1000", name="description_length"),
    CheckConstraint("jsonb_typeof(definition) = 'object'", name="definition_object"),
    CheckConstraint("dimension BETWEEN 1 AND 64", name="dimension_range"),
    comment="Registry of policies. A trigger refuses every change of a published definition",
    info=REFERENCE,
)
