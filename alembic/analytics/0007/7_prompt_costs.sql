CREATE FUNCTION analytics.prompt_costs_between(since date, until date)
RETURNS TABLE (
    prompt_version text, calls bigint, failed bigint, retries bigint, prompt_tokens bigint, completion_tokens bigint,
    latency_p50_ms float8, latency_p95_ms float8, done bigint, tokens_per_done float8
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 20
BEGIN ATOMIC
    WITH made AS (
        SELECT
            g.prompt_version,
            count(*) AS calls,
            count(*) FILTER (WHERE g.outcome <> 'ok') AS failed,
            CAST(sum(greatest(g.attempts - 1, 0)) AS bigint) AS retries,
            CAST(sum(g.prompt_tokens) AS bigint) AS prompt_tokens,
            CAST(sum(g.completion_tokens) AS bigint) AS completion_tokens,
            percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY g.latency_ms) AS latency
        FROM generations AS g
        WHERE (since IS NULL OR CAST(g.created_at AT TIME ZONE 'UTC' AS date) >= since)
            AND (until IS NULL OR CAST(g.created_at AT TIME ZONE 'UTC' AS date) <= until)
        GROUP BY g.prompt_version
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
        m.latency[1],
        m.latency[2],
        coalesce(a.done, 0),
        CAST(m.prompt_tokens + m.completion_tokens AS float8) / nullif(a.done, 0)
    FROM made AS m
    LEFT JOIN achieved AS a ON a.prompt_version = m.prompt_version;
END;
COMMENT ON FUNCTION analytics.prompt_costs_between IS
    'prompt_costs of the calls and decisions of some days, both included; null: no bound';
REVOKE EXECUTE ON FUNCTION analytics.prompt_costs_between FROM PUBLIC;

CREATE VIEW analytics.prompt_costs AS
SELECT
    prompt_version, calls, failed, retries, prompt_tokens, completion_tokens,
    latency_p50_ms, latency_p95_ms, done, tokens_per_done
FROM analytics.prompt_costs_between(NULL, NULL);
COMMENT ON VIEW analytics.prompt_costs IS 'What the tips of each prompt version cost, and what came of it';
COMMENT ON COLUMN analytics.prompt_costs.prompt_version IS 'The prompt version';
COMMENT ON COLUMN analytics.prompt_costs.calls IS 'Calls of /generate that asked the model, failed ones too';
COMMENT ON COLUMN analytics.prompt_costs.failed IS 'Those that gave no tips';
COMMENT ON COLUMN analytics.prompt_costs.retries IS 'Times that the model was asked again in a call';
COMMENT ON COLUMN analytics.prompt_costs.prompt_tokens IS 'Tokens of the prompts, all attempts';
COMMENT ON COLUMN analytics.prompt_costs.completion_tokens IS 'Tokens of the replies, all attempts';
COMMENT ON COLUMN analytics.prompt_costs.latency_p50_ms IS 'Median of the time spent waiting in a call';
COMMENT ON COLUMN analytics.prompt_costs.latency_p95_ms IS 'Its 95th percentile';
COMMENT ON COLUMN analytics.prompt_costs.done IS 'Decisions for tips of the version that were done';
COMMENT ON COLUMN analytics.prompt_costs.tokens_per_done IS 'Tokens of prompts and replies for each of them';
