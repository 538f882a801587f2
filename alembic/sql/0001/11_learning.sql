-- Mean rewards: by number of the decision, and by day.

CREATE FUNCTION analytics.learning_curve_between(since date, until date)
RETURNS TABLE (
    policy text, first_decision bigint, last_decision bigint, decisions bigint,
    rewarded bigint, mean_reward float8, mean_reward_low float8, mean_reward_high float8
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 200
BEGIN ATOMIC
    SELECT
        s.policy,
        s.first_pull,
        s.first_pull + rollup.pull_step(s.first_pull) - 1,
        s.decisions,
        s.rewarded,
        s.rewards / nullif(s.rewarded, 0),
        s.rewards / nullif(s.rewarded, 0) - s.margin,
        s.rewards / nullif(s.rewarded, 0) + s.margin
    FROM (
        SELECT
            l.policy,
            l.first_pull,
            CAST(sum(l.decisions) AS bigint) AS decisions,
            CAST(sum(l.rewarded) AS bigint) AS rewarded,
            CAST(sum(l.rewards) AS float8) AS rewards,
            -- Below 100 each decision is of a user of its own. Further on the sums do not tell users apart.
            CASE WHEN l.first_pull < 100 THEN analytics.mean_margin(
                CAST(sum(l.rewarded) AS float8), CAST(sum(l.rewards) AS float8), CAST(sum(l.rewards_squared) AS float8)
            ) END AS margin
        FROM rollup.learning AS l
        WHERE (since IS NULL OR l.day >= since) AND (until IS NULL OR l.day <= until)
        GROUP BY l.policy, l.first_pull
        HAVING sum(l.decisions) > 0
    ) AS s;
END;
COMMENT ON FUNCTION analytics.learning_curve_between IS
    'learning_curve of the decisions from day `since` to day `until`, both included; null: no bound';

CREATE VIEW analytics.learning_curve AS
SELECT policy, first_decision, last_decision, decisions, rewarded, mean_reward, mean_reward_low, mean_reward_high
FROM analytics.learning_curve_between(NULL, NULL);
COMMENT ON VIEW analytics.learning_curve IS
    'Mean reward of a user''s nth decision since the last reset: it rises if the policy learns';
COMMENT ON COLUMN analytics.learning_curve.policy IS 'The policy';
COMMENT ON COLUMN analytics.learning_curve.first_decision IS 'n; from 100 on the first n of a group';
COMMENT ON COLUMN analytics.learning_curve.last_decision IS 'The last n of the group';
COMMENT ON COLUMN analytics.learning_curve.decisions IS 'Number of decisions; below 100 also the number of users';
COMMENT ON COLUMN analytics.learning_curve.rewarded IS 'Number of decisions with a reward that counts';
COMMENT ON COLUMN analytics.learning_curve.mean_reward IS 'Mean of these rewards';
COMMENT ON COLUMN analytics.learning_curve.mean_reward_low IS
    'Lower end of its 95 % interval over users; null from 100 on, where the sums do not tell users apart. A user who was reset counts once for each start';
COMMENT ON COLUMN analytics.learning_curve.mean_reward_high IS 'Upper end of its 95 % interval';

CREATE FUNCTION analytics.rewards_by_day_between(
    since date, until date, only_policy text DEFAULT NULL, only_prompt_version text DEFAULT NULL
)
RETURNS TABLE (
    day date, exploring boolean, shown bigint,
    rewarded bigint, mean_reward float8, mean_reward_low float8, mean_reward_high float8
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 200
BEGIN ATOMIC
    SELECT
        s.day,
        s.exploring,
        s.shown,
        s.rewarded,
        s.rewards / nullif(s.rewarded, 0),
        s.rewards / nullif(s.rewarded, 0) - s.margin,
        s.rewards / nullif(s.rewarded, 0) + s.margin
    FROM (
        SELECT
            g.day,
            g.exploring,
            CAST(sum(g.shown) AS bigint) AS shown,
            CAST(sum(g.rewarded) AS bigint) AS rewarded,
            sum(g.rewards) AS rewards,
            analytics.ratio_margin(
                count(*) FILTER (WHERE g.rewarded > 0), sum(g.rewards), sum(g.rewarded),
                sum(g.rewards * g.rewards), sum(g.rewards * g.rewarded), sum(g.rewarded * g.rewarded)
            ) AS margin
        FROM (
            SELECT
                r.day,
                r.exploring,
                CAST(sum(r.decisions) AS float8) AS shown,
                CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction <> 'none'), 0) AS float8) AS rewarded,
                CAST(sum(r.rewards) AS float8) AS rewards
            FROM rollup.user_groups AS r
            WHERE r.day >= coalesce(since, '-infinity') AND r.day <= coalesce(until, 'infinity')
                AND (only_policy IS NULL OR r.policy = only_policy)
                AND (only_prompt_version IS NULL OR r.prompt_version = only_prompt_version)
            GROUP BY r.day, r.exploring, r.user_group
            HAVING sum(r.decisions) > 0
        ) AS g
        GROUP BY g.day, g.exploring
    ) AS s;
END;
COMMENT ON FUNCTION analytics.rewards_by_day_between IS
    'rewards_by_day from day `since` to day `until`, both included, of one policy or prompt version; null: all';

CREATE VIEW analytics.rewards_by_day AS
SELECT day, exploring, shown, rewarded, mean_reward, mean_reward_low, mean_reward_high
FROM analytics.rewards_by_day_between(NULL, NULL);
COMMENT ON VIEW analytics.rewards_by_day IS 'Mean reward by day, of tips drawn at random and of tips chosen by score';
COMMENT ON COLUMN analytics.rewards_by_day.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN analytics.rewards_by_day.exploring IS 'True if the tips were drawn at random';
COMMENT ON COLUMN analytics.rewards_by_day.shown IS 'Number of decisions';
COMMENT ON COLUMN analytics.rewards_by_day.rewarded IS 'Number of decisions with a reward that counts';
COMMENT ON COLUMN analytics.rewards_by_day.mean_reward IS 'Mean of these rewards';
COMMENT ON COLUMN analytics.rewards_by_day.mean_reward_low IS
    'Lower end of its 95 % interval, from groups of users; null below two groups';
COMMENT ON COLUMN analytics.rewards_by_day.mean_reward_high IS 'Upper end of its 95 % interval';
