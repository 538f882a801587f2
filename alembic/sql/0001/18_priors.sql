-- Priors: their history, and the first decisions of users by the version of the prior that each decision started from.

CREATE FUNCTION analytics.prior_history_between(since date, until date)
RETURNS TABLE (
    policy text, version integer, fitted_at timestamptz, users bigint, rewards bigint, noise_variance float8,
    largest_change float8, changed_feature integer
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 100
BEGIN ATOMIC
    WITH versions AS (
        SELECT
            p.*,
            lag(p.version) OVER (PARTITION BY p.policy ORDER BY p.version) AS version_before,
            lag(p.mean) OVER (PARTITION BY p.policy ORDER BY p.version) AS mean_before
        FROM oo_ml.policy_priors AS p
    )
    SELECT
        v.policy, v.version, v.fitted_at, v.users, v.rewards, v.noise_variance, c.change, CAST(c.place AS integer)
    FROM versions AS v
    LEFT JOIN LATERAL (
        -- Version 0 has the mean 0 and no row.
        SELECT
            m.place,
            abs(m.mean - coalesce(v.mean_before[m.place], 0)) / sqrt(nullif(greatest(v.covariance[m.place][m.place], 0), 0))
                AS change
        FROM unnest(v.mean) WITH ORDINALITY AS m (mean, place)
        WHERE v.version = 1 OR v.version_before = v.version - 1
        ORDER BY change DESC NULLS LAST, m.place
        LIMIT 1
    ) AS c ON true
    WHERE (since IS NULL OR CAST(v.fitted_at AT TIME ZONE 'UTC' AS date) >= since)
        AND (until IS NULL OR CAST(v.fitted_at AT TIME ZONE 'UTC' AS date) <= until);
END;
COMMENT ON FUNCTION analytics.prior_history_between IS
    'prior_history of the versions fitted from day `since` to day `until`, both included; null: no bound';

CREATE VIEW analytics.prior_history AS
SELECT policy, version, fitted_at, users, rewards, noise_variance, largest_change, changed_feature
FROM analytics.prior_history_between(NULL, NULL);
COMMENT ON VIEW analytics.prior_history IS
    'Versions of the priors from which the users of a policy start, as far as they are kept';
COMMENT ON COLUMN analytics.prior_history.policy IS 'The policy';
COMMENT ON COLUMN analytics.prior_history.version IS '1, 2, 3, ... for each policy';
COMMENT ON COLUMN analytics.prior_history.fitted_at IS 'Time of the fit';
COMMENT ON COLUMN analytics.prior_history.users IS 'Number of users that it was fitted to';
COMMENT ON COLUMN analytics.prior_history.rewards IS 'Number of rewards of the policy that counted then, those before a reset included';
COMMENT ON COLUMN analytics.prior_history.noise_variance IS 'Variance of a reward around theta.x of its user';
COMMENT ON COLUMN analytics.prior_history.largest_change IS
    'Largest change of a number of the mean against the version before, in standard deviations of users; version 1 is compared with 0; null if the version before is not kept';
COMMENT ON COLUMN analytics.prior_history.changed_feature IS 'Place of that number in x, from 1';

CREATE FUNCTION analytics.learning_by_prior_between(since date, until date)
RETURNS TABLE (
    policy text, first_version integer, last_version integer, first_decision bigint, last_decision bigint,
    decisions bigint, rewarded bigint, mean_reward float8, mean_reward_low float8, mean_reward_high float8
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 40
BEGIN ATOMIC
    SELECT
        s.policy,
        s.first_version,
        greatest(2 * s.first_version - 1, s.first_version),
        s.first_pull,
        s.first_pull + 4,
        s.decisions,
        s.rewarded,
        s.rewards / nullif(s.rewarded, 0),
        s.rewards / nullif(s.rewarded, 0) - s.margin,
        s.rewards / nullif(s.rewarded, 0) + s.margin
    FROM (
        SELECT
            g.policy,
            g.first_version,
            g.first_pull,
            CAST(sum(g.decisions) AS bigint) AS decisions,
            CAST(sum(g.rewarded) AS bigint) AS rewarded,
            sum(g.rewards) AS rewards,
            analytics.ratio_margin(
                count(*) FILTER (WHERE g.rewarded > 0), sum(g.rewards), sum(g.rewarded),
                sum(g.rewards * g.rewards), sum(g.rewards * g.rewarded), sum(g.rewarded * g.rewarded)
            ) AS margin
        FROM (
            -- Of each group of users (ADR 26).
            SELECT
                d.policy,
                rollup.first_of_versions(d.prior_version) AS first_version,
                d.first_pull,
                CAST(sum(d.decisions) AS float8) AS decisions,
                CAST(sum(d.rewarded) AS float8) AS rewarded,
                CAST(sum(d.rewards) AS float8) AS rewards
            FROM rollup.first_decisions AS d
            WHERE (since IS NULL OR d.day >= since) AND (until IS NULL OR d.day <= until)
            GROUP BY d.policy, 2, d.first_pull, d.user_group
            HAVING sum(d.decisions) > 0
        ) AS g
        GROUP BY g.policy, g.first_version, g.first_pull
    ) AS s;
END;
COMMENT ON FUNCTION analytics.learning_by_prior_between IS
    'learning_by_prior of the decisions from day `since` to day `until`, both included; null: no bound';

CREATE VIEW analytics.learning_by_prior AS
SELECT
    policy, first_version, last_version, first_decision, last_decision, decisions, rewarded,
    mean_reward, mean_reward_low, mean_reward_high
FROM analytics.learning_by_prior_between(NULL, NULL);
COMMENT ON VIEW analytics.learning_by_prior IS
    'Mean reward of the first 20 decisions of users since the last reset, by the version of the prior that each decision started from: better versions give new users better tips';
COMMENT ON COLUMN analytics.learning_by_prior.policy IS 'The policy';
COMMENT ON COLUMN analytics.learning_by_prior.first_version IS
    'First version of a group: 0, 1, 2 to 3, 4 to 7, 8 to 15, ... Version 0 is the prior before the first fit';
COMMENT ON COLUMN analytics.learning_by_prior.last_version IS 'Last version of the group';
COMMENT ON COLUMN analytics.learning_by_prior.first_decision IS 'First number of the decisions: 1, 6, 11 or 16';
COMMENT ON COLUMN analytics.learning_by_prior.last_decision IS 'Last number of the decisions';
COMMENT ON COLUMN analytics.learning_by_prior.decisions IS 'Number of decisions';
COMMENT ON COLUMN analytics.learning_by_prior.rewarded IS 'Number of decisions with a reward that counts';
COMMENT ON COLUMN analytics.learning_by_prior.mean_reward IS 'Mean of these rewards';
COMMENT ON COLUMN analytics.learning_by_prior.mean_reward_low IS
    'Lower end of its 95 % interval, from groups of users; null below two groups';
COMMENT ON COLUMN analytics.learning_by_prior.mean_reward_high IS 'Upper end of its 95 % interval';
