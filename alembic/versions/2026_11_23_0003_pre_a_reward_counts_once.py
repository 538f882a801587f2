"""What keeps a reward from counting twice even if the code were wrong; an index by time; 0002 checked on old rows.

pre: runs before the new release starts; the old one never writes what is refused here, but for what 0002 says of it.
Revises: 0002
Locks: feature_history and its new indexes, in turn and without reading a row; whoever asks for them is let through
after a fifth of a second, and it is tried again for as long as lock_timeout. All else goes on beside a service at work.
But the script of `oo-ml db sql` can't know the partitions: there, writers to feature_history wait while it is read.
"""

from alembic import context, op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_CONSTRAINTS = {
    "feature_history": (
        "reward_kind_known",
        "reward_kind_matches",
        "request_digest_length",
        "exploration_range",
        "alpha_range",
        "candidate_dimensions",
        "exploit_finite",
        "explore_finite",
        "propensities_range",
    ),
    "reward_ledger": (
        "kind_known",
        "reward_present",
        "x_present",
        "previous_reward_range",
        "previous_reward_present",
        "decision_present",
        "corrects_range",
        "request_digest_length",
    ),
}


_UNIQUE = {
    "ix_reward_ledger_user_id_decision_id_corrects": """
        (user_id, decision_id, corrects) NULLS NOT DISTINCT WHERE decision_id IS NOT NULL
    """,
    "ix_reward_ledger_user_id_idempotency_key": "(user_id, idempotency_key) WHERE idempotency_key IS NOT NULL",
}


# For a transaction of its own. Whoever waits for a table keeps everybody waiting who comes after, so this asks for it
# again and again instead, each time for a moment, as long as lock_timeout allows in all (0: as long as it takes).
_AGAIN_AND_AGAIN = """
    DO $$
    DECLARE
        patience interval := current_setting('lock_timeout')::interval;
    BEGIN
        PERFORM set_config('lock_timeout', '200ms', true);
        LOOP
            BEGIN
                {statement};
                EXIT;
            EXCEPTION WHEN lock_not_available THEN
                IF patience > '0' AND clock_timestamp() - now() > patience THEN
                    RAISE;
                END IF;
            END;
            PERFORM pg_sleep(0.1);
        END LOOP;
    END $$
"""

# Partitions that have no part yet in the index of the whole: their names, the one that PostgreSQL would give the index
# of each, and the same with its schema.
_WITHOUT_INDEX = text(
    """
    SELECT p.oid::regclass::text, quote_ident(n.name), format('%I.%I', s.nspname, n.name)
    FROM pg_inherits AS h
    JOIN pg_class AS p ON p.oid = h.inhrelid
    JOIN pg_namespace AS s ON s.oid = p.relnamespace
    CROSS JOIN LATERAL (SELECT left(p.relname, 48) || '_decided_at_idx' AS name) AS n
    WHERE h.inhparent = 'feature_history'::regclass AND NOT EXISTS (
        SELECT FROM pg_index AS x
        JOIN pg_inherits AS part ON part.inhrelid = x.indexrelid
        WHERE x.indrelid = p.oid AND part.inhparent = 'ix_feature_history_decided_at'::regclass
    )
    ORDER BY p.relname
    """
)

_IS_LEFT_OVER = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('{index}') AND NOT indisvalid"


def upgrade() -> None:
    """Validate the constraints and build the indexes; what an interrupted run left behind is no hindrance."""
    for table, constraints in _CONSTRAINTS.items():
        for constraint in constraints:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{constraint}")
    if context.is_offline_mode():
        # A partitioned table has no CREATE INDEX CONCURRENTLY, and which partitions there will be is not known here.
        op.execute(
            """
            -- squawk-ignore require-concurrent-index-creation
            CREATE INDEX IF NOT EXISTS ix_feature_history_decided_at ON feature_history (decided_at)
            """
        )
    with op.get_context().autocommit_block():
        if not context.is_offline_mode():
            _index_partitions()
        for index, definition in _UNIQUE.items():
            _drop_left_over(index)
            op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {index} ON reward_ledger {definition}")


def _index_partitions() -> None:
    """Index feature_history as CREATE INDEX would, but partition by partition, beside a service at work."""
    # Of no row. A partition that is attached from now on gets an index by itself.
    index = "CREATE INDEX IF NOT EXISTS ix_feature_history_decided_at ON ONLY feature_history (decided_at)"
    op.execute(_AGAIN_AND_AGAIN.format(statement=index))
    for partition, name, qualified in op.get_bind().execute(_WITHOUT_INDEX).all():
        _drop_left_over(qualified)
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {partition} (decided_at)")
        attach = f"ALTER INDEX ix_feature_history_decided_at ATTACH PARTITION {qualified}"
        op.execute(_AGAIN_AND_AGAIN.format(statement=attach))


def _drop_left_over(index: str) -> None:
    """Drop what an interrupted CREATE INDEX CONCURRENTLY leaves, which IF NOT EXISTS would take for done."""
    is_left_over = _IS_LEFT_OVER.format(index=index)
    if context.is_offline_mode():
        op.execute(f"DO $$ BEGIN IF EXISTS ({is_left_over}) THEN DROP INDEX {index}; END IF; END $$")
    elif op.get_bind().execute(text(is_left_over)).all():
        op.execute(f"DROP INDEX CONCURRENTLY {index}")


def downgrade() -> None:
    """Drop the indexes; the constraints go with their columns."""
    op.execute(
        """
        DROP INDEX ix_reward_ledger_user_id_idempotency_key;
        DROP INDEX ix_reward_ledger_user_id_decision_id_corrects;
        DROP INDEX ix_feature_history_decided_at;
        """
    )
