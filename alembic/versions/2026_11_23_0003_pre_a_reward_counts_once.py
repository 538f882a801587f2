"""What keeps a reward from counting twice even if the code were wrong; an index by time; 0002 checked on old rows.

pre: runs before the new release starts; the old one never writes what is refused here, but for what 0002 says of it.
Revises: 0002
Locks: feature_history and its new indexes, in turn and without reading a row; whoever asks for them is let through
after a fifth of a second, and it is tried again for as long as lock_timeout. All else goes on beside a service at work.
But the script of `oo-ml db sql` can't know the partitions: there, writers to feature_history wait while it is read.
"""

from alembic import context, op

from oo_ml.storage.indexing import HistoryIndex, drop_left_over, index_history, index_history_offline

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

_BY_TIME = HistoryIndex("ix_feature_history_decided_at", "_decided_at_idx", "(decided_at)")


def upgrade() -> None:
    """Validate the constraints and build the indexes; what an interrupted run left behind is no hindrance."""
    for table, constraints in _CONSTRAINTS.items():
        for constraint in constraints:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{constraint}")
    if context.is_offline_mode():
        index_history_offline(_BY_TIME)
    with op.get_context().autocommit_block():
        if not context.is_offline_mode():
            index_history(_BY_TIME)
        for index, definition in _UNIQUE.items():
            drop_left_over(index)
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
