"""Declarations of the registry of policies, of the traffic between them, and of the priors that their users share."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB

from oo_ml.storage.schema.column_types import (
    REFERENCE,
    Float8Array,
    finite_elements,
    length,
    metadata,
    moment,
    name,
    same_dimension,
)

policies = Table(
    "policies",
    metadata,
    name("policy", "Name of the policy", primary_key=True),
    name("status", "active, or retired: kept for the record and for late rewards, refused for new decisions"),
    moment("published_at", "Time of publication"),
    moment("retired_at", "Time of retirement", nullable=True),
    Column("description", Text, nullable=False, comment="Description of the policy: its purpose"),
    Column("definition", JSONB, nullable=False, comment="Inputs, terms, rule and evidence, as published"),
    Column("dimension", Integer, nullable=False, comment="Number of features d"),
    Column(
        "erasures",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="Number of erased users from whom the policy may have learned; a prior with another number is fitted"
        " again",
    ),
    length("policy", 100),
    CheckConstraint("status IN ('active', 'retired')", name="status_known"),
    CheckConstraint("(status = 'retired') = (retired_at IS NOT NULL)", name="retired_at_present"),
    CheckConstraint("octet_length(description) <= 1000", name="description_length"),
    CheckConstraint("jsonb_typeof(definition) = 'object'", name="definition_object"),
    CheckConstraint("dimension BETWEEN 1 AND 64", name="dimension_range"),
    CheckConstraint("erasures >= 0", name="erasures_range"),
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

policy_priors = Table(
    "policy_priors",
    metadata,
    name("policy", "The policy", primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False, comment="1, 2, 3, ... for each policy"),
    moment("fitted_at", "Time of the fit, to which the rewards were faded"),
    Column("users", BigInteger, nullable=False, comment="Number of users that it was fitted to"),
    Column(
        "rewards",
        BigInteger,
        nullable=False,
        comment="Number of rewards of the policy that counted then, those before a reset included",
    ),
    Column(
        "erasures",
        BigInteger,
        nullable=False,
        comment="erasures of the policy then: the users erased before are not in it",
    ),
    Column("mean", Float8Array, nullable=False, comment="mu, the theta of the mean user; d numbers"),
    Column(
        "covariance",
        Float8Array(2),
        nullable=False,
        comment="Sigma: how users differ from each other; d rows of d numbers",
    ),
    Column(
        "mean_covariance",
        Float8Array(2),
        nullable=False,
        comment="C: how uncertain the mean is; d rows of d numbers",
    ),
    Column(
        "noise_variance",
        DOUBLE_PRECISION,
        nullable=False,
        comment="s2, the variance of a reward around theta.x of its user",
    ),
    length("policy", 100),
    CheckConstraint("version >= 1", name="version_range"),
    CheckConstraint("users >= 0", name="users_range"),
    CheckConstraint("rewards >= 0", name="rewards_range"),
    CheckConstraint("erasures >= 0", name="erasures_range"),
    finite_elements("mean"),
    CheckConstraint(same_dimension("covariance", "mean"), name="dimensions"),
    CheckConstraint(same_dimension("mean_covariance", "mean"), name="mean_dimensions"),
    finite_elements("covariance"),
    finite_elements("mean_covariance"),
    CheckConstraint("noise_variance > 0 AND noise_variance < 'Infinity'", name="noise_variance_range"),
    comment="Versions of the prior from which the users of a policy start: one row a fit, never changed. Version 0 has"
    " no row",
    info=REFERENCE,
)
