-- Off-policy evaluation: the mean reward that another policy would have earned, estimated from the log of this one.
-- w = p_target / p_logged. The mean of w should be 1: less of it means that the target would have chosen what the log had
-- no chance to show. Such estimates are NULL, because they would be those of another policy.
--
-- Users are the sample (ADR 26). The state of an aggregate holds the sums of 16 groups of users and not of each user, so
-- it has the same size for any number of users, and rows can come in any order.

CREATE TYPE analytics.estimate AS (
    n bigint, estimate float8, variance float8, low float8, high float8, mean_weight float8, unknown_because text,
    user_groups bigint
);
COMMENT ON TYPE analytics.estimate IS
    'Number of rows, the estimate, its variance and its 95 % interval (null below two groups of users), and the mean weight';
COMMENT ON COLUMN analytics.estimate.n IS 'Number of rows without a null';
COMMENT ON COLUMN analytics.estimate.estimate IS 'The estimate; null without rows, or if the log does not support it';
COMMENT ON COLUMN analytics.estimate.variance IS
    'Variance of the estimate, from the sums of groups of users; null below two groups';
COMMENT ON COLUMN analytics.estimate.low IS
    'Lower end of its 95 % interval, by Student''s t with user_groups - 1 degrees of freedom';
COMMENT ON COLUMN analytics.estimate.high IS 'Upper end of its 95 % interval';
COMMENT ON COLUMN analytics.estimate.mean_weight IS
    'Mean of p_target / p_logged; it should be 1. Less: part of what the target policy chooses had no chance in the log';
COMMENT ON COLUMN analytics.estimate.unknown_because IS 'Reason why the log does not support the estimate; null: it does';
COMMENT ON COLUMN analytics.estimate.user_groups IS 'Number of groups of users with rows, at most 16';

CREATE FUNCTION analytics.importance_weight(p_target float8, p_logged float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    IF NOT (p_logged > 0 AND p_logged <= 1) THEN
        RAISE EXCEPTION 'p_logged is a probability above 0 and at most 1, not %', p_logged
            USING ERRCODE = 'numeric_value_out_of_range';
    END IF;
    IF NOT (p_target >= 0 AND p_target <= 1) THEN
        RAISE EXCEPTION 'p_target is a probability from 0 to 1, not %', p_target
            USING ERRCODE = 'numeric_value_out_of_range';
    END IF;
    -- PostgreSQL refuses a square that is too small for a float8, so a tiny weight is 0.
    RETURN CASE WHEN p_target < 1e-60 THEN 0 ELSE p_target / p_logged END;
END
$$;
COMMENT ON FUNCTION analytics.importance_weight IS 'p_target / p_logged; an error if one of them is no probability; 0 if p_target is below 1e-60';

-- State of the aggregates: n, the sums of w, of w^2, of the probability mass of the target that certainly had no chance
-- (where p_logged is 1, every other action had 0) and of times * value, and the first value. Behind them three numbers
-- for each group of users: its rows, the sum of w, and the sum of times * (value - first value). So nothing cancels,
-- however far values are from zero.
CREATE FUNCTION analytics.estimator_add(
    state float8[], user_group integer, w float8, p_target float8, p_logged float8, value float8, times float8
) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    place integer := 7 + 3 * user_group;
BEGIN
    IF state[1] = 0 THEN
        state := ARRAY[0, 0, 0, 0, 0, value] || array_fill(CAST(0 AS float8), ARRAY[48]);
    END IF;
    state[1] := state[1] + 1;
    state[2] := state[2] + w;
    state[3] := state[3] + w * w;
    state[4] := state[4] + CASE WHEN p_logged = 1 THEN 1 - p_target ELSE 0 END;
    state[5] := state[5] + times * value;
    state[place] := state[place] + 1;
    state[place + 1] := state[place + 1] + w;
    state[place + 2] := state[place + 2] + times * (value - state[6]);
    RETURN state;
END
$$;
COMMENT ON FUNCTION analytics.estimator_add IS 'Next state of an aggregate: adds a row';

CREATE FUNCTION analytics.estimator_groups(state float8[]) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT count(*) FROM generate_series(7, array_length(state, 1), 3) AS g (place) WHERE state[g.place] > 0;
END;
COMMENT ON FUNCTION analytics.estimator_groups IS 'Number of groups of users in the state of an aggregate';

CREATE FUNCTION analytics.estimator_error(state float8[], y integer, x integer) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT analytics.ratio_error(
        count(*), sum(g.y), sum(g.x), sum(g.y * g.y), sum(g.x * g.y), sum(g.x * g.x)
    )
    FROM (
        SELECT state[p.place + estimator_error.y] AS y, state[p.place + estimator_error.x] AS x
        FROM generate_series(7, array_length(state, 1), 3) AS p (place)
        WHERE state[p.place] > 0
    ) AS g;
END;
COMMENT ON FUNCTION analytics.estimator_error IS
    'Standard error of a ratio of two sums, from those of groups of users: 0 rows, 1 weights, 2 values; null below two groups';

CREATE FUNCTION analytics.weight_unknown_because(state float8[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN state[4] > analytics.support_limit() * state[1] THEN
        'the log chose with certainty where the target policy would not: ' || CAST(round(CAST(
            100 * state[4] / state[1] AS numeric
        ), 1) AS text) || ' % of what it would choose had no chance'
    -- The upper end of the interval of the mean weight is too low.
    WHEN state[1] > 1 AND state[2] / state[1] + analytics.t95(analytics.estimator_groups(state) - 1)
        * analytics.estimator_error(state, 1, 0) < 1 - analytics.support_limit() THEN
        'the mean weight is ' || CAST(round(CAST(state[2] / state[1] AS numeric), 2) AS text)
        || ' and not 1: part of what the target policy would choose had no chance, or too little to be drawn'
END;
COMMENT ON FUNCTION analytics.weight_unknown_because IS
    'Reason why a log does not support its target policy; null: it does, as far as its weights show';

CREATE FUNCTION analytics.estimator_ips_step(
    state float8[], reward float8, p_target float8, p_logged float8, user_id anycompatible
) RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    w float8 := analytics.importance_weight(p_target, p_logged);
BEGIN
    RETURN analytics.estimator_add(
        state, analytics.user_group(CAST(user_id AS text)), w, p_target, p_logged, w * reward, 1
    );
END
$$;
COMMENT ON FUNCTION analytics.estimator_ips_step IS 'Step of the aggregate ips';

CREATE FUNCTION analytics.estimator_dr_step(
    state float8[], reward float8, q_logged_action float8, q_target float8, p_target float8, p_logged float8,
    user_id anycompatible
) RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    w float8 := analytics.importance_weight(p_target, p_logged);
BEGIN
    RETURN analytics.estimator_add(
        state, analytics.user_group(CAST(user_id AS text)), w, p_target, p_logged,
        q_target + w * (reward - q_logged_action), 1
    );
END
$$;
COMMENT ON FUNCTION analytics.estimator_dr_step IS 'Step of the aggregate dr';

CREATE FUNCTION analytics.estimator_snips_step(
    state float8[], reward float8, p_target float8, p_logged float8, user_id anycompatible
) RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    w float8 := analytics.importance_weight(p_target, p_logged);
BEGIN
    RETURN analytics.estimator_add(
        state, analytics.user_group(CAST(user_id AS text)), w, p_target, p_logged, reward, w
    );
END
$$;
COMMENT ON FUNCTION analytics.estimator_snips_step IS 'Step of the aggregate snips';

CREATE FUNCTION analytics.estimator_ess_step(
    state float8[], p_target float8, p_logged float8, user_id anycompatible
) RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN analytics.estimator_add(
        state, analytics.user_group(CAST(user_id AS text)), analytics.importance_weight(p_target, p_logged),
        p_target, p_logged, 0, 0
    );
END
$$;
COMMENT ON FUNCTION analytics.estimator_ess_step IS 'Step of the aggregate ess';

CREATE FUNCTION analytics.estimator_mean_weight_step(state float8[], p_target float8, p_logged float8)
RETURNS float8[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY[state[1] + 1, state[2] + analytics.importance_weight(p_target, p_logged)];
COMMENT ON FUNCTION analytics.estimator_mean_weight_step IS 'Step of the aggregate mean_weight';

CREATE FUNCTION analytics.as_estimate(state float8[], estimate float8, error float8) RETURNS analytics.estimate
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    reason text := analytics.weight_unknown_because(state);
    groups bigint := analytics.estimator_groups(state);
    half float8 := analytics.t95(groups - 1) * error;
    mean_weight float8 := state[2] / nullif(state[1], 0);
BEGIN
    IF reason IS NOT NULL THEN
        RETURN CAST(ROW(state[1], NULL, NULL, NULL, NULL, mean_weight, reason, groups) AS analytics.estimate);
    END IF;
    RETURN CAST(
        ROW(state[1], estimate, error * error, estimate - half, estimate + half, mean_weight, NULL, groups)
        AS analytics.estimate
    );
END
$$;
COMMENT ON FUNCTION analytics.as_estimate IS
    'An estimate with its 95 % interval over groups of users; null with the reason if the log does not support it';

CREATE FUNCTION analytics.estimator_mean(state float8[]) RETURNS analytics.estimate
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN analytics.as_estimate(state, state[5] / nullif(state[1], 0), analytics.estimator_error(state, 2, 0));
COMMENT ON FUNCTION analytics.estimator_mean IS 'Result of the aggregates ips and dr: the mean of the values';

CREATE FUNCTION analytics.estimator_ratio(state float8[]) RETURNS analytics.estimate
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN analytics.as_estimate(state, state[5] / nullif(state[2], 0), analytics.estimator_error(state, 2, 1));
COMMENT ON FUNCTION analytics.estimator_ratio IS
    'Result of the aggregate snips: sum(w r) / sum(w), with a linearised variance';

CREATE FUNCTION analytics.estimator_size(state float8[]) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN analytics.weight_unknown_because(state) IS NULL
    THEN coalesce(state[2] * state[2] / nullif(state[3], 0), 0) END;
COMMENT ON FUNCTION analytics.estimator_size IS
    'Result of the aggregate ess: sum(w)^2 / sum(w^2); null if the log does not support the target policy';

CREATE FUNCTION analytics.estimator_mean_weight(state float8[]) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN state[2] / nullif(state[1], 0);
COMMENT ON FUNCTION analytics.estimator_mean_weight IS 'Result of the aggregate mean_weight: sum(w) / n';

CREATE AGGREGATE analytics.ips(reward float8, p_target float8, p_logged float8, user_id anycompatible) (
    SFUNC = analytics.estimator_ips_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_mean, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.ips(float8, float8, float8, anycompatible) IS
    'Inverse propensity score: mean of w r (Horvitz and Thompson 1952). Rows with a null are skipped';

CREATE AGGREGATE analytics.snips(reward float8, p_target float8, p_logged float8, user_id anycompatible) (
    SFUNC = analytics.estimator_snips_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_ratio, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.snips(float8, float8, float8, anycompatible) IS
    'Self-normalised: sum(w r) / sum(w) (Swaminathan and Joachims 2015). Rows with a null are skipped';

CREATE AGGREGATE analytics.dr(
    reward float8, q_logged_action float8, q_target float8, p_target float8, p_logged float8, user_id anycompatible
) (
    SFUNC = analytics.estimator_dr_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_mean, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.dr(float8, float8, float8, float8, float8, anycompatible) IS
    'Doubly robust: mean of q_target + w (r - q_logged_action) (Dudik, Langford, Li 2011). Rows with a null are skipped';

CREATE AGGREGATE analytics.ess(p_target float8, p_logged float8, user_id anycompatible) (
    SFUNC = analytics.estimator_ess_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_size, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.ess(float8, float8, anycompatible) IS
    'Effective sample size: sum(w)^2 / sum(w^2) (Kong 1992); 0 without rows, null if the log does not support the target policy. Rows with a null are skipped';

CREATE AGGREGATE analytics.mean_weight(p_target float8, p_logged float8) (
    SFUNC = analytics.estimator_mean_weight_step, STYPE = float8[], INITCOND = '{0,0}',
    FINALFUNC = analytics.estimator_mean_weight, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.mean_weight(float8, float8) IS
    'Mean of p_target / p_logged: 1 if all that the target policy may choose had a chance in the log. Rows with a null are skipped';
