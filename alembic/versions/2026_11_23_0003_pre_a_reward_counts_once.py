"""What keeps a reward from counting twice even if the code were wrong; an index by time; 0002 checked on old rows.

pre: runs before the new release starts; the old one never writes what is refused here.
Revises: 0002
Locks: reward_ledger is read beside a service at work; writers to feature_history wait while an index is built on it,
which reads it once.
"""

from alembic import op

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


def upgrade() -> None:
    """Validate the constraints and build the indexes; what an interrupted run left behind is no hindrance."""
    for table, constraints in _CONSTRAINTS.items():
        for constraint in constraints:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{constraint}")
    # A partitioned table has no CREATE INDEX CONCURRENTLY.
    op.execute(
        """
        -- squawk-ignore require-concurrent-index-creation
        CREATE INDEX IF NOT EXISTS ix_feature_history_decided_at ON feature_history (decided_at)
        """
    )
    with op.get_context().autocommit_block():
        for index, definition in _UNIQUE.items():
            # An interrupted CREATE INDEX CONCURRENTLY leaves an invalid one, which IF NOT EXISTS would take for done.
            op.execute(
                f"""
                DO $$ BEGIN
                    IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{index}') AND NOT indisvalid) THEN
                        DROP INDEX {index};
                    END IF;
                END $$
                """
            )
            op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {index} ON reward_ledger {definition}")


def downgrade() -> None:
    """Drop the indexes; the constraints go with their columns."""
    op.execute(
        """
        DROP INDEX ix_reward_ledger_user_id_idempotency_key;
        DROP INDEX ix_reward_ledger_user_id_decision_id_corrects;
        DROP INDEX ix_feature_history_decided_at;
        """
    )
