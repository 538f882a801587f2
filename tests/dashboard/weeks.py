"""Some weeks of simulated users, with decisions and rewards by the services themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from sqlalchemy import Engine

from oo_ml.domain.features import Moment, Task
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import OoMlError
from oo_ml.services.decisions.decide import Answer, DecideCommand, Parameters, decide
from oo_ml.services.decisions.learn import DecisionRewardCommand, learn
from tests.candidates import Candidate
from tests.migrations.rows import uuid7

# The last day with data.
LAST: Final = datetime(2026, 11, 23, tzinfo=UTC)
_POLICIES: Final = (LINUCB, EPSILON_GREEDY)
_PARAMETERS: Final = Parameters(alpha=0.4, epsilon=0.12, exploration=0.05)
_REWARDS: Final = (1.0, 0.5, 0.0, -0.5, -1.0)


@dataclass(frozen=True, slots=True)
class _World:
    """The users, the prompt versions that write tips, and the source of random numbers."""

    users: Sequence[str]
    versions: Sequence[str | None]
    random: Random


def live(
    db: Engine,
    *,
    days: int,
    users: Sequence[str] = ("ada", "ben", "zoë"),
    versions: Sequence[str | None] = (None, "v1", "v2-mentor", "v3-few-shot"),
    a_day: int = 6,
) -> None:
    """Simulate users who get `a_day` tips on each day until LAST, from both policies in turn, and react to most.

    Users prefer versions early in the list, and overdue and urgent tasks, so there is something to learn.
    """
    world = _World(users, versions, Random(7))  # noqa: S311 - a simulation, no secrets
    for day in range(days):
        for turn in range(a_day):
            at = LAST - timedelta(days=days - 1 - day) + timedelta(hours=7 + turn * 14 // a_day)
            _choose_and_react(db, world, at, _POLICIES[(day + turn) % len(_POLICIES)])


def _choose_and_react(db: Engine, world: _World, at: datetime, policy: str) -> None:
    offers = {user_id: _offers(world) for user_id in world.users}
    commands = [
        DecideCommand(
            user_id, policy, uuid7(at, world.random.getrandbits(74)), at, Moment(at.hour, at.weekday()), offer
        )
        for user_id, offer in offers.items()
    ]
    with db.begin() as connection:
        answers = decide(connection, commands, parameters=_PARAMETERS)
    reactions = [
        _reaction(world, command, _chosen(offers[command.user_id], answer))
        for command, answer in zip(commands, answers, strict=True)
    ]
    with db.begin() as connection:
        learn(connection, [reaction for reaction in reactions if reaction is not None])


def _offers(world: _World) -> list[Candidate]:
    written_by = world.random.sample(world.versions, min(3, len(world.versions)))
    return [
        Candidate(f"tip-{number}", "llm" if version else "todoist", _task(world.random), version)
        for number, version in enumerate(written_by)
    ]


def _task(random: Random) -> Task:
    return Task(random.random() < 0.4, random.uniform(0, 20), random.randint(1, 4))


def _chosen(offers: Sequence[Candidate], answer: Answer | OoMlError) -> Candidate:
    assert isinstance(answer, Answer)
    return next(offer for offer in offers if offer.id == answer.content["tip_id"])


def _reaction(world: _World, command: DecideCommand, tip: Candidate) -> DecisionRewardCommand | None:
    if world.random.random() < 0.2:
        return None
    liked = 0.3 - 0.2 * world.versions.index(tip.prompt_version) / len(world.versions)
    liked += 0.35 * tip.features.is_overdue + 0.3 * (tip.features.priority - 1) / 3
    place = min(max(world.random.gauss(1 - liked, 0.22), 0), 0.999)
    at = command.decided_at + timedelta(seconds=world.random.expovariate(0.01))
    return DecisionRewardCommand(command.user_id, command.decision_id, tip.id, _REWARDS[int(place * len(_REWARDS))], at)
