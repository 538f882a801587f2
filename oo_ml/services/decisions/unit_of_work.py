"""The states and decisions that a transaction has locked, and the ledger entries that it applies to them.

Every change of a model goes through here: it is folded into the state of its epoch, and becomes an entry of the ledger.
An entry for an epoch before the last reset goes into the ledger of that epoch, and changes no model.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.learning import Change, Kind, Learned, fold
from oo_ml.storage.decision_types import Decision, DecisionKey
from oo_ml.storage.feature_history import read_decisions
from oo_ml.storage.policy_state import PolicyState, StateKey, keep_later, lock_or_create_states, lock_states
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.reward_ledger import (
    EpochKey,
    IdempotencyKey,
    LatestEntry,
    LedgerEntry,
    insert_entries,
    read_last_versions,
    read_latest_entries,
)


@dataclass(frozen=True, slots=True, eq=False)
class UnitOfWork:
    """Rows under lock. Each entry changes them in place, so that the next command of the batch sees it.

    Attributes:
        states: the states that are locked.
        decisions: the decisions that were read, with the rewards applied so far.
        latest: the last entry of each decision that has one.
        last_versions: the last version of each epoch before the last reset.
        entries: the entries applied so far.
    """

    states: dict[StateKey, PolicyState]
    decisions: dict[DecisionKey, Decision]
    latest: dict[DecisionKey, LatestEntry]
    last_versions: dict[EpochKey, int]
    entries: list[LedgerEntry]

    @classmethod
    def lock(
        cls,
        connection: Writing,
        fresh: Mapping[StateKey, Evidence] = MappingProxyType({}),
        decisions: Sequence[DecisionKey] = (),
        *,
        needed: Callable[[], Collection[StateKey]] | None = None,
    ) -> Self:
        """Lock the states of the keys of `fresh` and those of `decisions`, and read `decisions`.

        States that don't exist are created; see lock_or_create_states, also for `fresh` and `needed`. A decision
        that does not exist is missing from the result.
        """
        unit = cls(lock_or_create_states(connection, fresh, decisions, needed=needed), {}, {}, {}, [])
        if decisions:
            unit.load_decisions(connection, decisions)
        # It was made, or moved to its month, while the lock waited: a second look sees it.
        if missing := [key for key in decisions if key not in unit.decisions]:
            unit.states.update(lock_states(connection, (), missing))
            unit.load_decisions(connection, missing)
        return unit

    def load_decisions(self, connection: Reading, keys: Sequence[DecisionKey]) -> None:
        """Read decisions whose states are locked."""
        self.add_decisions(connection, read_decisions(connection, keys).values())

    def add_decisions(self, connection: Reading, decisions: Iterable[Decision]) -> None:
        """Add decisions that were read while their states were locked, and read what a correction of them needs."""
        # If a decision's state is not locked, the decision was made after the look that led to the locks.
        new = {one.key: one for one in decisions if one.state_key in self.states and one.key not in self.decisions}
        self.decisions.update(new)
        if rewarded := [key for key, one in new.items() if not one.is_open]:
            self.latest.update(read_latest_entries(connection, rewarded))
        over = {
            EpochKey(one.state_key, one.epoch) for one in new.values() if one.epoch != self.states[one.state_key].epoch
        }
        if over:
            self.last_versions.update(read_last_versions(connection, sorted(over)))

    def entry_for(  # noqa: PLR0913 - an entry of the ledger has these parts
        self,
        decision: Decision,
        reward: float | None,
        at: datetime,
        *,
        kind: Kind = Kind.REWARD,
        x: NDArray[np.float64] | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> LedgerEntry:
        """Return the entry with which `reward` counts for a decision.

        Args:
            decision: as it is in `decisions`.
            reward: in [-1, 1]; None retracts the reward that counts.
            at: time of the reward.
            kind: REWARD or DEFAULT, for a decision without a reward; else the entry is an AMEND or a RETRACT.
            x: features to learn with, shape (d,), instead of the decision's own; unused if a reward counts already.
            idempotency_key: of the call, if it had one.
        """
        latest = self.latest.get(decision.key)
        if decision.reward is None:
            change = Change(kind, decision.x if x is None else x, reward, weight=decision.weight)
        else:
            # The reward that counts has an entry.
            features = self.latest[decision.key].x
            corrected = Kind.RETRACT if reward is None else Kind.AMEND
            change = Change(corrected, features, reward, decision.reward, decision.weight)
        return LedgerEntry(
            decision.state_key,
            decision.epoch,
            self.next_version(decision.state_key, decision.epoch),
            at,
            change,
            decision.tip_id,
            decision.decision_id,
            None if latest is None else latest.version,
            idempotency_key,
        )

    def next_version(self, key: StateKey, epoch: int) -> int:
        """Return the version of the next entry of an epoch."""
        state = self.states[key]
        return 1 + (state.version if epoch == state.epoch else self.last_versions[EpochKey(key, epoch)])

    def apply(self, entry: LedgerEntry) -> None:
        """Apply an entry, the next one of its epoch, to its state and its decision."""
        state, change = self.states[entry.key], entry.change
        if entry.epoch == state.epoch:
            learned = fold(Learned(state.evidence, state.reward_count, state.cumulative_reward), change)
            self.states[entry.key] = replace(
                state,
                evidence=learned.evidence,
                version=entry.version,
                reward_count=learned.reward_count,
                cumulative_reward=learned.cumulative_reward,
                last_updated=keep_later(state.last_updated, entry.recorded_at),
            )
        else:
            self.last_versions[EpochKey(entry.key, entry.epoch)] = entry.version
        if entry.decision_id is not None:
            key = DecisionKey(entry.key.user_id, entry.decision_id)
            self.latest[key] = LatestEntry(entry.version, change.x)
            self.decisions[key] = replace(
                self.decisions[key],
                reward=change.reward,
                rewarded_at=None if change.reward is None else entry.recorded_at,
                reward_kind=None if change.kind is Kind.REWARD else change.kind,
            )
        self.entries.append(entry)

    def write(self, connection: Writing) -> None:
        """Write the entries, and the states and decisions that they changed."""
        if not self.entries:
            return
        current = {entry.key for entry in self.entries if entry.epoch == self.states[entry.key].epoch}
        rewarded = dict.fromkeys(
            DecisionKey(entry.key.user_id, entry.decision_id) for entry in self.entries if entry.decision_id is not None
        )
        insert_entries(
            connection,
            self.entries,
            [self.decisions[key] for key in rewarded],
            [self.states[key] for key in sorted(current)],
        )
