"""What a model has learned, and the kinds of change that it learns by: the state is the fold of these changes.

Both who applies a change and who proves the state afterwards use `fold`, so the two agree to the last bit.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.ridge import Ridge, adjust, forget, observe


class Kind(StrEnum):
    """A kind of change, as the ledger names it.

    REWARD: a reaction came in. DEFAULT: none came in time, and one was assumed. AMEND: another reward counts from now
    on. RETRACT: none counts any more. IMPORT: the state starts from that of another service.
    """

    REWARD = "reward"
    DEFAULT = "default"
    AMEND = "amend"
    RETRACT = "retract"
    IMPORT = "import"


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What rewards have taught.

    Attributes:
        model: A, shape (d, d), and b, shape (d,).
        reward_count: rewards that count.
        cumulative_reward: their sum.
    """

    model: Ridge
    reward_count: int
    cumulative_reward: float


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One change, of any kind but IMPORT.

    Attributes:
        x: features that the reward is for, shape (d,).
        reward: what counts from now on, in [-1, 1]; None for RETRACT.
        previous_reward: what counted until now; None for REWARD and DEFAULT.
    """

    kind: Kind
    x: NDArray[np.float64]
    reward: float | None
    previous_reward: float | None = None


# ADR 8
def fold(before: Learned, change: Change) -> Learned:
    """Return what is known after `change`.

    Raises:
        ValueError: the change is none that can be folded.
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
