"""What the schema has besides tables: what makes and detaches months of the history, and the guard of prompts."""

from typing import Final

HISTORY_DEFAULT_PARTITION: Final = """
CREATE TABLE feature_history_default PARTITION OF feature_history DEFAULT WITH (fillfactor = 90)
"""

HISTORY_MONTHS: Final = """
CREATE FUNCTION create_feature_history_months(first timestamptz, months integer) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    -- The first 48 bits of a UUIDv7 are its time in milliseconds since 1970.
    lower_bound uuid;
    upper_bound uuid;
    month timestamp := date_trunc('month', first AT TIME ZONE 'UTC');
    partition text;
BEGIN
    FOR i IN 1 .. months LOOP
        partition := format('feature_history_%s', to_char(month, 'YYYY_MM'));
        lower_bound := rpad(lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
        month := month + interval '1 month';
        upper_bound := rpad(lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        -- Whoever else makes or detaches months is waited for, and may have made this one; nobody else is held up.
        LOCK TABLE ONLY feature_history IN SHARE UPDATE EXCLUSIVE MODE;
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        -- Nothing may come between the move and the new partition: a row of this month left behind forbids it.
        LOCK TABLE feature_history_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'CREATE TABLE %I (LIKE feature_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (fillfactor = 90)',
            partition
        );
        -- Decisions that came before their month had a partition wait in the default one.
        EXECUTE format(
            'WITH moved AS (DELETE FROM feature_history_default WHERE decision_id >= %L AND decision_id < %L'
            ' RETURNING *) INSERT INTO %I SELECT * FROM moved',
            lower_bound, upper_bound, partition
        );
        EXECUTE format(
            'ALTER TABLE feature_history ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            partition, lower_bound, upper_bound
        );
        RETURN NEXT partition;
    END LOOP;
END
$$
"""

HISTORY_RETENTION: Final = """
CREATE FUNCTION detach_feature_history_months(before timestamptz) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    partition text;
    month_end timestamptz;
    privilege text;
BEGIN
    -- Whoever else is at it is waited for, and what they have done is seen.
    PERFORM FROM upkeep WHERE task = 'retention' FOR UPDATE;
    FOR partition, month_end IN
        SELECT p.relname, month.month_end
        FROM pg_inherits AS i
        JOIN pg_class AS p ON p.oid = i.inhrelid
        CROSS JOIN LATERAL (
            SELECT (to_date(right(p.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' AS month_end
            WHERE p.relname ~ '^feature_history_[0-9]{4}_[0-9]{2}$'
        ) AS month
        WHERE i.inhparent = 'feature_history'::regclass AND month.month_end <= before
        ORDER BY p.relname
    LOOP
        -- Not CONCURRENTLY, which PostgreSQL refuses where there is a default partition.
        EXECUTE format('ALTER TABLE feature_history DETACH PARTITION %I', partition);
        -- Who may read, export and erase the rows of the history may do so with these still.
        FOR privilege IN
            SELECT format(
                'GRANT %s ON %I TO %s%s',
                a.privilege_type,
                partition,
                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            )
            FROM pg_class AS h
            CROSS JOIN LATERAL aclexplode(h.relacl) AS a
            WHERE h.oid = 'feature_history'::regclass
        LOOP
            EXECUTE privilege;
        END LOOP;
        UPDATE upkeep SET done_until = greatest(done_until, month_end), ran_at = now() WHERE task = 'retention';
        RETURN NEXT partition;
    END LOOP;
END
$$
"""

PROMPTS_IMMUTABLE: Final = """
CREATE FUNCTION refuse_change_of_prompt_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'prompt version % is published: its text never changes', OLD.version
        USING ERRCODE = 'integrity_constraint_violation';
END
$$
"""

PROMPTS_IMMUTABLE_TRIGGER: Final = """
CREATE TRIGGER prompt_versions_immutable
    BEFORE UPDATE OF version, published_at, description, system_template, user_template OR DELETE
    ON prompt_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_prompt_version()
"""
