"""The model that each decision was made from, put together again from the ledger: what it knew then, and no more."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from oo_ml.domain.learning import Change, Kind, Learned, fold
from oo_ml.domain.policies import DIMENSIONS
from oo_ml.domain.ridge import Ridge
from oo_ml.errors import LogContradictedError
from oo_ml.storage.audit import ChangeRow
from oo_ml.storage.decision_log import Logged

# User, policy, epoch, version: where a change leads to, and where a decision was made.
_Place = tuple[str, str, int, int]
_NOWHERE: Final[_Place] = ("", "", -1, 0)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    place: _Place
    learned: Learned

    @classmethod
    def fresh(cls, place: _Place) -> "_State":
        """Return the state with which the epoch of a place began."""
        user_id, policy, epoch, _ = place
        return cls((user_id, policy, epoch, 0), Learned(Ridge.fresh(DIMENSIONS[policy]), 0, 0.0))


def models(decisions: Iterable[Logged], ledger: Iterable[ChangeRow]) -> Iterator[tuple[Logged, Ridge]]:
    """Yield each decision with the model that it was made from; those made from the same one get the same object.

    Args:
        decisions: by user, policy, epoch and position, of policies that there are.
        ledger: by user, policy, epoch and version, of the same people; it may know of other policies.

    Raises:
        LogContradictedError: the ledger does not lead to where a decision was made.
    """
    rows = (row for row in ledger if row.policy in DIMENSIONS)
    ahead = next(rows, None)
    state = _State(_NOWHERE, Learned(Ridge.fresh(1), 0, 0.0))
    for decision in decisions:
        place = decision[:4]
        while ahead is not None and ahead[:4] <= place:
            state = _after(state, ahead)
            ahead = next(rows, None)
        if state.place[:3] != place[:3]:
            state = _State.fresh(place)
        if state.place != place:
            raise contradicted(decision)
        yield decision, state.learned.model


def contradicted(where: Logged | ChangeRow) -> LogContradictedError:
    """Return the error for a decision, or a change, that can't be put together again."""
    which = f"decision {where.decision_id}" if isinstance(where, Logged) else f"epoch {where.epoch}"
    # An id can hold anything, escape sequences too.
    name = where.user_id if where.user_id.isprintable() else repr(where.user_id)
    return LogContradictedError(
        f"{name}: {where.policy}, {which}, version {where.version}: the ledger does not lead to what the history says;"
        " `oo-ml verify` may tell more"
    )


def _after(state: _State, row: ChangeRow) -> _State:
    place = row[:4]
    if state.place[:3] != place[:3]:
        state = _State.fresh(place)
    d = DIMENSIONS[row.policy]
    if row.version == state.place[3] + 1:
        if row.kind == Kind.IMPORT:
            A, b = row.start_a, row.start_b
            if row.version == 1 and A is not None and b is not None and (A.shape, b.shape) == ((d, d), (d,)):
                return _State(place, Learned(Ridge(A, b), row.start_reward_count, row.start_cumulative_reward))
        elif row.x is not None and row.x.shape == (d,):
            try:
                change = Change(Kind(row.kind), row.x, row.reward, row.previous_reward)
                return _State(place, fold(state.learned, change))
            except ValueError:
                pass
    raise contradicted(row)
