-- Each constraint on a table that is in use is added NOT VALID, which reads no row; 0006 validates it.

-- Until now a weight meant nothing. From now on it is traffic, which a version gets when somebody says so.
UPDATE prompt_versions SET weight = 0;
ALTER TABLE prompt_versions ALTER COLUMN weight SET DEFAULT 0;
COMMENT ON COLUMN prompt_versions.weight IS
    'Share of the calls that name no version, relative to the others; 0: none';

ALTER TABLE generations
    ADD COLUMN prompt_probability float8,
    ADD CONSTRAINT ck_generations_prompt_probability_range
        CHECK (prompt_probability > 0 AND prompt_probability <= 1) NOT VALID;
COMMENT ON COLUMN generations.prompt_probability IS
    'Probability with which the version was picked: 1 if the client named it';

ALTER TABLE tips
    ADD COLUMN prompt_probability float8,
    ADD CONSTRAINT ck_tips_prompt_probability_range
        CHECK (prompt_probability > 0 AND prompt_probability <= 1) NOT VALID;
COMMENT ON COLUMN tips.prompt_probability IS
    'Probability with which the version was picked, as in its generation';

ALTER TABLE feature_history
    ADD COLUMN pull bigint,
    ADD COLUMN prompt_probability float8,
    ADD CONSTRAINT ck_feature_history_pull_range CHECK (pull >= 1) NOT VALID,
    ADD CONSTRAINT ck_feature_history_prompt_probability_range
        CHECK (prompt_probability > 0 AND prompt_probability <= 1) NOT VALID;
COMMENT ON COLUMN feature_history.pull IS
    'policy_state.pulls with this decision: its number in the epoch, from 1';
COMMENT ON COLUMN feature_history.prompt_probability IS
    'Probability with which the tip''s prompt version was picked, if known';

CREATE SEQUENCE reward_ledger_order AS bigint;
-- A constant default first: the rows that there are get it without being written.
ALTER TABLE reward_ledger ADD COLUMN position bigint NOT NULL DEFAULT 0;
ALTER TABLE reward_ledger ALTER COLUMN position SET DEFAULT nextval('reward_ledger_order');
-- Whoever inserts into the ledger, such as a service of the older release, goes on doing so.
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'reward_ledger'::regclass AND a.privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE reward_ledger_order TO %s', grantee);
    END LOOP;
END
$$;
COMMENT ON COLUMN reward_ledger.position IS
    'Order in which changes were made; 0: before there were positions';

CREATE TABLE prompt_assignments (
    user_id text COLLATE "C" NOT NULL,
    prompt_version text COLLATE "C" NOT NULL,
    probability float8 NOT NULL,
    assigned_at timestamptz NOT NULL,
    CONSTRAINT pk_prompt_assignments PRIMARY KEY (user_id),
    CONSTRAINT fk_prompt_assignments_prompt_versions
        FOREIGN KEY (prompt_version) REFERENCES prompt_versions (version),
    CONSTRAINT ck_prompt_assignments_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_prompt_assignments_probability_range CHECK (probability > 0 AND probability <= 1)
);
COMMENT ON TABLE prompt_assignments IS
    'Which prompt version a person keeps, where OO_ML_PROMPT_STICKY is on. One row a person.';
COMMENT ON COLUMN prompt_assignments.user_id IS 'The person';
COMMENT ON COLUMN prompt_assignments.prompt_version IS 'The version that they get as long as it is in use';
COMMENT ON COLUMN prompt_assignments.probability IS 'Probability with which it was picked for them';
COMMENT ON COLUMN prompt_assignments.assigned_at IS 'When it was picked';

CREATE TABLE counted (
    source text COLLATE "C" NOT NULL,
    counted_until bigint NOT NULL,
    settled_until bigint NOT NULL,
    next_until bigint,
    next_xid bigint,
    CONSTRAINT pk_counted PRIMARY KEY (source),
    CONSTRAINT ck_counted_counted_range CHECK (counted_until <= settled_until)
);
COMMENT ON TABLE counted IS 'How far the daily tables have come. One row a source. Without any, upkeep counts everything anew';
COMMENT ON COLUMN counted.source IS 'feature_history or reward_ledger';
COMMENT ON COLUMN counted.counted_until IS 'The daily tables hold every row up to this position';
COMMENT ON COLUMN counted.settled_until IS 'No row up to this position is yet to be committed';
COMMENT ON COLUMN counted.next_until IS
    'The next settled_until, once no transaction below next_xid is under way';
COMMENT ON COLUMN counted.next_xid IS 'The first transaction that can have no row up to next_until';

-- Below every position, the 0 of the oldest changes too.
INSERT INTO counted (source, counted_until, settled_until) VALUES ('feature_history', -1, -1), ('reward_ledger', -1, -1);

CREATE TABLE daily_reactions (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    prompt_version text COLLATE "C",
    exploring boolean NOT NULL,
    reaction text COLLATE "C" NOT NULL,
    decisions bigint NOT NULL,
    rewards numeric NOT NULL,
    rewards_squared numeric NOT NULL,
    weights numeric NOT NULL,
    weights_squared numeric NOT NULL,
    weighted_rewards numeric NOT NULL,
    squared_weights_rewards numeric NOT NULL,
    weighted_rewards_squared numeric NOT NULL,
    CONSTRAINT uq_daily_reactions
        UNIQUE NULLS NOT DISTINCT (day, policy, prompt_version, exploring, reaction)
);
COMMENT ON TABLE daily_reactions IS
    'Decisions by day and by the reaction that counts now. Kept by upkeep; schema analytics adds what is newer';
COMMENT ON COLUMN daily_reactions.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN daily_reactions.policy IS 'The policy that decided';
COMMENT ON COLUMN daily_reactions.prompt_version IS 'Prompt version that wrote the tip, if a model did';
COMMENT ON COLUMN daily_reactions.exploring IS 'Whether the tip was drawn at random';
COMMENT ON COLUMN daily_reactions.reaction IS
    'done, helpful, snooze, not_helpful, dismiss, other; none so far; default: one was assumed';
COMMENT ON COLUMN daily_reactions.decisions IS 'How many there are';
COMMENT ON COLUMN daily_reactions.rewards IS 'Sum of r, their rewards';
COMMENT ON COLUMN daily_reactions.rewards_squared IS 'Sum of r^2';
COMMENT ON COLUMN daily_reactions.weights IS 'Sum of w = 1 / (propensity x prompt_probability)';
COMMENT ON COLUMN daily_reactions.weights_squared IS 'Sum of w^2';
COMMENT ON COLUMN daily_reactions.weighted_rewards IS 'Sum of w r';
COMMENT ON COLUMN daily_reactions.squared_weights_rewards IS 'Sum of w^2 r';
COMMENT ON COLUMN daily_reactions.weighted_rewards_squared IS 'Sum of w^2 r^2';

CREATE TABLE daily_learning (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    first_pull bigint NOT NULL,
    decisions bigint NOT NULL,
    rewarded bigint NOT NULL,
    rewards numeric NOT NULL,
    rewards_squared numeric NOT NULL,
    CONSTRAINT pk_daily_learning PRIMARY KEY (day, policy, first_pull)
);
COMMENT ON TABLE daily_learning IS
    'Decisions by day and by their number in the epoch: up to 99 one by one, then in steps of a tenth.';
COMMENT ON COLUMN daily_learning.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN daily_learning.policy IS 'The policy that decided';
COMMENT ON COLUMN daily_learning.first_pull IS 'First of the pulls taken together';
COMMENT ON COLUMN daily_learning.decisions IS 'How many there are';
COMMENT ON COLUMN daily_learning.rewarded IS 'Those with a reward that counts';
COMMENT ON COLUMN daily_learning.rewards IS 'Sum of r, their rewards';
COMMENT ON COLUMN daily_learning.rewards_squared IS 'Sum of r^2';

CREATE TABLE daily_delays (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    delay_step smallint NOT NULL,
    decisions bigint NOT NULL,
    CONSTRAINT pk_daily_delays PRIMARY KEY (day, policy, delay_step)
);
COMMENT ON TABLE daily_delays IS
    'Decisions with a reaction, by day and by how long it took. Each step is 3.5 % longer than the one before.';
COMMENT ON COLUMN daily_delays.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN daily_delays.policy IS 'The policy that decided';
COMMENT ON COLUMN daily_delays.delay_step IS 'ceil(20 log2(1 + seconds)) from decision to reaction';
COMMENT ON COLUMN daily_delays.decisions IS 'How many there are';

CREATE TABLE daily_exploration (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    decisions bigint NOT NULL,
    explored bigint NOT NULL,
    expected numeric NOT NULL,
    expected_variance numeric NOT NULL,
    shares numeric NOT NULL,
    shares_squared numeric NOT NULL,
    CONSTRAINT pk_daily_exploration PRIMARY KEY (day, policy)
);
COMMENT ON TABLE daily_exploration IS 'What was explored against what was to be, by day.';
COMMENT ON COLUMN daily_exploration.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN daily_exploration.policy IS 'The policy that decided';
COMMENT ON COLUMN daily_exploration.decisions IS 'How many there are whose exploration is known';
COMMENT ON COLUMN daily_exploration.explored IS 'Those drawn at random';
COMMENT ON COLUMN daily_exploration.expected IS 'Sum of e, the share that was to be drawn at random';
COMMENT ON COLUMN daily_exploration.expected_variance IS 'Sum of e (1 - e)';
COMMENT ON COLUMN daily_exploration.shares IS
    'Sum of u = 1 / (n propensity), n the tips that could be chosen; its mean is to be 1';
COMMENT ON COLUMN daily_exploration.shares_squared IS 'Sum of u^2';

INSERT INTO upkeep (task) VALUES ('days');
COMMENT ON COLUMN upkeep.task IS 'days, default-rewards or retention';
