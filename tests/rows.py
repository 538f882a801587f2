"""The rows of the tables, and the fold of the ledger by plain numpy."""

from typing import Any

import numpy as np
from sqlalchemy import Engine, text


def everything(db: Engine) -> list[Any]:
    """Return every row of states, decisions, ledger and upkeep, in a fixed order; arrays as bytes."""
    tables = {
        "policy_state": "user_id, policy",
        "feature_history": "position",
        "reward_ledger": "user_id, policy, epoch, version",
        "upkeep": "task",
    }
    with db.begin() as connection:
        rows = [
            dict(row) | {"position": None}
            for table, order in tables.items()
            for row in connection.execute(text(f"SELECT * FROM oo_ml.{table} ORDER BY {order}")).mappings()  # noqa: S608
        ]
    return [
        {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in row.items()}
        for row in rows
    ]


def assert_folded(db: Engine) -> None:
    """Assert that each state is the fold of its epoch's ledger, bit for bit, with each version exactly once."""
    with db.begin() as connection:
        states = connection.execute(text("SELECT * FROM oo_ml.policy_state")).all()
        ledger = connection.execute(text("SELECT * FROM oo_ml.reward_ledger ORDER BY version")).all()
    for state in states:
        rows = [
            row for row in ledger if (row.user_id, row.policy, row.epoch) == (state.user_id, state.policy, state.epoch)
        ]
        d, is_pooled = len(state.b), state.weight is not None
        A, b = (np.zeros((d, d)) if is_pooled else np.eye(d)), np.zeros(d)
        count, total, weight, squares = 0, 0.0, 0.0, 0.0
        for row in rows:
            g = row.weight if is_pooled else 1.0
            match row.kind:
                case "reward" | "default" | "warm":
                    A, b = A + g * np.outer(row.x, row.x), b + g * row.reward * row.x
                    weight, squares = weight + g, squares + g * row.reward**2
                    count, total = count + 1, total + row.reward
                case "amend":
                    difference = row.reward - row.previous_reward
                    b, total = b + g * difference * row.x, total + difference
                    squares += g * (row.reward**2 - row.previous_reward**2)
                case "retract":
                    A, b = A - g * np.outer(row.x, row.x), b - g * row.previous_reward * row.x
                    weight, squares = weight - g, squares - g * row.previous_reward**2
                    count, total = count - 1, total - row.previous_reward
                case _:
                    raise AssertionError(row.kind)
        versions = [row.version for row in rows]
        assert versions == list(range(1, state.version + 1)), versions
        assert (state.reward_count, state.cumulative_reward) == (count, total), state
        assert (state.a.tobytes(), state.b.tobytes()) == (A.tobytes(), b.tobytes()), state
        assert (state.weight, state.squares) == ((weight, squares) if is_pooled else (None, None)), state
