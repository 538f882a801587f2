-- Off-policy evaluation: the mean reward that another policy would have earned, estimated from the log of this one.
-- w = p_target / p_logged. The mean of w should be 1: less of it means that the target would have chosen what the log had
-- no chance to show. Such estimates are NULL, because they would be those of another policy.

CREATE TYPE analytics.estimate AS (
    n bigint, estimate float8, variance float8, low float8, high float8, mean_weight float8, unknown_because text
);
COMMENT ON TYPE analytics.estimate IS
    'Number of rows, the estimate, its variance and its 95 % interval (null below two rows), and the mean weight';
COMMENT ON COLUMN analytics.estimate.n IS 'Number of rows without a null';
COMMENT ON COLUMN analytics.estimate.estimate IS 'The estimate; null without rows, or if the log does not support it';
COMMENT ON COLUMN analytics.estimate.variance IS 'Variance of the estimate; null below two rows';
COMMENT ON COLUMN analytics.estimate.low IS 'Lower end of its 95 % interval, by the normal distribution';
COMMENT ON COLUMN analytics.estimate.high IS 'Upper end of its 95 % interval';
COMMENT ON COLUMN analytics.estimate.mean_weight IS
    'Mean of p_target / p_logged; it should be 1. Less: part of what the target policy chooses had no chance in the log';
COMMENT ON COLUMN analytics.estimate.unknown_because IS 'Reason why the log does not support the estimate; null: it does';

-- State of every aggregate: n, the sums of w and w^2, and the probability mass of the target that certainly had no
-- chance: where p_logged is 1, every other action had 0. Estimates add to it behind the fourth number.
CREATE FUNCTION analytics.weight_add(state float8[], w float8, p_target float8, p_logged float8) RETURNS float8[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY[
    state[1] + 1, state[2] + w, state[3] + w * w, state[4] + CASE WHEN p_logged = 1 THEN 1 - p_target ELSE 0 END
];
COMMENT ON FUNCTION analytics.weight_add IS 'First four numbers of the next state of an aggregate';

CREATE FUNCTION analytics.weight_unknown_because(state float8[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN state[4] > analytics.support_limit() * state[1] THEN
        'the log chose with certainty where the target policy would not: ' || CAST(round(CAST(
            100 * state[4] / state[1] AS numeric
        ), 1) AS text) || ' % of what it would choose had no chance'
    -- The upper end of the interval of the mean weight is too low.
    WHEN state[1] > 1 AND state[2] / state[1] + analytics.mean_margin(state[1], state[2], state[3])
        < 1 - analytics.support_limit() THEN
        'the mean weight is ' || CAST(round(CAST(state[2] / state[1] AS numeric), 2) AS text)
        || ' and not 1: part of what the target policy would choose had no chance, or too little to be drawn'
END;
COMMENT ON FUNCTION analytics.weight_unknown_because IS
    'Reason why a log does not support its target policy; null: it does, as far as its weights show';

-- The fifth number is the sum of y, the sixth the sum of squares about the mean, updated without cancellation (Youngs
-- and Cramer 1971).
CREATE FUNCTION analytics.estimator_add(state float8[], weights float8[], y float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    n float8 := weights[1];
    total float8 := state[5] + y;
    off float8 := y * n - total;
BEGIN
    RETURN weights || ARRAY[total, CASE WHEN n > 1 THEN state[6] + off * off / (n * (n - 1)) ELSE 0 END];
END
$$;
COMMENT ON FUNCTION analytics.estimator_add IS 'Step of the aggregates ips and dr: adds y';

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

CREATE FUNCTION analytics.estimator_ips_step(state float8[], reward float8, p_target float8, p_logged float8)
RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    w float8 := analytics.importance_weight(p_target, p_logged);
BEGIN
    RETURN analytics.estimator_add(state, analytics.weight_add(state, w, p_target, p_logged), w * reward);
END
$$;
COMMENT ON FUNCTION analytics.estimator_ips_step IS 'Step of the aggregate ips';

CREATE FUNCTION analytics.estimator_dr_step(
    state float8[], reward float8, q_logged_action float8, q_target float8, p_target float8, p_logged float8
) RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    w float8 := analytics.importance_weight(p_target, p_logged);
BEGIN
    RETURN analytics.estimator_add(
        state, analytics.weight_add(state, w, p_target, p_logged), q_target + w * (reward - q_logged_action)
    );
END
$$;
COMMENT ON FUNCTION analytics.estimator_dr_step IS 'Step of the aggregate dr';

-- From the fifth number on: the sum of w r, the weighted mean m of r so far, and the sums of w^2 (r - m) and of
-- w^2 (r - m)^2. The last two are shifted whenever m changes, so nothing cancels, however far rewards are from zero.
CREATE FUNCTION analytics.estimator_snips_step(state float8[], reward float8, p_target float8, p_logged float8)
RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    w float8 := analytics.importance_weight(p_target, p_logged);
    total float8 := state[2] + w;
    shift float8 := CASE WHEN total > 0 THEN w * (reward - state[6]) / total ELSE 0 END;
    off float8 := reward - (state[6] + shift);
BEGIN
    RETURN analytics.weight_add(state, w, p_target, p_logged) || ARRAY[
        state[5] + w * reward,
        state[6] + shift,
        state[7] - shift * state[3] + w * w * off,
        state[8] - 2 * shift * state[7] + shift * shift * state[3] + w * w * off * off
    ];
END
$$;
COMMENT ON FUNCTION analytics.estimator_snips_step IS 'Step of the aggregate snips';

CREATE FUNCTION analytics.estimator_ess_step(state float8[], p_target float8, p_logged float8)
RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN analytics.weight_add(state, analytics.importance_weight(p_target, p_logged), p_target, p_logged);
END
$$;
COMMENT ON FUNCTION analytics.estimator_ess_step IS 'Step of the aggregates ess and mean_weight';

CREATE FUNCTION analytics.as_estimate(state float8[], estimate float8, variance float8) RETURNS analytics.estimate
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    reason text := analytics.weight_unknown_because(state);
    half float8 := 1.959963984540054 * sqrt(variance);
    mean_weight float8 := state[2] / nullif(state[1], 0);
BEGIN
    IF reason IS NOT NULL THEN
        RETURN CAST(ROW(state[1], NULL, NULL, NULL, NULL, mean_weight, reason) AS analytics.estimate);
    END IF;
    RETURN CAST(
        ROW(state[1], estimate, variance, estimate - half, estimate + half, mean_weight, NULL) AS analytics.estimate
    );
END
$$;
COMMENT ON FUNCTION analytics.as_estimate IS
    'An estimate with its 95 % interval, by the normal distribution; null with the reason if the log does not support it';

CREATE FUNCTION analytics.estimator_mean(state float8[]) RETURNS analytics.estimate
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN analytics.as_estimate(
    state,
    state[5] / nullif(state[1], 0),
    CASE WHEN state[1] > 1 THEN state[6] / (state[1] - 1) / state[1] END
);
COMMENT ON FUNCTION analytics.estimator_mean IS
    'Result of the aggregates ips and dr: the mean of y, with the sample variance (n - 1)';

CREATE FUNCTION analytics.estimator_ratio(state float8[]) RETURNS analytics.estimate
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN analytics.as_estimate(
    state,
    state[5] / nullif(state[2], 0),
    CASE WHEN state[1] > 1 AND state[2] > 0 THEN greatest(state[8], 0) / (state[2] * state[2]) END
);
COMMENT ON FUNCTION analytics.estimator_ratio IS
    'Result of the aggregate snips: sum(w r) / sum(w), with the linearised variance sum(w^2 (r - snips)^2) / sum(w)^2';

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

CREATE AGGREGATE analytics.ips(reward float8, p_target float8, p_logged float8) (
    SFUNC = analytics.estimator_ips_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_mean, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.ips(float8, float8, float8) IS
    'Inverse propensity score: mean of w r (Horvitz and Thompson 1952). Rows with a null are skipped';

CREATE AGGREGATE analytics.snips(reward float8, p_target float8, p_logged float8) (
    SFUNC = analytics.estimator_snips_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_ratio, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.snips(float8, float8, float8) IS
    'Self-normalised: sum(w r) / sum(w) (Swaminathan and Joachims 2015). Rows with a null are skipped';

CREATE AGGREGATE analytics.dr(
    reward float8, q_logged_action float8, q_target float8, p_target float8, p_logged float8
) (
    SFUNC = analytics.estimator_dr_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_mean, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.dr(float8, float8, float8, float8, float8) IS
    'Doubly robust: mean of q_target + w (r - q_logged_action) (Dudik, Langford, Li 2011). Rows with a null are skipped';

CREATE AGGREGATE analytics.ess(p_target float8, p_logged float8) (
    SFUNC = analytics.estimator_ess_step, STYPE = float8[], INITCOND = '{0,0,0,0}',
    FINALFUNC = analytics.estimator_size, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.ess(float8, float8) IS
    'Effective sample size: sum(w)^2 / sum(w^2) (Kong 1992); 0 without rows, null if the log does not support the target policy. Rows with a null are skipped';

CREATE AGGREGATE analytics.mean_weight(p_target float8, p_logged float8) (
    SFUNC = analytics.estimator_ess_step, STYPE = float8[], INITCOND = '{0,0,0,0}',
    FINALFUNC = analytics.estimator_mean_weight, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.mean_weight(float8, float8) IS
    'Mean of p_target / p_logged: 1 if all that the target policy may choose had a chance in the log. Rows with a null are skipped';
