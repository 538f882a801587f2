"""What the schema has besides tables: the partitions of the history, and the guard of published prompts."""

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
