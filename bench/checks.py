"""Checks that the measured work is stored: users verified by the service, the rows of pgbench counted by SQL."""

import random
from typing import Final

import httpx

from bench.database import Database, one
from bench.errors import BenchError
from bench.load import Target
from bench.open_decisions import OpenDecisions

_SECONDS: Final = 120

_COUNTS: Final = """
    SELECT ARRAY[
        (SELECT sum(pulls) FROM oo_ml.policy_state WHERE user_id BETWEEN '{first}' AND '{last}'),
        (SELECT count(*) FROM oo_ml.feature_history WHERE user_id BETWEEN '{first}' AND '{last}'),
        (SELECT sum(version) FROM oo_ml.policy_state WHERE user_id BETWEEN '{first}' AND '{last}'),
        (SELECT count(*) FROM oo_ml.reward_ledger WHERE user_id BETWEEN '{first}' AND '{last}'),
        (SELECT count(reward) FROM oo_ml.feature_history WHERE user_id BETWEEN '{first}' AND '{last}')
    ]
"""


def prove(target: Target, count: int) -> int:
    """Let the service verify the user of the hot runs and `count` others at random, and return the number of users.

    Raises:
        BenchError: a user's state differs from the ledger or the decisions.
    """
    first, users = target.open_decisions.first_user, target.open_decisions.users
    chosen = {first, *random.sample(range(first, first + users), count)}
    with httpx.Client(base_url=target.service.url, timeout=_SECONDS, trust_env=False) as client:
        for user in chosen:
            answer = client.get(f"/users/{user}/verify")
            if answer.status_code != httpx.codes.OK or answer.json()["verified"] is not True:
                raise BenchError(f"user {user} of the database {target.database.name} can't be proved: {answer.text}")
    return len(chosen)


def count_reference(database: Database, open_decisions: OpenDecisions) -> None:
    """Check that pgbench has written everything that the service has to write.

    Raises:
        BenchError: a decision or reward is missing in a table.
    """
    last = open_decisions.first_user + open_decisions.users - 1
    with database.connect() as connection:
        pulls, decisions, *rewards = one(connection, _COUNTS.format(first=open_decisions.first_user, last=last))
    if pulls != decisions or len(set(rewards)) != 1:
        raise BenchError(
            f"pgbench left {pulls} pulls, {decisions} decisions; by state, ledger and history {rewards} rewards"
        )
