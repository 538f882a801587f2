"""Declarations of the registry of policies and of the traffic between them."""

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text, Uuid
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

policy_traffic = Table(
    "policy_traffic",
    metadata,
    Column("change_id", Uuid, primary_key=True, comment="UUIDv7 of the change; the greatest one is the last change"),
    moment("changed_at", "Time of the change"),
    name("changed_by", "Id of the API key, or (command line)"),
    name("salt", "Hashed with the user id; kept from the first change on"),
    Column("shares", JSONB, nullable=False, comment="Share of the users by policy, each above 0, sum 1"),
    length("changed_by", 100),
    length("salt", 100),
    CheckConstraint("jsonb_typeof(shares) = 'object'", name="shares_object"),
    comment="Changes of the traffic: one row each, append only. The last one says which policy decides for whom",
    info=REFERENCE,
)
