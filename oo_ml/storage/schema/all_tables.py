"""All declared tables; alembic/sql/ creates the same tables, and a test compares the two.

Views, functions and triggers exist in alembic/sql/ alone, because no code builds statements from them.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Sequence

from oo_ml.storage.schema import access_tables, daily_tables, policy_tables  # noqa: F401 - they declare their tables
from oo_ml.storage.schema.column_types import metadata
from oo_ml.storage.schema.decision_tables import history_order, ledger_order
from oo_ml.storage.schema.prompt_tables import generation_order

__all__ = ["ORDERS", "metadata"]

# The tables that number their rows, and the sequences of these numbers.
ORDERS: Final[Mapping[str, Sequence]] = {
    "feature_history": history_order,
    "reward_ledger": ledger_order,
    "generations": generation_order,
}
