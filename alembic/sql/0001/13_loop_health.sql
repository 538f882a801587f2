-- Health of the loop of decisions and rewards.

CREATE FUNCTION analytics.loop_health_between(since date, until date)
RETURNS TABLE (
    check_name text, policy text, value float8, expected float8, p_value float8, status text, reason text
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 10
BEGIN ATOMIC
    -- MATERIALIZED where a number is used more than once: it would be computed each time.
    WITH uncounted AS MATERIALIZED (
        -- Read once. The views rollup.delays and rollup.reactions would each read the rows that are not counted yet.
        SELECT u.day, u.policy, u.reaction, u.delay_step, u.decisions, u.unsupported
        FROM rollup.uncounted AS u
    ), delays AS MATERIALIZED (
        SELECT d.delay_step, sum(sum(d.decisions)) OVER (ORDER BY d.delay_step) AS until_here,
            sum(sum(d.decisions)) OVER () AS total
        FROM (
            SELECT c.day, c.delay_step, c.decisions FROM oo_ml.daily_delays AS c
            UNION ALL
            SELECT u.day, u.delay_step, u.decisions FROM uncounted AS u WHERE u.delay_step IS NOT NULL
        ) AS d
        WHERE (since IS NULL OR d.day >= since) AND (until IS NULL OR d.day <= until)
        GROUP BY d.delay_step
    ), quantiles AS MATERIALIZED (
        SELECT q.check_name, (
            SELECT power(2::float8, d.delay_step / 20.0::float8) - 1 FROM delays AS d
            WHERE d.until_here >= q.share * d.total AND d.total > 0 ORDER BY d.delay_step LIMIT 1
        ) AS value
        FROM (VALUES ('reward_delay_p50', 0.5), ('reward_delay_p95', 0.95)) AS q (check_name, share)
    ), shown AS MATERIALIZED (
        SELECT
            r.policy,
            sum(r.decisions) AS decisions,
            sum(r.unsupported) AS unsupported,
            -- Rewards for today's decisions may still come.
            sum(r.decisions) FILTER (WHERE r.day < CAST(now() AT TIME ZONE 'UTC' AS date)) AS earlier,
            sum(r.decisions) FILTER (
                WHERE r.day < CAST(now() AT TIME ZONE 'UTC' AS date) AND r.reaction = 'none'
            ) AS earlier_unrewarded
        FROM (
            SELECT c.day, c.policy, c.reaction, c.decisions, c.unsupported FROM oo_ml.daily_reactions AS c
            UNION ALL
            SELECT u.day, u.policy, u.reaction, u.decisions, u.unsupported FROM uncounted AS u
        ) AS r
        WHERE (since IS NULL OR r.day >= since) AND (until IS NULL OR r.day <= until)
        GROUP BY r.policy
    ), waiting AS (
        SELECT CAST(sum(s.earlier_unrewarded) AS float8) / nullif(sum(s.earlier), 0) AS value FROM shown AS s
    ), explored_by_day AS (
        SELECT
            e.policy,
            CAST(sum(e.decisions) AS float8) AS n,
            CAST(sum(e.explored) AS float8) AS explored,
            CAST(sum(e.expected) AS float8) AS expected,
            CAST(sum(e.expected_variance) AS float8) AS variance,
            CAST(sum(e.shares) AS float8) AS shares,
            CAST(sum(e.shares_squared) AS float8) AS shares_squared
        FROM rollup.exploration AS e
        WHERE (since IS NULL OR e.day >= since) AND (until IS NULL OR e.day <= until)
        GROUP BY e.policy, e.day
        HAVING sum(e.decisions) > 0
    ), explored AS (
        SELECT
            d.policy,
            sum(d.n) AS n,
            sum(d.explored) AS explored,
            sum(d.expected) AS expected,
            sum(d.variance) AS variance,
            sum(d.shares) AS shares,
            -- The variance of 1 / (n propensity) is at most 1 / e - 1, and close to it if there are many candidates. The
            -- observed variance says little: until the first draw at random it is 0. On a day on which e was changed
            -- (sum(e)^2 < n sum(e^2) shows it) the variance may be larger than this bound.
            sum(CASE
                -- A probability below 1e-12 counts as 0. A share of a vote is at least 1/64, so the variance of 1 / (n
                -- propensity) is at most 64 / 2 - 1.
                WHEN d.expected < 1e-12 * d.n THEN CASE
                    WHEN EXISTS (
                        SELECT FROM oo_ml.policies AS p
                        WHERE p.policy = d.policy AND CAST(p.definition #>> '{rule,sigma}' AS float8) > 0
                    ) THEN 31 * d.n
                    ELSE 0
                END
                WHEN d.expected * d.expected < d.n * (d.expected - d.variance) * 0.999999
                    THEN greatest(d.n * (d.n / d.expected - 1), d.shares_squared - d.shares * d.shares / d.n)
                ELSE d.n * (d.n / d.expected - 1)
            END) AS shares_variance
        FROM explored_by_day AS d
        GROUP BY d.policy
    ), chances AS (
        SELECT
            e.*,
            rollup.count_z(e.explored, e.expected, e.variance) AS explored_z,
            -- As if the sum of shares consisted of draws that count 1 / p each, with probability p.
            rollup.count_z(e.shares * e.p, e.n * e.p, e.n * e.p * (1 - e.p)) AS shares_z
        FROM (SELECT x.*, x.n / (x.n + x.shares_variance) AS p FROM explored AS x) AS e
    ), support AS (
        SELECT s.policy, CAST(s.unsupported AS float8) / s.decisions AS value
        FROM shown AS s
        WHERE s.decisions > 0
    ), states AS MATERIALIZED (
        -- If the CHECKs of the table are in force, there are none, and a million states need not be read.
        SELECT CASE WHEN (
            SELECT count(*) FROM pg_constraint AS k
            WHERE k.conrelid = CAST('oo_ml.policy_state' AS regclass) AND k.convalidated
                AND k.conname IN ('ck_policy_state_a_finite', 'ck_policy_state_b_finite')
        ) = 2 THEN 0 ELSE (
            SELECT CAST(count(*) AS float8) FROM oo_ml.policy_state AS p
            WHERE ('-Infinity' < ALL (p.a) AND 'Infinity' > ALL (p.a)
                AND '-Infinity' < ALL (p.b) AND 'Infinity' > ALL (p.b)) IS NOT TRUE
        ) END AS value
    ), found AS (
        SELECT q.check_name, NULL::text AS policy, q.value, NULL::float8 AS expected, NULL::float8 AS p_value,
            CASE WHEN q.value IS NULL THEN 'unknown' WHEN q.value > 1209600 THEN 'red' WHEN q.value > 604800 THEN 'amber'
                ELSE 'green' END AS status,
            CASE WHEN q.value IS NULL THEN 'no reaction in this period'
                WHEN q.value > 1209600 THEN 'rewards come more than two weeks after their decision: policies learn late'
                WHEN q.value > 604800 THEN 'rewards come more than a week after their decision: policies learn late'
                ELSE 'rewards come soon enough for learning' END AS reason
        FROM quantiles AS q
        UNION ALL
        SELECT 'never_rewarded', NULL, w.value, NULL, NULL,
            CASE WHEN w.value IS NULL THEN 'unknown' WHEN w.value > 0.9 THEN 'red' WHEN w.value > 0.5 THEN 'amber'
                ELSE 'green' END,
            CASE WHEN w.value IS NULL THEN 'no decision of an earlier day in this period'
                WHEN w.value > 0.9 THEN 'hardly any decision before today got a reward: are rewards sent?'
                WHEN w.value > 0.5 THEN 'most decisions before today got no reward: nothing is learned from them'
                ELSE 'most decisions before today got a reward' END
        FROM waiting AS w
        UNION ALL
        SELECT 'explored_share', c.policy, c.explored / c.n, c.expected / c.n, analytics.two_sided_p(c.explored_z),
            CASE WHEN c.explored_z IS NULL AND c.explored <> c.expected THEN 'red'
                WHEN analytics.two_sided_p(c.explored_z) < 1e-6 THEN 'red'
                WHEN analytics.two_sided_p(c.explored_z) < 1e-3 THEN 'amber' ELSE 'green' END,
            CASE WHEN analytics.two_sided_p(c.explored_z) < 1e-3 OR c.explored_z IS NULL AND c.explored <> c.expected
                THEN CASE WHEN c.explored > c.expected THEN 'more' ELSE 'fewer' END
                    || ' tips were drawn at random than expected: propensities can''t be trusted'
                WHEN c.expected = 0 THEN 'nothing is drawn at random, as expected'
                ELSE 'as many tips were drawn at random as expected' END
        FROM chances AS c
        UNION ALL
        SELECT 'unsupported_share', u.policy, u.value, 0, NULL,
            CASE WHEN u.value > analytics.support_limit() THEN 'amber' ELSE 'green' END,
            CASE WHEN u.value > analytics.support_limit()
                THEN 'some candidates have no chance, so weighted numbers are unknown and no other policy can be judged: '
                    || CASE u.policy
                        WHEN 'linucb-v1' THEN 'set OO_ML_EXPLORATION above 0'
                        WHEN 'egreedy-v1' THEN 'set OO_ML_EPSILON above 0'
                        ELSE 'publish a policy with rule.exploration above 0'
                    END
                    || '; decisions from before stay without support'
                ELSE 'every candidate has a chance, so weighted numbers hold' END
        FROM support AS u
        UNION ALL
        SELECT 'propensity_calibration', c.policy, c.shares / c.n, 1, analytics.two_sided_p(c.shares_z),
            CASE WHEN c.shares_z IS NULL AND abs(c.shares / c.n - 1) > 1e-6 THEN 'red'
                WHEN analytics.two_sided_p(c.shares_z) < 1e-6 THEN 'red'
                WHEN analytics.two_sided_p(c.shares_z) < 1e-3 THEN 'amber' ELSE 'green' END,
            CASE WHEN analytics.two_sided_p(c.shares_z) < 1e-3 OR c.shares_z IS NULL AND abs(c.shares / c.n - 1) > 1e-6
                THEN 'the inverse propensities don''t add up to the candidates: weighted numbers can''t be trusted'
                WHEN c.expected < 1e-12 * c.n THEN 'without exploration there are no inverse propensities to add up'
                ELSE 'the inverse propensities add up to the candidates' END
        FROM chances AS c
        UNION ALL
        SELECT 'states_not_finite', NULL, s.value, 0, NULL, CASE WHEN s.value > 0 THEN 'red' ELSE 'green' END,
            CASE WHEN s.value > 0 THEN 'states hold NaN or infinite numbers: run oo-ml verify'
                ELSE 'every model holds finite numbers' END
        FROM states AS s
        UNION ALL
        SELECT 'partitions_ahead', NULL, m.value, 3, NULL,
            CASE WHEN m.value < 1 THEN 'red' WHEN m.value < 2 THEN 'amber' ELSE 'green' END,
            CASE WHEN m.value < 2 THEN 'coming months have no partition: run oo-ml upkeep as the owner of the tables'
                ELSE 'the coming months have partitions' END
        FROM (
            SELECT CAST(count(*) AS float8) AS value
            FROM pg_inherits AS i
            JOIN pg_class AS c ON c.oid = i.inhrelid
            WHERE i.inhparent = CAST('oo_ml.feature_history' AS regclass)
                AND c.relname ~ '^feature_history_[0-9]{4}_[0-9]{2}$'
                AND right(c.relname, 7) > to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')
        ) AS m
        UNION ALL
        SELECT 'uncounted', NULL, u.value, NULL, NULL,
            CASE WHEN u.value > 1000000 THEN 'red' WHEN u.value > 100000 THEN 'amber' ELSE 'green' END,
            CASE WHEN u.value > 100000 THEN 'upkeep is behind: reports are correct but slow'
                ELSE 'upkeep has counted nearly all rows' END
        FROM (
            -- The difference of positions, because counting rows takes long exactly when upkeep is behind.
            SELECT CAST(sum(greatest(o.last_position - greatest(coalesce(c.counted_until, 0), 0), 0)) AS float8) AS value
            FROM (VALUES
                ('feature_history', coalesce(pg_sequence_last_value('oo_ml.feature_history_order'), 0)),
                ('reward_ledger', coalesce(pg_sequence_last_value('oo_ml.reward_ledger_order'), 0)),
                ('generations', coalesce(pg_sequence_last_value('oo_ml.generations_order'), 0))
            ) AS o (source, last_position)
            LEFT JOIN oo_ml.counted AS c ON c.source = o.source
        ) AS u
    )
    SELECT f.check_name, f.policy, f.value, f.expected, f.p_value, f.status, f.reason FROM found AS f;
END;
COMMENT ON FUNCTION analytics.loop_health_between IS
    'loop_health of the decisions from day `since` to day `until`, both included; null: no bound';

CREATE VIEW analytics.loop_health AS
SELECT check_name, policy, value, expected, p_value, status, reason
FROM analytics.loop_health_between(CAST(now() AT TIME ZONE 'UTC' AS date) - 27, NULL);
COMMENT ON VIEW analytics.loop_health IS 'Checks of the loop of decisions and rewards, over the last 28 days';
COMMENT ON COLUMN analytics.loop_health.check_name IS
    'reward_delay_p50, reward_delay_p95 (seconds, within 3.5 %), never_rewarded (share of the decisions before today), explored_share, unsupported_share (share of the decisions in which some candidate had no chance: weighted numbers are null above 0.05), propensity_calibration (mean of 1 / (candidates x propensity), should be 1), states_not_finite, partitions_ahead (months), uncounted (decisions, ledger entries and calls of the model that upkeep has not added up yet)';
COMMENT ON COLUMN analytics.loop_health.policy IS 'The policy that was checked; null: all policies';
COMMENT ON COLUMN analytics.loop_health.value IS 'Observed value';
COMMENT ON COLUMN analytics.loop_health.expected IS 'Expected value, if there is one';
COMMENT ON COLUMN analytics.loop_health.p_value IS
    'Probability of a value this far off by chance (an upper bound for propensity_calibration): amber below 1e-3, red below 1e-6';
COMMENT ON COLUMN analytics.loop_health.status IS 'green, amber, red, or unknown if there is no data';
COMMENT ON COLUMN analytics.loop_health.reason IS 'Meaning of the value, in a sentence';
