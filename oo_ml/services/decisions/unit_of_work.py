"""The states and decisions that a transaction has locked, and the changes it makes to them, written down at its end.

Every change of a model goes through here, whoever asks for it: folded into the state of its epoch, and a row of the
ledger. A change that belongs to an epoch before the last reset goes into that epoch's ledger, and to no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from oo_ml.domain.learning import Change, Kind, Learned, fold
from oo_ml.storage import history, ledger, states
from oo_ml.storage.history import Decided, DecisionKey
from oo_ml.storage.ledger import Latest, LedgerRow, Once
from oo_ml.storage.states import PolicyState, StateKey, later


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """What is known under lock. Changed in place, one command after the other, so that each sees the ones before it.

    Attributes:
        states: each state that is locked.
        decisions: each decision that is known, as it is by now.
        latest: the last ledger row of each decision that has one.
        lengths: the last version of each epoch that is over.
        rows: the changes so far.
    """

    states: dict[StateKey, PolicyState]
    decisions: dict[DecisionKey, Decided]
    latest: dict[DecisionKey, Latest]
    lengths: dict[tuple[StateKey, int], int]
    rows: list[LedgerRow]

    @classmethod
    def open(
        cls,
        connection: Connection,
        keys: Sequence[StateKey] = (),
        decisions: Sequence[DecisionKey] = (),
        *,
        all_or_none: bool = False,
    ) -> Self:
        """Lock those states of `keys` that there are, and those of `decisions`, and read `decisions`.

        A decision that nobody made is missing from `decisions` then. With `all_or_none` nothing is locked or read
        where one of `keys` is missing.
        """
        book = cls(states.lock(connection, keys, decisions, all_or_none=all_or_none), {}, {}, {}, [])
        if all_or_none and not book.states.keys() >= set(keys):
            return book
        if decisions:
            book.add(connection, decisions)
        # Made, or moved to its month, while the first look waited: a second one sees it.
        if missing := [key for key in decisions if key not in book.decisions]:
            book.states.update(states.lock(connection, keys, missing))
            book.add(connection, missing)
        return book

    def create(self, connection: Connection, keys: Sequence[StateKey]) -> None:
        """Lock `keys` too; a state that does not exist starts afresh."""
        if missing := [key for key in keys if key not in self.states]:
            self.states.update(states.lock_or_create(connection, missing))

    def add(self, connection: Connection, decisions: Sequence[DecisionKey]) -> None:
        """Read decisions whose states are locked."""
        self.take(connection, history.decided(connection, decisions))

    def take(self, connection: Connection, decisions: Mapping[DecisionKey, Decided]) -> None:
        """Take in decisions that were read under the lock of their states, with what is needed to correct them."""
        # A decision whose state is not locked came into being after the look that led to the locks.
        new = {key: one for key, one in decisions.items() if one.state_key in self.states and key not in self.decisions}
        self.decisions.update(new)
        if rewarded := [key for key, one in new.items() if not one.is_open]:
            self.latest.update(ledger.latest(connection, rewarded))
        over = {(one.state_key, one.epoch) for one in new.values()} - {
            (key, state.epoch) for key, state in self.states.items()
        }
        if over:
            self.lengths.update(ledger.lengths(connection, sorted(over)))

    def teach(  # noqa: PLR0913 - a reward for no decision has these parts
        self,
        key: StateKey,
        x: NDArray[np.float64],
        reward: float,
        tip_id: str,
        at: datetime,
        *,
        once: Once | None = None,
    ) -> None:
        """Enter a reward that belongs to no decision."""
        self._enter(key, self.states[key].epoch, Change(Kind.REWARD, x, reward), tip_id, at, once=once)

    def reward(  # noqa: PLR0913 - the same
        self,
        decided: Decided,
        reward: float,
        at: datetime,
        *,
        kind: Kind = Kind.REWARD,
        x: NDArray[np.float64] | None = None,
        once: Once | None = None,
    ) -> None:
        """Enter the reward that counts from now on for a decision: its first, one after a retraction, or another one.

        Args:
            decided: the decision as it is in `decisions`.
            reward: in [-1, 1].
            at: when it came.
            kind: REWARD or DEFAULT, where none counts so far; else it is AMEND whatever this says.
            x: features to learn with, shape (d,), if not the decision's own; no use where a reward counts already.
            once: what the client named the call by.
        """
        latest = self.latest.get(decided.key)
        if decided.reward is None:
            change = Change(kind, decided.x if x is None else x, reward)
        else:
            assert latest is not None  # noqa: S101 - what counts is in the ledger
            change = Change(Kind.AMEND, latest.x, reward, decided.reward)
        self._enter_for(decided, change, at, latest, once)

    def retract(self, decided: Decided, at: datetime) -> None:
        """Enter that no reward counts any more for a decision that has one."""
        latest = self.latest[decided.key]
        self._enter_for(decided, Change(Kind.RETRACT, latest.x, None, decided.reward), at, latest, None)

    def write(self, connection: Connection) -> None:
        """Write down the states, decisions and ledger rows that have changed."""
        if not self.rows:
            return
        current = {row.key for row in self.rows if row.epoch == self.states[row.key].epoch}
        rewarded = {
            DecisionKey(row.key.user_id, row.decision_id): None for row in self.rows if row.decision_id is not None
        }
        ledger.insert(
            connection,
            self.rows,
            [self.decisions[key] for key in rewarded],
            [self.states[key] for key in sorted(current)],
        )

    def _enter_for(
        self, decided: Decided, change: Change, at: datetime, latest: Latest | None, once: Once | None
    ) -> None:
        version = self._enter(
            decided.state_key,
            decided.epoch,
            change,
            decided.tip_id,
            at,
            decision=decided.key,
            corrects=None if latest is None else latest.version,
            once=once,
        )
        self.latest[decided.key] = Latest(version, change.x)
        self.decisions[decided.key] = replace(
            decided,
            reward=change.reward,
            rewarded_at=None if change.reward is None else at,
            reward_kind=None if change.kind is Kind.REWARD else change.kind,
        )

    def _enter(  # noqa: PLR0913 - a row of the ledger has these parts
        self,
        key: StateKey,
        epoch: int,
        change: Change,
        tip_id: str,
        at: datetime,
        *,
        decision: DecisionKey | None = None,
        corrects: int | None = None,
        once: Once | None = None,
    ) -> int:
        state = self.states[key]
        if epoch == state.epoch:
            version = state.version + 1
            learned = fold(Learned(state.model, state.reward_count, state.cumulative_reward), change)
            self.states[key] = replace(
                state,
                model=learned.model,
                version=version,
                reward_count=learned.reward_count,
                cumulative_reward=learned.cumulative_reward,
                last_updated=later(state.last_updated, at),
            )
        else:
            version = self.lengths[key, epoch] + 1
            self.lengths[key, epoch] = version
        self.rows.append(
            LedgerRow(key, epoch, version, at, change, tip_id, decision and decision.decision_id, corrects, once)
        )
        return version
