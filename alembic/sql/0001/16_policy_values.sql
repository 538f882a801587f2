-- Policies, each against drawing at random from the candidates of its own decisions. Means of two policies can be
-- compared if chance decided which users each of them got; each mean against random can be compared in any case.

CREATE FUNCTION rollup.error_margin(n float8, squares float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN n > 1 THEN analytics.t95(n - 1) * sqrt(n / (n - 1) * squares) END;
COMMENT ON FUNCTION rollup.error_margin IS
    'Half the width of a 95 % interval, from the sum of the squared errors of n groups of users; null if n is below 2';

CREATE FUNCTION analytics.policy_values_between(since date, until date)
RETURNS TABLE (
    policy text, shown bigint, rewarded bigint,
    mean_reward float8, mean_reward_low float8, mean_reward_high float8,
    random_mean_reward float8, random_mean_reward_low float8, random_mean_reward_high float8,
    gain float8, gain_low float8, gain_high float8,
    effective_sample_size float8, unsupported bigint, unknown_because text, estimator text
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 2
BEGIN ATOMIC
    -- Of each group of users (ADR 26).
    WITH groups AS (
        SELECT
            r.policy,
            CAST(sum(r.decisions) AS float8) AS shown,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction <> 'none'), 0) AS float8) AS rewarded,
            CAST(sum(r.rewards) AS float8) AS rewards,
            CAST(coalesce(sum(r.weights) FILTER (WHERE r.reaction <> 'none'), 0) AS float8) AS weights,
            CAST(coalesce(sum(r.weights_squared) FILTER (WHERE r.reaction <> 'none'), 0) AS float8) AS weights_squared,
            CAST(sum(r.weighted_rewards) AS float8) AS weighted_rewards,
            CAST(sum(r.modelled) AS float8) AS modelled,
            CAST(sum(r.random_estimates) AS float8) AS random_estimates,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.exploring AND r.reaction <> 'none'), 0) AS float8) AS drawn,
            CAST(sum(r.choices) AS float8) AS choices,
            CAST(sum(r.unsupported) AS float8) AS unsupported
        FROM rollup.user_groups AS r
        WHERE r.day >= coalesce(since, '-infinity') AND r.day <= coalesce(until, 'infinity')
        GROUP BY r.policy, r.user_group
        HAVING sum(r.decisions) > 0
    ), compared AS (
        SELECT
            g.*,
            t.is_dr,
            t.mean,
            t.random_mean,
            -- The errors of the group, linearised: of the mean reward, and of the estimate for drawing at random.
            (g.rewards - t.mean * g.rewarded) / t.rewarded AS off,
            CASE WHEN t.is_dr THEN (g.random_estimates - t.random_mean * g.modelled) / t.rewarded
                ELSE (g.weighted_rewards - t.random_mean * g.weights) / nullif(t.weights, 0) END AS random_off
        FROM groups AS g
        JOIN (
            SELECT
                s.*,
                s.rewards / s.rewarded AS mean,
                CASE WHEN s.is_dr THEN s.random_estimates / s.rewarded
                    ELSE s.weighted_rewards / nullif(s.weights, 0) END AS random_mean
            FROM (
                SELECT
                    x.policy,
                    nullif(sum(x.rewarded), 0) AS rewarded,
                    sum(x.rewards) AS rewards,
                    sum(x.weights) AS weights,
                    sum(x.weighted_rewards) AS weighted_rewards,
                    sum(x.random_estimates) AS random_estimates,
                    sum(x.modelled) = sum(x.rewarded) AND sum(x.rewarded) > 0 AS is_dr
                FROM groups AS x
                GROUP BY x.policy
            ) AS s
        ) AS t ON t.policy = g.policy
    ), sums AS (
        SELECT
            c.policy,
            CAST(sum(c.shown) AS bigint) AS shown,
            CAST(sum(c.rewarded) AS bigint) AS rewarded,
            min(c.mean) AS mean,
            min(c.random_mean) AS random_mean,
            rollup.error_margin(count(*) FILTER (WHERE c.rewarded > 0), sum(c.off * c.off)) AS margin,
            rollup.error_margin(
                count(*) FILTER (WHERE c.rewarded > 0), sum(c.random_off * c.random_off)
            ) AS random_margin,
            rollup.error_margin(
                count(*) FILTER (WHERE c.rewarded > 0), sum((c.off - c.random_off) * (c.off - c.random_off))
            ) AS gain_margin,
            sum(c.weights) * sum(c.weights) / nullif(sum(c.weights_squared), 0) AS size,
            CASE WHEN bool_and(c.is_dr) THEN 'dr' ELSE 'snips' END AS estimator,
            CAST(sum(c.unsupported) AS bigint) AS unsupported,
            -- Draws without a reward tell nothing of rewards.
            analytics.unknown_because(sum(c.shown), sum(c.choices), sum(c.drawn), sum(c.unsupported)) AS unknown_because
        FROM compared AS c
        GROUP BY c.policy
    ), means AS (
        SELECT
            s.*,
            CASE WHEN s.unknown_because IS NULL THEN s.random_mean END AS known_mean
        FROM sums AS s
    )
    SELECT
        m.policy,
        m.shown,
        m.rewarded,
        m.mean,
        m.mean - m.margin,
        m.mean + m.margin,
        m.known_mean,
        m.known_mean - m.random_margin,
        m.known_mean + m.random_margin,
        m.mean - m.known_mean,
        m.mean - m.known_mean - m.gain_margin,
        m.mean - m.known_mean + m.gain_margin,
        CASE WHEN m.unknown_because IS NULL THEN m.size END,
        m.unsupported,
        m.unknown_because,
        CASE WHEN m.known_mean IS NOT NULL THEN m.estimator END
    FROM means AS m;
END;
COMMENT ON FUNCTION analytics.policy_values_between IS
    'policy_values of the decisions from day `since` to day `until`, both included; null: no bound';

CREATE VIEW analytics.policy_values AS
SELECT
    policy, shown, rewarded, mean_reward, mean_reward_low, mean_reward_high,
    random_mean_reward, random_mean_reward_low, random_mean_reward_high, gain, gain_low, gain_high,
    effective_sample_size, unsupported, unknown_because, estimator
FROM analytics.policy_values_between(NULL, NULL);
COMMENT ON VIEW analytics.policy_values IS
    'Mean reward of each policy, and the estimate for drawing at random among the same candidates';
COMMENT ON COLUMN analytics.policy_values.policy IS 'The policy';
COMMENT ON COLUMN analytics.policy_values.shown IS 'Number of decisions';
COMMENT ON COLUMN analytics.policy_values.rewarded IS 'Number of decisions with a reward that counts, received or assumed';
COMMENT ON COLUMN analytics.policy_values.mean_reward IS 'Mean of these rewards';
COMMENT ON COLUMN analytics.policy_values.mean_reward_low IS
    'Lower end of its 95 % interval, from groups of users; null below two groups';
COMMENT ON COLUMN analytics.policy_values.mean_reward_high IS 'Upper end of its 95 % interval';
COMMENT ON COLUMN analytics.policy_values.random_mean_reward IS
    'Estimated mean reward of drawing at random among the same candidates, by `estimator`';
COMMENT ON COLUMN analytics.policy_values.random_mean_reward_low IS 'Lower end of its 95 % interval, in the same way';
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
COMMENT ON COLUMN analytics.policy_values.estimator IS
    'dr: doubly robust, with theta.x of each candidate as the model of the reward; snips: some decision has no theta.x, and each reward counts 1 / (propensity x prompt_probability) times';
