-- The whole schema of the first release; oo_ml/storage/tables.py declares the same.

CREATE TABLE policy_state (
    user_id TEXT COLLATE "C" NOT NULL,
    policy TEXT COLLATE "C" NOT NULL,
    epoch INTEGER NOT NULL,
    version BIGINT NOT NULL,
    pulls BIGINT NOT NULL,
    explore_count BIGINT NOT NULL,
    reward_count BIGINT NOT NULL,
    cumulative_reward FLOAT8 NOT NULL,
    last_updated TIMESTAMPTZ,
    a FLOAT8[] NOT NULL,
    b FLOAT8[] NOT NULL,
    CONSTRAINT pk_policy_state PRIMARY KEY (user_id, policy),
    CONSTRAINT ck_policy_state_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_policy_state_policy_length CHECK (octet_length(policy) BETWEEN 1 AND 100),
    CONSTRAINT ck_policy_state_epoch_range CHECK (epoch >= 0),
    CONSTRAINT ck_policy_state_version_range CHECK (version >= 0),
    CONSTRAINT ck_policy_state_pulls_range CHECK (pulls >= 0),
    CONSTRAINT ck_policy_state_explore_count_range CHECK (explore_count BETWEEN 0 AND pulls),
    CONSTRAINT ck_policy_state_reward_count_range CHECK (reward_count >= 0),
    CONSTRAINT ck_policy_state_cumulative_reward_finite
        CHECK (cumulative_reward > '-Infinity' AND cumulative_reward < 'Infinity'),
    CONSTRAINT ck_policy_state_dimensions
        CHECK (array_ndims(b) = 1 AND array_ndims(a) = 2
            AND array_length(a, 1) = array_length(b, 1) AND array_length(a, 2) = array_length(b, 1)),
    CONSTRAINT ck_policy_state_a_finite CHECK ('-Infinity' < ALL (a) AND 'Infinity' > ALL (a)),
    CONSTRAINT ck_policy_state_b_finite CHECK ('-Infinity' < ALL (b) AND 'Infinity' > ALL (b))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

COMMENT ON TABLE policy_state IS
    'One row a user and policy: the model A, b and its counters. The only row that is locked.';
COMMENT ON COLUMN policy_state.user_id IS 'The person, as the client names them';
COMMENT ON COLUMN policy_state.policy IS 'linucb-v1 or egreedy-v1';
COMMENT ON COLUMN policy_state.epoch IS 'Grows by one with each reset or import over older state';
COMMENT ON COLUMN policy_state.version IS 'Rows of reward_ledger in this epoch';
COMMENT ON COLUMN policy_state.pulls IS 'Decisions made';
COMMENT ON COLUMN policy_state.explore_count IS 'Decisions drawn at random';
COMMENT ON COLUMN policy_state.reward_count IS 'Rewards received';
COMMENT ON COLUMN policy_state.cumulative_reward IS 'Sum of rewards received';
COMMENT ON COLUMN policy_state.last_updated IS 'Last decision or reward; null after a reset';
COMMENT ON COLUMN policy_state.a IS 'A = I + sum of x x^T over rewards, d rows of d numbers';
COMMENT ON COLUMN policy_state.b IS 'b = sum of reward times x, d numbers';

CREATE SEQUENCE feature_history_order AS BIGINT;

CREATE TABLE feature_history (
    user_id TEXT COLLATE "C" NOT NULL,
    decision_id UUID NOT NULL,
    policy TEXT COLLATE "C" NOT NULL,
    epoch INTEGER NOT NULL,
    version BIGINT NOT NULL,
    position BIGINT DEFAULT nextval('feature_history_order') NOT NULL,
    decided_at TIMESTAMPTZ NOT NULL,
    score FLOAT8 NOT NULL,
    propensity FLOAT8 NOT NULL,
    exploring BOOLEAN NOT NULL,
    tip_id TEXT COLLATE "C" NOT NULL,
    prompt_version TEXT COLLATE "C",
    generation_id UUID,
    x FLOAT8[] NOT NULL,
    context JSONB NOT NULL,
    features JSONB NOT NULL,
    candidates JSONB NOT NULL,
    answer JSONB NOT NULL,
    reward FLOAT8,
    rewarded_at TIMESTAMPTZ,
    CONSTRAINT pk_feature_history PRIMARY KEY (user_id, decision_id),
    CONSTRAINT ck_feature_history_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_feature_history_policy_length CHECK (octet_length(policy) BETWEEN 1 AND 100),
    CONSTRAINT ck_feature_history_tip_id_length CHECK (octet_length(tip_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_feature_history_prompt_version_length CHECK (octet_length(prompt_version) BETWEEN 1 AND 200),
    CONSTRAINT ck_feature_history_epoch_range CHECK (epoch >= 0),
    CONSTRAINT ck_feature_history_version_range CHECK (version >= 0),
    CONSTRAINT ck_feature_history_score_finite CHECK (score > '-Infinity' AND score < 'Infinity'),
    CONSTRAINT ck_feature_history_propensity_range CHECK (propensity > 0 AND propensity <= 1),
    CONSTRAINT ck_feature_history_dimensions CHECK (array_ndims(x) = 1),
    CONSTRAINT ck_feature_history_x_finite CHECK ('-Infinity' < ALL (x) AND 'Infinity' > ALL (x)),
    CONSTRAINT ck_feature_history_reward_range CHECK (reward BETWEEN -1 AND 1),
    CONSTRAINT ck_feature_history_rewarded_at_present CHECK ((reward IS NULL) = (rewarded_at IS NULL))
) PARTITION BY RANGE (decision_id);

CREATE INDEX ix_feature_history_user_id_policy_epoch_position_tip_id
    ON feature_history (user_id, policy, epoch, position, tip_id);

COMMENT ON TABLE feature_history IS
    'One row a decision, never changed but for its reward. Partitioned by month of decision_id.';
COMMENT ON COLUMN feature_history.user_id IS 'The person';
COMMENT ON COLUMN feature_history.decision_id IS 'UUIDv7 of the decision; its time part picks the partition';
COMMENT ON COLUMN feature_history.policy IS 'The policy that decided';
COMMENT ON COLUMN feature_history.epoch IS 'policy_state.epoch at the decision';
COMMENT ON COLUMN feature_history.version IS 'policy_state.version at the decision';
COMMENT ON COLUMN feature_history.position IS 'Order in which decisions were made, whatever their ids and clocks';
COMMENT ON COLUMN feature_history.decided_at IS 'When it was decided';
COMMENT ON COLUMN feature_history.score IS 'Score of the chosen tip, as answered';
COMMENT ON COLUMN feature_history.propensity IS 'Probability with which this tip was chosen';
COMMENT ON COLUMN feature_history.exploring IS 'Whether the tip was drawn at random';
COMMENT ON COLUMN feature_history.tip_id IS 'The tip that was chosen';
COMMENT ON COLUMN feature_history.prompt_version IS 'Prompt version that wrote the tip, if a model did';
COMMENT ON COLUMN feature_history.generation_id IS 'Generation that the tip came from, if known';
COMMENT ON COLUMN feature_history.x IS 'Feature vector of the chosen tip, d numbers';
COMMENT ON COLUMN feature_history.context IS 'The moment: hour_of_day and day_of_week';
COMMENT ON COLUMN feature_history.features IS 'Raw features of the chosen tip, as /features shows them';
COMMENT ON COLUMN feature_history.candidates IS 'The candidates considered, in the order given';
COMMENT ON COLUMN feature_history.answer IS 'The answer as sent';
COMMENT ON COLUMN feature_history.reward IS 'The reward that came back, null so far';
COMMENT ON COLUMN feature_history.rewarded_at IS 'When the reward came back';

CREATE TABLE feature_history_default PARTITION OF feature_history DEFAULT WITH (fillfactor = 90);

CREATE FUNCTION create_feature_history_months(first timestamptz, months integer) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    -- The first 48 bits of a UUIDv7 are its time in milliseconds since 1970.
    lower_bound uuid;
    upper_bound uuid;
    month timestamp := date_trunc('month', first AT TIME ZONE 'UTC');
    partition text;
BEGIN
    FOR i IN 1 .. months LOOP
        partition := format('feature_history_%s', to_char(month, 'YYYY_MM'));
        lower_bound := rpad(lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
        month := month + interval '1 month';
        upper_bound := rpad(lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        -- Nothing may come between the move and the new partition: a row of this month left behind forbids it.
        LOCK TABLE feature_history_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'CREATE TABLE %I (LIKE feature_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (fillfactor = 90)',
            partition
        );
        -- Decisions that came before their month had a partition wait in the default one.
        EXECUTE format(
            'WITH moved AS (DELETE FROM feature_history_default WHERE decision_id >= %L AND decision_id < %L'
            ' RETURNING *) INSERT INTO %I SELECT * FROM moved',
            lower_bound, upper_bound, partition
        );
        EXECUTE format(
            'ALTER TABLE feature_history ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            partition, lower_bound, upper_bound
        );
        RETURN NEXT partition;
    END LOOP;
END
$$;

CREATE TABLE reward_ledger (
    user_id TEXT COLLATE "C" NOT NULL,
    policy TEXT COLLATE "C" NOT NULL,
    epoch INTEGER NOT NULL,
    version BIGINT NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    reward FLOAT8,
    x FLOAT8[],
    tip_id TEXT COLLATE "C",
    decision_id UUID,
    idempotency_key TEXT COLLATE "C",
    start_pulls BIGINT,
    start_explore_count BIGINT,
    start_reward_count BIGINT,
    start_cumulative_reward FLOAT8,
    start_a FLOAT8[],
    start_b FLOAT8[],
    CONSTRAINT pk_reward_ledger PRIMARY KEY (user_id, policy, epoch, version),
    CONSTRAINT ck_reward_ledger_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_reward_ledger_policy_length CHECK (octet_length(policy) BETWEEN 1 AND 100),
    CONSTRAINT ck_reward_ledger_tip_id_length CHECK (octet_length(tip_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_reward_ledger_idempotency_key_length CHECK (octet_length(idempotency_key) BETWEEN 1 AND 200),
    CONSTRAINT ck_reward_ledger_epoch_range CHECK (epoch >= 0),
    CONSTRAINT ck_reward_ledger_version_range CHECK (version >= 1),
    CONSTRAINT ck_reward_ledger_kind_known CHECK (kind IN ('reward', 'import')),
    CONSTRAINT ck_reward_ledger_reward_range CHECK (reward BETWEEN -1 AND 1),
    CONSTRAINT ck_reward_ledger_dimensions CHECK (array_ndims(x) = 1),
    CONSTRAINT ck_reward_ledger_x_finite CHECK ('-Infinity' < ALL (x) AND 'Infinity' > ALL (x)),
    CONSTRAINT ck_reward_ledger_reward_present
        CHECK (num_nulls(reward, x, tip_id) = CASE kind WHEN 'import' THEN 3 ELSE 0 END),
    CONSTRAINT ck_reward_ledger_start_present
        CHECK (num_nonnulls(
            start_pulls, start_explore_count, start_reward_count, start_cumulative_reward, start_a, start_b
        )
            = CASE kind WHEN 'import' THEN 6 ELSE 0 END)
);

COMMENT ON TABLE reward_ledger IS 'One row for each change of A and b, append only: policy_state is the fold of it.';
COMMENT ON COLUMN reward_ledger.user_id IS 'The person';
COMMENT ON COLUMN reward_ledger.policy IS 'The policy that learned';
COMMENT ON COLUMN reward_ledger.epoch IS 'policy_state.epoch at the change';
COMMENT ON COLUMN reward_ledger.version IS '1, 2, 3, ... within the epoch';
COMMENT ON COLUMN reward_ledger.recorded_at IS 'When it was applied';
COMMENT ON COLUMN reward_ledger.kind IS
    'reward: a reaction came in; import: the state starts from that of another service';
COMMENT ON COLUMN reward_ledger.reward IS 'The reward applied';
COMMENT ON COLUMN reward_ledger.x IS 'Feature vector it was applied with, d numbers';
COMMENT ON COLUMN reward_ledger.tip_id IS 'The tip it was for';
COMMENT ON COLUMN reward_ledger.decision_id IS 'The decision it was for, if known';
COMMENT ON COLUMN reward_ledger.idempotency_key IS 'The client''s key for the call, if it sent one';
COMMENT ON COLUMN reward_ledger.start_pulls IS 'import: pulls brought along';
COMMENT ON COLUMN reward_ledger.start_explore_count IS 'import: explore_count brought along';
COMMENT ON COLUMN reward_ledger.start_reward_count IS 'import: reward_count brought along';
COMMENT ON COLUMN reward_ledger.start_cumulative_reward IS 'import: cumulative_reward brought along';
COMMENT ON COLUMN reward_ledger.start_a IS 'import: the whole of A';
COMMENT ON COLUMN reward_ledger.start_b IS 'import: the whole of b';

CREATE TABLE prompt_versions (
    version TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    weight FLOAT8 DEFAULT '1' NOT NULL,
    published_at TIMESTAMPTZ NOT NULL,
    retired_at TIMESTAMPTZ,
    description TEXT NOT NULL,
    system_template TEXT NOT NULL,
    user_template TEXT NOT NULL,
    CONSTRAINT pk_prompt_versions PRIMARY KEY (version),
    CONSTRAINT ck_prompt_versions_version_length CHECK (octet_length(version) BETWEEN 1 AND 100),
    CONSTRAINT ck_prompt_versions_status_known CHECK (status IN ('active', 'retired')),
    CONSTRAINT ck_prompt_versions_retired_at_present CHECK ((status = 'retired') = (retired_at IS NOT NULL)),
    CONSTRAINT ck_prompt_versions_weight_range CHECK (weight >= 0 AND weight < 'Infinity'),
    CONSTRAINT ck_prompt_versions_description_length CHECK (octet_length(description) <= 1000),
    CONSTRAINT ck_prompt_versions_system_template_length CHECK (octet_length(system_template) BETWEEN 1 AND 65536),
    CONSTRAINT ck_prompt_versions_user_template_length CHECK (octet_length(user_template) BETWEEN 1 AND 65536)
);

COMMENT ON TABLE prompt_versions IS 'The prompt registry. A published text never changes; a trigger holds it.';
COMMENT ON COLUMN prompt_versions.version IS 'Name of the version';
COMMENT ON COLUMN prompt_versions.status IS 'active, or retired: kept for the record, refused for new generations';
COMMENT ON COLUMN prompt_versions.weight IS 'Share of the traffic, relative';
COMMENT ON COLUMN prompt_versions.published_at IS 'When it was published';
COMMENT ON COLUMN prompt_versions.retired_at IS 'When it was retired';
COMMENT ON COLUMN prompt_versions.description IS 'What is special about it';
COMMENT ON COLUMN prompt_versions.system_template IS 'Jinja2 template of the system message';
COMMENT ON COLUMN prompt_versions.user_template IS 'Jinja2 template of the user message';

CREATE FUNCTION refuse_change_of_prompt_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'prompt version % is published: its text never changes', OLD.version
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER prompt_versions_immutable
    BEFORE UPDATE OF version, published_at, description, system_template, user_template OR DELETE
    ON prompt_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_prompt_version();

CREATE TABLE generations (
    user_id TEXT COLLATE "C" NOT NULL,
    generation_id UUID NOT NULL,
    prompt_version TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    latency_ms INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    requested SMALLINT NOT NULL,
    attempts SMALLINT NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C",
    error TEXT,
    CONSTRAINT pk_generations PRIMARY KEY (user_id, generation_id),
    CONSTRAINT ck_generations_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_generations_latency_ms_range CHECK (latency_ms >= 0),
    CONSTRAINT ck_generations_prompt_tokens_range CHECK (prompt_tokens >= 0),
    CONSTRAINT ck_generations_completion_tokens_range CHECK (completion_tokens >= 0),
    CONSTRAINT ck_generations_requested_range CHECK (requested >= 1),
    CONSTRAINT ck_generations_attempts_range CHECK (attempts >= 0),
    CONSTRAINT ck_generations_outcome_length CHECK (octet_length(outcome) BETWEEN 1 AND 100),
    CONSTRAINT ck_generations_model_length CHECK (octet_length(model) BETWEEN 1 AND 200),
    CONSTRAINT ck_generations_error_present CHECK ((outcome = 'ok') = (error IS NULL)),
    CONSTRAINT ck_generations_error_length CHECK (octet_length(error) <= 8192),
    CONSTRAINT fk_generations_prompt_versions FOREIGN KEY(prompt_version) REFERENCES prompt_versions (version)
);

COMMENT ON TABLE generations IS 'One row a call of /generate that asked the model, failed ones included.';
COMMENT ON COLUMN generations.user_id IS 'The person that tips were asked for';
COMMENT ON COLUMN generations.generation_id IS 'UUIDv7 of the generation';
COMMENT ON COLUMN generations.prompt_version IS 'The version used';
COMMENT ON COLUMN generations.created_at IS 'When the call came in';
COMMENT ON COLUMN generations.latency_ms IS 'Time spent waiting for the gateway, all attempts';
COMMENT ON COLUMN generations.prompt_tokens IS 'Summed over the attempts';
COMMENT ON COLUMN generations.completion_tokens IS 'Summed over the attempts';
COMMENT ON COLUMN generations.requested IS 'Tips asked for';
COMMENT ON COLUMN generations.attempts IS 'Times the model was asked';
COMMENT ON COLUMN generations.outcome IS 'ok, or the code of the error that was answered';
COMMENT ON COLUMN generations.model IS 'The model that answered, as the gateway names it';
COMMENT ON COLUMN generations.error IS 'What went wrong, as answered';

CREATE TABLE tips (
    user_id TEXT COLLATE "C" NOT NULL,
    tip_id TEXT COLLATE "C" NOT NULL,
    generation_id UUID NOT NULL,
    prompt_version TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    place SMALLINT NOT NULL,
    content TEXT NOT NULL,
    rationale TEXT,
    CONSTRAINT pk_tips PRIMARY KEY (user_id, tip_id, generation_id),
    CONSTRAINT ck_tips_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_tips_tip_id_length CHECK (octet_length(tip_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_tips_prompt_version_length CHECK (octet_length(prompt_version) BETWEEN 1 AND 100),
    CONSTRAINT ck_tips_place_range CHECK (place >= 0),
    CONSTRAINT ck_tips_content_length CHECK (octet_length(content) BETWEEN 1 AND 16384),
    CONSTRAINT ck_tips_rationale_length CHECK (octet_length(rationale) <= 16384),
    CONSTRAINT fk_tips_generations
        FOREIGN KEY(user_id, generation_id) REFERENCES generations (user_id, generation_id)
);

COMMENT ON TABLE tips IS 'One row a tip that a model wrote. The latest row of a tip_id is the one in use.';
COMMENT ON COLUMN tips.user_id IS 'The person it was written for';
COMMENT ON COLUMN tips.tip_id IS 'Id of the tip; another generation may use it again';
COMMENT ON COLUMN tips.generation_id IS 'The generation that wrote it';
COMMENT ON COLUMN tips.prompt_version IS 'The prompt version that wrote it';
COMMENT ON COLUMN tips.created_at IS 'When it was written';
COMMENT ON COLUMN tips.place IS 'Its place in the model''s reply, from 0';
COMMENT ON COLUMN tips.content IS 'The text shown';
COMMENT ON COLUMN tips.rationale IS 'Why the model proposed it';
