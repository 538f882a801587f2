"""The service's own log, looked at part by part.

Each decision is judged by the model that it was made from, put together again from the ledger. Some hundred states
share a snapshot, so that nothing is held open for long; a person is in one alone.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, Engine

from oo_ml.domain.evaluation.targets import Prompt, Target
from oo_ml.domain.policies import DIMENSIONS
from oo_ml.execution import retry
from oo_ml.execution.retry import Command, Outcome, Service
from oo_ml.services.evaluation import rebuild
from oo_ml.services.evaluation.findings import Part
from oo_ml.services.evaluation.judge import judge
from oo_ml.settings import Settings
from oo_ml.storage import audit, decision_log
from oo_ml.storage.audit import EVERYBODY, People

# Rows of the ledger in memory at once, states in one snapshot, and how many snapshots there are to be if there are
# fewer states, so that it is seen how far it has come.
_PAGE: Final = 1000
_PART: Final = 500
_PARTS: Final = 50


@dataclass(frozen=True, slots=True)
class Question:
    """What would `target` have earned?

    Attributes:
        since: decisions before it are left aside; None: none are.
        policy: only this policy's decisions; None: every policy's.
    """

    target: Target
    since: datetime | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class EvaluateCommand:
    """Look at the decisions of `people`, who should have some hundred states."""

    people: People
    question: Question


@dataclass(frozen=True, slots=True)
class Survey:
    """A log that is looked at part by part, each in a snapshot of its own; `states` is how many states to expect."""

    states: int
    parts: Iterator[Part]


def everybody(engine: Engine, settings: Settings, question: Question) -> Survey:
    """Look at the whole log. The parts, added up, are for `conclude`.

    Raises, as the parts are asked for:
        LogContradictedError: what a decision was made from can't be put together again.
        UnavailableError: the database can't do it now.
    """
    [states] = _run(engine, settings, _count_states, [EVERYBODY])
    return Survey(states, _everybody(engine, settings, question, min(_PART, states // _PARTS + 1)))


def evaluate(connection: Connection, commands: Sequence[EvaluateCommand], *, page_size: int = _PAGE) -> list[Part]:
    """Look at the decisions of each command's people, all of it as it is at one moment."""
    audit.begin(connection)
    return [_evaluate(connection, command.people, command.question, page_size) for command in commands]


def _evaluate(connection: Connection, people: People, question: Question, page_size: int) -> Part:
    policies = list(DIMENSIONS) if question.policy is None else [question.policy]
    left = decision_log.left_out(connection, people, policies, question.since)
    found = Part(audit.count_states(connection, people), unrewarded=left.unrewarded, unexplained=left.unexplained)
    asks_who_wrote = isinstance(question.target, Prompt)
    logged = decision_log.decisions(connection, people, policies, question.since, versions=asks_who_wrote)
    with closing(logged):
        made = rebuild.models(logged, audit.ledger(connection, people, page_size))
        return sum(judge(question.target, made), found)


def _everybody(engine: Engine, settings: Settings, question: Question, part_size: int) -> Iterator[Part]:
    first = EVERYBODY.first
    while True:
        [people] = _run(engine, settings, partial(_parts, size=part_size), [first])
        yield from _run(engine, settings, evaluate, [EvaluateCommand(people, question)])
        if people.last == EVERYBODY.last:
            return
        first = audit.next_after(people.last)


def _run(
    engine: Engine, settings: Settings, service: Service[Command, Outcome], commands: Sequence[Command]
) -> list[Outcome]:
    return retry.run(engine, service, commands, time.monotonic() + settings.long_timeout)


def _count_states(connection: Connection, ranges: Sequence[People]) -> list[int]:
    return [audit.count_states(connection, people) for people in ranges]


def _parts(connection: Connection, firsts: Sequence[str], *, size: int) -> list[People]:
    return [audit.part(connection, first, size) for first in firsts]
