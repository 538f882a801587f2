"""Where what is stored is not what happened, as sentences: the place, what was expected there and what was found."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final

import numpy as np

from oo_ml.domain.learning import Change, Kind, Learned, fold
from oo_ml.domain.policies import DIMENSIONS
from oo_ml.domain.ridge import Ridge
from oo_ml.storage.audit import ChangeRow, Decisions, Numbers, StateRow
from oo_ml.storage.audit_decisions import BrokenLink, Contradiction
from oo_ml.storage.states import StateKey

_EXPECTED_KINDS: Final[dict[str | None, str]] = {None: "reward or default", Kind.RETRACT: "reward"}


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as it should be: whose it is, and a sentence that says where, what was expected and what found."""

    user_id: str
    policy: str
    sentence: str


def between(
    states: Iterable[StateRow], decisions: Iterable[Decisions], ledger: Iterator[ChangeRow], *, detached: bool
) -> Iterator[Difference]:
    """Yield what differs between states, numbers of decisions and the ledger, at most one thing a user and policy.

    Args:
        states: in any order.
        decisions: in any order.
        ledger: in the order of its primary key; read no further than the difference that is yielded.
        detached: whether the states may tell of decisions that the history does not hold any more.
    """
    stored = {state.key: state for state in states}
    counted = {count.key: count for count in decisions}
    for key, rows in _by_key(sorted({*stored, *counted}), ledger):
        if found := _difference(stored.get(key), counted.get(key), rows, detached=detached):
            yield Difference(*key, f"{key.policy}{found}")


def _by_key(keys: Iterable[StateKey], ledger: Iterator[ChangeRow]) -> Iterator[tuple[StateKey, Iterator[ChangeRow]]]:
    """Yield each of `keys` and each key of the ledger, both of which are in order, with its rows of the ledger."""
    merged = heapq.merge(((key, None) for key in keys), ((row.key, row) for row in ledger), key=itemgetter(0))
    for key, pairs in groupby(merged, itemgetter(0)):
        yield key, (row for _, row in pairs if row is not None)


def _difference(
    state: StateRow | None, decisions: Decisions | None, rows: Iterator[ChangeRow], *, detached: bool
) -> str | None:
    """Return the first thing that differs for a user and policy."""
    if state is None:
        return f": expected a state, since the {'ledger' if decisions is None else 'history'} knows of one, found none"
    if state.policy not in DIMENSIONS:
        return f": expected a policy that this release can replay ({', '.join(DIMENSIONS)}), found another"
    replayed = _fresh(state.policy, state.epoch)
    for row in rows:
        after = _step(replayed, row, state)
        if isinstance(after, str):
            return f", epoch {row.epoch}, version {row.version}: {after}"
        replayed = after
    if replayed.epoch != state.epoch:
        replayed = _fresh(state.policy, state.epoch)
    found = _compare(state, replayed) or _compare_decisions(state, replayed, decisions, detached=detached)
    return found and f", epoch {state.epoch}, {found}"


@dataclass(frozen=True, slots=True, eq=False)
class _Replayed:
    """What the ledger says of an epoch up to a version; the epoch began with `start_...`, of an import if any."""

    epoch: int
    version: int
    learned: Learned
    start_pulls: int = 0
    start_explore_count: int = 0


def _fresh(policy: str, epoch: int) -> _Replayed:
    return _Replayed(epoch, 0, Learned(Ridge.fresh(DIMENSIONS[policy]), 0, 0.0))


def _step(before: _Replayed, row: ChangeRow, state: StateRow) -> _Replayed | str:
    """Return what the ledger says with one row more, or why that row can't follow."""
    if row.epoch > state.epoch:
        return f"expected no change beyond the state's epoch {state.epoch}, found one"
    if row.epoch != before.epoch:
        before = _fresh(state.policy, row.epoch)
    if row.version != before.version + 1:
        return f"expected version {before.version + 1} of the ledger, found this one"
    if row.kind == Kind.IMPORT:
        return _imported(row)
    if row.x is None or row.x.shape != (DIMENSIONS[row.policy],):
        return f"expected x to be {DIMENSIONS[row.policy]} finite numbers, found {_shape(row.x)}"
    try:
        learned = fold(before.learned, Change(Kind(row.kind), row.x, row.reward, row.previous_reward))
    except ValueError as error:
        return f"expected a change that can be folded, found that there is {error}"
    return _Replayed(row.epoch, row.version, learned, before.start_pulls, before.start_explore_count)


def _imported(row: ChangeRow) -> _Replayed | str:
    d = DIMENSIONS[row.policy]
    if row.version > 1:
        return "expected an import to be the first change of its epoch, found it later"
    if row.start_a is None or row.start_a.shape != (d, d):
        return f"expected start_a to be {d} rows of {d} finite numbers, found {_shape(row.start_a)}"
    if row.start_b is None or row.start_b.shape != (d,):
        return f"expected start_b to be {d} finite numbers, found {_shape(row.start_b)}"
    learned = Learned(Ridge(row.start_a, row.start_b), row.start_reward_count, row.start_cumulative_reward)
    return _Replayed(row.epoch, row.version, learned, row.start_pulls, row.start_explore_count)


def _compare(state: StateRow, replayed: _Replayed) -> str | None:
    """Return the first thing that the state and the fold of its ledger don't agree on."""
    if state.version != replayed.version:
        return f"version {state.version}: expected version {replayed.version}, with which the ledger ends"
    learned = replayed.learned
    found = (
        _compare_numbers("A", learned.model.A, state.a)
        or _compare_numbers("b", learned.model.b, state.b)
        or _compare_counts("reward_count", learned.reward_count, state.reward_count)
        or _compare_numbers("cumulative_reward", np.array(learned.cumulative_reward), np.array(state.cumulative_reward))
    )
    return found and f"version {state.version}: {found}"


def _compare_numbers(name: str, expected: Numbers, found: Numbers) -> str | None:
    if found.shape != expected.shape:
        return f"expected {name} to be {_shape(expected)}, found {_shape(found)}"
    # As bits: 0 and -0 are equal, and not the same.
    different = np.argwhere(expected.view(np.uint64) != found.view(np.uint64))
    if not len(different):
        return None
    place = tuple(different[0].tolist())
    index = "".join(f"[{i}]" for i in place)
    return f"expected {name}{index} = {float(expected[place])!r}, found {float(found[place])!r}"


def _compare_counts(name: str, expected: int, found: int) -> str | None:
    return None if expected == found else f"expected {name} = {expected}, found {found}"


def _compare_decisions(
    state: StateRow, replayed: _Replayed, decisions: Decisions | None, *, detached: bool
) -> str | None:
    """Return the first thing that the state and the history don't agree on."""
    made = decisions or Decisions(*state.key, last_epoch=0, in_all=0, pulls=0, explored=0)
    if made.last_epoch > state.epoch:
        return f"version {state.version}: expected no decision beyond this epoch, found one of epoch {made.last_epoch}"
    pulls, explored = replayed.start_pulls + made.pulls, replayed.start_explore_count + made.explored
    if detached:
        # Of what retention has taken out of the history, the state alone still tells.
        pulls, explored = max(pulls, state.pulls), max(explored, state.explore_count)
    found = _compare_counts("pulls", pulls, state.pulls) or _compare_counts(
        "explore_count", explored, state.explore_count
    )
    return found and f"version {state.version}: {found}"


def _shape(numbers: Numbers | None) -> str:
    if numbers is None:
        return "something else"
    return " rows of ".join(map(str, numbers.shape)) + " finite numbers"


def of_link(link: BrokenLink) -> Difference:
    """Say what is wrong with a change."""
    where = f"{link.policy}, epoch {link.epoch}, version {link.version}, decision {link.decision_id}"
    before = f"version {link.before_version}"
    match link.broken:
        case "epoch":
            expected = f"the epoch of {before} of the same decision ({link.before_policy}, epoch {link.before_epoch})"
            found = "this one"
        case "corrects":
            expected = f"corrects = {_or_null(link.before_version)}, the decision's change before it"
            found = _or_null(link.corrects)
        case "kind":
            kinds = _EXPECTED_KINDS.get(link.before_kind, "amend or retract")
            expected = f"{kinds} after {link.before_kind}" if link.before_kind else f"{kinds} to begin with"
            found = link.kind
        case "previous_reward":
            expected = f"previous_reward = {_or_null(link.before_reward)}, as {before} left it"
            found = _or_null(link.previous_reward)
        case _:
            expected, found = f"the x of {before}, which it corrects", "another"
    return Difference(link.user_id, link.policy, f"{where}: expected {expected}, found {found}")


def of_contradiction(found: Contradiction) -> Difference:
    """Say what is wrong with a decision."""
    return Difference(found.user_id, found.policy, _contradicted(found))


def _contradicted(found: Contradiction) -> str:
    where = f"{found.policy}, epoch {found.epoch}, decision {found.decision_id}"
    if not found.in_history:
        return f"{where}: expected it in the history, since version {found.ledger_version} is for it, found no such row"
    if found.dimension is not None:
        return f"{where}: expected x to be {found.dimension} finite numbers, found {found.x_length} finite numbers"
    shown = _shown(found.reward, found.kind)
    if found.ledger_version is None:
        return f"{where}: expected no reward, since the ledger has none for it, found {shown}"
    if (found.ledger_policy, found.ledger_epoch) != (found.policy, found.epoch):
        ledger = f"{found.ledger_policy}, epoch {found.ledger_epoch}, version {found.ledger_version}"
        return f"{where}: expected its reward in the ledger of that epoch, found it in {ledger}"
    expected = _shown(found.ledger_reward, None if found.ledger_kind == Kind.REWARD else found.ledger_kind)
    return f"{where}: expected {expected}, as version {found.ledger_version} of the ledger says, found {shown}"


def _shown(reward: float | None, kind: str | None) -> str:
    return f"reward {_or_null(reward)}" + (f" ({kind})" if kind else "")


def _or_null(value: float | None) -> str:
    return "null" if value is None else repr(value)
