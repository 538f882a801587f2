-- Experiments between policies: the decisions for which the traffic chose the policy by the user. Chance decided which
-- users each policy got, so their means can be compared. A client that names a policy may have a reason to.

CREATE FUNCTION analytics.probabilities_best(means float8[], errors float8[]) RETURNS float8[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- Each normal distribution becomes a step function with 3,601 steps, up to 4.5 standard errors from the mean.
    WITH steps AS (
        SELECT s.z, s.mass / s.total AS mass, s.until / s.total AS until
        FROM (
            SELECT d.z, d.mass, sum(d.mass) OVER () AS total, sum(d.mass) OVER (ORDER BY d.z) AS until
            FROM (
                SELECT k * 0.0025::float8 AS z, exp(-0.5 * (k * 0.0025::float8) * (k * 0.0025::float8)) AS mass
                FROM generate_series(-1800, 1800) AS k
            ) AS d
        ) AS s
    ), rises AS (
        -- The distribution function rises from 1e-12 and not from 0, whose logarithm is infinite.
        SELECT s.z, s.mass, ln(s.until) - ln(coalesce(lag(s.until) OVER (ORDER BY s.z), 1e-12)) AS rise
        FROM steps AS s
    ), known AS (
        SELECT p.place, p.mean, p.error, count(*) OVER () AS n
        FROM unnest(means, errors) WITH ORDINALITY AS p (mean, error, place)
        WHERE p.mean IS NOT NULL AND p.error IS NOT NULL
    ), points AS (
        SELECT k.place, k.n, k.mean + k.error * r.z AS x, r.mass, r.rise FROM known AS k CROSS JOIN rises AS r
    ), lower AS (
        -- Logarithm of the product of the other distribution functions at x: one window sum for any number of them.
        SELECT
            p.place, p.mass, p.x,
            (p.n - 1) * ln(1e-12::float8)
            + sum(p.rise) OVER (ORDER BY p.x) - sum(p.rise) OVER (PARTITION BY p.place ORDER BY p.x) AS others
        FROM points AS p
    ), best AS (
        -- exp fails on results that are too small for a float8.
        SELECT l.place, sum(l.mass * exp(greatest(l.others, -600))) AS probability FROM lower AS l GROUP BY l.place
    )
    SELECT array_agg(b.probability / t.total ORDER BY i.place)
    FROM unnest(means) WITH ORDINALITY AS i (mean, place)
    LEFT JOIN best AS b ON b.place = i.place
    CROSS JOIN (SELECT sum(probability) AS total FROM best) AS t;
END;
COMMENT ON FUNCTION analytics.probabilities_best IS
    'Probability of each of several independent normal numbers, from their means and standard errors, to be the greatest; a number with a null is left out. Exact to 0.001';

CREATE FUNCTION analytics.lift_unknown_because(
    rewarded float8, user_groups bigint, hold_out_rewarded float8, hold_out_user_groups bigint
) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN rewarded < 10 THEN 'fewer than 10 rewards'
    WHEN user_groups < 5 THEN 'rewards of fewer than 5 groups of users'
    WHEN hold_out_rewarded IS NULL THEN 'no hold-out: no policy with traffic draws everything at random'
    WHEN hold_out_rewarded < 10 THEN 'fewer than 10 rewards of the hold-out'
    WHEN hold_out_user_groups < 5 THEN 'rewards of fewer than 5 groups of users of the hold-out'
END;
COMMENT ON FUNCTION analytics.lift_unknown_because IS
    'Reason why a policy has no lift, from the numbers of rewards and of groups of users with rewards, its own and those of the hold-out; null: it has one';

CREATE FUNCTION analytics.policy_lift_between(since date, until date)
RETURNS TABLE (
    policy text, hold_out text, decisions bigint, share float8, rewarded bigint, user_groups bigint,
    mean_reward float8, mean_reward_low float8, mean_reward_high float8,
    lift float8, lift_low float8, lift_high float8, probability_best float8, unknown_because text
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 4
BEGIN ATOMIC
    -- Of each group of users (ADR 26).
    WITH groups AS (
        SELECT
            r.policy,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.assigned), 0) AS float8) AS decisions,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.assigned AND r.reaction <> 'none'), 0) AS float8) AS rewarded,
            CAST(coalesce(sum(r.rewards) FILTER (WHERE r.assigned), 0) AS float8) AS rewards
        FROM rollup.user_groups AS r
        WHERE r.day >= coalesce(since, '-infinity') AND r.day <= coalesce(until, 'infinity')
        GROUP BY r.policy, r.user_group
        HAVING sum(r.decisions) > 0
    ), totals AS (
        SELECT
            g.policy,
            sum(g.decisions) AS decisions,
            sum(g.rewarded) AS rewarded,
            count(*) FILTER (WHERE g.rewarded > 0) AS user_groups,
            sum(g.rewards) / nullif(sum(g.rewarded), 0) AS mean
        FROM groups AS g
        GROUP BY g.policy
    ), variances AS (
        SELECT
            t.*,
            CASE WHEN t.user_groups > 1 THEN (
                SELECT
                    t.user_groups / (t.user_groups - 1.0::float8)
                    * sum((g.rewards - t.mean * g.rewarded) * (g.rewards - t.mean * g.rewarded))
                    / (t.rewarded * t.rewarded)
                FROM groups AS g
                WHERE g.policy = t.policy
            ) END AS variance,
            analytics.lift_unknown_because(t.rewarded, t.user_groups, t.rewarded, t.user_groups) IS NULL AS is_enough
        FROM totals AS t
    ), errors AS (
        -- Equal rewards say nothing about the error: 0 would be certainty.
        SELECT
            v.policy, v.decisions, v.rewarded, v.user_groups, v.mean, v.is_enough,
            CASE WHEN v.variance > 1e-15 THEN v.variance END AS variance
        FROM variances AS v
    ), hold_out AS (
        SELECT e.*
        FROM errors AS e JOIN oo_ml.policies AS p ON p.policy = e.policy
        WHERE e.decisions > 0 AND p.definition #> '{rule,exploration}' = '1'
        ORDER BY e.decisions DESC, e.policy
        LIMIT 1
    ), best AS (
        SELECT b.policy, b.probability
        FROM (
            SELECT
                array_agg(e.policy ORDER BY e.policy) AS policies,
                array_agg(e.mean ORDER BY e.policy) AS means,
                array_agg(sqrt(e.variance) ORDER BY e.policy) AS errors
            FROM errors AS e
            WHERE e.is_enough AND e.variance IS NOT NULL
            -- One alone is the best of one.
            HAVING count(*) > 1
        ) AS a
        CROSS JOIN LATERAL unnest(a.policies, analytics.probabilities_best(a.means, a.errors)) AS b (policy, probability)
    ), compared AS (
        SELECT
            e.*,
            h.policy AS hold_out,
            CASE
                WHEN e.decisions = 0 THEN 'the traffic assigned it no decision'
                WHEN e.policy = h.policy
                    THEN analytics.lift_unknown_because(e.rewarded, e.user_groups, e.rewarded, e.user_groups)
                WHEN analytics.lift_unknown_because(e.rewarded, e.user_groups, h.rewarded, h.user_groups) IS NOT NULL
                    THEN analytics.lift_unknown_because(e.rewarded, e.user_groups, h.rewarded, h.user_groups)
                WHEN e.variance IS NULL THEN 'all its rewards are equal'
                WHEN h.variance IS NULL THEN 'all rewards of the hold-out are equal'
            END AS unknown_because,
            e.mean - h.mean AS lift,
            -- Each user has one policy, so the errors are independent; degrees of freedom by Welch (1947).
            sqrt(e.variance + h.variance) * analytics.t95(
                (e.variance + h.variance) * (e.variance + h.variance)
                / (e.variance * e.variance / (e.user_groups - 1) + h.variance * h.variance / (h.user_groups - 1))
            ) AS lift_margin,
            analytics.t95(e.user_groups - 1) * sqrt(e.variance) AS margin
        FROM errors AS e LEFT JOIN hold_out AS h ON true
    ), known AS (
        SELECT
            c.*,
            CASE WHEN c.unknown_because IS NULL AND c.policy <> c.hold_out THEN c.lift END AS known_lift
        FROM compared AS c
    )
    SELECT
        k.policy,
        k.hold_out,
        CAST(k.decisions AS bigint),
        k.decisions / nullif(sum(k.decisions) OVER (), 0),
        CAST(k.rewarded AS bigint),
        k.user_groups,
        k.mean,
        k.mean - k.margin,
        k.mean + k.margin,
        k.known_lift,
        k.known_lift - k.lift_margin,
        k.known_lift + k.lift_margin,
        b.probability,
        k.unknown_because
    FROM known AS k LEFT JOIN best AS b ON b.policy = k.policy;
END;
COMMENT ON FUNCTION analytics.policy_lift_between IS
    'policy_lift of the decisions from day `since` to day `until`, both included; null: no bound';

CREATE VIEW analytics.policy_lift AS
SELECT
    policy, hold_out, decisions, share, rewarded, user_groups, mean_reward, mean_reward_low, mean_reward_high,
    lift, lift_low, lift_high, probability_best, unknown_because
FROM analytics.policy_lift_between(NULL, NULL);
COMMENT ON VIEW analytics.policy_lift IS
    'Policies with decisions, compared with the hold-out by the decisions for which the traffic chose the policy';
COMMENT ON COLUMN analytics.policy_lift.policy IS 'The policy';
COMMENT ON COLUMN analytics.policy_lift.hold_out IS
    'The policy that the others are compared with: of those with traffic whose definition has exploration 1, the one with the most decisions; null: there is no such policy';
COMMENT ON COLUMN analytics.policy_lift.decisions IS 'Number of decisions for which the traffic chose this policy';
COMMENT ON COLUMN analytics.policy_lift.share IS 'Their share of all decisions for which the traffic chose the policy';
COMMENT ON COLUMN analytics.policy_lift.rewarded IS 'Number of these decisions with a reward that counts, received or assumed';
COMMENT ON COLUMN analytics.policy_lift.user_groups IS 'Number of groups of users with such a reward, at most 16';
COMMENT ON COLUMN analytics.policy_lift.mean_reward IS 'Mean of these rewards';
COMMENT ON COLUMN analytics.policy_lift.mean_reward_low IS
    'Lower end of its 95 % interval, from groups of users; null below two groups';
COMMENT ON COLUMN analytics.policy_lift.mean_reward_high IS 'Upper end of its 95 % interval';
COMMENT ON COLUMN analytics.policy_lift.lift IS
    'mean_reward less that of the hold-out: the value of the policy; null for the hold-out itself';
COMMENT ON COLUMN analytics.policy_lift.lift_low IS 'Lower end of its 95 % interval, from groups of users';
COMMENT ON COLUMN analytics.policy_lift.lift_high IS 'Upper end of its 95 % interval';
COMMENT ON COLUMN analytics.policy_lift.probability_best IS
    'Probability that this policy has the highest mean of all with 10 rewards and 5 groups of users, if the means are independent and normal; null: this policy has fewer, or no other has as many';
COMMENT ON COLUMN analytics.policy_lift.unknown_because IS
    'Reason why the lift is null, if it is and this policy is not the hold-out; for the hold-out, why nothing can be compared with it';

CREATE FUNCTION analytics.policy_traffic_by_day_between(since date, until date)
RETURNS TABLE (day date, policy text, decisions bigint, share float8)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 100
BEGIN ATOMIC
    SELECT
        r.day,
        r.policy,
        CAST(sum(r.decisions) AS bigint),
        CAST(sum(r.decisions) / sum(sum(r.decisions)) OVER (PARTITION BY r.day) AS float8)
    FROM rollup.user_groups AS r
    WHERE r.assigned AND r.day >= coalesce(since, '-infinity') AND r.day <= coalesce(until, 'infinity')
    GROUP BY r.day, r.policy
    HAVING sum(r.decisions) > 0;
END;
COMMENT ON FUNCTION analytics.policy_traffic_by_day_between IS
    'policy_traffic_by_day of the days from `since` to `until`, both included; null: no bound';

CREATE VIEW analytics.policy_traffic_by_day AS
SELECT day, policy, decisions, share FROM analytics.policy_traffic_by_day_between(NULL, NULL);
COMMENT ON VIEW analytics.policy_traffic_by_day IS
    'Decisions for which the traffic chose the policy, by day and policy';
COMMENT ON COLUMN analytics.policy_traffic_by_day.day IS 'Day of the decisions, UTC';
COMMENT ON COLUMN analytics.policy_traffic_by_day.policy IS 'The policy';
COMMENT ON COLUMN analytics.policy_traffic_by_day.decisions IS 'Number of these decisions';
COMMENT ON COLUMN analytics.policy_traffic_by_day.share IS 'Their share of all such decisions of the day';
