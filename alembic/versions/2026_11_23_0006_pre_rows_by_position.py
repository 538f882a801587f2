"""Indexes by position, for sums that go on where they stopped; the constraints of 0005 checked on old rows.

pre: runs before the new release starts; the old one is not concerned.
Revises: 0005
Locks: feature_history and its new index, in turn and without reading a row; whoever asks for them is let through after
a fifth of a second, and it is tried again for as long as lock_timeout. All else goes on beside a service at work.
But the script of `oo-ml db sql` can't know the partitions: there, writers to feature_history wait while it is read.
"""

from alembic import context, op

from oo_ml.storage.indexing import HistoryIndex, drop_left_over, index_history, index_history_offline

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_CONSTRAINTS = {
    "feature_history": ("pull_range", "prompt_probability_range"),
    "generations": ("prompt_probability_range",),
    "tips": ("prompt_probability_range",),
}

_DEFINITION = "USING brin (position) WITH (pages_per_range = 64, autosummarize = on)"
_BY_POSITION = HistoryIndex("ix_feature_history_position", "_position_idx", _DEFINITION)
_OF_LEDGER = "ix_reward_ledger_position"


def upgrade() -> None:
    """Validate the constraints and build the indexes; what an interrupted run left behind is no hindrance."""
    for table, constraints in _CONSTRAINTS.items():
        for constraint in constraints:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{constraint}")
    if context.is_offline_mode():
        index_history_offline(_BY_POSITION)
    with op.get_context().autocommit_block():
        if not context.is_offline_mode():
            index_history(_BY_POSITION)
        drop_left_over(_OF_LEDGER)
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {_OF_LEDGER} ON reward_ledger {_DEFINITION}")


def downgrade() -> None:
    """Drop the indexes; the constraints go with their columns."""
    op.execute("DROP INDEX ix_reward_ledger_position; DROP INDEX ix_feature_history_position;")
