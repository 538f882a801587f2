"""The eight weeks, lived through the services on a real database: decisions, and rewards minutes to days later.

The same seed gives the same rows to the last bit: no clock is read, and no draw is made but from it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from oo_ml.services.decisions.decide import Answer, DecideCommand, Parameters, decide
from oo_ml.services.decisions.learn import DecisionRewardCommand, Rewarded, learn
from oo_ml.services.prompts.registry import draft, publish
from oo_ml.storage import generations
from oo_ml.storage.generations import GenerationRow
from tests.candidates import Candidate
from tests.docs.analytics_world.people import (
    FIRST_STEP,
    PEOPLE,
    REMINDER,
    VERSIONS,
    WEEKS,
    Situation,
    situations,
    truth,
)

PARAMETERS: Final = Parameters(alpha=1.0, epsilon=0.2, exploration=0.2)
_TEXTS: Final = {REMINDER: "What has waited longest", FIRST_STEP: "A first step of what matters most"}
_TOKENS: Final = {REMINDER: 180, FIRST_STEP: 420}
_LONGEST_WAIT: Final = timedelta(days=5)


def live(db: Engine, seed: int = 2) -> None:
    """Publish two prompt versions, have their tips written week by week, and let everybody live.

    Seeds 1 to 8 were tried: with each the raw rates pick the wrong version, the weighted ones the right one.
    """
    random = Random(seed)  # noqa: S311 - lives, not secrets
    moments = situations(random)
    with db.begin() as connection:
        _publish(connection, moments[0][0].at)
        _write(connection, [everybody[0].at for everybody in moments[:: len(moments) // WEEKS]], random)
    coming: list[DecisionRewardCommand] = []
    for everybody in moments:
        coming = _learn(db, coming, {one.person.user_id: one.at for one in everybody})
        coming += _decide(db, everybody, random)
    midnight = moments[-1][0].at.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    _learn(db, coming, {person.user_id: midnight for person in PEOPLE})
    with db.begin() as connection:
        _tell(connection, truth(moments))


def _decide(db: Engine, everybody: Sequence[Situation], random: Random) -> list[DecisionRewardCommand]:
    """Have a tip chosen for each of them; return the rewards that will come."""
    commands = [_command(situation, random) for situation in everybody]
    with db.begin() as connection:
        answers = decide(connection, commands, parameters=PARAMETERS)
    coming = []
    for situation, command, answer in zip(everybody, commands, answers, strict=True):
        assert isinstance(answer, Answer)
        tip_id = answer.content["tip_id"]
        reward = situation.react(tip_id.rpartition("-")[0], random)
        # Half of them within a quarter of an hour, one of a hundred after a day.
        delay = timedelta(seconds=60 + int(900 * (1 / (1 - random.random()) - 1) ** 1.15))
        if reward is not None and delay < _LONGEST_WAIT:
            at = situation.at + delay
            coming.append(DecisionRewardCommand(command.user_id, command.decision_id, tip_id, reward, at))
    return coming


def _command(situation: Situation, random: Random) -> DecideCommand:
    person, at = situation.person, situation.at
    # In any order: among equals the first is chosen.
    versions = VERSIONS if random.random() < 0.5 else VERSIONS[::-1]
    tips = [Candidate(f"{version}-{at:%m%d}", "llm", situation.task(version), version) for version in versions]
    return DecideCommand(person.user_id, person.policy, _uuid7(at, random), at, situation.moment, tips)


def _learn(
    db: Engine, coming: Sequence[DecisionRewardCommand], now: Mapping[str, datetime]
) -> list[DecisionRewardCommand]:
    """Learn from what has come by each person's moment; return what is still to come."""
    come = [reward for reward in coming if reward.received_at <= now[reward.user_id]]
    with db.begin() as connection:
        outcomes = learn(connection, sorted(come, key=lambda reward: (reward.received_at, reward.user_id)))
    assert all(isinstance(outcome, Rewarded) and outcome.applied for outcome in outcomes)
    return [reward for reward in coming if reward.received_at > now[reward.user_id]]


def _publish(connection: Connection, at: datetime) -> None:
    drafted = partial(draft, system_template="You write tips.", user_template="Write {{ n }}.", published_at=at)
    publish(connection, [drafted(version=version, description=text) for version, text in _TEXTS.items()])


def _write(connection: Connection, mornings: Sequence[datetime], random: Random) -> None:
    """Put down what it cost to have each version write tips for everybody, a call a week.

    As rows: how long a call of a model takes is never the same twice.
    """
    for at in mornings:
        for person in PEOPLE:
            for version in VERSIONS:
                is_failed = random.random() < 0.02
                attempts = 3 if is_failed else 1 + (random.random() < 0.1)
                row = GenerationRow(
                    user_id=person.user_id,
                    generation_id=_uuid7(at, random),
                    prompt_version=version,
                    prompt_probability=1.0,
                    created_at=at,
                    latency_ms=attempts * (400 + int(900 * random.random())),
                    prompt_tokens=attempts * _TOKENS[version],
                    completion_tokens=attempts * (60 + int(40 * random.random())),
                    requested=7,
                    attempts=attempts,
                    outcome="invalid_reply" if is_failed else "ok",
                    model="simulated",
                    error="not the JSON array asked for" if is_failed else None,
                )
                generations.insert_generation(connection, row, [])


def _tell(connection: Connection, rates: Mapping[str, float]) -> None:
    """Put down what a simulation knows and no analyst does."""
    for statement in (
        "CREATE SCHEMA simulation",
        "CREATE TABLE simulation.truth (prompt_version text PRIMARY KEY, done_rate float8)",
        "GRANT USAGE ON SCHEMA simulation TO PUBLIC",
        "GRANT SELECT ON simulation.truth TO PUBLIC",
    ):
        connection.execute(text(statement))
    told = [{"version": version, "rate": rate} for version, rate in rates.items()]
    connection.execute(text("INSERT INTO simulation.truth VALUES (:version, :rate)"), told)


def _uuid7(at: datetime, random: Random) -> UUID:
    first, second = random.getrandbits(12), random.getrandbits(62)
    return UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | first << 64 | 2 << 62 | second)
