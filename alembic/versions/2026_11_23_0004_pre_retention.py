"""A function that detaches months past retention, and one that makes months even where two processes do so at once.

pre: runs before the new release starts; the old one makes its months as before.
Revises: 0003
Locks: nothing.
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_WITHOUT_WAITING = """
CREATE OR REPLACE FUNCTION create_feature_history_months(first timestamptz, months integer) RETURNS SETOF text
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


def upgrade() -> None:
    """Create the one and replace the other, which waits for another process now and sees what that has made."""
    op.execute(Path(__file__).with_suffix(".sql").read_text("utf-8"))


def downgrade() -> None:
    """Take them back; months that were detached stay so."""
    op.execute("DROP FUNCTION detach_feature_history_months")
    op.execute(_WITHOUT_WAITING)
