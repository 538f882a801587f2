"""Prompt versions as an experiment: weights, probabilities, who keeps which; and tables of sums by day for analysts.

pre: runs before the new release starts; the old one goes on as before: what it writes has no pull and no probability.
Revises: 0004
Locks: feature_history, reward_ledger, generations, tips and prompt_versions, in turn and without reading a row.
"""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and tables; whatever there is already gets into the tables of sums by upkeep, step by step."""
    op.execute(Path(__file__).with_suffix(".sql").read_text("utf-8"))


def downgrade() -> None:
    """Drop them; the sums could be made again, who kept which version and with what probability can't."""
    op.execute(
        """
        COMMENT ON COLUMN upkeep.task IS 'default-rewards or retention';
        DELETE FROM upkeep WHERE task = 'days';
        DROP TABLE daily_exploration, daily_delays, daily_learning, daily_reactions, counted, prompt_assignments;
        ALTER TABLE reward_ledger DROP COLUMN position;
        DROP SEQUENCE reward_ledger_order;
        ALTER TABLE feature_history DROP COLUMN pull, DROP COLUMN prompt_probability;
        ALTER TABLE tips DROP COLUMN prompt_probability;
        ALTER TABLE generations DROP COLUMN prompt_probability;
        UPDATE prompt_versions SET weight = 1;
        ALTER TABLE prompt_versions ALTER COLUMN weight SET DEFAULT 1;
        COMMENT ON COLUMN prompt_versions.weight IS 'Share of the traffic, relative';
        """
    )
