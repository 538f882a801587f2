CREATE SEQUENCE generations_order AS bigint;
-- A constant default first: the rows that there are get it without being written.
ALTER TABLE generations ADD COLUMN position bigint NOT NULL DEFAULT 0;
ALTER TABLE generations ALTER COLUMN position SET DEFAULT nextval('generations_order');
-- Whoever inserts generations, such as a service of the older release, goes on doing so.
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'generations'::regclass AND a.privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE generations_order TO %s', grantee);
    END LOOP;
END
$$;
COMMENT ON COLUMN generations.position IS
    'Order in which generations were written; 0: before there were positions';

-- Below every position, the 0 of the oldest generations too. What is counted of decisions stays so.
INSERT INTO counted (source, counted_until, settled_until)
SELECT 'generations', -1, -1 WHERE EXISTS (SELECT FROM counted);
COMMENT ON COLUMN counted.source IS 'feature_history, reward_ledger or generations';

CREATE TABLE daily_costs (
    day date NOT NULL,
    prompt_version text COLLATE "C" NOT NULL,
    calls bigint NOT NULL,
    failed bigint NOT NULL,
    retries bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    CONSTRAINT pk_daily_costs PRIMARY KEY (day, prompt_version)
);
COMMENT ON TABLE daily_costs IS
    'Calls of the language model, by day and version. Kept by upkeep; schema analytics adds what is newer';
COMMENT ON COLUMN daily_costs.day IS 'Day of the calls, UTC';
COMMENT ON COLUMN daily_costs.prompt_version IS 'The version used';
COMMENT ON COLUMN daily_costs.calls IS 'How many there are';
COMMENT ON COLUMN daily_costs.failed IS 'Those that gave no tips';
COMMENT ON COLUMN daily_costs.retries IS 'Times that the model was asked again in a call';
COMMENT ON COLUMN daily_costs.prompt_tokens IS 'Tokens of their prompts';
COMMENT ON COLUMN daily_costs.completion_tokens IS 'Tokens of the replies';

CREATE TABLE daily_latencies (
    day date NOT NULL,
    prompt_version text COLLATE "C" NOT NULL,
    latency_step smallint NOT NULL,
    calls bigint NOT NULL,
    CONSTRAINT pk_daily_latencies PRIMARY KEY (day, prompt_version, latency_step)
);
COMMENT ON TABLE daily_latencies IS
    'Calls of the language model, by day and how long they took. A step is 3.5 % longer than the one before.';
COMMENT ON COLUMN daily_latencies.day IS 'Day of the calls, UTC';
COMMENT ON COLUMN daily_latencies.prompt_version IS 'The version used';
COMMENT ON COLUMN daily_latencies.latency_step IS 'round(20 log2(1 + milliseconds)) spent waiting';
COMMENT ON COLUMN daily_latencies.calls IS 'How many there are';
