"""Weeks of a few users who like some prompt versions and some tasks better than others."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Final

from sqlalchemy import Engine

from demo.reactions import REACTIONS, Reaction
from oo_ml.domain.features import Fields
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.decisions.decide import Candidate
from tests import simulated_weeks
from tests.candidates import build_candidate, build_task
from tests.policies import Parameters
from tests.simulated_users import USERS
from tests.simulated_weeks import Look, draw_uuid7

# The last day with decisions.
LAST: Final = datetime(2026, 11, 23, tzinfo=UTC)
_POLICIES: Final = (LINUCB, EPSILON_GREEDY)
EXPLORING: Final = Parameters(alpha=0.4, epsilon=0.12, exploration=0.05)

Versions = Sequence[str | None]


def simulate(
    db: Engine,
    *,
    days: int,
    users: Sequence[str] = USERS,
    versions: Versions = (None, "v1", "v2-mentor", "v3-few-shot"),
    a_day: int = 6,
    parameters: Parameters = EXPLORING,
) -> None:
    """Let each user look for a tip `a_day` times on each day until LAST, with the policies in turn, and mostly react.

    Users like versions early in the list better, and overdue and urgent tasks: there is something to learn.
    """
    random = Random(7)  # noqa: S311 - simulated lives, not secrets
    rounds = []
    for day in range(days):
        for turn in range(a_day):
            at = LAST - timedelta(days=days - 1 - day) + timedelta(hours=7 + turn * 14 // a_day)
            policy = _POLICIES[(day + turn) % len(_POLICIES)]
            rounds.append([_draw_look(user_id, policy, at, versions, random) for user_id in users])
    simulated_weeks.simulate(db, rounds, parameters)


def _draw_look(user_id: str, policy: str, at: datetime, versions: Versions, random: Random) -> Look:
    candidates = [
        build_candidate(f"tip-{number}", "llm" if version else "todoist", _draw_task(random), version)
        for number, version in enumerate(random.sample(versions, min(3, len(versions))))
    ]
    react = partial(_react, versions=versions, random=random)
    return Look(user_id, policy, at, draw_uuid7(at, random), candidates, react)


def _draw_task(random: Random) -> Fields:
    return build_task(random.random() < 0.4, random.uniform(0, 20), random.randint(1, 4))


def _react(tip: Candidate, *, versions: Versions, random: Random) -> tuple[Reaction, timedelta] | None:
    if random.random() < 0.2:
        return None
    liking = 0.3 - 0.2 * versions.index(tip.prompt_version) / len(versions)
    liking += 0.35 * tip.features["is_overdue"] + 0.3 * (tip.features["priority"] - 1) / 3
    place = min(max(random.gauss(1 - liking, 0.22), 0), 0.999)
    return REACTIONS[int(place * len(REACTIONS))], timedelta(seconds=random.expovariate(0.01))
