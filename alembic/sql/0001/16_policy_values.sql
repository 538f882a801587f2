-- Policies, each against drawing at random from the candidates of its own decisions. Means of two policies can be
-- compared if chance decided which users each of them got; each mean against random can be compared in any case.

CREATE FUNCTION rollup.gain_margin(
    n float8, sum float8, sum_squared float8,
    weights float8, weights_squared float8,
    weighted_sum float8, squared_weights_sum float8, weighted_sum_squared float8, weighted_squares float8
) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- Both means are of the same rewards, so their errors go together: the variance is the sum of
    -- ((r - m) / n - w (r - s) / sum(w))^2, with the mean m and the weighted mean s.
    SELECT CASE WHEN n > 1 AND weights > 0 AND weights * weights > weights_squared * 1.000000001 THEN
        1.959963984540054 * sqrt(greatest(
            (sum_squared - n * g.m * g.m) / (n * n)
            + (weighted_sum_squared - 2 * g.s * squared_weights_sum + g.s * g.s * weights_squared) / (weights * weights)
            - 2 * (weighted_squares - g.s * g.s * weights) / (n * weights),
            0
        ))
    END
    FROM (SELECT sum / nullif(n, 0) AS m, weighted_sum / nullif(weights, 0) AS s) AS g;
END;
COMMENT ON FUNCTION rollup.gain_margin IS
    'Half the width of the 95 % interval of mean(r) - sum(w r) / sum(w), linearised, from the sums of 1, r, r^2, w, w^2, w r, w^2 r, w^2 r^2, w r^2';

CREATE FUNCTION analytics.policy_values_between(since date, until date)
RETURNS TABLE (
    policy text, shown bigint, rewarded bigint,
    mean_reward float8, mean_reward_low float8, mean_reward_high float8,
    random_mean_reward float8, random_mean_reward_low float8, random_mean_reward_high float8,
    gain float8, gain_low float8, gain_high float8,
    effective_sample_size float8, unsupported bigint, unknown_because text
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 2
BEGIN ATOMIC
    WITH sums AS (
        SELECT
            r.policy,
            CAST(sum(r.decisions) AS bigint) AS shown,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction <> 'none'), 0) AS bigint) AS rewarded,
            CAST(sum(r.rewards) AS float8) AS rewards,
            CAST(sum(r.rewards_squared) AS float8) AS rewards_squared,
            CAST(sum(r.weights) FILTER (WHERE r.reaction <> 'none') AS float8) AS weights,
            CAST(sum(r.weights_squared) FILTER (WHERE r.reaction <> 'none') AS float8) AS weights_squared,
            CAST(sum(r.weighted_rewards) AS float8) AS weighted_rewards,
            CAST(sum(r.squared_weights_rewards) AS float8) AS squared_weights_rewards,
            CAST(sum(r.weighted_rewards_squared) AS float8) AS weighted_rewards_squared,
            CAST(sum(r.weighted_squares) AS float8) AS weighted_squares,
            CAST(sum(r.unsupported) AS bigint) AS unsupported,
            -- Draws without a reward tell nothing of rewards.
            analytics.unknown_because(
                CAST(sum(r.decisions) AS float8), CAST(sum(r.choices) AS float8),
                CAST(coalesce(sum(r.decisions) FILTER (WHERE r.exploring AND r.reaction <> 'none'), 0) AS float8),
                CAST(sum(r.unsupported) AS float8)
            ) AS unknown_because
        FROM rollup.reactions AS r
        WHERE (since IS NULL OR r.day >= since) AND (until IS NULL OR r.day <= until)
        GROUP BY r.policy
        HAVING sum(r.decisions) > 0
    ), means AS (
        SELECT
            s.*,
            s.rewards / nullif(s.rewarded, 0) AS mean,
            analytics.mean_margin(s.rewarded, s.rewards, s.rewards_squared) AS margin,
            w.mean AS random_mean,
            analytics.weighted_margin(
                s.weights, s.weights_squared, s.weighted_rewards, s.squared_weights_rewards, s.weighted_rewards_squared
            ) AS random_margin,
            rollup.gain_margin(
                s.rewarded, s.rewards, s.rewards_squared, s.weights, s.weights_squared,
                s.weighted_rewards, s.squared_weights_rewards, s.weighted_rewards_squared, s.weighted_squares
            ) AS gain_margin,
            s.weights * s.weights / nullif(s.weights_squared, 0) AS size
        FROM sums AS s
        CROSS JOIN LATERAL (
            SELECT CASE WHEN s.unknown_because IS NULL THEN s.weighted_rewards / nullif(s.weights, 0) END AS mean
        ) AS w
    )
    SELECT
        m.policy,
        m.shown,
        m.rewarded,
        m.mean,
        m.mean - m.margin,
        m.mean + m.margin,
        m.random_mean,
        m.random_mean - m.random_margin,
        m.random_mean + m.random_margin,
        m.mean - m.random_mean,
        m.mean - m.random_mean - m.gain_margin,
        m.mean - m.random_mean + m.gain_margin,
        CASE WHEN m.unknown_because IS NULL THEN m.size END,
        m.unsupported,
        m.unknown_because
    FROM means AS m;
END;
COMMENT ON FUNCTION analytics.policy_values_between IS
    'policy_values of the decisions from day `since` to day `until`, both included; null: no bound';

CREATE VIEW analytics.policy_values AS
SELECT
    policy, shown, rewarded, mean_reward, mean_reward_low, mean_reward_high,
    random_mean_reward, random_mean_reward_low, random_mean_reward_high, gain, gain_low, gain_high,
    effective_sample_size, unsupported, unknown_because
FROM analytics.policy_values_between(NULL, NULL);
COMMENT ON VIEW analytics.policy_values IS
    'Mean reward of each policy, and the estimate for drawing at random among the same candidates';
COMMENT ON COLUMN analytics.policy_values.policy IS 'The policy';
COMMENT ON COLUMN analytics.policy_values.shown IS 'Number of decisions';
COMMENT ON COLUMN analytics.policy_values.rewarded IS 'Number of decisions with a reward that counts, received or assumed';
COMMENT ON COLUMN analytics.policy_values.mean_reward IS 'Mean of these rewards';
COMMENT ON COLUMN analytics.policy_values.mean_reward_low IS 'Lower end of its 95 % interval';
COMMENT ON COLUMN analytics.policy_values.mean_reward_high IS 'Upper end of its 95 % interval';
COMMENT ON COLUMN analytics.policy_values.random_mean_reward IS
    'Estimated mean reward of drawing at random: each reward counts 1 / (propensity x prompt_probability) times';
COMMENT ON COLUMN analytics.policy_values.random_mean_reward_low IS 'Lower end of its 95 % interval';
COMMENT ON COLUMN analytics.policy_values.random_mean_reward_high IS 'Upper end of its 95 % interval';
COMMENT ON COLUMN analytics.policy_values.gain IS 'mean_reward less random_mean_reward: the value of choosing';
COMMENT ON COLUMN analytics.policy_values.gain_low IS 'Lower end of its 95 % interval, in which the errors of both means cancel in part';
COMMENT ON COLUMN analytics.policy_values.gain_high IS 'Upper end of its 95 % interval';
COMMENT ON COLUMN analytics.policy_values.effective_sample_size IS
    'Number of rewards of equal weight with the same information on drawing at random: sum(w)^2 / sum(w^2)';
COMMENT ON COLUMN analytics.policy_values.unsupported IS
    'Number of decisions in which some candidate had no chance (propensity below 1e-12, or unknown)';
COMMENT ON COLUMN analytics.policy_values.unknown_because IS
    'Reason why the estimates are null, if they are; see analytics.support_limit()';
