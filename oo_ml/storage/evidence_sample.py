"""A sample of the users of a policy, drawn by PostgreSQL and read row by row: bounded in time and in memory."""

import random
from typing import Final

import numpy as np
from sqlalchemy import text

from oo_ml.domain.population import Sample
from oo_ml.storage.postgres.sessions import Reading

# Users of a sample, and numbers in their evidence: 128 MB.
_MOST_USERS: Final = 20_000
_MOST_NUMBERS: Final = 16_000_000
# The percentage of the table's pages that tell how many users there are. If they have fewer than this, all users are
# read.
_PILOT: Final = 1
_FEW: Final = 100
# A sample of pages has more or fewer users than expected.
_MARGIN: Final = 1.2
_ROWS_AT_ONCE: Final = 500

# A state of another dimension was tampered with: verify finds it.
_OF_POLICY: Final = "WHERE policy = :policy AND weight > :least AND cardinality(b) = :dimension"
# Pages are drawn, each with the same probability, so every user has the same one too.
_PART: Final = f"FROM oo_ml.policy_state TABLESAMPLE SYSTEM (CAST(:percentage AS real)) {_OF_POLICY}"
_COUNT: Final = text(f"SELECT count(*) {_PART}")
_READ: Final = text(f"SELECT a, b, weight, squares {_PART}")
# By the index on policy, unless most users are of this one.
_READ_ALL: Final = text(f"SELECT a, b, weight, squares FROM oo_ml.policy_state {_OF_POLICY}")


def draw(connection: Reading, policy: str, dimension: int, least: float) -> Sample | None:
    """Return the evidence, not faded, of at most 20,000 users with a weight above `least`; None if there are none.

    All users if they are fewer. For more than 27 features fewer are drawn, because their evidence is large.
    """
    d = dimension
    most = min(_MOST_USERS, _MOST_NUMBERS // (d * d + d + 2))
    parameters: dict[str, str | float] = {"policy": policy, "dimension": d, "least": least}
    seen = connection.scalar(_COUNT, {**parameters, "percentage": _PILOT}) or 0
    statement = _READ_ALL
    if seen >= _FEW:
        statement, parameters["percentage"] = _READ, min(100.0, _PILOT * most * _MARGIN / seen)
    # Memory is taken page by page, as it is written.
    A, b, weight, squares = np.empty((most, d, d)), np.empty((most, d)), np.empty(most), np.empty(most)
    options = {"yield_per": _ROWS_AT_ONCE}
    n = 0
    with connection.execute(statement, parameters, execution_options=options) as rows:
        for row in rows:
            # Beyond `most`, each row takes the place of another with the probability that keeps all equal: algorithm R
            # of Vitter (1985), "Random Sampling with a Reservoir".
            place = n if n < most else random.randrange(n + 1)  # noqa: S311 - no secret
            n += 1
            if place < most:
                A[place], b[place], weight[place], squares[place] = row
    n = min(n, most)
    return Sample(A[:n], b[:n], weight[:n], squares[:n]) if n else None
