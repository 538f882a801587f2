-- What the daily tables are made from, and what they are completed with: no contract, unlike schema analytics.

CREATE SCHEMA rollup;
COMMENT ON SCHEMA rollup IS 'What stands behind schema analytics. May change with any release';

CREATE FUNCTION rollup.weight(propensity float8, prompt_probability float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- Bounded, so that its square is a number whatever a client once logged.
RETURN 1 / greatest(propensity * coalesce(prompt_probability, 1), 1e-100);
COMMENT ON FUNCTION rollup.weight IS
    'Inverse of the probability that just this tip, by just this prompt version, was shown; unknown counts as 1';

CREATE FUNCTION rollup.amount(reward float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- PostgreSQL refuses a product that is too small for a float8: one such reward would be the end of every sum.
RETURN CASE WHEN abs(reward) >= 1e-30 THEN reward ELSE 0 END;
COMMENT ON FUNCTION rollup.amount IS 'A reward as it is added up: 0 where there is none, or next to none';

CREATE FUNCTION rollup.reaction(reward float8, kind text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN reward IS NULL THEN 'none'
    WHEN kind = 'default' THEN 'default'
    WHEN reward = 1 THEN 'done'
    WHEN reward = 0.5 THEN 'helpful'
    WHEN reward = 0 THEN 'snooze'
    WHEN reward = -0.5 THEN 'not_helpful'
    WHEN reward = -1 THEN 'dismiss'
    ELSE 'other'
END;
COMMENT ON FUNCTION rollup.reaction IS 'The product''s name of a reward; default: one that was assumed';

CREATE FUNCTION rollup.pull_step(pull bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN pull < 100 THEN 1
    WHEN pull < 1000 THEN 10
    WHEN pull < 10000 THEN 100
    WHEN pull < 100000 THEN 1000
    ELSE 10000
END;
COMMENT ON FUNCTION rollup.pull_step IS 'How many pulls are taken together with this one';

CREATE FUNCTION rollup.delay_step(delay interval) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- Clocks differ: a reaction can seem to come before its decision. Rounded, so that 7 s are 60 steps and not 61.
RETURN CAST(ceil(round(
    CAST(20 * ln(1 + greatest(CAST(extract(epoch FROM delay) AS float8), 0)) / ln(2::float8) AS numeric), 9
)) AS smallint);
COMMENT ON FUNCTION rollup.delay_step IS 'ceil(20 log2(1 + seconds)): up to 3.5 % more than the delay';

CREATE FUNCTION rollup.count_z(found float8, expected float8, variance float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- Of n things with probability p each, where n p = expected and n p (1 - p) = variance. A difference over its
    -- standard deviation would cry wolf where few are expected; this has nearly the tails of the binomial distribution.
    SELECT CASE
        WHEN variance > 0 AND found > s.n * 1.000000001 THEN 'Infinity'
        WHEN variance > 0 THEN sign(found - expected) * sqrt(greatest(2 * (
            CASE WHEN found > 0 THEN found * ln(found / expected) ELSE 0 END
            + CASE WHEN s.n IS NULL THEN expected - found
                WHEN found < s.n THEN (s.n - found) * ln((s.n - found) / (s.n - expected)) ELSE 0 END
        ), 0))
    END
    FROM (
        -- So rare that there is no telling among how many: Poisson's.
        SELECT CASE WHEN expected - variance > 1e-9 * expected THEN expected / (1 - variance / expected) END AS n
    ) AS s;
END;
COMMENT ON FUNCTION rollup.count_z IS
    'How far a count of independent draws is off, in standard deviations: the signed root of its deviance (McCullagh and Nelder 1989); null if variance is 0';

-- A decision is made, and is without a reaction (+1); a reward comes, is corrected or taken back: the decision leaves
-- the cell that it was in (-1) and comes into another (+1). Whatever rows are taken, their sum is what they have changed.
CREATE VIEW rollup.reaction_cells AS
SELECT
    c.source,
    c.position,
    c.user_id,
    CAST(c.decided_at AT TIME ZONE 'UTC' AS date) AS day,
    c.policy,
    c.prompt_version,
    c.exploring,
    c.pull / rollup.pull_step(c.pull) * rollup.pull_step(c.pull) AS first_pull,
    CASE WHEN c.kind <> 'default' AND c.reward IS NOT NULL THEN rollup.delay_step(c.rewarded_at - c.decided_at) END
        AS delay_step,
    rollup.reaction(c.reward, c.kind) AS reaction,
    c.sign AS decisions,
    c.sign * CAST(c.r AS numeric) AS rewards,
    c.sign * CAST(c.r * c.r AS numeric) AS rewards_squared,
    c.sign * CAST(c.w AS numeric) AS weights,
    c.sign * CAST(c.w * c.w AS numeric) AS weights_squared,
    c.sign * CAST(c.w * c.r AS numeric) AS weighted_rewards,
    c.sign * CAST(c.w * c.w * c.r AS numeric) AS squared_weights_rewards,
    c.sign * CAST(c.w * c.w * c.r * c.r AS numeric) AS weighted_rewards_squared
FROM (
    SELECT
        'feature_history' AS source, h.position, 1 AS sign,
        NULL::float8 AS reward, NULL::text AS kind, NULL::timestamptz AS rewarded_at, 0::float8 AS r,
        rollup.weight(h.propensity, h.prompt_probability) AS w,
        h.user_id, h.decided_at, h.policy, h.prompt_version, h.exploring, h.pull
    FROM feature_history AS h
    UNION ALL
    SELECT
        'reward_ledger', l.position, -1,
        before.reward, before.kind, before.recorded_at, rollup.amount(before.reward),
        rollup.weight(h.propensity, h.prompt_probability),
        h.user_id, h.decided_at, h.policy, h.prompt_version, h.exploring, h.pull
    FROM reward_ledger AS l
    JOIN feature_history AS h ON h.user_id = l.user_id AND h.decision_id = l.decision_id
    LEFT JOIN reward_ledger AS before
        ON before.user_id = l.user_id AND before.policy = l.policy AND before.epoch = l.epoch
        AND before.version = l.corrects
    UNION ALL
    SELECT
        'reward_ledger', l.position, 1,
        l.reward, l.kind, l.recorded_at, rollup.amount(l.reward),
        rollup.weight(h.propensity, h.prompt_probability),
        h.user_id, h.decided_at, h.policy, h.prompt_version, h.exploring, h.pull
    FROM reward_ledger AS l
    JOIN feature_history AS h ON h.user_id = l.user_id AND h.decision_id = l.decision_id
) AS c;
COMMENT ON VIEW rollup.reaction_cells IS
    'What each decision and each change of a reward adds to the daily tables, and takes from them';

CREATE VIEW rollup.exploration_cells AS
SELECT
    h.position,
    h.user_id,
    CAST(h.decided_at AT TIME ZONE 'UTC' AS date) AS day,
    h.policy,
    1 AS decisions,
    CAST(h.exploring AS integer) AS explored,
    CAST(h.exploration AS numeric) AS expected,
    CAST(h.exploration * (1 - h.exploration) AS numeric) AS expected_variance,
    CAST(s.share AS numeric) AS shares,
    CAST(s.share * s.share AS numeric) AS shares_squared
FROM feature_history AS h
CROSS JOIN LATERAL (
    SELECT rollup.weight(h.propensity, NULL) / CASE
        WHEN h.exploration = 0 THEN 1
        -- Clients may offer a tip twice: then it counts as much as two. So no share is above 1 / exploration.
        ELSE (
            SELECT CAST(greatest(count(*), 1) AS float8) / greatest(count(*) FILTER (WHERE o.tip ->> 'id' = h.tip_id), 1)
            FROM jsonb_array_elements(h.candidates) AS o (tip)
        )
    END AS share
    -- So that candidates are counted once, and not each time that the share is named.
    OFFSET 0
) AS s
WHERE h.exploration IS NOT NULL;
COMMENT ON VIEW rollup.exploration_cells IS 'What each decision adds to daily_exploration';

-- The daily tables with what they lack still. The upper bound says nothing about rows; it tells the planner, which does
-- not know the lower one, that they are few.
CREATE VIEW rollup.uncounted AS
SELECT * FROM rollup.reaction_cells
WHERE source = 'feature_history'
    AND position > (SELECT counted_until FROM counted WHERE source = 'feature_history')
    AND position <= 9223372036854775807
UNION ALL
SELECT * FROM rollup.reaction_cells
WHERE source = 'reward_ledger'
    AND position > (SELECT counted_until FROM counted WHERE source = 'reward_ledger')
    AND position <= 9223372036854775807;
COMMENT ON VIEW rollup.uncounted IS 'What the daily tables lack still';

CREATE VIEW rollup.reactions AS
SELECT
    day, policy, prompt_version, exploring, reaction, decisions, rewards, rewards_squared,
    weights, weights_squared, weighted_rewards, squared_weights_rewards, weighted_rewards_squared
FROM daily_reactions
UNION ALL
SELECT
    day, policy, prompt_version, exploring, reaction, decisions, rewards, rewards_squared,
    weights, weights_squared, weighted_rewards, squared_weights_rewards, weighted_rewards_squared
FROM rollup.uncounted;
COMMENT ON VIEW rollup.reactions IS 'daily_reactions as of now: rows to be summed up';

CREATE VIEW rollup.learning AS
SELECT day, policy, first_pull, decisions, rewarded, rewards, rewards_squared
FROM daily_learning
UNION ALL
SELECT
    day, policy, first_pull, decisions, CASE WHEN reaction = 'none' THEN 0 ELSE decisions END, rewards, rewards_squared
FROM rollup.uncounted
WHERE first_pull IS NOT NULL;
COMMENT ON VIEW rollup.learning IS 'daily_learning as of now: rows to be summed up';

CREATE VIEW rollup.delays AS
SELECT day, policy, delay_step, decisions
FROM daily_delays
UNION ALL
SELECT day, policy, delay_step, decisions
FROM rollup.uncounted
WHERE delay_step IS NOT NULL;
COMMENT ON VIEW rollup.delays IS 'daily_delays as of now: rows to be summed up';

CREATE VIEW rollup.exploration AS
SELECT day, policy, decisions, explored, expected, expected_variance, shares, shares_squared
FROM daily_exploration
UNION ALL
SELECT day, policy, decisions, explored, expected, expected_variance, shares, shares_squared
FROM rollup.exploration_cells
WHERE position > (SELECT counted_until FROM counted WHERE source = 'feature_history')
    AND position <= 9223372036854775807;
COMMENT ON VIEW rollup.exploration IS 'daily_exploration as of now: rows to be summed up';

DO $$
DECLARE
    described text[];
    found record;
BEGIN
    FOREACH described SLICE 1 IN ARRAY ARRAY[
        ['source', 'The table that the row comes from: feature_history or reward_ledger'],
        ['position', 'Its position there'],
        ['user_id', 'The person'],
        ['day', 'Day of the decision, UTC'],
        ['policy', 'The policy that decided'],
        ['prompt_version', 'Prompt version that wrote the tip, if a model did'],
        ['exploring', 'Whether the tip was drawn at random'],
        ['first_pull', 'First of the pulls taken together with this one, if known'],
        ['delay_step', 'ceil(20 log2(1 + seconds)) from decision to reaction; null: none'],
        ['reaction', 'done, helpful, snooze, not_helpful, dismiss, other; none so far; default: one was assumed'],
        ['decisions', 'How many come; below 0: leave'],
        ['rewarded', 'Of them, those with a reward that counts'],
        ['rewards', 'Of them, the sum of r, their rewards'],
        ['rewards_squared', 'Of them, the sum of r^2'],
        ['weights', 'Of them, the sum of w = 1 / (propensity x prompt_probability)'],
        ['weights_squared', 'Of them, the sum of w^2'],
        ['weighted_rewards', 'Of them, the sum of w r'],
        ['squared_weights_rewards', 'Of them, the sum of w^2 r'],
        ['weighted_rewards_squared', 'Of them, the sum of w^2 r^2'],
        ['explored', 'Of them, those drawn at random'],
        ['expected', 'Of them, the sum of e, the share that was to be drawn at random'],
        ['expected_variance', 'Of them, the sum of e (1 - e)'],
        ['shares', 'Of them, the sum of u = 1 / (n propensity), n the tips that could be chosen'],
        ['shares_squared', 'Of them, the sum of u^2']
    ] LOOP
        FOR found IN
            SELECT a.attrelid, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
            WHERE c.relnamespace = CAST('rollup' AS regnamespace) AND c.relkind = 'v' AND a.attname = described[1]
        LOOP
            EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', CAST(found.attrelid AS regclass), found.attname, described[2]);
        END LOOP;
    END LOOP;
END
$$;
