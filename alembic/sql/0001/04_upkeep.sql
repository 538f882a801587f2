-- Progress of upkeep, and the sums by day that it adds to. A sum is numeric, which is exact: the order of additions
-- does not matter, and a sum can be subtracted again.

CREATE TABLE oo_ml.upkeep (
    task text COLLATE "C" NOT NULL,
    done_until timestamptz,
    ran_at timestamptz,
    CONSTRAINT pk_upkeep PRIMARY KEY (task)
);
COMMENT ON TABLE oo_ml.upkeep IS
    'One row for each task of upkeep, locked during a step, so that one process takes it; any may fit priors';
COMMENT ON COLUMN oo_ml.upkeep.task IS 'days, default-rewards, priors or retention';
COMMENT ON COLUMN oo_ml.upkeep.done_until IS 'Decisions before this time are done; null: none is';
COMMENT ON COLUMN oo_ml.upkeep.ran_at IS 'Time of the last run';

INSERT INTO oo_ml.upkeep (task) VALUES ('days'), ('default-rewards'), ('priors'), ('retention');

CREATE TABLE oo_ml.counted (
    source text COLLATE "C" NOT NULL,
    counted_until bigint NOT NULL,
    settled_until bigint NOT NULL,
    next_until bigint,
    next_xid bigint,
    CONSTRAINT pk_counted PRIMARY KEY (source),
    CONSTRAINT ck_counted_counted_range CHECK (counted_until <= settled_until)
);
COMMENT ON TABLE oo_ml.counted IS
    'Progress of the daily tables, one row for each source. If it is empty, upkeep counts everything again';
COMMENT ON COLUMN oo_ml.counted.source IS 'feature_history, reward_ledger or generations';
COMMENT ON COLUMN oo_ml.counted.counted_until IS 'The daily tables include all rows up to this position';
COMMENT ON COLUMN oo_ml.counted.settled_until IS 'All transactions with a row up to this position have ended';
COMMENT ON COLUMN oo_ml.counted.next_until IS 'The next settled_until, once all transactions below next_xid have ended';
COMMENT ON COLUMN oo_ml.counted.next_xid IS 'No transaction from this number on has a row up to next_until';

-- -1 is below every position.
INSERT INTO oo_ml.counted (source, counted_until, settled_until)
VALUES ('feature_history', -1, -1), ('reward_ledger', -1, -1), ('generations', -1, -1);

CREATE TABLE oo_ml.daily_reactions (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    prompt_version text COLLATE "C",
    exploring boolean NOT NULL,
    reaction text COLLATE "C" NOT NULL,
    decisions bigint NOT NULL,
    weights numeric NOT NULL,
    weights_squared numeric NOT NULL,
    weighted_rewards numeric NOT NULL,
    unsupported bigint NOT NULL,
    CONSTRAINT uq_daily_reactions UNIQUE NULLS NOT DISTINCT (day, policy, prompt_version, exploring, reaction)
);
COMMENT ON TABLE oo_ml.daily_reactions IS
    'Decisions by day and by the reaction that counts. Upkeep adds to it; schema analytics adds newer rows';
COMMENT ON COLUMN oo_ml.daily_reactions.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN oo_ml.daily_reactions.policy IS 'The policy that decided';
COMMENT ON COLUMN oo_ml.daily_reactions.prompt_version IS 'Prompt version that wrote the tip, if a model did';
COMMENT ON COLUMN oo_ml.daily_reactions.exploring IS 'True if the tip was drawn at random';
COMMENT ON COLUMN oo_ml.daily_reactions.reaction IS
    'done, helpful, snooze, not_helpful, dismiss, other; none: no reward; default: an assumed one';
COMMENT ON COLUMN oo_ml.daily_reactions.decisions IS 'Number of decisions';
COMMENT ON COLUMN oo_ml.daily_reactions.weights IS 'Sum of w = 1 / (propensity x prompt_probability)';
COMMENT ON COLUMN oo_ml.daily_reactions.weights_squared IS 'Sum of w^2';
COMMENT ON COLUMN oo_ml.daily_reactions.weighted_rewards IS 'Sum of w r, r the reward';
COMMENT ON COLUMN oo_ml.daily_reactions.unsupported IS
    'Number of decisions in which some candidate had a propensity below 1e-12, or propensities are unknown';

-- The cells of daily_reactions once more, split by group of users: intervals take users as the sample (ADR 26). It has
-- up to 16 times as many rows, so only reports with intervals read it.
CREATE TABLE oo_ml.daily_user_groups (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    prompt_version text COLLATE "C",
    exploring boolean NOT NULL,
    reaction text COLLATE "C" NOT NULL,
    user_group smallint NOT NULL,
    assigned boolean NOT NULL,
    decisions bigint NOT NULL,
    rewards numeric NOT NULL,
    weights numeric NOT NULL,
    weights_squared numeric NOT NULL,
    weighted_rewards numeric NOT NULL,
    modelled bigint NOT NULL,
    random_estimates numeric NOT NULL,
    choices bigint NOT NULL,
    unsupported bigint NOT NULL,
    CONSTRAINT uq_daily_user_groups
        UNIQUE NULLS NOT DISTINCT (day, policy, prompt_version, exploring, reaction, user_group, assigned)
);
COMMENT ON TABLE oo_ml.daily_user_groups IS
    'Decisions by day, by the reaction that counts and by group of users. Upkeep adds to it; schema analytics adds newer rows';
COMMENT ON COLUMN oo_ml.daily_user_groups.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN oo_ml.daily_user_groups.policy IS 'The policy that decided';
COMMENT ON COLUMN oo_ml.daily_user_groups.prompt_version IS 'Prompt version that wrote the tip, if a model did';
COMMENT ON COLUMN oo_ml.daily_user_groups.exploring IS 'True if the tip was drawn at random';
COMMENT ON COLUMN oo_ml.daily_user_groups.reaction IS
    'done, helpful, snooze, not_helpful, dismiss, other; none: no reward; default: an assumed one';
COMMENT ON COLUMN oo_ml.daily_user_groups.user_group IS 'Group of the users that decided, from 0 to 15';
COMMENT ON COLUMN oo_ml.daily_user_groups.assigned IS 'True if the traffic chose the policy by the user';
COMMENT ON COLUMN oo_ml.daily_user_groups.decisions IS 'Number of decisions';
COMMENT ON COLUMN oo_ml.daily_user_groups.rewards IS 'Sum of the rewards r';
COMMENT ON COLUMN oo_ml.daily_user_groups.weights IS 'Sum of w = 1 / (propensity x prompt_probability)';
COMMENT ON COLUMN oo_ml.daily_user_groups.weights_squared IS 'Sum of w^2';
COMMENT ON COLUMN oo_ml.daily_user_groups.weighted_rewards IS 'Sum of w r';
COMMENT ON COLUMN oo_ml.daily_user_groups.modelled IS
    'Number of decisions with a reward and with the expected reward of each candidate';
COMMENT ON COLUMN oo_ml.daily_user_groups.random_estimates IS
    'Sum over these of d, the doubly robust estimate of the reward of a draw at random';
COMMENT ON COLUMN oo_ml.daily_user_groups.choices IS 'Number of decisions among more than one candidate';
COMMENT ON COLUMN oo_ml.daily_user_groups.unsupported IS
    'Number of decisions in which some candidate had a propensity below 1e-12, or propensities are unknown';

CREATE TABLE oo_ml.daily_learning (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    first_pull bigint NOT NULL,
    decisions bigint NOT NULL,
    rewarded bigint NOT NULL,
    rewards numeric NOT NULL,
    rewards_squared numeric NOT NULL,
    CONSTRAINT pk_daily_learning PRIMARY KEY (day, policy, first_pull)
);
COMMENT ON TABLE oo_ml.daily_learning IS
    'Decisions by day and by their number in the epoch: one by one up to 99, then in groups of a tenth';
COMMENT ON COLUMN oo_ml.daily_learning.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN oo_ml.daily_learning.policy IS 'The policy that decided';
COMMENT ON COLUMN oo_ml.daily_learning.first_pull IS 'First decision number of the group';
COMMENT ON COLUMN oo_ml.daily_learning.decisions IS 'Number of decisions';
COMMENT ON COLUMN oo_ml.daily_learning.rewarded IS 'Number of decisions with a reward that counts';
COMMENT ON COLUMN oo_ml.daily_learning.rewards IS 'Sum of the rewards r';
COMMENT ON COLUMN oo_ml.daily_learning.rewards_squared IS 'Sum of r^2';

CREATE TABLE oo_ml.daily_first_decisions (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    prior_version integer NOT NULL,
    first_pull bigint NOT NULL,
    user_group smallint NOT NULL,
    decisions bigint NOT NULL,
    rewarded bigint NOT NULL,
    rewards numeric NOT NULL,
    CONSTRAINT pk_daily_first_decisions PRIMARY KEY (day, policy, prior_version, first_pull, user_group)
);
COMMENT ON TABLE oo_ml.daily_first_decisions IS
    'The first 20 decisions of each user by a pooled policy, by day, by the version of the prior and by group of users';
COMMENT ON COLUMN oo_ml.daily_first_decisions.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN oo_ml.daily_first_decisions.policy IS 'The policy that decided';
COMMENT ON COLUMN oo_ml.daily_first_decisions.prior_version IS 'Version of the prior that the decisions started from';
COMMENT ON COLUMN oo_ml.daily_first_decisions.first_pull IS 'First decision number of the group: 1, 6, 11 or 16';
COMMENT ON COLUMN oo_ml.daily_first_decisions.user_group IS 'Group of the users that decided, from 0 to 15';
COMMENT ON COLUMN oo_ml.daily_first_decisions.decisions IS 'Number of decisions';
COMMENT ON COLUMN oo_ml.daily_first_decisions.rewarded IS 'Number of decisions with a reward that counts';
COMMENT ON COLUMN oo_ml.daily_first_decisions.rewards IS 'Sum of the rewards r';

CREATE TABLE oo_ml.daily_delays (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    delay_step smallint NOT NULL,
    decisions bigint NOT NULL,
    CONSTRAINT pk_daily_delays PRIMARY KEY (day, policy, delay_step)
);
COMMENT ON TABLE oo_ml.daily_delays IS
    'Decisions with a reaction, by day and by the delay of the reaction. A step is 3.5 % longer than the last';
COMMENT ON COLUMN oo_ml.daily_delays.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN oo_ml.daily_delays.policy IS 'The policy that decided';
COMMENT ON COLUMN oo_ml.daily_delays.delay_step IS 'ceil(20 log2(1 + seconds)) from the decision to the reaction';
COMMENT ON COLUMN oo_ml.daily_delays.decisions IS 'Number of decisions';

CREATE TABLE oo_ml.daily_exploration (
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
COMMENT ON TABLE oo_ml.daily_exploration IS 'Random draws by day, beside the number that was expected';
COMMENT ON COLUMN oo_ml.daily_exploration.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN oo_ml.daily_exploration.policy IS 'The policy that decided';
COMMENT ON COLUMN oo_ml.daily_exploration.decisions IS 'Number of decisions whose exploration is known';
COMMENT ON COLUMN oo_ml.daily_exploration.explored IS 'Number of decisions drawn at random';
COMMENT ON COLUMN oo_ml.daily_exploration.expected IS 'Sum of e, the probability of a draw at random';
COMMENT ON COLUMN oo_ml.daily_exploration.expected_variance IS 'Sum of e (1 - e)';
COMMENT ON COLUMN oo_ml.daily_exploration.shares IS
    'Sum of u = 1 / (n propensity), n the number of candidates; the mean of u should be 1';
COMMENT ON COLUMN oo_ml.daily_exploration.shares_squared IS 'Sum of u^2';

CREATE TABLE oo_ml.daily_costs (
    day date NOT NULL,
    prompt_version text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    calls bigint NOT NULL,
    failed bigint NOT NULL,
    retries bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    CONSTRAINT pk_daily_costs PRIMARY KEY (day, prompt_version, model)
);
COMMENT ON TABLE oo_ml.daily_costs IS
    'Calls of the language model by day, version and model. Upkeep adds to it; schema analytics adds newer rows';
COMMENT ON COLUMN oo_ml.daily_costs.day IS 'Day of the calls, UTC';
COMMENT ON COLUMN oo_ml.daily_costs.prompt_version IS 'The prompt version used';
COMMENT ON COLUMN oo_ml.daily_costs.model IS 'The model that answered; empty: none did';
COMMENT ON COLUMN oo_ml.daily_costs.calls IS 'Number of calls';
COMMENT ON COLUMN oo_ml.daily_costs.failed IS 'Number of calls that gave no tips';
COMMENT ON COLUMN oo_ml.daily_costs.retries IS 'Number of further requests to the model within a call';
COMMENT ON COLUMN oo_ml.daily_costs.prompt_tokens IS 'Tokens of the prompts';
COMMENT ON COLUMN oo_ml.daily_costs.completion_tokens IS 'Tokens of the replies';

CREATE TABLE oo_ml.daily_rewards (
    day date NOT NULL,
    policy text COLLATE "C" NOT NULL,
    learned bigint NOT NULL,
    CONSTRAINT pk_daily_rewards PRIMARY KEY (day, policy)
);
COMMENT ON TABLE oo_ml.daily_rewards IS
    'Rewards of each policy by day, with and without a decision. Upkeep adds to it, and fits priors by it';
COMMENT ON COLUMN oo_ml.daily_rewards.day IS 'Day of the ledger entries, UTC';
COMMENT ON COLUMN oo_ml.daily_rewards.policy IS 'The policy that learned';
COMMENT ON COLUMN oo_ml.daily_rewards.learned IS 'Number of rewards learned, less those retracted';

CREATE TABLE oo_ml.daily_done (
    day date NOT NULL,
    prompt_version text COLLATE "C" NOT NULL,
    done bigint NOT NULL,
    CONSTRAINT pk_daily_done PRIMARY KEY (day, prompt_version)
);
COMMENT ON TABLE oo_ml.daily_done IS
    'Decisions with reaction done, by the day and version of the call that wrote their tip. Upkeep adds to it';
COMMENT ON COLUMN oo_ml.daily_done.day IS 'Day of the calls, UTC';
COMMENT ON COLUMN oo_ml.daily_done.prompt_version IS 'The prompt version used';
COMMENT ON COLUMN oo_ml.daily_done.done IS 'Number of decisions with reaction done';

CREATE TABLE oo_ml.daily_latencies (
    day date NOT NULL,
    prompt_version text COLLATE "C" NOT NULL,
    latency_step smallint NOT NULL,
    calls bigint NOT NULL,
    CONSTRAINT pk_daily_latencies PRIMARY KEY (day, prompt_version, latency_step)
);
COMMENT ON TABLE oo_ml.daily_latencies IS
    'Calls of the language model by day and by latency. A step is 3.5 % longer than the last';
COMMENT ON COLUMN oo_ml.daily_latencies.day IS 'Day of the calls, UTC';
COMMENT ON COLUMN oo_ml.daily_latencies.prompt_version IS 'The prompt version used';
COMMENT ON COLUMN oo_ml.daily_latencies.latency_step IS 'round(20 log2(1 + milliseconds)) spent waiting';
COMMENT ON COLUMN oo_ml.daily_latencies.calls IS 'Number of calls';

-- ADR 11
-- Autovacuum summarizes the BRIN indexes on position too, but late when it is busy, and it forgets requests past 256, about
-- 115,000 decisions. Until the next VACUUM each query for rows after a position reads those pages. The function runs with
-- the rights of the tables' owner, as brin_summarize_new_values demands.
CREATE FUNCTION oo_ml.summarize_positions() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_table regclass;
    of_index regclass;
    summarized bigint := 0;
BEGIN
    FOR of_table, of_index IN
        SELECT i.indrelid, i.indexrelid
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid
        JOIN pg_am AS m ON m.oid = c.relam
        WHERE m.amname = 'brin' AND c.relkind = 'i' AND (
            i.indrelid IN ('oo_ml.reward_ledger'::regclass, 'oo_ml.generations'::regclass)
            OR i.indrelid IN (SELECT p.inhrelid FROM pg_inherits AS p WHERE p.inhparent = 'oo_ml.feature_history'::regclass)
        )
    LOOP
        BEGIN
            -- Autovacuum would be cancelled by a session that waits for this lock. It summarizes the table itself.
            EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE NOWAIT', of_table);
            summarized := summarized + brin_summarize_new_values(of_index);
        EXCEPTION WHEN lock_not_available OR undefined_table THEN
            CONTINUE;
        END;
    END LOOP;
    RETURN summarized;
END
$$;
COMMENT ON FUNCTION oo_ml.summarize_positions IS
    'Add new rows to the indexes on position; return the number of ranges of pages added. Skips tables that are being vacuumed';
REVOKE EXECUTE ON FUNCTION oo_ml.summarize_positions FROM PUBLIC;
