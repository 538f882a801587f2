"""Compares each warm entry of the ledger with the decision of another policy that it comes from."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter

from oo_ml.domain.policies import Policy
from oo_ml.services.audit.differences import Difference, compare_arrays, or_null
from oo_ml.services.decision_blocks import TAMPERED
from oo_ml.storage import warm_entries
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.user_ranges import UserRange
from oo_ml.storage.warm_entries import WarmEntry


def find_changed_entry(
    connection: Reading, users: UserRange, policies: Mapping[str, Policy], page_size: int
) -> Difference | None:
    """Return the first warm entry that does not follow from its decision, if any, by user and policy.

    It has the tip of the decision, the reward that counted when it was added, and the features that its policy computes
    from the logged fields. If the decision is past retention, its features can't be compared.
    """
    entries = warm_entries.read_entries(connection, users, page_size)
    for (_, name), group in groupby(entries, attrgetter("user_id", "policy")):
        while name in policies and (block := list(islice(group, page_size))):
            for entry, sentence in _check(block, policies[name]):
                place = f"{name}, epoch {entry.epoch}, version {entry.version}, decision {entry.decision_id}"
                return Difference(entry.user_id, name, f"{place}: {sentence}")
    return None


def _check(block: Sequence[WarmEntry], policy: Policy) -> Iterator[tuple[WarmEntry, str]]:
    """Yield the differences of entries of a user."""
    for entry in block:
        if sentence := _compare_reward(entry):
            yield entry, sentence
    # The fold refuses an x that is no vector.
    known = [(entry, entry.x) for entry in block if entry.context is not None and entry.x is not None]
    try:
        X = policy.features.encode(
            [entry.context or {} for entry, _ in known], [entry.features or {} for entry, _ in known], [1] * len(known)
        ).X
    except TAMPERED:
        # Check each entry alone to find the one that was tampered with.
        if len(block) > 1:
            yield from (found for entry in block for found in _check([entry], policy))
        else:
            yield block[0], f"expected a decision whose fields {policy.name} can read, found another"
        return
    for (entry, found), expected in zip(known, X, strict=True):
        if sentence := compare_arrays("x", expected, found):
            yield entry, sentence


def _compare_reward(entry: WarmEntry) -> str | None:
    """Return the first difference between an entry and the decision's last ledger entry before it."""
    if entry.before_policy is None:
        return "expected an earlier ledger entry of this decision, found none"
    if entry.before_policy == entry.policy:
        return "expected a decision of another policy, found one of this policy"
    if entry.tip_id != entry.before_tip_id:
        return "expected the tip of this decision, found another"
    # As text, because 0 == -0.
    expected, found = or_null(entry.before_reward), or_null(entry.reward)
    return None if expected == found else f"expected reward = {expected}, that of the decision then, found {found}"
