"""What prompts cost, summed up by day; loop health says whether too many or too few tips were drawn at random.

pre: runs before the new release starts; the old one goes on as before, but begins to add up the days anew.
Revises: 0007
Locks: generations, without reading a row.
"""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ANALYTICS = Path(__file__).parent.parent / "analytics"


def upgrade() -> None:
    """Make the tables, which upkeep fills step by step, and replace functions; whoever may execute them still may."""
    op.execute(Path(__file__).with_suffix(".sql").read_text("utf-8"))
    for script in sorted((_ANALYTICS / revision).glob("*.sql")):
        op.execute(script.read_text("utf-8"))


def downgrade() -> None:
    """Put the former functions back in their places, since to drop them would take rights away; drop the rest."""
    for script in ("7_prompt_costs.sql", "8_loop_health.sql"):
        former = (_ANALYTICS / "0007" / script).read_text("utf-8")
        for kind in ("FUNCTION", "VIEW"):
            former = former.replace(f"CREATE {kind}", f"CREATE OR REPLACE {kind}")
        op.execute(former)
    op.execute(
        """
        DROP VIEW rollup.costs, rollup.latencies, rollup.uncounted_costs, rollup.cost_cells;
        DROP FUNCTION rollup.latency_step;
        DELETE FROM counted WHERE source = 'generations';
        COMMENT ON COLUMN counted.source IS 'feature_history or reward_ledger';
        DROP TABLE daily_costs, daily_latencies;
        ALTER TABLE generations DROP COLUMN position;
        DROP SEQUENCE generations_order;
        """
    )
