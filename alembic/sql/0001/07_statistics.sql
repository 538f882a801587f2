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

CREATE FUNCTION analytics.t95(degrees float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN degrees < 1 THEN NULL
    WHEN degrees <= 40 THEN (CAST(
        '{12.7062047361747, 4.3026527297495, 3.1824463052837, 2.7764451051978, 2.5705818356363, 2.446911851145,
        2.3646242515928, 2.3060041352042, 2.2621571627982, 2.2281388519863, 2.2009851600916, 2.1788128296672,
        2.1603686564628, 2.1447866879178, 2.1314495455598, 2.1199052992213, 2.1098155778333, 2.100922040241,
        2.0930240544083, 2.0859634472659, 2.0796138447277, 2.073873067904, 2.068657610419, 2.063898561628,
        2.0595385527533, 2.0555294386429, 2.0518305164803, 2.0484071417952, 2.0452296421327, 2.0422724563012,
        2.0395134463964, 2.0369333434601, 2.0345152974493, 2.0322445093177, 2.0301079282503, 2.0280940009804,
        2.0261924630291, 2.024394163912, 2.0226909200368, 2.0210753903063}' AS float8[]
    ))[CAST(floor(degrees) AS integer)]
    -- Abramowitz and Stegun (1964), 26.7.5: exact to eight digits.
    ELSE 1.959963984540054 + (2.372271230298562 + (2.8224986157396112
        + (2.555849679507722 + 1.5895340533938225 / degrees) / degrees) / degrees) / degrees
END;
COMMENT ON FUNCTION analytics.t95 IS
    'Half the width of a 95 % interval in standard errors: the 97.5th percentile of Student''s t with that many degrees of freedom, rounded down up to 40; null below 1';

CREATE FUNCTION analytics.wilson_low(rate float8, n float8, reach float8 DEFAULT 1.959963984540054) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN n > 0 THEN greatest(
    (rate + reach * reach / (2 * n)
        - reach * sqrt(greatest(rate * (1 - rate), 0) / n + reach * reach / (4 * n * n)))
    / (1 + reach * reach / n),
    0
) END;
COMMENT ON FUNCTION analytics.wilson_low IS
    'Lower end of the interval of a rate observed in n independent cases (Wilson 1927) that reaches so many standard errors, by default 95 %; null if n is 0';

CREATE FUNCTION analytics.wilson_high(rate float8, n float8, reach float8 DEFAULT 1.959963984540054) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN n > 0 THEN least(
    (rate + reach * reach / (2 * n)
        + reach * sqrt(greatest(rate * (1 - rate), 0) / n + reach * reach / (4 * n * n)))
    / (1 + reach * reach / n),
    1
) END;
COMMENT ON FUNCTION analytics.wilson_high IS 'Upper end of the same interval';

CREATE FUNCTION analytics.mean_margin(n float8, sum float8, sum_squared float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN n > 1 THEN
    analytics.t95(n - 1) * sqrt(greatest(sum_squared - sum * sum / n, 0) / (n - 1) / n)
END;
COMMENT ON FUNCTION analytics.mean_margin IS
    'Half the width of the 95 % interval of a mean of n independent numbers, such as one for each user, from their count, sum and sum of squares; null if n is below 2';

CREATE FUNCTION analytics.ratio_error(
    n float8, sum_y float8, sum_x float8, sum_yy float8, sum_xy float8, sum_xx float8
) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN n > 1 AND sum_x <> 0 THEN
    sqrt(n / (n - 1) * greatest(
        sum_yy - 2 * (sum_y / sum_x) * sum_xy + (sum_y / sum_x) * (sum_y / sum_x) * sum_xx, 0
    )) / abs(sum_x)
END;
COMMENT ON FUNCTION analytics.ratio_error IS
    'Standard error of sum(y) / sum(x), linearised, from the totals y and x of n users or groups of users: their count, sums and sums of products; null if n is below 2';

CREATE FUNCTION analytics.ratio_margin(
    n float8, sum_y float8, sum_x float8, sum_yy float8, sum_xy float8, sum_xx float8
) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN analytics.t95(n - 1) * analytics.ratio_error(n, sum_y, sum_x, sum_yy, sum_xy, sum_xx);
COMMENT ON FUNCTION analytics.ratio_margin IS
    'Half the width of the 95 % interval of sum(y) / sum(x): t95(n - 1) times ratio_error';

CREATE FUNCTION analytics.rate_size(rate float8, error float8, most float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- At a rate of 0 or 1 the totals of users do not show how alike their decisions are.
RETURN CASE
    WHEN rate > 0 AND rate < 1 AND error > 1e-100 THEN least(rate * (1 - rate) / (error * error), most)
    WHEN error IS NOT NULL THEN most
END;
COMMENT ON FUNCTION analytics.rate_size IS
    'Number of independent cases in which a rate has this standard error, not above `most`, for wilson_low (Korn and Graubard 1998); null without an error';

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
