"""Rewards that can be amended, retracted or assumed, decisions that explain themselves, and the tasks of upkeep.

pre: runs before the new release starts; the old one goes on working with it, since it may leave every new column empty.
But take no reward back through the new one while the old one still runs: to it such a decision looks as if nothing had
come for it yet, and a POST /reward that it then books for this decision is refused by the database: it answers 500.
Revises: 0001
Locks: feature_history and reward_ledger exclusively, for as long as it takes to write the catalog; no row is read.
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, their constraints (not validated yet) and the table upkeep."""
    op.execute(Path(__file__).with_suffix(".sql").read_text("utf-8"))


def downgrade() -> None:
    """Take them away; refused, with nothing lost, while there is anything that the older schema has no place for."""
    op.execute(
        """
        DO $$ BEGIN
            IF EXISTS (SELECT FROM upkeep WHERE task = 'retention' AND done_until IS NOT NULL) THEN
                RAISE EXCEPTION 'months of feature_history have been detached, which revision 0001 would take for lost'
                    USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
            IF EXISTS (SELECT FROM reward_ledger WHERE kind IN ('default', 'amend', 'retract')) THEN
                RAISE EXCEPTION 'rewards have been assumed, amended or retracted, which revision 0001 can''t tell of'
                    USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
        END $$;
        DROP TABLE upkeep;
        ALTER TABLE reward_ledger
            DROP CONSTRAINT ck_reward_ledger_kind_known,
            DROP CONSTRAINT ck_reward_ledger_reward_present,
            DROP CONSTRAINT ck_reward_ledger_x_present,
            DROP CONSTRAINT ck_reward_ledger_previous_reward_present,
            DROP CONSTRAINT ck_reward_ledger_decision_present,
            DROP COLUMN previous_reward,
            DROP COLUMN corrects,
            DROP COLUMN request_digest,
            ADD CONSTRAINT ck_reward_ledger_kind_known CHECK (kind IN ('reward', 'import')),
            ADD CONSTRAINT ck_reward_ledger_reward_present
                CHECK (num_nulls(reward, x, tip_id) = CASE kind WHEN 'import' THEN 3 ELSE 0 END);
        COMMENT ON COLUMN reward_ledger.kind IS
            'reward: a reaction came in; import: the state starts from that of another service';
        COMMENT ON COLUMN reward_ledger.reward IS 'The reward applied';
        ALTER TABLE feature_history
            DROP COLUMN reward_kind,
            DROP COLUMN request_digest,
            DROP COLUMN exploration,
            DROP COLUMN alpha,
            DROP COLUMN exploit,
            DROP COLUMN explore,
            DROP COLUMN propensities;
        COMMENT ON COLUMN feature_history.reward IS 'The reward that came back, null so far';
        COMMENT ON COLUMN feature_history.rewarded_at IS 'When the reward came back';
        """
    )
