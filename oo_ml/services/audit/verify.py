"""The proof that each state is the fold of its ledger, bit for bit, and that decisions agree with their ledger entries.

The latest decisions are also recomputed from state, definition and candidates. It only reads, all as of one moment, so
concurrent writes make no difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.learning import Replayed, StoredEntry
from oo_ml.services.audit import recompute, warm_entries
from oo_ml.services.audit.differences import (
    Difference,
    describe_decision_conflict,
    describe_entry_conflict,
    describe_weight_conflict,
    find_difference,
)
from oo_ml.services.policies.compiled import read_policies
from oo_ml.services.prior_versions import PriorVersions
from oo_ml.storage import audit, decision_log, policy_state, upkeep
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.user_ranges import UserRange

# Ledger entries in memory at once.
PAGE_SIZE: Final = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """The numbers of users with a state, of their states, and of ledger entries and decisions of all epochs.

    `difference` is the first difference, if there is one.
    """

    users: int
    states: int
    entries: int
    decisions: int
    difference: Difference | None


def verify(connection: Reading, ranges: Sequence[UserRange], *, page_size: int = PAGE_SIZE) -> list[Report]:
    """Compare the states of each range with its decisions and ledger; a range should hold at most some hundred."""
    audit.begin_snapshot(connection)
    history_from = upkeep.read_history_from(connection)
    priors = PriorVersions(connection)
    return [verify_range(connection, users, history_from, priors, page_size=page_size) for users in ranges]


def verify_users(connection: Reading, user_ids: Sequence[str]) -> list[Report]:
    """Verify single users; an unknown user has no states and no difference."""
    return verify(connection, [UserRange.of(user_id) for user_id in user_ids])


def verify_range(
    connection: Reading,
    users: UserRange,
    history_from: datetime | None,
    priors: PriorVersions,
    *,
    page_size: int = PAGE_SIZE,
) -> Report:
    """Compare the states of `users` with their decisions and ledger; at most `page_size` entries are in memory.

    The transaction reads a snapshot, or wrote the rows itself. Decisions before `history_from` may be missing, removed
    by retention; None: no decision may.
    """
    states = policy_state.read_range(connection, users)
    # One row more than there are states belongs to a user without a state, which is a difference.
    counts = audit.count_decisions(connection, users, len(states) + 1)
    entries = 0

    def count(ledger: Iterator[StoredEntry]) -> Iterator[StoredEntry]:
        nonlocal entries
        for entry in ledger:
            entries += 1
            yield entry

    policies = read_policies(connection, {})
    of_each = recompute.size_of_sample(len(states))
    sampled = decision_log.read_sampled_versions(connection, users, of_each)
    evidence: dict[tuple[StateKey, int], Evidence] = {}

    def keep(key: StateKey, replayed: Replayed) -> None:
        if (key, replayed.version) in sampled:
            evidence[key, replayed.version] = replayed.learned.evidence

    first = find_difference(
        states,
        counts,
        count(audit.read_ledger(connection, users, page_size)),
        {name: policy.fresh() for name, policy in policies.items()},
        passed=keep,
        may_miss_decisions=history_from is not None,
    )
    if first is not None:
        # Only an earlier difference matters now.
        users = UserRange(users.first, first.user_id)
    entry = audit.find_entry_conflict(connection, users)
    decision = audit.find_decision_conflict(connection, users, history_from)
    half_lives = {name: one.population.half_life for name, one in policies.items() if one.population is not None}
    weight = audit.find_weight_conflict(connection, users, half_lives)
    warm = warm_entries.find_changed_entry(connection, users, policies, page_size)
    # The evidence of later users is not known, nor that of the user's later policies.
    changed = (
        recompute.find_changed_decision(connection, users, of_each, evidence, policies, priors)
        if first is None
        else None
    )
    found = (
        first,
        entry and describe_entry_conflict(entry),
        decision and describe_decision_conflict(decision),
        warm,
        weight and describe_weight_conflict(weight),
        changed,
    )
    return Report(
        users=len({key.user_id for key in states}),
        states=len(states),
        entries=entries,
        decisions=sum(count.in_all for count in counts),
        difference=min(filter(None, found), key=lambda one: (one.user_id, one.policy), default=None),
    )
