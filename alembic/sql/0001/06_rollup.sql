-- Views between tables and reports (ADR 11): the addition of each row to the sums by day, and the sums together with the
-- rows that upkeep has not counted yet. A decision enters the cell of its day, policy, ... with reaction `none` (+1). Each ledger
-- entry takes its decision out of the cell that it was in (-1) and puts it into another (+1). So the sum over any set of
-- rows is the change that these rows made.

COMMENT ON SCHEMA rollup IS 'Views between the tables and schema analytics. They may change with any release';

-- Of schema analytics, for analysts too; the sums by day need it before the others.
CREATE FUNCTION analytics.user_group(user_id text) RETURNS integer
LANGUAGE sql STABLE STRICT PARALLEL SAFE
-- A digest that no release of PostgreSQL changes: an erased user is subtracted from the group that was added to.
-- STABLE as convert_to is; an IMMUTABLE function would not be inlined, and take four times as long.
RETURN get_byte(sha256(convert_to(user_id, 'UTF8')), 0) % 16;
COMMENT ON FUNCTION analytics.user_group IS
    'Group of a user, from 0 to 15, by the first byte of the SHA-256 of the id. Intervals take the groups as the sample';

CREATE FUNCTION rollup.weight(propensity float8, prompt_probability float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- Bounded, so that the square of the weight is finite whatever a client has logged.
RETURN 1 / greatest(propensity * coalesce(prompt_probability, 1), 1e-100);
COMMENT ON FUNCTION rollup.weight IS
    'Inverse of the probability with which this tip, by this prompt version, was shown; an unknown one counts as 1';

CREATE FUNCTION rollup.amount(reward float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- PostgreSQL refuses a product that is too small for a float8, so one such reward would make every sum fail.
RETURN CASE WHEN abs(reward) >= 1e-30 THEN reward ELSE 0 END;
COMMENT ON FUNCTION rollup.amount IS 'The reward as it is added up: 0 if there is none, or if it is below 1e-30';

CREATE FUNCTION rollup.expected(exploit float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- Any model of the reward is right for a doubly robust estimate, but a sum must stay finite.
RETURN rollup.amount(least(greatest(exploit, -1e30), 1e30));
COMMENT ON FUNCTION rollup.expected IS 'The expected reward of a candidate as it is added up: at most 1e30, 0 below 1e-30';

CREATE FUNCTION rollup.random_estimate(
    reward float8, propensity float8, tip_id text, candidates jsonb, exploit float8[]
) RETURNS TABLE (estimate float8)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
-- A table of one row, because PostgreSQL inlines such a function into the query. A scalar one with an aggregate is started
-- anew for each decision, which takes more than twice as long.
BEGIN ATOMIC
    -- A tip that is listed more than once has the mean of its rows, as in oo_ml/domain/evaluation/targets.py.
    SELECT avg(e.q) + rollup.weight(propensity, NULL) * count(*) FILTER (WHERE e.is_chosen) / nullif(count(*), 0)
        * (reward - avg(e.q) FILTER (WHERE e.is_chosen))
    FROM (
        SELECT rollup.expected(o.exploit) AS q, o.candidate ->> 'id' = tip_id AS is_chosen
        FROM ROWS FROM (jsonb_array_elements(candidates), unnest(exploit)) AS o (candidate, exploit)
    ) AS e;
END;
COMMENT ON FUNCTION rollup.random_estimate IS
    'Doubly robust estimate of the reward of a draw at random from the candidates: mean of q + (r - q of the tip) / (n propensity), where q is theta.x';

CREATE FUNCTION rollup.choice(propensities float8[]) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN array_length(propensities, 1) = 1 THEN 0 ELSE 1 END;
COMMENT ON FUNCTION rollup.choice IS '1 if a decision had more than one candidate, or propensities are unknown; else 0';

CREATE FUNCTION rollup.unsupported(propensities float8[]) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- A candidate without a chance is never seen, so no weight can stand for it.
RETURN CASE WHEN 1e-12 <= ALL (propensities) THEN 0 ELSE 1 END;
COMMENT ON FUNCTION rollup.unsupported IS
    '1 if some candidate of a decision had a propensity below 1e-12, or propensities are unknown; else 0';

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
COMMENT ON FUNCTION rollup.reaction IS 'The product''s name of a reward; default: an assumed reward';

CREATE FUNCTION rollup.pull_step(pull bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN pull < 100 THEN 1
    WHEN pull < 1000 THEN 10
    WHEN pull < 10000 THEN 100
    WHEN pull < 100000 THEN 1000
    ELSE 10000
END;
COMMENT ON FUNCTION rollup.pull_step IS 'Size of the group of decision numbers that this number belongs to';

CREATE FUNCTION rollup.first_of_five(pull bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (pull - 1) / 5 * 5 + 1;
COMMENT ON FUNCTION rollup.first_of_five IS 'First decision number of the five to which this number belongs: 1, 6, 11, ...';

CREATE FUNCTION rollup.first_of_versions(version integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- The highest bit.
RETURN CASE WHEN version < 2 THEN version ELSE 1 << (length(ltrim(CAST(CAST(version AS bit(32)) AS text), '0')) - 1) END;
COMMENT ON FUNCTION rollup.first_of_versions IS
    'First version of the group of prior versions to which this version belongs: 0, 1, 2, 4, 8, ...';

CREATE FUNCTION rollup.delay_step(delay interval) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- greatest: clocks differ, so a reaction can seem to come before its decision. round: 7 s are 60 steps and not 61.
RETURN CAST(ceil(round(
    CAST(20 * ln(1 + greatest(CAST(extract(epoch FROM delay) AS float8), 0)) / ln(2::float8) AS numeric), 9
)) AS smallint);
COMMENT ON FUNCTION rollup.delay_step IS 'ceil(20 log2(1 + seconds)): up to 3.5 % more than the delay';

CREATE FUNCTION rollup.latency_step(latency_ms integer) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CAST(round(20 * ln(1 + CAST(latency_ms AS float8)) / ln(2::float8)) AS smallint);
COMMENT ON FUNCTION rollup.latency_step IS 'round(20 log2(1 + milliseconds)): within 1.8 % of the latency';

CREATE FUNCTION rollup.count_z(found float8, expected float8, variance float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- For n draws with probability p each, n p = expected and n p (1 - p) = variance. A difference divided by its
    -- standard deviation gives false alarms if few are expected; the deviance has nearly the binomial tails.
    SELECT CASE
        WHEN variance > 0 AND found > s.n * 1.000000001 THEN 'Infinity'
        WHEN variance > 0 THEN sign(found - expected) * sqrt(greatest(2 * (
            CASE WHEN found > 0 THEN found * ln(found / expected) ELSE 0 END
            + CASE WHEN s.n IS NULL THEN expected - found
                WHEN found < s.n THEN (s.n - found) * ln((s.n - found) / (s.n - expected)) ELSE 0 END
        ), 0))
    END
    FROM (
        -- If p is so small that n can't be computed: the Poisson distribution.
        SELECT CASE WHEN expected - variance > 1e-9 * expected THEN expected / (1 - variance / expected) END AS n
    ) AS s;
END;
COMMENT ON FUNCTION rollup.count_z IS
    'Distance of a count of independent draws from its expectation, in standard deviations: the signed root of its deviance (McCullagh and Nelder 1989); null if variance is 0';

-- Three views of one users' table each, and not one UNION ALL: a distributed database can't push a filter into a
-- UNION ALL of users' rows. Queries sum each view by cell first, and then unite the sums.

CREATE VIEW rollup.decision_cells AS
SELECT
    c.position,
    c.user_id,
    CAST(c.decided_at AT TIME ZONE 'UTC' AS date) AS day,
    c.policy,
    c.prompt_version,
    c.exploring,
    c.pull / rollup.pull_step(c.pull) * rollup.pull_step(c.pull) AS first_pull,
    CASE WHEN c.pull <= 20 THEN c.prior_version END AS prior_version,
    CAST(NULL AS smallint) AS delay_step,
    'none' AS reaction,
    CAST(analytics.user_group(c.user_id) AS smallint) AS user_group,
    c.assigned,
    1 AS decisions,
    CAST(0 AS numeric) AS rewards,
    CAST(0 AS numeric) AS rewards_squared,
    CAST(c.w AS numeric) AS weights,
    CAST(c.w * c.w AS numeric) AS weights_squared,
    CAST(0 AS numeric) AS weighted_rewards,
    0 AS modelled,
    CAST(0 AS numeric) AS random_estimates,
    c.choices,
    c.unsupported
FROM (
    SELECT
        h.position, h.user_id, h.decided_at, h.policy, h.prompt_version, h.exploring, h.pull, h.prior_version,
        h.policy_probability IS NOT NULL AS assigned,
        rollup.weight(h.propensity, h.prompt_probability) AS w,
        rollup.choice(h.propensities) AS choices, rollup.unsupported(h.propensities) AS unsupported
    FROM oo_ml.feature_history AS h
) AS c;
COMMENT ON VIEW rollup.decision_cells IS 'One row for each decision: its addition to the sums by day, before any reward';

CREATE VIEW rollup.departure_cells AS
SELECT
    c.position,
    c.user_id,
    CAST(c.decided_at AT TIME ZONE 'UTC' AS date) AS day,
    c.policy,
    c.prompt_version,
    c.exploring,
    c.pull / rollup.pull_step(c.pull) * rollup.pull_step(c.pull) AS first_pull,
    CASE WHEN c.pull <= 20 THEN c.prior_version END AS prior_version,
    CASE WHEN c.kind <> 'default' AND c.reward IS NOT NULL THEN rollup.delay_step(c.rewarded_at - c.decided_at) END
        AS delay_step,
    rollup.reaction(c.reward, c.kind) AS reaction,
    CAST(analytics.user_group(c.user_id) AS smallint) AS user_group,
    c.assigned,
    -1 AS decisions,
    -CAST(c.r AS numeric) AS rewards,
    -CAST(c.r * c.r AS numeric) AS rewards_squared,
    -CAST(c.w AS numeric) AS weights,
    -CAST(c.w * c.w AS numeric) AS weights_squared,
    -CAST(c.w * c.r AS numeric) AS weighted_rewards,
    -CAST(c.is_modelled AS integer) AS modelled,
    -CAST(CASE WHEN c.is_modelled THEN e.estimate ELSE 0 END AS numeric) AS random_estimates,
    -c.choices AS choices,
    -c.unsupported AS unsupported
FROM (
    SELECT
        l.position, h.user_id, h.decided_at, h.policy, h.prompt_version, h.exploring, h.pull, h.prior_version,
        h.policy_probability IS NOT NULL AS assigned,
        before.kind, before.reward, before.recorded_at AS rewarded_at, rollup.amount(before.reward) AS r,
        rollup.weight(h.propensity, h.prompt_probability) AS w,
        before.reward IS NOT NULL AND h.exploit IS NOT NULL AS is_modelled,
        h.propensity, h.tip_id, h.candidates, h.exploit,
        rollup.choice(h.propensities) AS choices, rollup.unsupported(h.propensities) AS unsupported
    FROM oo_ml.reward_ledger AS l
    JOIN oo_ml.feature_history AS h ON h.user_id = l.user_id AND h.decision_id = l.decision_id
    LEFT JOIN oo_ml.reward_ledger AS before
        ON before.user_id = l.user_id AND before.policy = l.policy AND before.epoch = l.epoch
        AND before.version = l.corrects
) AS c
-- LEFT, so that a query without random_estimates leaves it out. Without a reward there is nothing to estimate, and the
-- candidates need not be read.
LEFT JOIN LATERAL rollup.random_estimate(
    c.r, c.propensity, c.tip_id, CASE WHEN c.is_modelled THEN c.candidates END, CASE WHEN c.is_modelled THEN c.exploit END
) AS e ON true;
COMMENT ON VIEW rollup.departure_cells IS
    'One row for each ledger entry: its subtraction from the sums by day, as its decision leaves its previous cell';

CREATE VIEW rollup.arrival_cells AS
SELECT
    c.position,
    c.user_id,
    CAST(c.decided_at AT TIME ZONE 'UTC' AS date) AS day,
    c.policy,
    c.prompt_version,
    c.exploring,
    c.pull / rollup.pull_step(c.pull) * rollup.pull_step(c.pull) AS first_pull,
    CASE WHEN c.pull <= 20 THEN c.prior_version END AS prior_version,
    CASE WHEN c.kind <> 'default' AND c.reward IS NOT NULL THEN rollup.delay_step(c.rewarded_at - c.decided_at) END
        AS delay_step,
    rollup.reaction(c.reward, c.kind) AS reaction,
    CAST(analytics.user_group(c.user_id) AS smallint) AS user_group,
    c.assigned,
    1 AS decisions,
    CAST(c.r AS numeric) AS rewards,
    CAST(c.r * c.r AS numeric) AS rewards_squared,
    CAST(c.w AS numeric) AS weights,
    CAST(c.w * c.w AS numeric) AS weights_squared,
    CAST(c.w * c.r AS numeric) AS weighted_rewards,
    CAST(c.is_modelled AS integer) AS modelled,
    CAST(CASE WHEN c.is_modelled THEN e.estimate ELSE 0 END AS numeric) AS random_estimates,
    c.choices,
    c.unsupported
FROM (
    SELECT
        l.position, h.user_id, h.decided_at, h.policy, h.prompt_version, h.exploring, h.pull, h.prior_version,
        h.policy_probability IS NOT NULL AS assigned,
        l.kind, l.reward, l.recorded_at AS rewarded_at, rollup.amount(l.reward) AS r,
        rollup.weight(h.propensity, h.prompt_probability) AS w,
        l.reward IS NOT NULL AND h.exploit IS NOT NULL AS is_modelled,
        h.propensity, h.tip_id, h.candidates, h.exploit,
        rollup.choice(h.propensities) AS choices, rollup.unsupported(h.propensities) AS unsupported
    FROM oo_ml.reward_ledger AS l
    JOIN oo_ml.feature_history AS h ON h.user_id = l.user_id AND h.decision_id = l.decision_id
) AS c
-- As in rollup.departure_cells.
LEFT JOIN LATERAL rollup.random_estimate(
    c.r, c.propensity, c.tip_id, CASE WHEN c.is_modelled THEN c.candidates END, CASE WHEN c.is_modelled THEN c.exploit END
) AS e ON true;
COMMENT ON VIEW rollup.arrival_cells IS
    'One row for each ledger entry: its addition to the sums by day, in the cell of the reward that now counts';

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
FROM oo_ml.feature_history AS h
CROSS JOIN LATERAL (
    -- A client may send a tip twice, which then counts as two. So no share is above 1 / exploration.
    SELECT rollup.weight(h.propensity, NULL) / CASE
        -- Only a vote can draw among candidates then: among those with a share of it.
        WHEN h.exploration = 0 THEN CASE
            WHEN h.propensity < 1 THEN coalesce((
                SELECT
                    CAST(count(*) FILTER (WHERE v.share > 0) AS float8)
                    / nullif(count(*) FILTER (WHERE v.share > 0 AND h.candidates -> CAST(v.place - 1 AS integer) ->> 'id' = h.tip_id), 0)
                FROM unnest(h.propensities) WITH ORDINALITY AS v (share, place)
            ), 1)
            ELSE 1
        END
        ELSE CAST(greatest(count(*), 1) AS float8) / greatest(count(*) FILTER (WHERE o.tip ->> 'id' = h.tip_id), 1)
    END AS share
    -- Without exploration the candidates need not be counted.
    FROM jsonb_array_elements(CASE WHEN h.exploration = 0 THEN '[]' ELSE h.candidates END) AS o (tip)
) AS s
WHERE h.exploration IS NOT NULL;
COMMENT ON VIEW rollup.exploration_cells IS 'One row for each decision: its addition to daily_exploration';

CREATE VIEW rollup.reward_cells AS
SELECT
    l.position,
    l.user_id,
    CAST(l.recorded_at AT TIME ZONE 'UTC' AS date) AS day,
    l.policy,
    CAST(l.reward IS NOT NULL AS integer) - CAST(l.previous_reward IS NOT NULL AS integer) AS learned
FROM oo_ml.reward_ledger AS l;
COMMENT ON VIEW rollup.reward_cells IS 'One row for each ledger entry: its addition to daily_rewards';

CREATE VIEW rollup.cost_cells AS
SELECT
    g.position,
    g.user_id,
    CAST(g.created_at AT TIME ZONE 'UTC' AS date) AS day,
    g.prompt_version,
    coalesce(g.model, '') AS model,
    rollup.latency_step(g.latency_ms) AS latency_step,
    1 AS calls,
    CAST(g.outcome <> 'ok' AS integer) AS failed,
    greatest(g.attempts - 1, 0) AS retries,
    g.prompt_tokens,
    g.completion_tokens
FROM oo_ml.generations AS g;
COMMENT ON VIEW rollup.cost_cells IS 'One row for each call of the language model: its addition to daily_costs and daily_latencies';

-- The sums by day with the rows that upkeep has not counted yet. The upper bound of a position is always true. It tells
-- the planner, which does not know the lower bound, that only few rows match.

CREATE VIEW rollup.uncounted AS
SELECT
    day, policy, prompt_version, exploring, first_pull, prior_version, delay_step, reaction, user_group, assigned,
    sum(decisions) AS decisions, sum(rewards) AS rewards, sum(rewards_squared) AS rewards_squared,
    sum(weights) AS weights, sum(weights_squared) AS weights_squared, sum(weighted_rewards) AS weighted_rewards,
    sum(modelled) AS modelled, sum(random_estimates) AS random_estimates,
    sum(choices) AS choices, sum(unsupported) AS unsupported
FROM rollup.decision_cells
WHERE position > (SELECT counted_until FROM oo_ml.counted WHERE source = 'feature_history')
    AND position <= 9223372036854775807
GROUP BY day, policy, prompt_version, exploring, first_pull, prior_version, delay_step, reaction, user_group, assigned
UNION ALL
SELECT
    day, policy, prompt_version, exploring, first_pull, prior_version, delay_step, reaction, user_group, assigned,
    sum(decisions) AS decisions, sum(rewards) AS rewards, sum(rewards_squared) AS rewards_squared,
    sum(weights) AS weights, sum(weights_squared) AS weights_squared, sum(weighted_rewards) AS weighted_rewards,
    sum(modelled) AS modelled, sum(random_estimates) AS random_estimates,
    sum(choices) AS choices, sum(unsupported) AS unsupported
FROM rollup.departure_cells
WHERE position > (SELECT counted_until FROM oo_ml.counted WHERE source = 'reward_ledger')
    AND position <= 9223372036854775807
GROUP BY day, policy, prompt_version, exploring, first_pull, prior_version, delay_step, reaction, user_group, assigned
UNION ALL
SELECT
    day, policy, prompt_version, exploring, first_pull, prior_version, delay_step, reaction, user_group, assigned,
    sum(decisions) AS decisions, sum(rewards) AS rewards, sum(rewards_squared) AS rewards_squared,
    sum(weights) AS weights, sum(weights_squared) AS weights_squared, sum(weighted_rewards) AS weighted_rewards,
    sum(modelled) AS modelled, sum(random_estimates) AS random_estimates,
    sum(choices) AS choices, sum(unsupported) AS unsupported
FROM rollup.arrival_cells
WHERE position > (SELECT counted_until FROM oo_ml.counted WHERE source = 'reward_ledger')
    AND position <= 9223372036854775807
GROUP BY day, policy, prompt_version, exploring, first_pull, prior_version, delay_step, reaction, user_group, assigned;
COMMENT ON VIEW rollup.uncounted IS
    'Sums over the decisions and ledger entries that the daily tables do not include yet';

CREATE VIEW rollup.reactions AS
SELECT
    day, policy, prompt_version, exploring, reaction, decisions, weights, weights_squared, weighted_rewards, unsupported
FROM oo_ml.daily_reactions
UNION ALL
SELECT
    day, policy, prompt_version, exploring, reaction, decisions, weights, weights_squared, weighted_rewards, unsupported
FROM rollup.uncounted;
COMMENT ON VIEW rollup.reactions IS 'daily_reactions as of now: rows to be summed up';

CREATE VIEW rollup.user_groups AS
SELECT
    day, policy, prompt_version, exploring, reaction, user_group, assigned, decisions, rewards,
    weights, weights_squared, weighted_rewards, modelled, random_estimates, choices, unsupported
FROM oo_ml.daily_user_groups
UNION ALL
SELECT
    day, policy, prompt_version, exploring, reaction, user_group, assigned, decisions, rewards,
    weights, weights_squared, weighted_rewards, modelled, random_estimates, choices, unsupported
FROM rollup.uncounted;
COMMENT ON VIEW rollup.user_groups IS 'daily_user_groups as of now: rows to be summed up';

CREATE VIEW rollup.learning AS
SELECT day, policy, first_pull, decisions, rewarded, rewards, rewards_squared
FROM oo_ml.daily_learning
UNION ALL
SELECT
    day, policy, first_pull, decisions, CASE WHEN reaction = 'none' THEN 0 ELSE decisions END, rewards, rewards_squared
FROM rollup.uncounted
WHERE first_pull IS NOT NULL;
COMMENT ON VIEW rollup.learning IS 'daily_learning as of now: rows to be summed up';

CREATE VIEW rollup.first_decisions AS
SELECT day, policy, prior_version, first_pull, user_group, decisions, rewarded, rewards
FROM oo_ml.daily_first_decisions
UNION ALL
SELECT
    day, policy, prior_version, rollup.first_of_five(first_pull), user_group,
    decisions, CASE WHEN reaction = 'none' THEN 0 ELSE decisions END, rewards
FROM rollup.uncounted
WHERE prior_version IS NOT NULL;
COMMENT ON VIEW rollup.first_decisions IS 'daily_first_decisions as of now: rows to be summed up';

CREATE VIEW rollup.delays AS
SELECT day, policy, delay_step, decisions
FROM oo_ml.daily_delays
UNION ALL
SELECT day, policy, delay_step, decisions
FROM rollup.uncounted
WHERE delay_step IS NOT NULL;
COMMENT ON VIEW rollup.delays IS 'daily_delays as of now: rows to be summed up';

CREATE VIEW rollup.exploration AS
SELECT day, policy, decisions, explored, expected, expected_variance, shares, shares_squared
FROM oo_ml.daily_exploration
UNION ALL
SELECT day, policy, decisions, explored, expected, expected_variance, shares, shares_squared
FROM rollup.exploration_cells
WHERE position > (SELECT counted_until FROM oo_ml.counted WHERE source = 'feature_history')
    AND position <= 9223372036854775807;
COMMENT ON VIEW rollup.exploration IS 'daily_exploration as of now: rows to be summed up';

CREATE VIEW rollup.uncounted_costs AS
SELECT * FROM rollup.cost_cells
WHERE position > (SELECT counted_until FROM oo_ml.counted WHERE source = 'generations')
    AND position <= 9223372036854775807;
COMMENT ON VIEW rollup.uncounted_costs IS 'The calls that daily_costs and daily_latencies do not include yet';

CREATE VIEW rollup.costs AS
SELECT day, prompt_version, model, calls, failed, retries, prompt_tokens, completion_tokens
FROM oo_ml.daily_costs
UNION ALL
SELECT day, prompt_version, model, calls, failed, retries, prompt_tokens, completion_tokens
FROM rollup.uncounted_costs;
COMMENT ON VIEW rollup.costs IS 'daily_costs as of now: rows to be summed up';

CREATE VIEW rollup.latencies AS
SELECT day, prompt_version, latency_step, calls
FROM oo_ml.daily_latencies
UNION ALL
SELECT day, prompt_version, latency_step, calls
FROM rollup.uncounted_costs;
COMMENT ON VIEW rollup.latencies IS 'daily_latencies as of now: rows to be summed up';

CREATE VIEW rollup.rewards AS
SELECT day, policy, learned
FROM oo_ml.daily_rewards
UNION ALL
SELECT day, policy, sum(learned) AS learned
FROM rollup.reward_cells
WHERE position > (SELECT counted_until FROM oo_ml.counted WHERE source = 'reward_ledger')
    AND position <= 9223372036854775807
GROUP BY day, policy;
COMMENT ON VIEW rollup.rewards IS 'daily_rewards as of now: rows to be summed up';

-- The comment of each column, once for all views of the schema that have it.
DO $$
DECLARE
    described text[];
    found record;
BEGIN
    FOREACH described SLICE 1 IN ARRAY ARRAY[
        ['position', 'Position of the row in its table'],
        ['user_id', 'The user'],
        ['day', 'Day of the decision or call, UTC'],
        ['policy', 'The policy that decided'],
        ['prompt_version', 'Prompt version that wrote the tip, if a model did'],
        ['exploring', 'True if the tip was drawn at random'],
        ['first_pull', 'First decision number of the group that the decision belongs to, if known'],
        ['prior_version', 'Version of the prior that the decision started from, if it is one of the first 20 of a user'],
        ['delay_step', 'ceil(20 log2(1 + seconds)) from the decision to the reaction; null: no reaction'],
        ['reaction', 'done, helpful, snooze, not_helpful, dismiss, other; none: no reward; default: an assumed one'],
        ['user_group', 'Group of the user, from 0 to 15'],
        ['assigned', 'True if the traffic chose the policy by the user'],
        ['decisions', 'Number of decisions that enter the cell; below 0: that leave it'],
        ['rewarded', 'Number of these decisions with a reward that counts'],
        ['rewards', 'Sum of their rewards r'],
        ['rewards_squared', 'Sum of r^2'],
        ['learned', 'Number of rewards learned; below 0: of rewards retracted'],
        ['weights', 'Sum of w = 1 / (propensity x prompt_probability)'],
        ['weights_squared', 'Sum of w^2'],
        ['weighted_rewards', 'Sum of w r'],
        ['modelled', 'Number of decisions with a reward and with the expected reward of each candidate'],
        ['random_estimates', 'Sum over these of d, the doubly robust estimate of the reward of a draw at random'],
        ['choices', 'Number of decisions among more than one candidate'],
        ['unsupported', 'Number of decisions in which some candidate had a propensity below 1e-12, or propensities are unknown'],
        ['explored', 'Number of these decisions that were drawn at random'],
        ['expected', 'Sum of e, the probability of a draw at random'],
        ['expected_variance', 'Sum of e (1 - e)'],
        ['shares', 'Sum of u = 1 / (n propensity), n the number of candidates'],
        ['shares_squared', 'Sum of u^2'],
        ['model', 'The model that answered; empty: none did'],
        ['latency_step', 'round(20 log2(1 + milliseconds)) of the time spent waiting for the gateway'],
        ['calls', 'Number of calls'],
        ['failed', 'Number of calls that gave no tips'],
        ['retries', 'Number of further requests to the model within a call'],
        ['prompt_tokens', 'Tokens of the prompts'],
        ['completion_tokens', 'Tokens of the replies']
    ] LOOP
        FOR found IN
            SELECT a.attrelid, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
            WHERE c.relnamespace = 'rollup'::regnamespace AND c.relkind = 'v' AND a.attname = described[1]
        LOOP
            EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', found.attrelid::regclass, found.attname, described[2]);
        END LOOP;
    END LOOP;
END
$$;
