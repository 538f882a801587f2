-- Off-policy evaluation: what another policy would have earned, from the log of this one. w = p_target / p_logged.

CREATE TYPE analytics.estimate AS (n bigint, estimate float8, variance float8, low float8, high float8);
COMMENT ON TYPE analytics.estimate IS
    'Rows with every value, the estimate, its variance, and its 95 % interval; null below two rows';

-- Sums of x and y, and of their products about the means, kept so that nothing cancels (Youngs and Cramer 1971).
CREATE FUNCTION analytics.estimator_add(state float8[], x float8, y float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    n float8 := state[1] + 1;
    sum_x float8 := state[2] + x;
    sum_y float8 := state[4] + y;
    x_off float8 := x * n - sum_x;
    y_off float8 := y * n - sum_y;
    scale float8 := n * (n - 1);
BEGIN
    IF n = 1 THEN
        RETURN ARRAY[n, sum_x, 0, sum_y, 0, 0];
    END IF;
    RETURN ARRAY[
        n,
        sum_x, state[3] + x_off * x_off / scale,
        sum_y, state[5] + y_off * y_off / scale,
        state[6] + x_off * y_off / scale
    ];
END
$$;
COMMENT ON FUNCTION analytics.estimator_add IS 'Of the aggregates: count x and y in';

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
    RETURN p_target / p_logged;
END
$$;
COMMENT ON FUNCTION analytics.importance_weight IS 'p_target / p_logged, both checked to be probabilities';

CREATE FUNCTION analytics.estimator_ips_step(state float8[], reward float8, p_target float8, p_logged float8)
RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    w float8 := analytics.importance_weight(p_target, p_logged);
BEGIN
    RETURN analytics.estimator_add(state, w, w * reward);
END
$$;
COMMENT ON FUNCTION analytics.estimator_ips_step IS 'Of the aggregates ips and snips: count a row in';

CREATE FUNCTION analytics.estimator_dr_step(
    state float8[], reward float8, q_logged_action float8, q_target float8, p_target float8, p_logged float8
) RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    w float8 := analytics.importance_weight(p_target, p_logged);
BEGIN
    RETURN analytics.estimator_add(state, w, q_target + w * (reward - q_logged_action));
END
$$;
COMMENT ON FUNCTION analytics.estimator_dr_step IS 'Of the aggregate dr: count a row in';

CREATE FUNCTION analytics.estimator_ess_step(state float8[], p_target float8, p_logged float8)
RETURNS float8[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN analytics.estimator_add(state, analytics.importance_weight(p_target, p_logged), 0);
END
$$;
COMMENT ON FUNCTION analytics.estimator_ess_step IS 'Of the aggregate ess: count a row in';

CREATE FUNCTION analytics.as_estimate(n float8, estimate float8, variance float8) RETURNS analytics.estimate
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CAST(ROW(
    n, estimate, variance, estimate - 1.959963984540054 * sqrt(variance), estimate + 1.959963984540054 * sqrt(variance)
) AS analytics.estimate);
COMMENT ON FUNCTION analytics.as_estimate IS 'An estimate with its 95 % interval, by the normal distribution';

CREATE FUNCTION analytics.estimator_mean(state float8[]) RETURNS analytics.estimate
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN analytics.as_estimate(
    state[1],
    state[4] / nullif(state[1], 0),
    CASE WHEN state[1] > 1 THEN state[5] / (state[1] - 1) / state[1] END
);
COMMENT ON FUNCTION analytics.estimator_mean IS 'Of the aggregates ips and dr: the mean of what was counted in';

CREATE FUNCTION analytics.estimator_ratio(state float8[]) RETURNS analytics.estimate
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- The sum of (w r - estimate w)^2, about the means, which cancel: sum(w r) = estimate sum(w).
RETURN analytics.as_estimate(
    state[1],
    state[4] / nullif(state[2], 0),
    CASE WHEN state[1] > 1 AND state[2] > 0 THEN greatest(
        state[5]
        - 2 * state[4] / state[2] * state[6]
        + state[4] / state[2] * (state[4] / state[2]) * state[3],
        0
    ) / (state[2] * state[2]) END
);
COMMENT ON FUNCTION analytics.estimator_ratio IS 'Of the aggregate snips: sum(w r) / sum(w), its variance linearised';

CREATE FUNCTION analytics.estimator_size(state float8[]) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN state[2] * state[2] / nullif(state[3] + state[2] * state[2] / nullif(state[1], 0), 0);
COMMENT ON FUNCTION analytics.estimator_size IS 'Of the aggregate ess: sum(w)^2 / sum(w^2)';

CREATE AGGREGATE analytics.ips(reward float8, p_target float8, p_logged float8) (
    SFUNC = analytics.estimator_ips_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_mean, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.ips(float8, float8, float8) IS
    'Inverse propensity score: mean of w r (Horvitz and Thompson 1952). Rows with a null are left out';

CREATE AGGREGATE analytics.snips(reward float8, p_target float8, p_logged float8) (
    SFUNC = analytics.estimator_ips_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_ratio, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.snips(float8, float8, float8) IS
    'Self-normalised: sum(w r) / sum(w) (Swaminathan and Joachims 2015). Rows with a null are left out';

CREATE AGGREGATE analytics.dr(
    reward float8, q_logged_action float8, q_target float8, p_target float8, p_logged float8
) (
    SFUNC = analytics.estimator_dr_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_mean, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.dr(float8, float8, float8, float8, float8) IS
    'Doubly robust: mean of q_target + w (r - q_logged_action) (Dudik, Langford, Li 2011). Rows with a null are left out';

CREATE AGGREGATE analytics.ess(p_target float8, p_logged float8) (
    SFUNC = analytics.estimator_ess_step, STYPE = float8[], INITCOND = '{0,0,0,0,0,0}',
    FINALFUNC = analytics.estimator_size, PARALLEL = SAFE
);
COMMENT ON AGGREGATE analytics.ess(float8, float8) IS
    'Effective sample size: sum(w)^2 / sum(w^2) (Kong 1992). Rows with a null are left out';
