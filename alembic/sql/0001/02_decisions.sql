-- Decisions and what was learned from them: states, decisions, ledger.

-- Each page keeps room for the new version of a row, so that an update stays on its page and touches no index (HOT).
-- Dead versions are many and small, so vacuum comes early.
CREATE TABLE oo_ml.policy_state (
    user_id text COLLATE "C" NOT NULL,
    policy text COLLATE "C" NOT NULL,
    epoch integer NOT NULL,
    version bigint NOT NULL,
    pulls bigint NOT NULL,
    explore_count bigint NOT NULL,
    reward_count bigint NOT NULL,
    cumulative_reward float8 NOT NULL,
    last_updated timestamptz,
    a float8[] NOT NULL,
    b float8[] NOT NULL,
    weight float8,
    squares float8,
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
        CHECK ((array_ndims(b) = 1 AND array_ndims(a) = 2
            AND array_length(a, 1) = array_length(b, 1) AND array_length(a, 2) = array_length(b, 1)) IS TRUE),
    CONSTRAINT ck_policy_state_a_finite CHECK (('-Infinity' < ALL (a) AND 'Infinity' > ALL (a)) IS TRUE),
    CONSTRAINT ck_policy_state_b_finite CHECK (('-Infinity' < ALL (b) AND 'Infinity' > ALL (b)) IS TRUE),
    CONSTRAINT ck_policy_state_weight_finite CHECK (weight > '-Infinity' AND weight < 'Infinity'),
    CONSTRAINT ck_policy_state_squares_finite CHECK (squares > '-Infinity' AND squares < 'Infinity'),
    CONSTRAINT ck_policy_state_population_present CHECK (num_nulls(weight, squares) IN (0, 2))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE oo_ml.policy_state IS
    'State: one row for each user and policy, with A, b and counters. The only row that is locked';
COMMENT ON COLUMN oo_ml.policy_state.user_id IS 'The user, as the client names them';
COMMENT ON COLUMN oo_ml.policy_state.policy IS 'The policy that learns';
COMMENT ON COLUMN oo_ml.policy_state.epoch IS 'Grows by one with each reset, and each import over older state';
COMMENT ON COLUMN oo_ml.policy_state.version IS 'Number of ledger entries in this epoch';
COMMENT ON COLUMN oo_ml.policy_state.pulls IS 'Number of decisions in this epoch';
COMMENT ON COLUMN oo_ml.policy_state.explore_count IS 'Number of these decisions that were drawn uniformly at random';
COMMENT ON COLUMN oo_ml.policy_state.reward_count IS 'Number of rewards that count';
COMMENT ON COLUMN oo_ml.policy_state.cumulative_reward IS 'Sum of the rewards that count';
COMMENT ON COLUMN oo_ml.policy_state.last_updated IS 'Time of the last decision or reward; null after a reset';
COMMENT ON COLUMN oo_ml.policy_state.a IS
    'A = sum of g x x^T over rewards, plus I unless the policy is pooled; d rows of d numbers';
COMMENT ON COLUMN oo_ml.policy_state.b IS 'b = sum of g times reward times x; d numbers';
COMMENT ON COLUMN oo_ml.policy_state.weight IS
    'Sum of the weights g of the rewards; null if the policy is not pooled: each g is 1';
COMMENT ON COLUMN oo_ml.policy_state.squares IS 'Sum of g times reward squared; null unless the policy is pooled';

-- For a fit of a policy with few users. A policy never changes, so rewards do not write to it (HOT).
CREATE INDEX ix_policy_state_policy ON oo_ml.policy_state (policy);

CREATE SEQUENCE oo_ml.feature_history_order AS bigint;

CREATE TABLE oo_ml.feature_history (
    user_id text COLLATE "C" NOT NULL,
    decision_id uuid NOT NULL,
    policy text COLLATE "C" NOT NULL,
    policy_probability float8,
    epoch integer NOT NULL,
    version bigint NOT NULL,
    pull bigint,
    position bigint NOT NULL DEFAULT nextval('oo_ml.feature_history_order'),
    decided_at timestamptz NOT NULL,
    tip_id text COLLATE "C" NOT NULL,
    content text,
    prompt_version text COLLATE "C",
    prompt_probability float8,
    generation_id uuid,
    score float8 NOT NULL,
    propensity float8 NOT NULL,
    exploring boolean NOT NULL,
    exploration float8,
    alpha float8,
    prior_version integer,
    prior_score float8,
    weight float8,
    x float8[] NOT NULL,
    context jsonb NOT NULL,
    features jsonb NOT NULL,
    candidates jsonb NOT NULL,
    exploit float8[],
    explore float8[],
    propensities float8[],
    answer jsonb NOT NULL,
    request_digest bytea,
    reward float8,
    rewarded_at timestamptz,
    reward_kind text COLLATE "C",
    CONSTRAINT pk_feature_history PRIMARY KEY (user_id, decision_id),
    CONSTRAINT ck_feature_history_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_feature_history_policy_length CHECK (octet_length(policy) BETWEEN 1 AND 100),
    CONSTRAINT ck_feature_history_tip_id_length CHECK (octet_length(tip_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_feature_history_content_length CHECK (char_length(content) <= 2000),
    CONSTRAINT ck_feature_history_prompt_version_length CHECK (octet_length(prompt_version) BETWEEN 1 AND 200),
    CONSTRAINT ck_feature_history_epoch_range CHECK (epoch >= 0),
    CONSTRAINT ck_feature_history_version_range CHECK (version >= 0),
    CONSTRAINT ck_feature_history_score_finite CHECK (score > '-Infinity' AND score < 'Infinity'),
    CONSTRAINT ck_feature_history_propensity_range CHECK (propensity > 0 AND propensity <= 1),
    CONSTRAINT ck_feature_history_dimensions CHECK ((array_ndims(x) = 1) IS TRUE),
    CONSTRAINT ck_feature_history_x_finite CHECK (('-Infinity' < ALL (x) AND 'Infinity' > ALL (x)) IS TRUE),
    CONSTRAINT ck_feature_history_reward_range CHECK (reward BETWEEN -1 AND 1),
    CONSTRAINT ck_feature_history_rewarded_at_present CHECK ((reward IS NULL) = (rewarded_at IS NULL)),
    CONSTRAINT ck_feature_history_reward_kind_known CHECK (reward_kind IN ('default', 'amend', 'retract')),
    CONSTRAINT ck_feature_history_reward_kind_matches
        CHECK (reward_kind IS NULL OR (reward IS NULL) = (reward_kind = 'retract')),
    CONSTRAINT ck_feature_history_request_digest_length CHECK (octet_length(request_digest) = 32),
    CONSTRAINT ck_feature_history_exploration_range CHECK (exploration BETWEEN 0 AND 1),
    CONSTRAINT ck_feature_history_alpha_range CHECK (alpha >= 0 AND alpha < 'Infinity'),
    CONSTRAINT ck_feature_history_prior_version_range CHECK (prior_version >= 0),
    CONSTRAINT ck_feature_history_prior_score_finite CHECK (prior_score > '-Infinity' AND prior_score < 'Infinity'),
    CONSTRAINT ck_feature_history_weight_range CHECK (weight > 0 AND weight < 'Infinity'),
    CONSTRAINT ck_feature_history_population_present CHECK (num_nulls(prior_version, prior_score, weight) IN (0, 3)),
    CONSTRAINT ck_feature_history_candidate_dimensions
        CHECK (num_nonnulls(exploration, exploit, explore, propensities) = 0
            OR (array_ndims(propensities) = 1 AND array_ndims(exploit) = 1 AND array_ndims(explore) = 1
            AND array_length(exploit, 1) = array_length(propensities, 1)
            AND array_length(explore, 1) = array_length(propensities, 1)
            AND exploration IS NOT NULL) IS TRUE),
    CONSTRAINT ck_feature_history_exploit_finite
        CHECK (exploit IS NULL OR ('-Infinity' < ALL (exploit) AND 'Infinity' > ALL (exploit)) IS TRUE),
    CONSTRAINT ck_feature_history_explore_finite
        CHECK (explore IS NULL OR ('-Infinity' < ALL (explore) AND 'Infinity' > ALL (explore)) IS TRUE),
    CONSTRAINT ck_feature_history_propensities_range
        CHECK (propensities IS NULL OR (0 <= ALL (propensities) AND 1 >= ALL (propensities)) IS TRUE),
    CONSTRAINT ck_feature_history_pull_range CHECK (pull >= 1),
    CONSTRAINT ck_feature_history_prompt_probability_range CHECK (prompt_probability > 0 AND prompt_probability <= 1),
    CONSTRAINT ck_feature_history_policy_probability_range CHECK (policy_probability > 0 AND policy_probability <= 1)
) PARTITION BY RANGE (decision_id);
COMMENT ON TABLE oo_ml.feature_history IS
    'One row for each decision; only its reward changes. Partitioned by the month of decision_id';
COMMENT ON COLUMN oo_ml.feature_history.user_id IS 'The user';
COMMENT ON COLUMN oo_ml.feature_history.decision_id IS 'UUIDv7 of the decision; its time selects the partition';
COMMENT ON COLUMN oo_ml.feature_history.policy IS 'The policy that decided';
COMMENT ON COLUMN oo_ml.feature_history.policy_probability IS
    'Share of the users that had this policy when the traffic chose it; null: the client named the policy';
COMMENT ON COLUMN oo_ml.feature_history.epoch IS 'policy_state.epoch at the decision';
COMMENT ON COLUMN oo_ml.feature_history.version IS 'policy_state.version at the decision';
COMMENT ON COLUMN oo_ml.feature_history.pull IS 'Number of the decision in its epoch, from 1';
COMMENT ON COLUMN oo_ml.feature_history.position IS 'Order in which decisions were made, independent of ids and clocks';
COMMENT ON COLUMN oo_ml.feature_history.decided_at IS 'Time of the decision';
COMMENT ON COLUMN oo_ml.feature_history.tip_id IS 'The tip that was chosen';
COMMENT ON COLUMN oo_ml.feature_history.content IS
    'Text of the chosen tip, as sent or as generated, if known; at most 2,000 characters';
COMMENT ON COLUMN oo_ml.feature_history.prompt_version IS 'Prompt version that wrote the tip, if a model did';
COMMENT ON COLUMN oo_ml.feature_history.prompt_probability IS
    'Probability with which the prompt version was drawn, if known';
COMMENT ON COLUMN oo_ml.feature_history.generation_id IS 'Generation that the tip came from, if known';
COMMENT ON COLUMN oo_ml.feature_history.score IS 'Score of the chosen tip, as answered';
COMMENT ON COLUMN oo_ml.feature_history.propensity IS 'Probability with which this tip was chosen';
COMMENT ON COLUMN oo_ml.feature_history.exploring IS 'True if the tip was drawn uniformly at random';
COMMENT ON COLUMN oo_ml.feature_history.exploration IS 'Probability of a uniform draw when this decision was made';
COMMENT ON COLUMN oo_ml.feature_history.alpha IS 'Width of the confidence bound; null without a bound';
COMMENT ON COLUMN oo_ml.feature_history.prior_version IS
    'Version of the prior that the decision started from; null unless the policy is pooled';
COMMENT ON COLUMN oo_ml.feature_history.prior_score IS
    'Part of theta.x of the chosen tip that the prior gave; the rest is from the rewards of the user';
COMMENT ON COLUMN oo_ml.feature_history.weight IS
    'Weight g with which the reward counts; null if the policy is not pooled: 1';
COMMENT ON COLUMN oo_ml.feature_history.x IS 'Feature vector of the chosen tip; d numbers';
COMMENT ON COLUMN oo_ml.feature_history.context IS 'Raw fields of the context, as the client sent them';
COMMENT ON COLUMN oo_ml.feature_history.features IS 'Raw fields of the chosen tip, as the client sent them';
COMMENT ON COLUMN oo_ml.feature_history.candidates IS 'The candidates, in the order of the request';
COMMENT ON COLUMN oo_ml.feature_history.exploit IS 'theta.x of each candidate';
COMMENT ON COLUMN oo_ml.feature_history.explore IS 'alpha sqrt(x^T A^-1 x) of each candidate; 0 without alpha';
COMMENT ON COLUMN oo_ml.feature_history.propensities IS 'Probability of each candidate to be chosen';
COMMENT ON COLUMN oo_ml.feature_history.answer IS 'The answer as sent';
COMMENT ON COLUMN oo_ml.feature_history.request_digest IS 'SHA-256 of the request, if the client named the decision';
COMMENT ON COLUMN oo_ml.feature_history.reward IS
    'The reward that counts; null before the first and after a retraction';
COMMENT ON COLUMN oo_ml.feature_history.rewarded_at IS 'Time of the reward that counts';
COMMENT ON COLUMN oo_ml.feature_history.reward_kind IS
    'default (assumed), amend (corrected) or retract (taken back); null: as first received, or none yet';

-- For queries by time, such as the decisions that have waited too long for a reward. Not partial: an index that names
-- `reward` would make every reward write to it (no HOT update). Not BRIN: updated rows lie scattered in time.
CREATE INDEX ix_feature_history_decided_at ON oo_ml.feature_history (decided_at);
-- Finds the rows after a position. Rows lie in that order, so one entry for 64 pages is enough.
CREATE INDEX ix_feature_history_position
    ON oo_ml.feature_history USING brin (position) WITH (pages_per_range = 64, autosummarize = on);
-- tip_id is last: the search for a tip's latest decision reads the index alone.
CREATE INDEX ix_feature_history_user_id_policy_epoch_position_tip_id
    ON oo_ml.feature_history (user_id, policy, epoch, position, tip_id);

-- Takes the decisions of months that have no partition, such as old ids that clients chose.
CREATE TABLE oo_ml.feature_history_default PARTITION OF oo_ml.feature_history DEFAULT WITH (fillfactor = 90);

CREATE SEQUENCE oo_ml.reward_ledger_order AS bigint;

CREATE TABLE oo_ml.reward_ledger (
    user_id text COLLATE "C" NOT NULL,
    policy text COLLATE "C" NOT NULL,
    epoch integer NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL DEFAULT nextval('oo_ml.reward_ledger_order'),
    recorded_at timestamptz NOT NULL,
    kind text COLLATE "C" NOT NULL,
    reward float8,
    previous_reward float8,
    x float8[],
    weight float8,
    tip_id text COLLATE "C",
    decision_id uuid,
    corrects bigint,
    origin_decision_id uuid,
    idempotency_key text COLLATE "C",
    request_digest bytea,
    start_pulls bigint,
    start_explore_count bigint,
    start_reward_count bigint,
    start_cumulative_reward float8,
    start_a float8[],
    start_b float8[],
    CONSTRAINT pk_reward_ledger PRIMARY KEY (user_id, policy, epoch, version),
    CONSTRAINT ck_reward_ledger_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_reward_ledger_policy_length CHECK (octet_length(policy) BETWEEN 1 AND 100),
    CONSTRAINT ck_reward_ledger_tip_id_length CHECK (octet_length(tip_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_reward_ledger_idempotency_key_length CHECK (octet_length(idempotency_key) BETWEEN 1 AND 200),
    CONSTRAINT ck_reward_ledger_epoch_range CHECK (epoch >= 0),
    CONSTRAINT ck_reward_ledger_version_range CHECK (version >= 1),
    CONSTRAINT ck_reward_ledger_kind_known CHECK (kind IN ('reward', 'default', 'amend', 'retract', 'import', 'warm')),
    CONSTRAINT ck_reward_ledger_reward_range CHECK (reward BETWEEN -1 AND 1),
    CONSTRAINT ck_reward_ledger_dimensions CHECK (x IS NULL OR (array_ndims(x) = 1) IS TRUE),
    CONSTRAINT ck_reward_ledger_x_finite CHECK (x IS NULL OR ('-Infinity' < ALL (x) AND 'Infinity' > ALL (x)) IS TRUE),
    CONSTRAINT ck_reward_ledger_weight_range CHECK (weight > 0 AND weight < 'Infinity'),
    CONSTRAINT ck_reward_ledger_reward_present CHECK ((reward IS NULL) = (kind IN ('retract', 'import'))),
    CONSTRAINT ck_reward_ledger_x_present CHECK (num_nulls(x, tip_id) = CASE kind WHEN 'import' THEN 2 ELSE 0 END),
    CONSTRAINT ck_reward_ledger_start_present
        CHECK (num_nonnulls(
            start_pulls, start_explore_count, start_reward_count, start_cumulative_reward, start_a, start_b
        ) = CASE kind WHEN 'import' THEN 6 ELSE 0 END),
    CONSTRAINT ck_reward_ledger_start_dimensions
        CHECK (start_b IS NULL OR (array_ndims(start_b) = 1 AND array_ndims(start_a) = 2
            AND array_length(start_a, 1) = array_length(start_b, 1)
            AND array_length(start_a, 2) = array_length(start_b, 1)) IS TRUE),
    CONSTRAINT ck_reward_ledger_start_a_finite
        CHECK (start_a IS NULL OR ('-Infinity' < ALL (start_a) AND 'Infinity' > ALL (start_a)) IS TRUE),
    CONSTRAINT ck_reward_ledger_start_b_finite
        CHECK (start_b IS NULL OR ('-Infinity' < ALL (start_b) AND 'Infinity' > ALL (start_b)) IS TRUE),
    CONSTRAINT ck_reward_ledger_previous_reward_range CHECK (previous_reward BETWEEN -1 AND 1),
    CONSTRAINT ck_reward_ledger_previous_reward_present
        CHECK ((previous_reward IS NOT NULL) = (kind IN ('amend', 'retract'))),
    CONSTRAINT ck_reward_ledger_decision_present
        CHECK ((kind NOT IN ('amend', 'retract') OR corrects IS NOT NULL)
            AND (corrects IS NULL OR decision_id IS NOT NULL) AND (kind <> 'default' OR decision_id IS NOT NULL)),
    CONSTRAINT ck_reward_ledger_origin_present
        CHECK ((origin_decision_id IS NOT NULL) = (kind = 'warm') AND (kind <> 'warm' OR decision_id IS NULL)),
    CONSTRAINT ck_reward_ledger_corrects_range CHECK (corrects BETWEEN 1 AND version - 1),
    CONSTRAINT ck_reward_ledger_request_digest_length CHECK (octet_length(request_digest) = 32)
);
COMMENT ON TABLE oo_ml.reward_ledger IS
    'One entry for each time that A and b were changed; append only. policy_state is the fold of these entries';
COMMENT ON COLUMN oo_ml.reward_ledger.user_id IS 'The user';
COMMENT ON COLUMN oo_ml.reward_ledger.policy IS 'The policy that learned';
COMMENT ON COLUMN oo_ml.reward_ledger.epoch IS 'policy_state.epoch of the entry';
COMMENT ON COLUMN oo_ml.reward_ledger.version IS '1, 2, 3, ... within the epoch';
COMMENT ON COLUMN oo_ml.reward_ledger.position IS 'Order in which entries were written';
COMMENT ON COLUMN oo_ml.reward_ledger.recorded_at IS 'Time at which the entry was applied';
COMMENT ON COLUMN oo_ml.reward_ledger.kind IS
    'reward: a reaction came in; default: no reaction came in time; amend: another reward counts from now on;'
    ' retract: no reward counts any more; import: the epoch starts from the state of another service; warm: a reward'
    ' that another policy learned counts for this one too';
COMMENT ON COLUMN oo_ml.reward_ledger.reward IS 'The reward that counts from now on';
COMMENT ON COLUMN oo_ml.reward_ledger.previous_reward IS 'amend, retract: the reward that counted before';
COMMENT ON COLUMN oo_ml.reward_ledger.x IS 'Feature vector that the reward was applied with; d numbers';
COMMENT ON COLUMN oo_ml.reward_ledger.weight IS 'Weight g of the reward; null if the policy is not pooled: 1';
COMMENT ON COLUMN oo_ml.reward_ledger.tip_id IS 'The tip that the reward is for';
COMMENT ON COLUMN oo_ml.reward_ledger.decision_id IS 'The decision that the reward is for, if known';
COMMENT ON COLUMN oo_ml.reward_ledger.corrects IS 'Version of the previous entry for the same decision';
COMMENT ON COLUMN oo_ml.reward_ledger.origin_decision_id IS 'warm: the decision of another policy that had the reward';
COMMENT ON COLUMN oo_ml.reward_ledger.idempotency_key IS 'Idempotency-Key of the call, if it had one';
COMMENT ON COLUMN oo_ml.reward_ledger.request_digest IS 'SHA-256 of the call that had idempotency_key';
COMMENT ON COLUMN oo_ml.reward_ledger.start_pulls IS 'import: pulls of the imported state';
COMMENT ON COLUMN oo_ml.reward_ledger.start_explore_count IS 'import: explore_count of the imported state';
COMMENT ON COLUMN oo_ml.reward_ledger.start_reward_count IS 'import: reward_count of the imported state';
COMMENT ON COLUMN oo_ml.reward_ledger.start_cumulative_reward IS 'import: cumulative_reward of the imported state';
COMMENT ON COLUMN oo_ml.reward_ledger.start_a IS 'import: A of the imported state';
COMMENT ON COLUMN oo_ml.reward_ledger.start_b IS 'import: b of the imported state';

CREATE INDEX ix_reward_ledger_position
    ON oo_ml.reward_ledger USING brin (position) WITH (pages_per_range = 64, autosummarize = on);
-- A decision has one first reward, and at most one entry corrects each of its entries: a reward can't count twice.
CREATE UNIQUE INDEX ix_reward_ledger_user_id_decision_id_corrects
    ON oo_ml.reward_ledger (user_id, decision_id, corrects) NULLS NOT DISTINCT
    WHERE decision_id IS NOT NULL;
-- A decision of another policy warms a policy once.
CREATE UNIQUE INDEX ix_reward_ledger_user_id_policy_origin_decision_id
    ON oo_ml.reward_ledger (user_id, policy, origin_decision_id) WHERE origin_decision_id IS NOT NULL;
CREATE UNIQUE INDEX ix_reward_ledger_user_id_idempotency_key
    ON oo_ml.reward_ledger (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
