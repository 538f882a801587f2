"""Evaluation from the service's own decisions, each with the model that made it."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Engine

from oo_ml.domain.evaluation.targets import Prompt, Target
from oo_ml.services.evaluation.blocks import evaluate_blocks
from oo_ml.services.evaluation.models import rebuild_models
from oo_ml.services.evaluation.results import Part
from oo_ml.services.policies.compiled import read_policies
from oo_ml.services.walk_users import Walk, walk_all
from oo_ml.settings import Settings
from oo_ml.storage import audit, decision_log, user_ranges
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.user_ranges import UserRange

# Ledger entries in memory at once; and the least number of parts, so that progress shows for a small log too.
_PAGE_SIZE: Final = 1000
_LEAST_PARTS: Final = 50


@dataclass(frozen=True, slots=True)
class Question:
    """The target policy to evaluate, and the decisions to evaluate it on; None: no limit.

    Attributes:
        since, until: only decisions from this time on, and before this time.
        policy: only decisions of this policy.
    """

    target: Target
    since: datetime | None = None
    until: datetime | None = None
    policy: str | None = None


def walk_log(engine: Engine, settings: Settings, question: Question) -> Walk[Part]:
    """Evaluate the whole log in parts. Add up the parts for `conclude`.

    Raises, when a part is asked for:
        LogContradictedError: the model of a decision can't be rebuilt from the ledger.
        UnavailableError: the database is unavailable.
    """
    return walk_all(engine, settings, partial(evaluate, question=question), least_parts=_LEAST_PARTS)


def evaluate(
    connection: Reading, ranges: Sequence[UserRange], *, question: Question, page_size: int = _PAGE_SIZE
) -> list[Part]:
    """Evaluate the decisions of each range of users, all from one snapshot."""
    audit.begin_snapshot(connection)
    return [_evaluate(connection, users, question, page_size) for users in ranges]


def _evaluate(connection: Reading, users: UserRange, question: Question, page_size: int) -> Part:
    published = read_policies(connection, {})
    asked = decision_log.Asked(
        list(published) if question.policy is None else [question.policy], question.since, question.until
    )
    left = decision_log.count_left_out(connection, users, asked)
    part = Part(user_ranges.count_states(connection, users), unrewarded=left.unrewarded, unexplained=left.unexplained)
    versions = isinstance(question.target, Prompt)
    with closing(decision_log.read_decisions(connection, users, asked, versions=versions)) as decisions:
        made = rebuild_models(decisions, audit.read_ledger(connection, users, page_size), published)
        return sum(evaluate_blocks(question.target, made, published), part)
