"""The simulated weeks, on the days on which they would have been: tips are chosen, shown and, in time, reacted to.

Everything goes through the services, as the calls of /score/batch and /reward/batch do, but for their clock: what
comes in by HTTP happens now.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import uuid_utils.compat as uuid_utils

from demo.people import Moment, Offer, Person, Reaction, expected_reward, hesitate, react, tasks_on
from demo.stage import Stage, steps
from demo.tips import VERSIONS, Written, offer_tips
from oo_ml.domain import features
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.execution.outcomes import only
from oo_ml.services.decisions.decide import DecideCommand
from oo_ml.services.decisions.learn import DecisionRewardCommand, learn

# Of a person's own, in each decision: the fewer candidates, the more a tip drawn at random tells.
TASKS = 3
HOURS = (7, 9, 11, 13, 15, 17, 19, 22)
POLICIES = (LINUCB, EPSILON_GREEDY)


@dataclass(frozen=True, slots=True)
class Shown:
    """One decision, and the reaction to it so far.

    `by_chance` is the mean reward had the tip been drawn from the candidates.
    """

    person: Person
    policy: str
    moment: Moment
    tip: Offer
    reaction: Reaction | None
    by_chance: float


@dataclass(frozen=True, slots=True)
class _Look:
    """Somebody who looks for a tip, and what there is for them."""

    person: Person
    moment: Moment
    offers: Sequence[Offer]


async def live(stage: Stage, written: Written) -> list[Shown]:
    """Live the days up to now: at each of HOURS a decision for everybody, the two policies taking turns."""
    decisions: list[Shown] = []
    coming: list[DecisionRewardCommand] = []
    last_done: dict[str, int] = {}
    for day in steps(stage.console, "Living the days", range(stage.days)):
        for place, hour in enumerate(HOURS):
            # The other one each day, so that neither has all the mornings.
            policy = POLICIES[(day + place) % len(POLICIES)]
            looks = list(_looks(stage, written, day, hour, last_done))
            coming = await _learn(stage, coming, {look.person.user_id: look.moment.at for look in looks})
            commands = [_command(look, policy) for look in looks]
            answers = await stage.services.together(stage.services.decide, commands)
            for look, command, answer in zip(looks, commands, answers, strict=True):
                shown, at = _show(stage, look, policy, only([answer]).content["tip_id"])
                decisions.append(shown)
                if shown.reaction is not None:
                    coming.append(_reward(command, shown, shown.reaction, at))
                if shown.reaction is Reaction.DONE:
                    last_done[shown.tip.task_id] = day
    await _learn(stage, coming, {person.user_id: stage.now for person in stage.people})
    return decisions


def _looks(stage: Stage, written: Written, day: int, hour: int, last_done: Mapping[str, int]) -> Iterator[_Look]:
    """Yield who looks in an hour, each at a minute of their own; what is yet to be is left out."""
    for person in stage.people:
        moment = stage.moment(day, hour, float(stage.rng.uniform(0, 60)))
        if day >= stage.first_day(person) and moment.at <= stage.now:
            yield _Look(person, moment, _offers(stage.rng, person, written, day, last_done))


def _offers(
    rng: np.random.Generator, person: Person, written: Written, day: int, last_done: Mapping[str, int]
) -> list[Offer]:
    """Return some of a person's tasks, and a tip of each version: all about one task, so that none is liked for it."""
    tasks = tasks_on(person, day, last_done)
    offers = {tasks[place].id: tasks[place] for place in rng.permutation(len(tasks))[:TASKS]}
    tips = offer_tips(written, person, tasks)
    for version in rng.permutation(VERSIONS):
        # A generation may use an id that another has used.
        if free := [tip for tip in tips[version] if tip.id not in offers]:
            tip = free[int(rng.integers(len(free)))]
            offers[tip.id] = tip
    # Shuffled, because among equals the policies take the first.
    in_order = list(offers.values())
    return [in_order[place] for place in rng.permutation(len(in_order))]


def _command(look: _Look, policy: str) -> DecideCommand:
    return DecideCommand(
        user_id=look.person.user_id,
        policy=policy,
        decision_id=uuid_utils.uuid7(nanoseconds=int(look.moment.at.timestamp() * 1000) * 10**6),
        decided_at=look.moment.at,
        moment=features.Moment(look.moment.hour, look.moment.weekday),
        candidates=look.offers,
    )


def _show(stage: Stage, look: _Look, policy: str, tip_id: str) -> tuple[Shown, datetime]:
    """Return what becomes of it when somebody is shown a tip, and when."""
    person, moment = look.person, look.moment
    tip = next(offer for offer in look.offers if offer.id == tip_id)
    reaction, at = react(person, tip, moment, stage.rng), moment.at + hesitate(stage.rng)
    by_chance = float(np.mean([expected_reward(person, offer, moment) for offer in look.offers]))
    return Shown(person, policy, moment, tip, reaction if at <= stage.now else None, by_chance), at


def _reward(command: DecideCommand, shown: Shown, reaction: Reaction, at: datetime) -> DecisionRewardCommand:
    return DecisionRewardCommand(command.user_id, command.decision_id, shown.tip.id, reaction.value, at)


async def _learn(
    stage: Stage, coming: Sequence[DecisionRewardCommand], until: Mapping[str, datetime]
) -> list[DecisionRewardCommand]:
    """Send the rewards that have come by each person's moment, in their order; return those still to come."""
    come = [reward for reward in coming if reward.user_id in until and reward.received_at <= until[reward.user_id]]
    for outcome in await stage.services.together(learn, sorted(come, key=lambda reward: reward.received_at)):
        only([outcome])
    return [reward for reward in coming if reward not in come]
