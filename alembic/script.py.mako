"""${message}

Rules; delete them when the migration follows them:
- pre or post, in the file's name and here. pre: runs before the new release starts, and the old release goes on working
  with the result, so it only adds. post: runs after the last process of the old release has stopped; it may take away.
- lock_timeout is set (OO_ML_MIGRATION_LOCK_TIMEOUT). Name each table that the migration locks, and for how long. A
  statement that reads or rewrites all rows of a table in use must not lock it meanwhile.
- A constraint on a table in use: ADD ... NOT VALID, and VALIDATE CONSTRAINT in a later migration. A column with a
  default: a constant one.
- An index on a table in use: CREATE INDEX CONCURRENTLY IF NOT EXISTS in an autocommit block, after drop_invalid_index;
  on feature_history by index_history.
- SQL goes through run or run_directory of migration_helpers: one statement at a time, every name with its schema, one
  subcommand in an ALTER TABLE.
- A table declares its placement (oo_ml/storage/schema/column_types.py: USERS, REFERENCE or LOCAL). user_id comes first
  in every key of a users' table. No UPDATE sets a column to a volatile function, a subquery or an array slice.
- Import nothing of oo_ml. A view that changes gets a new file in alembic/sql/REVISION/; the old file stays as it is.
- downgrade loses no data: it refuses if there is data that the older schema can't hold.

Revises: ${down_revision | comma,n}
Locks:
"""

from alembic import op
from migration_helpers import run

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """${message}"""
    ${upgrades if upgrades else 'run("")'}


def downgrade() -> None:
    """Undo it."""
    ${downgrades if downgrades else 'run("")'}
