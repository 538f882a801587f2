"""The changes that a model learns by, and their fold, which is its state.

Services apply a change with `fold`, and verification rebuilds the state with it, so the two agree to the last bit.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.evidence import Evidence, adjust, forget, observe


class Kind(StrEnum):
    """Kind of a change, as the ledger names it.

    REWARD: a reaction came in. DEFAULT: no reaction came in time. AMEND: another reward counts from now on. RETRACT: no
    reward counts any more. IMPORT: the epoch starts from the state of another service. WARM: a reward for a decision of
    another policy counts for this one too.
    """

    REWARD = "reward"
    DEFAULT = "default"
    AMEND = "amend"
    RETRACT = "retract"
    IMPORT = "import"
    WARM = "warm"


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Sums over the rewards that count.

    Attributes:
        evidence: A, shape (d, d), and b, shape (d,).
        reward_count: number of rewards that count.
        cumulative_reward: their sum.
    """

    evidence: Evidence
    reward_count: int
    cumulative_reward: float


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A change of any kind but IMPORT.

    Attributes:
        x: features that the reward is for, shape (d,).
        reward: the reward that counts from now on, in [-1, 1]; None for RETRACT.
        previous_reward: the reward that counted before; None for REWARD, DEFAULT and WARM.
        weight: g; see domain/population.py. None: 1.
    """

    kind: Kind
    x: NDArray[np.float64]
    reward: float | None
    previous_reward: float | None = None
    weight: float | None = None


# ADR 8
def fold(before: Learned, change: Change) -> Learned:
    """Return `before` with `change` folded in.

    Raises:
        ValueError: the kind of the change and its rewards contradict each other, or it is an IMPORT.
    """
    x, g = change.x, 1.0 if change.weight is None else change.weight
    match change:
        case Change(kind=Kind.REWARD | Kind.DEFAULT | Kind.WARM, reward=float(reward), previous_reward=None):
            return Learned(
                observe(before.evidence, x, reward, g), before.reward_count + 1, before.cumulative_reward + reward
            )
        case Change(kind=Kind.AMEND, reward=float(reward), previous_reward=float(previous)):
            return Learned(
                adjust(before.evidence, x, reward, previous, g),
                before.reward_count,
                before.cumulative_reward + (reward - previous),
            )
        case Change(kind=Kind.RETRACT, reward=None, previous_reward=float(previous)):
            return Learned(
                forget(before.evidence, x, previous, g), before.reward_count - 1, before.cumulative_reward - previous
            )
    raise ValueError(
        f"expected a valid change, found {change.kind} with previous_reward {change.previous_reward} and reward"
        f" {change.reward}"
    )


class StoredEntry(NamedTuple):
    """An entry of the ledger as it is stored; `fold_entry` checks it.

    Attributes:
        x: features, shape (d,); None for IMPORT, and for a stored array that can't be a vector of finite numbers.
        weight: g; None: 1.
        start_...: the state that IMPORT starts from; `start_a` and `start_b` are None like `x`.
    """

    user_id: str
    policy: str
    epoch: int
    version: int
    kind: str
    reward: float | None
    previous_reward: float | None
    x: NDArray[np.float64] | None
    weight: float | None
    start_pulls: int
    start_explore_count: int
    start_reward_count: int
    start_cumulative_reward: float
    start_a: NDArray[np.float64] | None
    start_b: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """The state after the ledger entries of an epoch up to `version`; the counters start at those of an import."""

    epoch: int
    version: int
    learned: Learned
    start_pulls: int = 0
    start_explore_count: int = 0

    @classmethod
    def fresh(cls, evidence: Evidence, epoch: int) -> Self:
        """Return the state before the first entry of an epoch, for a policy with this evidence before it."""
        return cls(epoch, 0, Learned(evidence, 0, 0.0))


def fold_entry(before: Replayed, entry: StoredEntry) -> Replayed:
    """Return the state after one more ledger entry; an entry of another epoch follows that epoch's fresh state.

    Raises:
        ValueError: the entry can't follow `before`; the message says what was expected and what was found.
    """
    d = before.learned.evidence.dimension
    if entry.epoch != before.epoch:
        before = Replayed.fresh(before.learned.evidence.fresh(), entry.epoch)
    if entry.version != before.version + 1:
        raise ValueError(f"expected version {before.version + 1} as the next ledger entry, found this one")
    if before.learned.evidence.weight is None and entry.weight is not None:
        raise ValueError(f"expected no weight, because the policy is not pooled, found {entry.weight!r}")
    if before.learned.evidence.weight is not None and entry.weight is None:
        raise ValueError("expected a weight, because the policy is pooled, found none")
    if entry.kind == Kind.IMPORT:
        if before.version:
            raise ValueError("expected an import only as the first entry of its epoch, found a later one")
        learned = Learned(
            Evidence(_check_shape("start_a", entry.start_a, d, d), _check_shape("start_b", entry.start_b, d)),
            entry.start_reward_count,
            entry.start_cumulative_reward,
        )
        return Replayed(entry.epoch, entry.version, learned, entry.start_pulls, entry.start_explore_count)
    x = _check_shape("x", entry.x, d)
    change = Change(Kind(entry.kind), x, entry.reward, entry.previous_reward, entry.weight)
    learned = fold(before.learned, change)
    return Replayed(entry.epoch, entry.version, learned, before.start_pulls, before.start_explore_count)


def describe_shape(numbers: NDArray[np.float64] | None) -> str:
    """Return the shape of an array in words."""
    if numbers is None:
        return "something else"
    return " rows of ".join(map(str, numbers.shape)) + " finite numbers"


def _check_shape(name: str, numbers: NDArray[np.float64] | None, *shape: int) -> NDArray[np.float64]:
    if numbers is None or numbers.shape != shape:
        expected = describe_shape(np.empty(shape))
        raise ValueError(f"expected {name} to be {expected}, found {describe_shape(numbers)}")
    return numbers
