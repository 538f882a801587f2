-- ADR 2
-- Partitions of feature_history, a month (UTC) each. Both functions run with the rights of the tables' owner, so that
-- the service can create and detach months without owning the tables. They lock feature_history first and then its
-- partitions, so two concurrent calls wait for each other and don't deadlock.

CREATE FUNCTION oo_ml.create_feature_history_months(first timestamptz, months integer) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
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
        CONTINUE WHEN to_regclass('oo_ml.' || partition) IS NOT NULL;
        -- Waits for another session that creates or detaches months; that session may have created this month. The lock
        -- blocks no reads or writes.
        LOCK TABLE ONLY oo_ml.feature_history IN SHARE UPDATE EXCLUSIVE MODE;
        CONTINUE WHEN to_regclass('oo_ml.' || partition) IS NOT NULL;
        -- Between the move and the ATTACH, no session may insert rows of this month into the default partition.
        LOCK TABLE oo_ml.feature_history_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'CREATE TABLE oo_ml.%I (LIKE oo_ml.feature_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS)'
            ' WITH (fillfactor = 90)',
            partition
        );
        -- Move the decisions that were inserted before their month had a partition.
        EXECUTE format(
            'WITH moved AS (DELETE FROM oo_ml.feature_history_default WHERE decision_id >= %L AND decision_id < %L'
            ' RETURNING *) INSERT INTO oo_ml.%I SELECT * FROM moved',
            lower_bound, upper_bound, partition
        );
        EXECUTE format(
            'ALTER TABLE oo_ml.feature_history ATTACH PARTITION oo_ml.%I FOR VALUES FROM (%L) TO (%L)',
            partition, lower_bound, upper_bound
        );
        RETURN NEXT partition;
    END LOOP;
END
$$;
COMMENT ON FUNCTION oo_ml.create_feature_history_months IS
    'Create the missing partitions among `months` months, from the month of `first` on; return their names';
REVOKE EXECUTE ON FUNCTION oo_ml.create_feature_history_months FROM PUBLIC;

CREATE FUNCTION oo_ml.detach_feature_history_months(before timestamptz, detached_at timestamptz) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition text;
    month_end timestamptz;
    privilege text;
BEGIN
    -- Waits for another session that detaches months, and then sees the result of that session.
    PERFORM FROM oo_ml.upkeep WHERE task = 'retention' FOR UPDATE;
    FOR partition, month_end IN
        SELECT p.relname, (to_date(right(p.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC'
        FROM pg_inherits AS i
        JOIN pg_class AS p ON p.oid = i.inhrelid
        WHERE i.inhparent = 'oo_ml.feature_history'::regclass
            AND CASE WHEN p.relname ~ '^feature_history_[0-9]{4}_[0-9]{2}$'
                THEN (to_date(right(p.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' <= before
            END
        ORDER BY p.relname
    LOOP
        -- Not CONCURRENTLY, which PostgreSQL refuses if there is a default partition.
        EXECUTE format('ALTER TABLE oo_ml.feature_history DETACH PARTITION oo_ml.%I', partition);
        -- A detached month still holds users' data, so the roles with rights to feature_history get the same rights.
        FOR privilege IN
            SELECT format(
                'GRANT %s ON oo_ml.%I TO %s%s',
                a.privilege_type,
                partition,
                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            )
            FROM pg_class AS h
            CROSS JOIN LATERAL aclexplode(h.relacl) AS a
            WHERE h.oid = 'oo_ml.feature_history'::regclass
        LOOP
            EXECUTE privilege;
        END LOOP;
        UPDATE oo_ml.upkeep
        SET done_until = greatest(done_until, month_end), ran_at = detached_at
        WHERE task = 'retention';
        RETURN NEXT partition;
    END LOOP;
END
$$;
COMMENT ON FUNCTION oo_ml.detach_feature_history_months IS
    'Detach the months that end by `before`; return the names of their tables, which are kept. detached_at: time of the run';
REVOKE EXECUTE ON FUNCTION oo_ml.detach_feature_history_months FROM PUBLIC;
