"""The baseline: the schemas, every table, the reports, the first prompt versions, and the built-in policies.

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
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_PROMPTS = Path(__file__).parent.parent / "prompts"
_POLICIES = Path(__file__).parent.parent / "policies"
_PUBLISHED_AT = datetime(2026, 11, 23, tzinfo=UTC)


def upgrade() -> None:
    """Create the tables and reports, publish the first prompt versions and policies, make four months of partitions."""
    run_directory("0001")
    _publish_prompts()
    _publish_policies()
    run("SELECT oo_ml.create_feature_history_months(now(), 4)")


def downgrade() -> None:
    """Drop everything, data included. PostgreSQL refuses if an object of another application depends on it."""
    run_directory("0001_down")


def _publish_prompts() -> None:
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


def _publish_policies() -> None:
    table = sa.table(
        "policies",
        *(sa.column(name, sa.Text) for name in ("policy", "status", "description")),
        sa.column("published_at", sa.TIMESTAMP(timezone=True)),
        sa.column("definition", JSONB),
        sa.column("dimension", sa.Integer),
        schema="oo_ml",
    )
    for policy, row in tomllib.loads((_POLICIES / "policies.toml").read_text("utf-8")).items():
        # As text, because Alembic can't print JSON into a script.
        definition = sa.literal((_POLICIES / f"{policy}.json").read_text("utf-8"), sa.Text)
        op.execute(
            table.insert().values(
                policy=policy,
                status="active",
                published_at=_PUBLISHED_AT,
                description=row["description"],
                definition=sa.cast(definition, JSONB),
                dimension=row["dimension"],
            )
        )
