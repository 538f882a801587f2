-- The contract with analysts begins here: tables may change, this schema only grows. An analyst needs USAGE on it and
-- SELECT on its views. Functions that read tables run with their owner's rights, and so do views.

COMMENT ON SCHEMA analytics IS 'Contract with analysts: views, and functions for statistics. See docs/guides/analytics.md';

CREATE FUNCTION analytics.support_limit() RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 0.05::float8;
COMMENT ON FUNCTION analytics.support_limit IS
    'Largest share of decisions, or of the weight, without support at which weighted numbers are still given: 5 %';

CREATE FUNCTION analytics.least_draws() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 10;
COMMENT ON FUNCTION analytics.least_draws IS 'Least number of draws at random from which weighted numbers are given';

CREATE FUNCTION analytics.unknown_because(decisions float8, choices float8, drawn float8, unsupported float8) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    -- Without draws the weights are all alike: a weighted number is the raw one under another name, with its interval.
    WHEN choices > analytics.support_limit() * decisions AND drawn = 0 THEN 'nothing was drawn at random'
    WHEN unsupported > analytics.support_limit() * decisions
        THEN 'in more than ' || CAST(round(CAST(100 * analytics.support_limit() AS numeric)) AS text)
            || ' % of the decisions some candidate had no chance'
    WHEN choices > analytics.support_limit() * decisions AND drawn < analytics.least_draws()
        THEN 'fewer than ' || CAST(analytics.least_draws() AS text) || ' tips were drawn at random'
END;
COMMENT ON FUNCTION analytics.unknown_because IS
    'Reason why decisions allow no weighted number, from their number, the number among several candidates, drawn at random, and with a candidate of propensity 0; null: they allow it';

CREATE FUNCTION analytics.wilson_low(rate float8, n float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN n > 0 THEN greatest(
    (rate + 3.841458820694124 / (2 * n)
        - 1.959963984540054 * sqrt(greatest(rate * (1 - rate), 0) / n + 3.841458820694124 / (4 * n * n)))
    / (1 + 3.841458820694124 / n),
    0
) END;
COMMENT ON FUNCTION analytics.wilson_low IS
    'Lower end of the 95 % interval of a rate observed in n cases (Wilson 1927); null if n is 0';

CREATE FUNCTION analytics.wilson_high(rate float8, n float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN n > 0 THEN least(
    (rate + 3.841458820694124 / (2 * n)
        + 1.959963984540054 * sqrt(greatest(rate * (1 - rate), 0) / n + 3.841458820694124 / (4 * n * n)))
    / (1 + 3.841458820694124 / n),
    1
) END;
COMMENT ON FUNCTION analytics.wilson_high IS 'Upper end of the same interval';

CREATE FUNCTION analytics.mean_margin(n float8, sum float8, sum_squared float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN n > 1 THEN
    1.959963984540054 * sqrt(greatest(sum_squared - sum * sum / n, 0) / (n - 1) / n)
END;
COMMENT ON FUNCTION analytics.mean_margin IS
    'Half the width of the 95 % interval of a mean, from the count, the sum and the sum of squares; null if n is below 2';

CREATE FUNCTION analytics.weighted_margin(
    weights float8, weights_squared float8,
    weighted_sum float8, squared_weights_sum float8, weighted_sum_squared float8
) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- NULL if one weight is nearly the whole sum: the interval needs at least two.
RETURN CASE WHEN weights > 0 AND weights * weights > weights_squared * 1.000000001 THEN
    1.959963984540054 * sqrt(greatest(
        weighted_sum_squared
        - 2 * weighted_sum / weights * squared_weights_sum
        + weighted_sum / weights * (weighted_sum / weights) * weights_squared,
        0
    )) / weights
END;
COMMENT ON FUNCTION analytics.weighted_margin IS
    'Half the width of the 95 % interval of sum(w r) / sum(w), linearised, from the sums of w, w^2, w r, w^2 r, w^2 r^2';

CREATE FUNCTION analytics.two_sided_p(z float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
-- A plpgsql body is resolved when it runs, and functions with their owner's rights call this one.
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    x float8 := abs(z) / sqrt(2::float8);
    term float8 := x;
    series float8 := x;
    fraction float8 := 0;
BEGIN
    IF x = 'NaN' THEN
        RETURN x;
    END IF;
    IF x < 1e-20 THEN
        RETURN 1;
    END IF;
    -- The probability is below 1e-270, close to the smallest float8.
    IF x > 25 THEN
        RETURN 0;
    END IF;
    -- Abramowitz and Stegun (1964), 7.1.6 near zero, and the continued fraction 7.1.14 further out.
    IF x < 2 THEN
        FOR k IN 1 .. 60 LOOP
            term := term * 2 * x * x / (2 * k + 1);
            series := series + term;
            -- Stops before the term is so small that PostgreSQL refuses it.
            EXIT WHEN term < 1e-17 * series;
        END LOOP;
        RETURN greatest(1 - 2 / sqrt(pi()) * exp(-x * x) * series, 0);
    END IF;
    FOR k IN REVERSE 120 .. 1 LOOP
        fraction := k / 2.0::float8 / (x + fraction);
    END LOOP;
    RETURN exp(-x * x) / sqrt(pi()) / (x + fraction);
END
$$;
COMMENT ON FUNCTION analytics.two_sided_p IS
    'Probability that a standard normal number is at least as far from zero as z';
