"""Declarations of the API keys and of the audit log."""

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY

from oo_ml.storage.schema.column_types import REFERENCE, length, metadata, moment, name

api_keys = Table(
    "api_keys",
    metadata,
    name("key_id", "Id of the key, as in logs; no secret", primary_key=True),
    Column("name", Text, nullable=False, comment="Name of the client that uses the key"),
    Column("token_sha256", LargeBinary, nullable=False, comment="SHA-256 of the token; the token itself is not stored"),
    Column("scopes", ARRAY(Text), nullable=False, comment="decide, read, users, registry, metrics, admin"),
    moment("created_at", "Time of creation"),
    moment("expires_at", "Time from which the key is refused; null: never", nullable=True),
    moment("revoked_at", "Time of revocation; null: in use", nullable=True),
    moment("last_used_at", "Time of the last use, to the hour", nullable=True),
    length("key_id", 100),
    length("name", 100),
    CheckConstraint("octet_length(token_sha256) = 32", name="token_sha256_length"),
    CheckConstraint("cardinality(scopes) > 0", name="scopes_present"),
    CheckConstraint("scopes <@ ARRAY['decide', 'read', 'users', 'registry', 'metrics', 'admin']", name="scopes_known"),
    Index("uq_api_keys_token_sha256", "token_sha256", unique=True),
    Index("uq_api_keys_name", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
    comment="API keys. A revoked key stays, so that its id in logs can be explained",
    info=REFERENCE,
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("entry_id", Uuid, primary_key=True, nullable=False, comment="Id of the entry, a UUID of version 7"),
    moment("happened_at", "Time of the action"),
    name("actor", "Id of the API key; in parentheses: the command line, the admin key, or a call without a key"),
    name("request_id", "Id of the request, as in the log of the service; null: no request", nullable=True),
    name("action", "The action, such as user.erased or key.revoked"),
    name("subject", "Name of the key, prompt version or policy; null: a user, whose id is not kept", nullable=True),
    length("actor", 100),
    CheckConstraint("octet_length(request_id) BETWEEN 1 AND 200", name="request_id_length"),
    length("action", 100),
    CheckConstraint("octet_length(subject) BETWEEN 1 AND 100", name="subject_length"),
    Index("ix_audit_log_happened_at", "happened_at"),
    comment="Administrative actions, one row each, written in the transaction of the action. Contains no user ids",
    info=REFERENCE,
)
