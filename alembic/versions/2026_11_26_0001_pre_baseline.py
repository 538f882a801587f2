"""The baseline: the schemas, every table, the reports, and the first prompt versions.

pre: runs before the service starts for the first time.
Revises: nothing
Locks: nothing; the tables are new.
"""

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from alembic import op
from migration_helpers import run, run_directory

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_PROMPTS = Path(__file__).parent.parent / "prompts"
_PUBLISHED_AT = datetime(2026, 11, 23, tzinfo=UTC)


def upgrade() -> None:
    """Create the tables and reports, publish v1, v2-mentor and v3-few-shot, and make partitions for four months."""
    run_directory("0001")
    prompts = tomllib.loads((_PROMPTS / "prompts.toml").read_text("utf-8"))
    op.bulk_insert(
        sa.table(
            "prompt_versions",
            sa.column("version", sa.Text),
            sa.column("status", sa.Text),
            sa.column("published_at", sa.TIMESTAMP(timezone=True)),
            sa.column("description", sa.Text),
            sa.column("system_template", sa.Text),
            sa.column("user_template", sa.Text),
            schema="oo_ml",
        ),
        [
            {
                "version": version,
                "status": "active",
                "published_at": _PUBLISHED_AT,
                "description": prompt["description"],
                "system_template": (_PROMPTS / f"{version}.system.j2").read_text("utf-8"),
                "user_template": (_PROMPTS / f"{version}.user.j2").read_text("utf-8"),
            }
            for version, prompt in prompts.items()
        ],
    )
    run("SELECT oo_ml.create_feature_history_months(now(), 4)")


def downgrade() -> None:
    """Drop everything, data included. PostgreSQL refuses if an object of another application depends on it."""
    run_directory("0001_down")
