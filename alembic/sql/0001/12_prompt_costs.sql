-- Costs of prompt versions, from the sums by day: latencies are within 1.8 %.

CREATE FUNCTION analytics.prompt_costs_between(since date, until date)
RETURNS TABLE (
    prompt_version text, calls bigint, failed bigint, retries bigint, prompt_tokens bigint, completion_tokens bigint,
    latency_p50_ms float8, latency_p95_ms float8, done bigint, tokens_per_done float8
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 20
BEGIN ATOMIC
    WITH made AS (
        SELECT
            c.prompt_version,
            CAST(sum(c.calls) AS bigint) AS calls,
            CAST(sum(c.failed) AS bigint) AS failed,
            CAST(sum(c.retries) AS bigint) AS retries,
            CAST(sum(c.prompt_tokens) AS bigint) AS prompt_tokens,
            CAST(sum(c.completion_tokens) AS bigint) AS completion_tokens
        FROM rollup.costs AS c
        WHERE (since IS NULL OR c.day >= since) AND (until IS NULL OR c.day <= until)
        GROUP BY c.prompt_version
        HAVING sum(c.calls) > 0
    ), latencies AS (
        SELECT
            l.prompt_version,
            l.latency_step,
            sum(sum(l.calls)) OVER (PARTITION BY l.prompt_version ORDER BY l.latency_step) AS until_here,
            sum(sum(l.calls)) OVER (PARTITION BY l.prompt_version) AS total
        FROM rollup.latencies AS l
        WHERE (since IS NULL OR l.day >= since) AND (until IS NULL OR l.day <= until)
        GROUP BY l.prompt_version, l.latency_step
    ), quantiles AS (
        SELECT
            l.prompt_version,
            power(2::float8, min(l.latency_step) FILTER (WHERE l.until_here >= 0.5 * l.total) / 20.0::float8) - 1 AS p50,
            power(2::float8, min(l.latency_step) FILTER (WHERE l.until_here >= 0.95 * l.total) / 20.0::float8) - 1 AS p95
        FROM latencies AS l
        WHERE l.total > 0
        GROUP BY l.prompt_version
    ), achieved AS (
        SELECT r.prompt_version, CAST(sum(r.decisions) AS bigint) AS done
        FROM rollup.reactions AS r
        WHERE (since IS NULL OR r.day >= since) AND (until IS NULL OR r.day <= until)
            AND r.reaction = 'done' AND r.prompt_version IS NOT NULL
        GROUP BY r.prompt_version
    )
    SELECT
        m.prompt_version,
        m.calls,
        m.failed,
        m.retries,
        m.prompt_tokens,
        m.completion_tokens,
        q.p50,
        q.p95,
        coalesce(a.done, 0),
        CAST(m.prompt_tokens + m.completion_tokens AS float8) / nullif(a.done, 0)
    FROM made AS m
    LEFT JOIN quantiles AS q ON q.prompt_version = m.prompt_version
    LEFT JOIN achieved AS a ON a.prompt_version = m.prompt_version;
END;
COMMENT ON FUNCTION analytics.prompt_costs_between IS
    'prompt_costs of the calls and decisions from day `since` to day `until`, both included; null: no bound';

CREATE VIEW analytics.prompt_costs AS
SELECT
    prompt_version, calls, failed, retries, prompt_tokens, completion_tokens,
    latency_p50_ms, latency_p95_ms, done, tokens_per_done
FROM analytics.prompt_costs_between(NULL, NULL);
COMMENT ON VIEW analytics.prompt_costs IS 'Tokens and latency of each prompt version, beside the number of its tips that were done';
COMMENT ON COLUMN analytics.prompt_costs.prompt_version IS 'The prompt version';
COMMENT ON COLUMN analytics.prompt_costs.calls IS 'Number of calls of /generate that reached the model, failed calls included';
COMMENT ON COLUMN analytics.prompt_costs.failed IS 'Number of calls that gave no tips';
COMMENT ON COLUMN analytics.prompt_costs.retries IS 'Number of further requests to the model within a call';
COMMENT ON COLUMN analytics.prompt_costs.prompt_tokens IS 'Tokens of the prompts, over all attempts';
COMMENT ON COLUMN analytics.prompt_costs.completion_tokens IS 'Tokens of the replies, over all attempts';
COMMENT ON COLUMN analytics.prompt_costs.latency_p50_ms IS 'Median of the time that a call spent waiting for the gateway, within 1.8 %';
COMMENT ON COLUMN analytics.prompt_costs.latency_p95_ms IS '95th percentile of that time';
COMMENT ON COLUMN analytics.prompt_costs.done IS 'Number of decisions for tips of the version with reaction done';
COMMENT ON COLUMN analytics.prompt_costs.tokens_per_done IS 'Tokens of prompts and replies for each of these decisions';
