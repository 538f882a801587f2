-- What calls of the language model cost: what daily_costs and daily_latencies are made from and completed with.

CREATE FUNCTION rollup.latency_step(latency_ms integer) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CAST(round(20 * ln(1 + CAST(latency_ms AS float8)) / ln(2::float8)) AS smallint);
COMMENT ON FUNCTION rollup.latency_step IS 'round(20 log2(1 + milliseconds)): to 1.8 % the latency';

CREATE VIEW rollup.cost_cells AS
SELECT
    g.position,
    g.user_id,
    CAST(g.created_at AT TIME ZONE 'UTC' AS date) AS day,
    g.prompt_version,
    rollup.latency_step(g.latency_ms) AS latency_step,
    1 AS calls,
    CAST(g.outcome <> 'ok' AS integer) AS failed,
    greatest(g.attempts - 1, 0) AS retries,
    g.prompt_tokens,
    g.completion_tokens
FROM generations AS g;
COMMENT ON VIEW rollup.cost_cells IS 'What each call of the language model adds to daily_costs and daily_latencies';

-- The upper bound tells the planner that the rows are few, as in rollup.uncounted.
CREATE VIEW rollup.uncounted_costs AS
SELECT * FROM rollup.cost_cells
WHERE position > (SELECT counted_until FROM counted WHERE source = 'generations')
    AND position <= 9223372036854775807;
COMMENT ON VIEW rollup.uncounted_costs IS 'What daily_costs and daily_latencies lack still';

CREATE VIEW rollup.costs AS
SELECT day, prompt_version, calls, failed, retries, prompt_tokens, completion_tokens
FROM daily_costs
UNION ALL
SELECT day, prompt_version, calls, failed, retries, prompt_tokens, completion_tokens
FROM rollup.uncounted_costs;
COMMENT ON VIEW rollup.costs IS 'daily_costs as of now: rows to be summed up';

CREATE VIEW rollup.latencies AS
SELECT day, prompt_version, latency_step, calls
FROM daily_latencies
UNION ALL
SELECT day, prompt_version, latency_step, calls
FROM rollup.uncounted_costs;
COMMENT ON VIEW rollup.latencies IS 'daily_latencies as of now: rows to be summed up';

DO $$
DECLARE
    described text[];
    view_name text;
BEGIN
    FOREACH view_name IN ARRAY ARRAY['cost_cells', 'uncounted_costs', 'costs', 'latencies'] LOOP
        FOREACH described SLICE 1 IN ARRAY ARRAY[
            ['position', 'Position of the call in generations'],
            ['user_id', 'The person that tips were asked for'],
            ['day', 'Day of the calls, UTC'],
            ['prompt_version', 'The version used'],
            ['latency_step', 'round(20 log2(1 + milliseconds)) spent waiting'],
            ['calls', 'How many there are'],
            ['failed', 'Those that gave no tips'],
            ['retries', 'Times that the model was asked again in a call'],
            ['prompt_tokens', 'Tokens of their prompts'],
            ['completion_tokens', 'Tokens of the replies']
        ] LOOP
            IF EXISTS (
                SELECT FROM pg_attribute
                WHERE attrelid = CAST('rollup.' || view_name AS regclass) AND attname = described[1]
            ) THEN
                EXECUTE format('COMMENT ON COLUMN rollup.%I.%I IS %L', view_name, described[1], described[2]);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
