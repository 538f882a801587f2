"""The simulated weeks: at each moment of each day a tip is chosen, shown, reacted to, and the reaction sent back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oo_ml.demo.client import Json, call
from oo_ml.demo.people import Moment, Offer, Person, Reaction, expected_reward, react, tasks_on
from oo_ml.demo.stage import Stage, steps
from oo_ml.demo.tips import VERSIONS, Written, offer_tip

HOURS = (7, 9, 12, 15, 19, 22)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, and what the paths of its calls end in."""

    name: str
    suffix: str


POLICIES = (Policy("linucb-v1", ""), Policy("egreedy-v1", "/egreedy"))


@dataclass(frozen=True, slots=True)
class Shown:
    """One decision as the caller saw it. `by_chance` is the mean reward had the tip been drawn from the candidates."""

    person: Person
    policy: Policy
    moment: Moment
    tip: Offer
    reaction: Reaction
    by_chance: float


def live(stage: Stage, written: Written, weeks: int) -> list[Shown]:
    """Live `weeks` weeks, each day a decision for each person at each of HOURS, the two policies taking turns."""
    decisions: list[Shown] = []
    last_done: dict[str, int] = {}
    for day in steps(stage.console, "Living the days", range(7 * weeks)):
        for turn, hour in enumerate(HOURS, start=day * len(HOURS)):
            for person in stage.people:
                offers = _offers(stage.rng, person, written, day, last_done)
                shown = _decide(stage, person, offers, Moment(day, hour), POLICIES[turn % 2])
                if shown.reaction is Reaction.DONE:
                    last_done[shown.tip.task_id] = day
                decisions.append(shown)
    return decisions


def _offers(
    rng: np.random.Generator, person: Person, written: Written, day: int, last_done: Mapping[str, int]
) -> list[Offer]:
    tasks = tasks_on(person, day, last_done)
    offers = {task.id: task for task in tasks}
    # The versions' tips about one and the same task, so that a version is not liked for its subject.
    subjects = sorted({task_id for task_id, _ in written.tips} & offers.keys())
    subject = str(rng.choice(subjects)) if subjects else ""
    for version in rng.permutation(VERSIONS):
        if tips := written.tips.get((subject, version)):
            tip = tips[int(rng.integers(len(tips)))]
            # A generation may use an id that another has used: then the first of the two is offered.
            offers.setdefault(tip.id, offer_tip(tip, tasks))
    # Shuffled, because among equals the policies take the first.
    in_order = list(offers.values())
    return [in_order[i] for i in rng.permutation(len(in_order))]


def _decide(stage: Stage, person: Person, offers: Sequence[Offer], moment: Moment, policy: Policy) -> Shown:
    score = {
        "user_id": person.user_id,
        "candidates": [_candidate(offer, moment) for offer in offers],
        "context": {"hour_of_day": moment.hour, "day_of_week": moment.weekday},
    }
    decision = call(stage.http, "POST", f"/score{policy.suffix}", score)
    tip = next(offer for offer in offers if offer.id == decision["tip_id"])
    reaction = react(person, tip, moment, stage.rng)
    reward = {
        "user_id": person.user_id,
        "tip_id": tip.id,
        "reward": reaction.value,
        "decision_id": decision["decision_id"],
    }
    call(stage.http, "POST", f"/reward{policy.suffix}", reward)
    by_chance = float(np.mean([expected_reward(person, offer, moment) for offer in offers]))
    return Shown(person, policy, moment, tip, reaction, by_chance)


def _candidate(offer: Offer, moment: Moment) -> Json:
    candidate: Json = {"id": offer.id, "content": offer.content, "features": _features(offer, moment)}
    if offer.prompt_version is None:
        return {**candidate, "source": "todoist", "source_id": offer.task_id}
    return {**candidate, "source": "llm", "prompt_version": offer.prompt_version}


def _features(offer: Offer, moment: Moment) -> Json:
    return {
        "hour_of_day": moment.hour,
        "is_overdue": offer.is_overdue,
        "task_age_days": offer.task_age_days,
        "priority": offer.priority,
    }
