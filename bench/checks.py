"""Whether what was measured is what is stored: people proved by the service, pgbench's work counted by SQL."""

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


def prove(target: Target, people: int) -> int:
    """Let the service prove so many people, the one whom every hot run was about among them; return how many.

    Raises:
        BenchError: somebody's state is not what their ledger and history say.
    """
    first, users = target.people.first_user, target.people.users
    chosen = {first, *random.sample(range(first, first + users), people)}
    with httpx.Client(base_url=target.service.url, timeout=_SECONDS, trust_env=False) as client:
        for user in chosen:
            answer = client.get(f"/users/{user}/verify")
            if answer.status_code != httpx.codes.OK or answer.json()["verified"] is not True:
                raise BenchError(f"user {user} of the database {target.database.name} can't be proved: {answer.text}")
    return len(chosen)


def count_reference(database: Database, people: OpenDecisions) -> None:
    """See whether pgbench has done all that the service has to do.

    Raises:
        BenchError: a decision or reward is missing somewhere.
    """
    last = people.first_user + people.users - 1
    with database.connect() as connection:
        pulls, decisions, *rewards = one(connection, _COUNTS.format(first=people.first_user, last=last))
    if pulls != decisions or len(set(rewards)) != 1:
        raise BenchError(
            f"pgbench left {pulls} pulls, {decisions} decisions; by state, ledger and history {rewards} rewards"
        )
