"""Schema analytics, which analysts can rely on, and schema rollup behind it.

pre: runs before the new release starts; the old one is not concerned.
Revises: 0006
Locks: nothing.
"""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# In their order. A later migration that changes one of these views brings a file of its own.
_SCRIPTS = sorted((Path(__file__).parent.parent / "analytics" / revision).glob("*.sql"))


def upgrade() -> None:
    """Create both, a file a noun."""
    for script in _SCRIPTS:
        op.execute(script.read_text("utf-8"))


def downgrade() -> None:
    """Drop both, and whatever others have made in them or upon them; the tables stay."""
    op.execute("DROP SCHEMA analytics CASCADE; DROP SCHEMA rollup CASCADE;")
