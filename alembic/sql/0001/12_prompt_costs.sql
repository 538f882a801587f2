-- Costs of prompt versions, from the sums by day: latencies are within 1.8 %. What was done is attributed to the call
-- that wrote the tip, whenever it was done: a tip of yesterday that is done today is no success of today's tokens.

CREATE VIEW rollup.done_cells AS
SELECT
    d.position,
    d.user_id,
    CAST(d.created_at AT TIME ZONE 'UTC' AS date) AS day,
    d.prompt_version,
    d.done
FROM (
    SELECT
        l.position, l.user_id, g.created_at, g.prompt_version,
        CAST(rollup.reaction(l.reward, l.kind) = 'done' AS integer)
            - CAST(rollup.reaction(before.reward, before.kind) = 'done' AS integer) AS done
    FROM oo_ml.reward_ledger AS l
    JOIN oo_ml.feature_history AS h ON h.user_id = l.user_id AND h.decision_id = l.decision_id
    -- LEFT, so that PostgreSQL finds the decision first and then its call. It would begin with all calls of the users.
    LEFT JOIN oo_ml.generations AS g ON g.user_id = h.user_id AND g.generation_id = h.generation_id
    LEFT JOIN oo_ml.reward_ledger AS before
        ON before.user_id = l.user_id AND before.policy = l.policy AND before.epoch = l.epoch
        AND before.version = l.corrects
    WHERE h.generation_id IS NOT NULL
) AS d
-- Without a call there is no version. IS NOT NULL would turn the LEFT JOIN back into a JOIN.
WHERE coalesce(d.prompt_version, '') <> '';
COMMENT ON VIEW rollup.done_cells IS 'One row for each ledger entry about a generated tip: its addition to daily_done';
COMMENT ON COLUMN rollup.done_cells.position IS 'Position of the ledger entry';
COMMENT ON COLUMN rollup.done_cells.user_id IS 'The user';
COMMENT ON COLUMN rollup.done_cells.day IS 'Day of the call that wrote the tip, UTC';
COMMENT ON COLUMN rollup.done_cells.prompt_version IS 'The prompt version of the call';
COMMENT ON COLUMN rollup.done_cells.done IS '1 if the entry makes its decision done, -1 if it undoes that, else 0';

CREATE VIEW rollup.done AS
SELECT day, prompt_version, done
FROM oo_ml.daily_done
UNION ALL
SELECT day, prompt_version, sum(done) AS done
FROM rollup.done_cells
WHERE position > (SELECT counted_until FROM oo_ml.counted WHERE source = 'reward_ledger')
    AND position <= 9223372036854775807
GROUP BY day, prompt_version;
COMMENT ON VIEW rollup.done IS 'daily_done as of now: rows to be summed up';
COMMENT ON COLUMN rollup.done.day IS 'Day of the calls, UTC';
COMMENT ON COLUMN rollup.done.prompt_version IS 'The prompt version used';
COMMENT ON COLUMN rollup.done.done IS 'Number of decisions with reaction done; below 0: that are no longer';

CREATE FUNCTION analytics.prompt_costs_between(since date, until date)
RETURNS TABLE (
    prompt_version text, calls bigint, failed bigint, retries bigint, prompt_tokens bigint, completion_tokens bigint,
    latency_p50_ms float8, latency_p95_ms float8, done bigint, tokens_per_done float8, cost float8, cost_per_done float8
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 20
BEGIN ATOMIC
    WITH by_model AS (
        SELECT
            c.day, c.prompt_version, c.model,
            sum(c.calls) AS calls,
            sum(c.failed) AS failed,
            sum(c.retries) AS retries,
            sum(c.prompt_tokens) AS prompt_tokens,
            sum(c.completion_tokens) AS completion_tokens
        FROM rollup.costs AS c
        WHERE (since IS NULL OR c.day >= since) AND (until IS NULL OR c.day <= until)
        GROUP BY c.day, c.prompt_version, c.model
    ), made AS (
        SELECT
            c.prompt_version,
            CAST(sum(c.calls) AS bigint) AS calls,
            CAST(sum(c.failed) AS bigint) AS failed,
            CAST(sum(c.retries) AS bigint) AS retries,
            CAST(sum(c.prompt_tokens) AS bigint) AS prompt_tokens,
            CAST(sum(c.completion_tokens) AS bigint) AS completion_tokens,
            -- A sum without the calls whose price is unknown would look cheap.
            CASE WHEN bool_and(p.model IS NOT NULL OR (c.prompt_tokens = 0 AND c.completion_tokens = 0)) THEN
                coalesce(sum(c.prompt_tokens * p.prompt_price + c.completion_tokens * p.completion_price), 0) / 1000000
            END AS cost
        FROM by_model AS c
        LEFT JOIN LATERAL (
            SELECT m.model, m.prompt_price, m.completion_price
            FROM oo_ml.model_prices AS m
            WHERE m.model = c.model AND m.since <= c.day
            ORDER BY m.since DESC
            LIMIT 1
        ) AS p ON true
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
        SELECT d.prompt_version, CAST(sum(d.done) AS bigint) AS done
        FROM rollup.done AS d
        WHERE (since IS NULL OR d.day >= since) AND (until IS NULL OR d.day <= until)
        GROUP BY d.prompt_version
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
        CAST(m.prompt_tokens + m.completion_tokens AS float8) / nullif(a.done, 0),
        CAST(m.cost AS float8),
        CAST(m.cost AS float8) / nullif(a.done, 0)
    FROM made AS m
    LEFT JOIN quantiles AS q ON q.prompt_version = m.prompt_version
    LEFT JOIN achieved AS a ON a.prompt_version = m.prompt_version;
END;
COMMENT ON FUNCTION analytics.prompt_costs_between IS
    'prompt_costs of the calls from day `since` to day `until`, both included; null: no bound';

CREATE VIEW analytics.prompt_costs AS
SELECT
    prompt_version, calls, failed, retries, prompt_tokens, completion_tokens,
    latency_p50_ms, latency_p95_ms, done, tokens_per_done, cost, cost_per_done
FROM analytics.prompt_costs_between(NULL, NULL);
COMMENT ON VIEW analytics.prompt_costs IS
    'Tokens, latency and cost of each prompt version, beside the number of its tips that were done';
COMMENT ON COLUMN analytics.prompt_costs.prompt_version IS 'The prompt version';
COMMENT ON COLUMN analytics.prompt_costs.calls IS 'Number of calls of /generate that reached the model, failed calls included';
COMMENT ON COLUMN analytics.prompt_costs.failed IS 'Number of calls that gave no tips';
COMMENT ON COLUMN analytics.prompt_costs.retries IS 'Number of further requests to the model within a call';
COMMENT ON COLUMN analytics.prompt_costs.prompt_tokens IS 'Tokens of the prompts, over all attempts';
COMMENT ON COLUMN analytics.prompt_costs.completion_tokens IS 'Tokens of the replies, over all attempts';
COMMENT ON COLUMN analytics.prompt_costs.latency_p50_ms IS 'Median of the time that a call spent waiting for the gateway, within 1.8 %';
COMMENT ON COLUMN analytics.prompt_costs.latency_p95_ms IS '95th percentile of that time';
COMMENT ON COLUMN analytics.prompt_costs.done IS
    'Number of decisions with reaction done, whenever it came, about tips that these calls wrote';
COMMENT ON COLUMN analytics.prompt_costs.tokens_per_done IS 'Tokens of prompts and replies for each of these decisions';
COMMENT ON COLUMN analytics.prompt_costs.cost IS
    'Price of the tokens by model_prices; null if the price of a model that answered is not known';
COMMENT ON COLUMN analytics.prompt_costs.cost_per_done IS 'Cost for each of these decisions';
