-- Each constraint is added NOT VALID, which reads no row; 0003 validates it beside a service at work.

ALTER TABLE feature_history
    ADD COLUMN reward_kind text COLLATE "C",
    ADD COLUMN request_digest bytea,
    ADD COLUMN exploration float8,
    ADD COLUMN alpha float8,
    ADD COLUMN exploit float8[],
    ADD COLUMN explore float8[],
    ADD COLUMN propensities float8[],
    ADD CONSTRAINT ck_feature_history_reward_kind_known
        CHECK (reward_kind IN ('default', 'amend', 'retract')) NOT VALID,
    ADD CONSTRAINT ck_feature_history_reward_kind_matches
        CHECK (reward_kind IS NULL OR (reward IS NULL) = (reward_kind = 'retract')) NOT VALID,
    ADD CONSTRAINT ck_feature_history_request_digest_length CHECK (octet_length(request_digest) = 32) NOT VALID,
    ADD CONSTRAINT ck_feature_history_exploration_range CHECK (exploration BETWEEN 0 AND 1) NOT VALID,
    ADD CONSTRAINT ck_feature_history_alpha_range CHECK (alpha >= 0 AND alpha < 'Infinity') NOT VALID,
    ADD CONSTRAINT ck_feature_history_candidate_dimensions CHECK (
        num_nonnulls(exploration, exploit, explore, propensities) IN (0, 4)
        AND array_length(exploit, 1) = array_length(propensities, 1)
        AND array_length(explore, 1) = array_length(propensities, 1)
    ) NOT VALID,
    ADD CONSTRAINT ck_feature_history_exploit_finite
        CHECK ('-Infinity' < ALL (exploit) AND 'Infinity' > ALL (exploit)) NOT VALID,
    ADD CONSTRAINT ck_feature_history_explore_finite
        CHECK ('-Infinity' < ALL (explore) AND 'Infinity' > ALL (explore)) NOT VALID,
    ADD CONSTRAINT ck_feature_history_propensities_range
        CHECK (0 <= ALL (propensities) AND 1 >= ALL (propensities)) NOT VALID;

COMMENT ON COLUMN feature_history.reward IS 'The reward that counts, null so far or retracted';
COMMENT ON COLUMN feature_history.rewarded_at IS 'When the reward that counts came';
COMMENT ON COLUMN feature_history.reward_kind IS
    'Where it is not as first received: default (assumed), amend (corrected) or retract (taken back)';
COMMENT ON COLUMN feature_history.request_digest IS 'SHA-256 of the request, where the client named the decision';
COMMENT ON COLUMN feature_history.exploration IS 'Share of decisions drawn at random when this one was made';
COMMENT ON COLUMN feature_history.alpha IS 'Width of the confidence bound; null for egreedy-v1';
COMMENT ON COLUMN feature_history.exploit IS 'theta.x of each candidate';
COMMENT ON COLUMN feature_history.explore IS 'alpha sqrt(x^T A^-1 x) of each candidate; 0 for egreedy-v1';
COMMENT ON COLUMN feature_history.propensities IS 'Probability with which each candidate was to be chosen';

ALTER TABLE reward_ledger
    ADD COLUMN previous_reward float8,
    ADD COLUMN corrects bigint,
    ADD COLUMN request_digest bytea,
    -- Both come back wider: there are more kinds, and a retraction has no reward.
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT ck_reward_ledger_kind_known,
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT ck_reward_ledger_reward_present,
    ADD CONSTRAINT ck_reward_ledger_kind_known
        CHECK (kind IN ('reward', 'default', 'amend', 'retract', 'import')) NOT VALID,
    ADD CONSTRAINT ck_reward_ledger_reward_present
        CHECK ((reward IS NULL) = (kind IN ('retract', 'import'))) NOT VALID,
    ADD CONSTRAINT ck_reward_ledger_x_present
        CHECK (num_nulls(x, tip_id) = CASE kind WHEN 'import' THEN 2 ELSE 0 END) NOT VALID,
    ADD CONSTRAINT ck_reward_ledger_previous_reward_range CHECK (previous_reward BETWEEN -1 AND 1) NOT VALID,
    ADD CONSTRAINT ck_reward_ledger_previous_reward_present
        CHECK ((previous_reward IS NOT NULL) = (kind IN ('amend', 'retract'))) NOT VALID,
    ADD CONSTRAINT ck_reward_ledger_decision_present CHECK (
        (kind NOT IN ('amend', 'retract') OR corrects IS NOT NULL)
        AND (corrects IS NULL OR decision_id IS NOT NULL)
        AND (kind <> 'default' OR decision_id IS NOT NULL)
    ) NOT VALID,
    ADD CONSTRAINT ck_reward_ledger_corrects_range CHECK (corrects BETWEEN 1 AND version - 1) NOT VALID,
    ADD CONSTRAINT ck_reward_ledger_request_digest_length CHECK (octet_length(request_digest) = 32) NOT VALID;

COMMENT ON COLUMN reward_ledger.kind IS
    'reward: a reaction came in; default: none came in time; amend: another one counts from now on; retract: none does any more; import: the state starts from that of another service';
COMMENT ON COLUMN reward_ledger.reward IS 'The reward that counts from now on';
COMMENT ON COLUMN reward_ledger.previous_reward IS 'amend, retract: the reward that counted until now';
COMMENT ON COLUMN reward_ledger.corrects IS 'Version of the row before this one of the same decision';
COMMENT ON COLUMN reward_ledger.request_digest IS 'SHA-256 of the call that idempotency_key came with';

CREATE TABLE upkeep (
    task text COLLATE "C" NOT NULL,
    done_until timestamptz,
    ran_at timestamptz,
    CONSTRAINT pk_upkeep PRIMARY KEY (task)
);

COMMENT ON TABLE upkeep IS
    'One row a task of upkeep. Whoever runs it holds the row, so that no two processes do at once.';
COMMENT ON COLUMN upkeep.task IS 'default-rewards or retention';
COMMENT ON COLUMN upkeep.done_until IS 'Everything decided before this has been seen to; null: nothing yet';
COMMENT ON COLUMN upkeep.ran_at IS 'When it last ran';

INSERT INTO upkeep (task) VALUES ('default-rewards'), ('retention');
