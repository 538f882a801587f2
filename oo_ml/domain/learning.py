"""The changes that a model learns by, and their fold, which is its state.

Services apply a change with `fold`, and verification rebuilds the state with it, so the two agree to the last bit.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.ridge import Ridge, adjust, forget, observe


class Kind(StrEnum):
    """Kind of a change, as the ledger names it.

    REWARD: a reaction came in. DEFAULT: no reaction came in time. AMEND: another reward counts from now on. RETRACT: no
    reward counts any more. IMPORT: the epoch starts from the state of another service.
    """

    REWARD = "reward"
    DEFAULT = "default"
    AMEND = "amend"
    RETRACT = "retract"
    IMPORT = "import"


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Sums over the rewards that count, and the model.

    Attributes:
        model: A, shape (d, d), and b, shape (d,).
        reward_count: number of rewards that count.
        cumulative_reward: their sum.
    """

    model: Ridge
    reward_count: int
    cumulative_reward: float


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A change of any kind but IMPORT.

    Attributes:
        x: features that the reward is for, shape (d,).
        reward: the reward that counts from now on, in [-1, 1]; None for RETRACT.
        previous_reward: the reward that counted before; None for REWARD and DEFAULT.
    """

    kind: Kind
    x: NDArray[np.float64]
    reward: float | None
    previous_reward: float | None = None


def fold(before: Learned, change: Change) -> Learned:
    """Return `before` with `change` folded in.

    Raises:
        ValueError: the kind of the change and its rewards contradict each other, or it is an IMPORT.
    """
    match change:
        case Change(kind=Kind.REWARD | Kind.DEFAULT, reward=float(reward), previous_reward=None):
            return Learned(
                observe(before.model, change.x, reward), before.reward_count + 1, before.cumulative_reward + reward
            )
        case Change(kind=Kind.AMEND, reward=float(reward), previous_reward=float(previous)):
            difference = reward - previous
            return Learned(
                adjust(before.model, change.x, difference), before.reward_count, before.cumulative_reward + difference
            )
        case Change(kind=Kind.RETRACT, reward=None, previous_reward=float(previous)):
            return Learned(
                forget(before.model, change.x, previous), before.reward_count - 1, before.cumulative_reward - previous
            )
    raise ValueError(f"no such change: {change.kind} from {change.previous_reward} to {change.reward}")
