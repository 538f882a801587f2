"""The simulated weeks, on their days: tips are chosen and shown, and users react in time.

Decisions and rewards go through the services, as those of /score/batch and /reward/batch do. HTTP itself cannot be
used, because the service takes the time of a call from the clock.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import uuid_utils.compat as uuid_utils

from demo.reactions import PendingRewards, Reaction
from demo.stage import Stage, track
from demo.tips import VERSIONS, Written, list_tips
from demo.users import Candidate, Moment, User, compute_expected_reward, draw_delay, draw_reaction, list_tasks
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, Policy
from oo_ml.execution.outcomes import only
from oo_ml.services.decisions import decide as decisions_service
from oo_ml.services.decisions.decide import DecideCommand, decide
from oo_ml.services.decisions.learn import DecisionRewardCommand, learn

# Tasks of the user in each decision: the fewer candidates, the more a tip drawn at random tells.
TASKS = 3
HOURS = (7, 9, 11, 13, 15, 17, 19, 22)
POLICIES = (LINUCB, EPSILON_GREEDY)


@dataclass(frozen=True, slots=True)
class Shown:
    """A decision, and the reaction to it so far.

    `by_chance` is the expected reward of a tip drawn at random from the candidates.
    """

    user: User
    policy: str
    moment: Moment
    tip: Candidate
    reaction: Reaction | None
    by_chance: float


@dataclass(frozen=True, slots=True)
class _Look:
    """A user who looks for a tip, and the candidates."""

    user: User
    moment: Moment
    candidates: Sequence[Candidate]


async def simulate(stage: Stage, written: Written) -> list[Shown]:
    """Simulate the days up to now: at each of HOURS a decision for every user, by the two policies in turn."""
    decisions: list[Shown] = []
    pending = PendingRewards()
    last_done: dict[str, int] = {}
    for day in track(stage.console, "Living the days", range(stage.days)):
        for place, hour in enumerate(HOURS):
            # The order changes each day, so that neither policy has all the mornings.
            policy = POLICIES[(day + place) % len(POLICIES)]
            looks = list(_draw_looks(stage, written, day, hour, last_done))
            await _learn(stage, pending.take({look.user.user_id: look.moment.at for look in looks}))
            compiled = await stage.services.policies.find(policy)
            commands = [_make_command(look, compiled) for look in looks]
            answers = await stage.services.together(decide, commands)
            for look, command, answer in zip(looks, commands, answers, strict=True):
                shown, at = _show(stage, look, policy, only([answer]).content["tip_id"])
                decisions.append(shown)
                if shown.reaction is not None:
                    pending.add(_make_reward(command, shown, shown.reaction, at))
                if shown.reaction is Reaction.DONE:
                    last_done[shown.tip.task_id] = day
    await _learn(stage, pending.take({user.user_id: stage.now for user in stage.users}))
    return decisions


def _draw_looks(stage: Stage, written: Written, day: int, hour: int, last_done: Mapping[str, int]) -> Iterator[_Look]:
    """Yield the looks of an hour, each user's at a minute of its own, without those in the future."""
    for user in stage.users:
        moment = stage.moment(day, hour, float(stage.rng.uniform(0, 60)))
        if day >= stage.first_day(user) and moment.at <= stage.now:
            yield _Look(user, moment, _draw_candidates(stage.rng, user, written, day, last_done))


def _draw_candidates(
    rng: np.random.Generator, user: User, written: Written, day: int, last_done: Mapping[str, int]
) -> list[Candidate]:
    """Draw some of a user's tasks and a tip of each version; all tips are about the same task."""
    tasks = list_tasks(user, day, last_done)
    candidates = {tasks[place].id: tasks[place] for place in rng.permutation(len(tasks))[:TASKS]}
    tips = list_tips(written, user, tasks)
    for version in rng.permutation(VERSIONS):
        # Two generations may use the same id.
        if free := [tip for tip in tips[version] if tip.id not in candidates]:
            tip = free[int(rng.integers(len(free)))]
            candidates[tip.id] = tip
    # Shuffled, because the policies take the first of equals.
    in_order = list(candidates.values())
    return [in_order[place] for place in rng.permutation(len(in_order))]


def _make_command(look: _Look, policy: Policy) -> DecideCommand:
    return DecideCommand(
        user_id=look.user.user_id,
        policy=policy,
        decision_id=uuid_utils.uuid7(nanoseconds=int(look.moment.at.timestamp() * 1000) * 10**6),
        decided_at=look.moment.at,
        context={"hour_of_day": look.moment.hour, "day_of_week": look.moment.weekday},
        candidates=[
            decisions_service.Candidate(one.id, one.features, one.source, one.content, one.prompt_version)
            for one in look.candidates
        ],
    )


def _show(stage: Stage, look: _Look, policy: str, tip_id: str) -> tuple[Shown, datetime]:
    """Return the shown tip with its reaction, and the time of the reaction."""
    user, moment = look.user, look.moment
    tip = next(candidate for candidate in look.candidates if candidate.id == tip_id)
    reaction, at = draw_reaction(user, tip, moment, stage.rng), moment.at + draw_delay(stage.rng)
    by_chance = float(np.mean([compute_expected_reward(user, candidate, moment) for candidate in look.candidates]))
    return Shown(user, policy, moment, tip, reaction if at <= stage.now else None, by_chance), at


def _make_reward(command: DecideCommand, shown: Shown, reaction: Reaction, at: datetime) -> DecisionRewardCommand:
    return DecisionRewardCommand(command.user_id, command.decision_id, shown.tip.id, reaction.value, at)


async def _learn(stage: Stage, rewards: Sequence[DecisionRewardCommand]) -> None:
    for outcome in await stage.services.together(learn, rewards):
        only([outcome])
