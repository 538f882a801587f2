"""An index by position of generations, for sums that go on where they stopped.

pre: runs before the new release starts; the old one is not concerned.
Revises: 0008
Locks: nothing for longer than a moment: the index is built beside a service at work.
"""

from alembic import op

from oo_ml.storage.indexing import drop_left_over

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_INDEX = "ix_generations_position"


def upgrade() -> None:
    """Build the index; what an interrupted run left behind is no hindrance."""
    with op.get_context().autocommit_block():
        drop_left_over(_INDEX)
        op.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {_INDEX} ON generations"
            " USING brin (position) WITH (pages_per_range = 64, autosummarize = on)"
        )


def downgrade() -> None:
    """Drop it."""
    op.execute(f"DROP INDEX {_INDEX}")
