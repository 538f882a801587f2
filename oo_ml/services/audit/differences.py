"""Differences between states, decisions and the ledger, each as a sentence: the place, the expected and the found."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.learning import Kind, Replayed, StoredEntry, describe_shape, fold_entry
from oo_ml.storage.audit import DecisionConflict, DecisionCounts, EntryConflict, WeightConflict
from oo_ml.storage.policy_state import PolicyState, StateKey

_EXPECTED_KINDS: Final[dict[str | None, str]] = {None: "reward or default", Kind.RETRACT: "reward"}


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference: the user and policy, and a sentence with the place, what was expected and what was found."""

    user_id: str
    policy: str
    sentence: str


def find_difference(  # noqa: PLR0913 - the tables that are compared
    stored: Mapping[StateKey, PolicyState],
    counts: Iterable[DecisionCounts],
    ledger: Iterator[StoredEntry],
    fresh: Mapping[str, Evidence],
    *,
    passed: Callable[[StateKey, Replayed], None],
    may_miss_decisions: bool,
) -> Difference | None:
    """Return the first difference between states, numbers of decisions and the ledger, by user and policy.

    `fresh` has the evidence of each published policy before the first reward. The ledger is in the order of its
    primary key, and is read up to the first difference. `passed` is called with every version of the current epochs, as
    the ledger gives it. With `may_miss_decisions`, retention may have removed decisions that the counters of a state
    include.
    """
    counted = {StateKey(*count[:2]): count for count in counts}
    for key, entries in _group_by_key(sorted({*stored, *counted}), ledger):
        found = _compare(
            stored.get(key),
            counted.get(key),
            entries,
            fresh,
            passed=passed,
            may_miss_decisions=may_miss_decisions,
        )
        if found is not None:
            return Difference(*key, f"{key[1]}{found}")
    return None


def _group_by_key(
    keys: Iterable[StateKey], ledger: Iterator[StoredEntry]
) -> Iterator[tuple[StateKey, Iterator[StoredEntry]]]:
    """Yield each of `keys` and each key of the ledger, both of which are sorted, with its ledger entries."""
    merged = heapq.merge(
        ((key, None) for key in keys), ((StateKey(*entry[:2]), entry) for entry in ledger), key=itemgetter(0)
    )
    for key, pairs in groupby(merged, itemgetter(0)):
        yield key, (entry for _, entry in pairs if entry is not None)


def _compare(  # noqa: PLR0913 - as find_difference has them
    state: PolicyState | None,
    count: DecisionCounts | None,
    entries: Iterator[StoredEntry],
    fresh: Mapping[str, Evidence],
    *,
    passed: Callable[[StateKey, Replayed], None],
    may_miss_decisions: bool,
) -> str | None:
    """Return the first difference of a user and policy."""
    if state is None:
        table = "reward_ledger" if count is None else "feature_history"
        return f": expected a row in policy_state, because {table} has rows, found none"
    start = fresh.get(state.key.policy)
    if start is None:
        return ": expected a published policy, found another"
    replayed = Replayed.fresh(start, state.epoch)
    passed(state.key, replayed)
    for entry in entries:
        place = f", epoch {entry.epoch}, version {entry.version}"
        if entry.epoch > state.epoch:
            return f"{place}: expected no ledger entry after the state's epoch {state.epoch}, found this one"
        try:
            replayed = fold_entry(replayed, entry)
        except ValueError as error:
            return f"{place}: {error}"
        if replayed.epoch == state.epoch:
            passed(state.key, replayed)
    if replayed.epoch != state.epoch:
        replayed = Replayed.fresh(start, state.epoch)
    found = _compare_state(state, replayed) or _compare_counters(
        state, replayed, count, may_miss_decisions=may_miss_decisions
    )
    return found and f", epoch {state.epoch}, version {state.version}: {found}"


def _compare_state(state: PolicyState, replayed: Replayed) -> str | None:
    """Return the first difference between a state and the fold of its ledger."""
    learned = replayed.learned
    if state.version != replayed.version:
        return f"expected version = {replayed.version}, the number of ledger entries, found {state.version}"
    return (
        compare_arrays("A", learned.evidence.A, state.evidence.A)
        or compare_arrays("b", learned.evidence.b, state.evidence.b)
        or _compare_sums("weight", learned.evidence.weight, state.evidence.weight)
        or _compare_sums("squares", learned.evidence.squares, state.evidence.squares)
        or _compare_numbers("reward_count", learned.reward_count, state.reward_count)
        or _compare_sums("cumulative_reward", learned.cumulative_reward, state.cumulative_reward)
    )


def _compare_counters(
    state: PolicyState, replayed: Replayed, count: DecisionCounts | None, *, may_miss_decisions: bool
) -> str | None:
    """Return the first difference between the counters of a state and its decisions."""
    made = count or DecisionCounts(*state.key, last_epoch=0, in_all=0, pulls=0, explored=0)
    if made.last_epoch > state.epoch:
        return f"expected no decision after this epoch, found one of epoch {made.last_epoch}"
    pulls, explored = replayed.start_pulls + made.pulls, replayed.start_explore_count + made.explored
    if may_miss_decisions:
        # Only the state still counts the decisions that retention removed.
        pulls, explored = max(pulls, state.pulls), max(explored, state.explore_count)
    return _compare_numbers("pulls", pulls, state.pulls) or _compare_numbers(
        "explore_count", explored, state.explore_count
    )


def compare_arrays(name: str, expected: NDArray[np.float64], found: NDArray[np.float64]) -> str | None:
    """Return the first difference of two arrays, in shape or as bits."""
    if found.shape != expected.shape:
        return f"expected {name} to be {describe_shape(expected)}, found {describe_shape(found)}"
    # As bits, because 0 == -0.
    different = np.argwhere(expected.view(np.uint64) != found.view(np.uint64))
    if not len(different):
        return None
    place = tuple(different[0].tolist())
    index = "".join(f"[{i}]" for i in place)
    return f"expected {name}{index} = {float(expected[place])!r}, found {float(found[place])!r}"


def _compare_sums(name: str, expected: float | None, found: float | None) -> str | None:
    if expected is None or found is None:
        return None if expected is found else f"expected {name} = {or_null(expected)}, found {or_null(found)}"
    return compare_arrays(name, np.array(expected), np.array(found))


def _compare_numbers(name: str, expected: int, found: int) -> str | None:
    return None if expected == found else f"expected {name} = {expected}, found {found}"


def describe_entry_conflict(entry: EntryConflict) -> Difference:
    """Return the difference of a ledger entry."""
    before = f"version {entry.before_version}"
    match entry.column:
        case "epoch":
            expected = f"{entry.before_policy} and epoch {entry.before_epoch}, as in {before} of the same decision"
            found = "these"
        case "corrects":
            expected = f"corrects = {or_null(entry.before_version)}, the decision's previous entry"
            found = or_null(entry.corrects)
        case "kind":
            kinds = _EXPECTED_KINDS.get(entry.before_kind, "amend or retract")
            expected = f"{kinds} after {entry.before_kind}" if entry.before_kind else f"{kinds} as its first entry"
            found = entry.kind
        case "previous_reward":
            expected = f"previous_reward = {or_null(entry.before_reward)}, the reward of {before}"
            found = or_null(entry.previous_reward)
        case "weight":
            expected = f"weight = {or_null(entry.before_weight)}, that of {before} of the same decision"
            found = or_null(entry.weight)
        case _:
            expected, found = f"the x of {before}, which it corrects", "another"
    place = f"{entry.policy}, epoch {entry.epoch}, version {entry.version}, decision {entry.decision_id}"
    return Difference(entry.user_id, entry.policy, f"{place}: expected {expected}, found {found}")


def describe_decision_conflict(decision: DecisionConflict) -> Difference:
    """Return the difference of a decision."""
    found = _describe_reward(decision.reward, decision.kind)
    if not decision.in_history:
        expected = f"a row in feature_history, because ledger version {decision.ledger_version} is for it"
        found = "none"
    elif decision.dimension is not None:
        expected = f"x to be {decision.dimension} finite numbers"
        found = f"{decision.x_length} finite numbers"
    elif decision.ledger_version is None:
        expected = "no reward, because the ledger has no entry for it"
    elif (decision.ledger_policy, decision.ledger_epoch) != (decision.policy, decision.epoch):
        expected = "its ledger entries in the same policy and epoch"
        found = f"{decision.ledger_policy}, epoch {decision.ledger_epoch}, version {decision.ledger_version}"
    else:
        kind = None if decision.ledger_kind == Kind.REWARD else decision.ledger_kind
        reward = _describe_reward(decision.ledger_reward, kind)
        if found == reward:
            reward, found = f"weight = {or_null(decision.ledger_weight)}", or_null(decision.weight)
        expected = f"{reward}, as in its last ledger entry, version {decision.ledger_version}"
    place = f"{decision.policy}, epoch {decision.epoch}, decision {decision.decision_id}"
    return Difference(decision.user_id, decision.policy, f"{place}: expected {expected}, found {found}")


def describe_weight_conflict(one: WeightConflict) -> Difference:
    """Return the difference of a weight."""
    version = "" if one.version is None else f", version {one.version}"
    decision = "" if one.decision_id is None else f", decision {one.decision_id}"
    relation = "<=" if one.is_limit else "="
    sentence = (
        f"{one.policy}, epoch {one.epoch}{version}{decision}: expected weight {relation} {or_null(one.expected)},"
        f" by its policy and time, found {or_null(one.found)}"
    )
    return Difference(one.user_id, one.policy, sentence)


def _describe_reward(reward: float | None, kind: str | None) -> str:
    return f"reward {or_null(reward)}" + (f" ({kind})" if kind else "")


def or_null(value: float | None) -> str:
    """Return a number for a sentence."""
    return "null" if value is None else repr(value)
