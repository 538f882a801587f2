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
    erasures bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_policies PRIMARY KEY (policy),
    CONSTRAINT ck_policies_policy_length CHECK (octet_length(policy) BETWEEN 1 AND 100),
    CONSTRAINT ck_policies_status_known CHECK (status IN ('active', 'retired')),
    CONSTRAINT ck_policies_retired_at_present CHECK ((status = 'retired') = (retired_at IS NOT NULL)),
    CONSTRAINT ck_policies_description_length CHECK (octet_length(description) <= 1000),
    CONSTRAINT ck_policies_definition_object CHECK (jsonb_typeof(definition) = 'object'),
    CONSTRAINT ck_policies_dimension_range CHECK (dimension BETWEEN 1 AND 64),
    CONSTRAINT ck_policies_erasures_range CHECK (erasures >= 0)
);
COMMENT ON TABLE oo_ml.policies IS
    'Registry of policies. A trigger refuses every change of a published definition';
COMMENT ON COLUMN oo_ml.policies.policy IS 'Name of the policy';
COMMENT ON COLUMN oo_ml.policies.status IS
    'active, or retired: kept for the record and for late rewards, refused for new decisions';
COMMENT ON COLUMN oo_ml.policies.published_at IS 'Time of publication';
COMMENT ON COLUMN oo_ml.policies.retired_at IS 'Time of retirement';
COMMENT ON COLUMN oo_ml.policies.description IS 'Description of the policy: its purpose';
COMMENT ON COLUMN oo_ml.policies.definition IS 'Inputs, terms, rule and evidence, as published';
COMMENT ON COLUMN oo_ml.policies.dimension IS 'Number of features d';
COMMENT ON COLUMN oo_ml.policies.erasures IS
    'Number of erased users from whom the policy may have learned; a prior with another number is fitted again';

CREATE FUNCTION oo_ml.refuse_change_of_policy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'policy % is published: its definition never changes', OLD.policy
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
COMMENT ON FUNCTION oo_ml.refuse_change_of_policy IS
    'Trigger function: refuses changes of a published policy, except of its status and erasures';

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

CREATE TABLE oo_ml.policy_priors (
    policy text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    fitted_at timestamptz NOT NULL,
    users bigint NOT NULL,
    rewards bigint NOT NULL,
    erasures bigint NOT NULL,
    mean float8[] NOT NULL,
    covariance float8[] NOT NULL,
    mean_covariance float8[] NOT NULL,
    noise_variance float8 NOT NULL,
    CONSTRAINT pk_policy_priors PRIMARY KEY (policy, version),
    CONSTRAINT ck_policy_priors_policy_length CHECK (octet_length(policy) BETWEEN 1 AND 100),
    CONSTRAINT ck_policy_priors_version_range CHECK (version >= 1),
    CONSTRAINT ck_policy_priors_users_range CHECK (users >= 0),
    CONSTRAINT ck_policy_priors_rewards_range CHECK (rewards >= 0),
    CONSTRAINT ck_policy_priors_erasures_range CHECK (erasures >= 0),
    CONSTRAINT ck_policy_priors_mean_finite CHECK (('-Infinity' < ALL (mean) AND 'Infinity' > ALL (mean)) IS TRUE),
    CONSTRAINT ck_policy_priors_dimensions
        CHECK ((array_ndims(mean) = 1 AND array_ndims(covariance) = 2
            AND array_length(covariance, 1) = array_length(mean, 1)
            AND array_length(covariance, 2) = array_length(mean, 1)) IS TRUE),
    CONSTRAINT ck_policy_priors_mean_dimensions
        CHECK ((array_ndims(mean) = 1 AND array_ndims(mean_covariance) = 2
            AND array_length(mean_covariance, 1) = array_length(mean, 1)
            AND array_length(mean_covariance, 2) = array_length(mean, 1)) IS TRUE),
    CONSTRAINT ck_policy_priors_covariance_finite
        CHECK (('-Infinity' < ALL (covariance) AND 'Infinity' > ALL (covariance)) IS TRUE),
    CONSTRAINT ck_policy_priors_mean_covariance_finite
        CHECK (('-Infinity' < ALL (mean_covariance) AND 'Infinity' > ALL (mean_covariance)) IS TRUE),
    CONSTRAINT ck_policy_priors_noise_variance_range CHECK (noise_variance > 0 AND noise_variance < 'Infinity')
);
COMMENT ON TABLE oo_ml.policy_priors IS
    'Versions of the prior from which the users of a policy start: one row a fit, never changed. Version 0 has no row';
COMMENT ON COLUMN oo_ml.policy_priors.policy IS 'The policy';
COMMENT ON COLUMN oo_ml.policy_priors.version IS '1, 2, 3, ... for each policy';
COMMENT ON COLUMN oo_ml.policy_priors.fitted_at IS 'Time of the fit, to which the rewards were faded';
COMMENT ON COLUMN oo_ml.policy_priors.users IS 'Number of users that it was fitted to';
COMMENT ON COLUMN oo_ml.policy_priors.rewards IS 'Number of rewards of the policy that counted then, those before a reset included';
COMMENT ON COLUMN oo_ml.policy_priors.erasures IS 'erasures of the policy then: the users erased before are not in it';
COMMENT ON COLUMN oo_ml.policy_priors.mean IS 'mu, the theta of the mean user; d numbers';
COMMENT ON COLUMN oo_ml.policy_priors.covariance IS 'Sigma: how users differ from each other; d rows of d numbers';
COMMENT ON COLUMN oo_ml.policy_priors.mean_covariance IS 'C: how uncertain the mean is; d rows of d numbers';
COMMENT ON COLUMN oo_ml.policy_priors.noise_variance IS 's2, the variance of a reward around theta.x of its user';

CREATE FUNCTION oo_ml.refuse_change_of_prior() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'prior % of policy % is in use: it never changes', OLD.version, OLD.policy
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
COMMENT ON FUNCTION oo_ml.refuse_change_of_prior IS 'Trigger function: refuses changes of a prior; old ones may be deleted';

CREATE TRIGGER policy_priors_immutable
    BEFORE UPDATE ON oo_ml.policy_priors
    FOR EACH ROW EXECUTE FUNCTION oo_ml.refuse_change_of_prior();
