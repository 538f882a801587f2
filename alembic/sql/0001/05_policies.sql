-- The registry of policies: what each looks at, and how it chooses. Users' rows name a policy without a foreign key, whose
-- check would cost every decision a lookup and a lock.

CREATE TABLE oo_ml.policies (
    policy text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    published_at timestamptz NOT NULL,
    retired_at timestamptz,
    description text NOT NULL,
    definition jsonb NOT NULL,
    dimension integer NOT NULL,
    CONSTRAINT pk_policies PRIMARY KEY (policy),
    CONSTRAINT ck_policies_policy_length CHECK (octet_length(policy) BETWEEN 1 AND 100),
    CONSTRAINT ck_policies_status_known CHECK (status IN ('active', 'retired')),
    CONSTRAINT ck_policies_retired_at_present CHECK ((status = 'retired') = (retired_at IS NOT NULL)),
    CONSTRAINT ck_policies_description_length CHECK (octet_length(description) <= 1000),
    CONSTRAINT ck_policies_definition_object CHECK (jsonb_typeof(definition) = 'object'),
    CONSTRAINT ck_policies_dimension_range CHECK (dimension BETWEEN 1 AND 64)
);
COMMENT ON TABLE oo_ml.policies IS
    'Registry of policies. A trigger refuses every change of a published definition';
COMMENT ON COLUMN oo_ml.policies.policy IS 'Name of the policy';
COMMENT ON COLUMN oo_ml.policies.status IS
    'active, or retired: kept for the record and for late rewards, refused for new decisions';
COMMENT ON COLUMN oo_ml.policies.published_at IS 'Time of publication';
COMMENT ON COLUMN oo_ml.policies.retired_at IS 'Time of retirement';
COMMENT ON COLUMN oo_ml.policies.description IS 'Description of the policy: its purpose';
COMMENT ON COLUMN oo_ml.policies.definition IS 'Inputs, terms and rule, as published';
COMMENT ON COLUMN oo_ml.policies.dimension IS 'Number of features d';

CREATE FUNCTION oo_ml.refuse_change_of_policy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'policy % is published: its definition never changes', OLD.policy
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
COMMENT ON FUNCTION oo_ml.refuse_change_of_policy IS
    'Trigger function: refuses changes of a published policy, except of its status';

CREATE TRIGGER policies_immutable
    BEFORE UPDATE OF policy, published_at, description, definition, dimension OR DELETE
    ON oo_ml.policies
    FOR EACH ROW EXECUTE FUNCTION oo_ml.refuse_change_of_policy();

CREATE TABLE oo_ml.policy_traffic (
    change_id uuid NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text COLLATE "C" NOT NULL,
    salt text COLLATE "C" NOT NULL,
    shares jsonb NOT NULL,
    CONSTRAINT pk_policy_traffic PRIMARY KEY (change_id),
    CONSTRAINT ck_policy_traffic_changed_by_length CHECK (octet_length(changed_by) BETWEEN 1 AND 100),
    CONSTRAINT ck_policy_traffic_salt_length CHECK (octet_length(salt) BETWEEN 1 AND 100),
    CONSTRAINT ck_policy_traffic_shares_object CHECK (jsonb_typeof(shares) = 'object')
);
COMMENT ON TABLE oo_ml.policy_traffic IS
    'Changes of the traffic: one row each, append only. The last one says which policy decides for whom';
COMMENT ON COLUMN oo_ml.policy_traffic.change_id IS 'UUIDv7 of the change; the greatest one is the last change';
COMMENT ON COLUMN oo_ml.policy_traffic.changed_at IS 'Time of the change';
COMMENT ON COLUMN oo_ml.policy_traffic.changed_by IS 'Id of the API key, or (command line)';
COMMENT ON COLUMN oo_ml.policy_traffic.salt IS 'Hashed with the user id; kept from the first change on';
COMMENT ON COLUMN oo_ml.policy_traffic.shares IS
    'Share of the users by policy, each above 0, sum 1';
