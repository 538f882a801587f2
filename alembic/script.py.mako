"""${message}

pre: runs before the new release starts; the old one must go on working with it. (Or post: after the last old one stopped.)
Revises: ${down_revision | comma,n}
Locks: name each table it locks, how, and for how long.
"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """${message}"""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo it."""
    ${downgrades if downgrades else "pass"}
