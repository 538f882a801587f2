"""Recomputes a sample of decisions from their state, definition and candidates, and compares them with the log.

A decision whose prior version is unknown here can't be recomputed, and is left out: the version was deleted, or the
decision was replayed from another database.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Final

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.logged_decisions import Mismatch
from oo_ml.domain.policies import Policy
from oo_ml.services.audit.differences import Difference
from oo_ml.services.decision_blocks import TAMPERED, Made, attach_priors, build_block, compare, split
from oo_ml.services.prior_versions import PriorVersions
from oo_ml.storage import decision_log
from oo_ml.storage.decision_log import LoggedDecision
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.user_ranges import UserRange

# The latest decisions of each state, at most so many; in all about so many decisions and candidates of a range.
_OF_EACH: Final = 20
_DECISIONS: Final = 500
_CANDIDATES: Final = 20_000

# The evidence at some versions of the current epochs.
EvidenceByVersion = Mapping[tuple[StateKey, int], Evidence]


def size_of_sample(states: int) -> int:
    """Return the number of decisions of each state in the sample of a range with so many states."""
    return max(1, min(_OF_EACH, _DECISIONS // max(states, 1)))


def find_changed_decision(  # noqa: PLR0913, PLR0917 - the sample, and what its decisions were made from
    connection: Reading,
    users: UserRange,
    of_each: int,
    evidence: EvidenceByVersion,
    policies: Mapping[str, Policy],
    priors: PriorVersions,
) -> Difference | None:
    """Return the first decision of a sample that differs from the recomputed one, by user and policy.

    `evidence` is that at the version of each decision; a version that is missing is beyond the ledger.
    """
    found: list[Difference] = []
    with closing(decision_log.read_sample(connection, users, of_each)) as sample:
        for block in split(_attach(_limit(sample), evidence, policies, found)):
            policy = policies[block[0].decision.policy]
            if known := attach_priors(block, policy, priors):
                found += filter(None, [_check(known, policy)])
    return min(found, key=lambda one: (one.user_id, one.policy), default=None)


def _limit(sample: Generator[LoggedDecision]) -> Iterator[LoggedDecision]:
    candidates = 0
    for decision in sample:
        yield decision
        candidates += len(decision.candidates)
        if candidates >= _CANDIDATES:
            return


def _attach(
    decisions: Iterator[LoggedDecision],
    evidence: EvidenceByVersion,
    policies: Mapping[str, Policy],
    found: list[Difference],
) -> Iterator[Made]:
    """Yield the decisions with the evidence that they were made from.

    Add a decision whose version is beyond the ledger to `found`.
    """
    for decision in decisions:
        if decision.policy not in policies:
            continue
        one = evidence.get((StateKey(decision.user_id, decision.policy), decision.version))
        if one is None:
            found.append(_describe(decision, "a version that the ledger has reached", str(decision.version)))
        else:
            yield Made(decision, one)


def _check(made: Sequence[Made], policy: Policy) -> Difference | None:
    """Return the first difference of a block."""
    decisions = [one.decision for one in made]
    try:
        mismatch = compare(build_block(made, policy), decisions)
        for place, decision in enumerate(decisions[: mismatch.decision if mismatch else None]):
            if not _has_own_features(decision):
                return _describe(decisions[place], "features to be those of the tip among its candidates", "others")
    except TAMPERED:
        # Check each decision alone to find the one that was tampered with.
        if len(made) == 1:
            return _describe(decisions[0], f"a context and candidates that {policy.name} can have decided on", "others")
        return next(filter(None, (_check([one], policy) for one in made)), None)
    return mismatch and _describe_mismatch(decisions[mismatch.decision], mismatch)


def _has_own_features(decision: LoggedDecision) -> bool:
    # A decision of the pre-release has some of the context among them too.
    return any(
        candidate["features"].items() <= decision.features.items()
        for candidate in decision.candidates
        if candidate["id"] == decision.tip_id
    )


def _describe_mismatch(decision: LoggedDecision, mismatch: Mismatch) -> Difference:
    if mismatch.column == "tip_id":
        return _describe(decision, "tip_id to be one of its candidates", "another")
    place = "" if mismatch.place is None else f"[{mismatch.place}]"
    expected = f"{mismatch.column}{place} = {mismatch.expected!r}, recomputed from its state and candidates"
    return _describe(decision, expected, repr(mismatch.found))


def _describe(decision: LoggedDecision, expected: str, found: str) -> Difference:
    place = f"{decision.policy}, epoch {decision.epoch}, decision {decision.decision_id}"
    return Difference(decision.user_id, decision.policy, f"{place}: expected {expected}, found {found}")
