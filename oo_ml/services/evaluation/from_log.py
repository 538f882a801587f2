"""Evaluation from the service's own decisions, each with the model that made it."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Final

from sqlalchemy import Engine

from oo_ml.domain.evaluation.targets import POSSIBLE, Prompt, Published, Target
from oo_ml.domain.policies import Policy, Rule
from oo_ml.errors import UnknownPolicyError
from oo_ml.services.evaluation.blocks import evaluate_blocks
from oo_ml.services.evaluation.evidence import Ledger, fold_evidence
from oo_ml.services.evaluation.results import Part
from oo_ml.services.policies.compiled import read_policies, rules_of
from oo_ml.services.prior_versions import PriorVersions
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
        UnknownPolicyError: no policy has the name of the target, or of the policy that is asked for.
        UnavailableError: the database is unavailable.
    """
    service = partial(evaluate, question=question, rules=rules_of(settings))
    return walk_all(engine, settings, service, least_parts=_LEAST_PARTS)


def evaluate(
    connection: Reading,
    ranges: Sequence[UserRange],
    *,
    question: Question,
    rules: Mapping[str, Rule] = MappingProxyType({}),
    page_size: int = _PAGE_SIZE,
) -> list[Part]:
    """Evaluate the decisions of each range of users, all from one snapshot; `rules` are those that settings give."""
    audit.begin_snapshot(connection)
    policies = read_policies(connection, rules)
    target = _find_target(question, policies)
    priors = PriorVersions(connection)
    return [_evaluate(connection, users, question, policies, target, priors, page_size) for users in ranges]


def _find_target(question: Question, policies: Mapping[str, Policy]) -> Policy | None:
    """Return the target if it is a published policy.

    Raises:
        UnknownPolicyError: no policy has the name of the target, or of the policy that is asked for.
    """
    if question.policy is not None and question.policy not in policies:
        raise UnknownPolicyError(f"Unknown policy: {question.policy}; `oo-ml policies list` shows those published")
    if not isinstance(question.target, Published):
        return None
    if question.target.name not in policies:
        raise UnknownPolicyError(f"Unknown target: {question.target.name}; use {POSSIBLE}")
    return policies[question.target.name]


def _evaluate(  # noqa: PLR0913, PLR0917 - the parts of the question, and where to read
    connection: Reading,
    users: UserRange,
    question: Question,
    policies: Mapping[str, Policy],
    target: Policy | None,
    priors: PriorVersions,
    page_size: int,
) -> Part:
    asked = decision_log.Asked(
        list(policies) if question.policy is None else [question.policy], question.since, question.until
    )
    left = decision_log.count_left_out(connection, users, asked)
    part = Part(user_ranges.count_states(connection, users), unrewarded=left.unrewarded, unexplained=left.unexplained)
    ledger: Ledger
    if target is None:
        ledger = ((entry, None) for entry in audit.read_ledger(connection, users, page_size))
    else:
        ledger = decision_log.read_ledger(connection, users, page_size)
    versions = isinstance(question.target, Prompt)
    with closing(decision_log.read_decisions(connection, users, asked, versions=versions)) as decisions:
        made = fold_evidence(decisions, ledger, policies, target)
        return sum(evaluate_blocks(question.target, made, policies, priors, target), part)
