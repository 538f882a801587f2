"""Proving that what is stored is what happened: each state is the fold of its ledger, bit for bit.

And the ledger is whole: no version is missing, and each decision shows what its last change says. It only reads, and
all of it as it is at one moment, so that what goes on meanwhile makes no difference.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, Engine

from oo_ml.execution import retry
from oo_ml.execution.retry import Command, Outcome, Service
from oo_ml.services.audit import differences
from oo_ml.services.audit.differences import Difference
from oo_ml.settings import Settings
from oo_ml.storage import audit, audit_decisions
from oo_ml.storage.audit import EVERYBODY, ChangeRow, People

# Rows of the ledger in memory at once, states in one transaction, and people of a sample in one.
PAGE: Final = 1000
PART: Final = 500
_PEOPLE: Final = 50


@dataclass(frozen=True, slots=True)
class VerifyCommand:
    """Verify everybody from the id `first` to the id `last`, both included; they should have some hundred states."""

    first: str
    last: str

    @classmethod
    def person(cls, user_id: str) -> "VerifyCommand":
        """Verify one person."""
        return cls(user_id, user_id)


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, up to the first difference if there is one.

    Attributes:
        people: who have a state.
        states: theirs.
        changes: rows of the ledger, of every epoch.
        decisions: rows of the history, of every epoch.
    """

    people: int
    states: int
    changes: int
    decisions: int
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Survey:
    """What is verified part by part, each in a snapshot of its own; `states` is the number of states to expect."""

    states: int
    reports: Iterator[Report]


def verify(connection: Connection, commands: Sequence[VerifyCommand], *, page_size: int = PAGE) -> list[Report]:
    """Compare the states of each command's people with what history and ledger say."""
    audit.begin(connection)
    history_from = audit.history_from(connection)
    return [
        report(connection, People(command.first, command.last), history_from, page_size=page_size)
        for command in commands
    ]


def report(connection: Connection, people: People, history_from: datetime | None, *, page_size: int = PAGE) -> Report:
    """Compare the states of `people` with what history and ledger say.

    Args:
        connection: in a transaction that sees all of it as it is at one moment, or that wrote it.
        people: a range of ids.
        history_from: decisions before it may be missing from the history, taken out by retention; None: none may.
        page_size: rows of the ledger in memory at once.
    """
    states = audit.states(connection, people)
    # One more than there are states would be of somebody who has none, and that is a difference.
    decisions = audit.decisions(connection, people, len(states) + 1)
    changes = 0

    def counted(ledger: Iterator[ChangeRow]) -> Iterator[ChangeRow]:
        nonlocal changes
        for row in ledger:
            changes += 1
            yield row

    ledger = counted(audit.ledger(connection, people, page_size))
    first = next(differences.between(states, decisions, ledger, detached=history_from is not None), None)
    if first is not None:
        # What comes behind the first difference does not matter, and may be a lot.
        people = People(people.first, first.user_id)
    link = audit_decisions.broken_link(connection, people)
    contradiction = audit_decisions.contradiction(connection, people, history_from)
    found = (first, link and differences.of_link(link), contradiction and differences.of_contradiction(contradiction))
    return Report(
        people=len({state.user_id for state in states}),
        states=len(states),
        changes=changes,
        decisions=sum(count.in_all for count in decisions),
        difference=min(filter(None, found), key=lambda one: (one.user_id, one.policy), default=None),
    )


def everybody(engine: Engine, settings: Settings, *, part_size: int = PART) -> Survey:
    """Verify everybody, about `part_size` states at a time, and whatever is stored of people who have no state."""
    [states] = _run(engine, settings, _count_states, [EVERYBODY])
    return Survey(states, _everybody(engine, settings, part_size))


def some(engine: Engine, settings: Settings, size: int) -> Survey:
    """Verify up to `size` people who have a state, drawn at random."""
    [people] = _run(engine, settings, _sample, [size])
    return _survey(engine, settings, people)


def person(engine: Engine, settings: Settings, user_id: str) -> Survey:
    """Verify one person; one never seen has no states, and nothing to differ."""
    return _survey(engine, settings, [user_id])


def _survey(engine: Engine, settings: Settings, user_ids: Sequence[str]) -> Survey:
    states = _run(engine, settings, _count_states, [People(user_id, user_id) for user_id in user_ids])
    return Survey(sum(states), _one_by_one(engine, settings, user_ids))


def _everybody(engine: Engine, settings: Settings, part_size: int) -> Iterator[Report]:
    first = EVERYBODY.first
    while True:
        [people] = _run(engine, settings, partial(_parts, size=part_size), [first])
        yield from _run(engine, settings, verify, [VerifyCommand(*people)])
        if people.last == EVERYBODY.last:
            return
        first = audit.next_after(people.last)


def _one_by_one(engine: Engine, settings: Settings, user_ids: Sequence[str]) -> Iterator[Report]:
    for start in range(0, len(user_ids), _PEOPLE):
        commands = [VerifyCommand.person(user_id) for user_id in user_ids[start : start + _PEOPLE]]
        yield from _run(engine, settings, verify, commands)


def _run(
    engine: Engine, settings: Settings, service: Service[Command, Outcome], commands: Sequence[Command]
) -> list[Outcome]:
    return retry.run(engine, service, commands, time.monotonic() + settings.long_timeout)


def _count_states(connection: Connection, ranges: Sequence[People]) -> list[int]:
    return [audit.count_states(connection, people) for people in ranges]


def _sample(connection: Connection, sizes: Sequence[int]) -> list[list[str]]:
    return [audit.sample(connection, size) for size in sizes]


def _parts(connection: Connection, firsts: Sequence[str], *, size: int) -> list[People]:
    return [audit.part(connection, first, size) for first in firsts]
