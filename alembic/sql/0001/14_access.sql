-- API keys, and the log of administrative actions.

CREATE TABLE oo_ml.api_keys (
    key_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    token_sha256 bytea NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT pk_api_keys PRIMARY KEY (key_id),
    CONSTRAINT ck_api_keys_key_id_length CHECK (octet_length(key_id) BETWEEN 1 AND 100),
    CONSTRAINT ck_api_keys_name_length CHECK (octet_length(name) BETWEEN 1 AND 100),
    CONSTRAINT ck_api_keys_token_sha256_length CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT ck_api_keys_scopes_present CHECK (cardinality(scopes) > 0),
    CONSTRAINT ck_api_keys_scopes_known CHECK (
        scopes <@ ARRAY['decide', 'read', 'users', 'registry', 'metrics', 'admin']
    )
);
CREATE UNIQUE INDEX uq_api_keys_token_sha256 ON oo_ml.api_keys (token_sha256);
CREATE UNIQUE INDEX uq_api_keys_name ON oo_ml.api_keys (name) WHERE revoked_at IS NULL;
COMMENT ON TABLE oo_ml.api_keys IS 'API keys. A revoked key stays, so that its id in logs can be explained';
COMMENT ON COLUMN oo_ml.api_keys.key_id IS 'Id of the key, as in logs; no secret';
COMMENT ON COLUMN oo_ml.api_keys.name IS 'Name of the client that uses the key';
COMMENT ON COLUMN oo_ml.api_keys.token_sha256 IS 'SHA-256 of the token; the token itself is not stored';
COMMENT ON COLUMN oo_ml.api_keys.scopes IS 'decide, read, users, registry, metrics, admin';
COMMENT ON COLUMN oo_ml.api_keys.created_at IS 'Time of creation';
COMMENT ON COLUMN oo_ml.api_keys.expires_at IS 'Time from which the key is refused; null: never';
COMMENT ON COLUMN oo_ml.api_keys.revoked_at IS 'Time of revocation; null: in use';
COMMENT ON COLUMN oo_ml.api_keys.last_used_at IS 'Time of the last use, to the hour';

CREATE TABLE oo_ml.audit_log (
    entry_id uuid NOT NULL,
    happened_at timestamptz NOT NULL,
    actor text COLLATE "C" NOT NULL,
    request_id text COLLATE "C",
    action text COLLATE "C" NOT NULL,
    subject text COLLATE "C",
    CONSTRAINT pk_audit_log PRIMARY KEY (entry_id),
    CONSTRAINT ck_audit_log_actor_length CHECK (octet_length(actor) BETWEEN 1 AND 100),
    CONSTRAINT ck_audit_log_request_id_length CHECK (octet_length(request_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_audit_log_action_length CHECK (octet_length(action) BETWEEN 1 AND 100),
    CONSTRAINT ck_audit_log_subject_length CHECK (octet_length(subject) BETWEEN 1 AND 100)
);
CREATE INDEX ix_audit_log_happened_at ON oo_ml.audit_log (happened_at);
COMMENT ON TABLE oo_ml.audit_log IS
    'Administrative actions, one row each, written in the transaction of the action. Contains no user ids';
COMMENT ON COLUMN oo_ml.audit_log.entry_id IS 'Id of the entry, a UUID of version 7';
COMMENT ON COLUMN oo_ml.audit_log.happened_at IS 'Time of the action';
COMMENT ON COLUMN oo_ml.audit_log.actor IS
    'Id of the API key; in parentheses: the command line, the admin key, or a call without a key';
COMMENT ON COLUMN oo_ml.audit_log.request_id IS 'Id of the request, as in the log of the service; null: no request';
COMMENT ON COLUMN oo_ml.audit_log.action IS 'The action, such as user.erased or key.revoked';
COMMENT ON COLUMN oo_ml.audit_log.subject IS
    'Name of the key, prompt version or policy; null: a user, whose id is not kept';
