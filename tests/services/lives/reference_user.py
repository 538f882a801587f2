"""Reference model of a user: lists of events, from which every value is computed anew each time.

The service keeps sums, counters and versions; the model counts events. Its answers follow the API contract alone.
A decision by pooled-v1 is taken as the receipt shows it, since `verify` recomputes it; its rewards are the model's own.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from oo_ml.domain.policies import EPSILON_GREEDY
from tests.policies import DEFINITIONS
from tests.services.reference_policies import LABELS, Json, Numbers, are_close, encode, explain_choices

POOLED: Final = "pooled-v1"
# The part of a receipt about the reward, and the times.
_REWARDS: Final = ("reward", "reward_kind", "rewards", "rewarded_at", "decided_at")

# A status, and the body of a 200 or the code of a refusal.
Answer = tuple[int, Any]

_UNKNOWN: Final = (404, "unknown_decision")


@dataclass(slots=True, eq=False)
class Decision:
    """A decision, and the ledger entries about its reward.

    Attributes:
        request: policy and body of the request, if the client chose the decision's id; None: the service chose it.
        receipt: the receipt without the reward.
        changes: the ledger entries, oldest first, as the receipt shows them.
        learned: the features that the reward was learned with.
    """

    policy: str
    epoch: int
    x: Numbers
    request: tuple[str, Json] | None
    receipt: Json
    changes: list[Json] = field(default_factory=list)
    learned: Numbers | None = None

    @property
    def answer(self) -> Json:
        """The answer to each request for the decision."""
        return {name: self.receipt[name] for name in ("tip_id", "score", "policy", "decision_id", "propensity")}

    @property
    def reward(self) -> float | None:
        """The reward that counts."""
        return self.changes[-1]["reward"] if self.changes else None

    @property
    def kind(self) -> str | None:
        """The kind of the last ledger entry."""
        return self.changes[-1]["kind"] if self.changes else None

    @property
    def waits(self) -> bool:
        """True until the user reacts."""
        return self.kind in {None, "default"}


@dataclass(slots=True, eq=False)
class Lesson:
    """A reward that belongs to no decision."""

    policy: str
    epoch: int
    x: Numbers
    reward: float


@dataclass(slots=True, eq=False)
class ReferenceUser:
    """A user, and the answers that the service must give about this user.

    Attributes:
        epochs: the current epoch of each policy that has a state.
        decisions: the decisions of every epoch by id, in the order in which they were made.
        lessons: the rewards without a decision, of every epoch, in order.
        versions: the number of ledger entries of each policy and epoch.
        keys: for each Idempotency-Key, the call that it came with and the answer.
    """

    user_id: str
    epochs: dict[str, int] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    lessons: list[Lesson] = field(default_factory=list)
    versions: Counter[tuple[str, int]] = field(default_factory=Counter)
    keys: dict[str, tuple[object, Json]] = field(default_factory=dict)

    # Calls

    def score(self, policy: str, body: Json, shown: Json) -> Answer:
        """Ask for a decision. `shown` is its receipt, for the id and the choice among candidates with equal scores."""
        before = self.decisions.get(body.get("decision_id", ""))
        if before is not None:
            return (200, before.answer) if before.request == (policy, body) else (409, "decision_exists")
        self.epochs.setdefault(policy, 0)
        decision_id = shown["decision_id"]
        possible = list(self._choose(policy, body, decision_id, shown))
        decision = next((one for one in possible if are_close(shown, shown | one.receipt)), possible[0])
        self.decisions[decision_id] = decision
        return (200, decision.answer)

    def reward(self, policy: str, body: Json, key: str | None) -> Answer:
        """Send a reward for a decision or for a tip."""
        if key is not None and key in self.keys:
            call, answer = self.keys[key]
            decision = self.decisions.get(answer["decision_id"])
            counts = answer["reward"] if decision is None else decision.reward
            same = _build_answer(counts, answer["decision_id"], applied=False)
            return same if call == (policy, body) else (409, "idempotency_key_reused")
        status, answer = self._react(policy, body, key)
        if key is not None and status == 200 and answer["applied"]:
            self.keys[key] = ((policy, body), answer)
        return status, answer

    def correct(self, decision_id: str, reward: float | None) -> Answer:
        """Amend the reward of a decision; None: retract it."""
        decision = self.decisions.get(decision_id)
        if decision is None:
            return _UNKNOWN
        applies = decision.reward != reward or (reward is not None and decision.kind == "default")
        if applies and reward is None:
            self._change(decision, "retract", None)
        elif applies and reward is not None:
            self._set(decision, reward)
        return _build_answer(reward, decision_id, applied=applies)

    def default(self, reward: float) -> int:
        """Give the default reward to every open decision, and return their number."""
        still_open = [decision for decision in self.decisions.values() if decision.kind is None]
        for decision in still_open:
            self._set(decision, reward, kind="default")
        return len(still_open)

    def reset(self) -> None:
        """Begin a new epoch."""
        for policy in self.epochs:
            self.epochs[policy] += 1

    def erase(self) -> Answer:
        """Erase the user."""
        rows = {
            "feature_history": len(self.decisions),
            "policy_state": len(self.epochs),
            "reward_ledger": self.versions.total(),
        }
        for everything in (self.epochs, self.decisions, self.lessons, self.versions, self.keys):
            everything.clear()
        erased = {name: count for name, count in rows.items() if count}
        return 200, {"ok": True, "user_id": self.user_id, "erased": erased, "total": sum(erased.values())}

    # Expected answers and rows

    def model(self, policy: str) -> tuple[Numbers, Numbers]:
        """Return A and b, summed from scratch."""
        dimension = {EPSILON_GREEDY: 7, POOLED: 12}.get(policy, 5)
        A, b = np.zeros((dimension, dimension)) if policy == POOLED else np.eye(dimension), np.zeros(dimension)
        for x, reward, weight in self._generate_lessons(policy):
            A += weight * np.outer(x, x)
            b += weight * reward * x
        return A, b

    def state(self, policy: str) -> Json:
        """Return the columns of the row of policy_state."""
        A, b = self.model(policy)
        rewards = [reward for _, reward, _ in self._generate_lessons(policy)]
        decisions = self._select_decisions(policy)
        epoch = self.epochs.get(policy, 0)
        return {
            "epoch": epoch,
            "version": self.versions[policy, epoch],
            "pulls": len(decisions),
            "explore_count": sum(decision.receipt["exploring"] for decision in decisions),
            "reward_count": len(rewards),
            "cumulative_reward": float(sum(rewards)),
            "touched": bool(decisions or self.versions[policy, epoch]),
            "a": A.tolist(),
            "b": b.tolist(),
        }

    def stats(self, policy: str) -> Json:
        """Return the answer of /stats without the time."""
        A, b = self.model(policy)
        state = self.state(policy)
        rewards, pulls = state["reward_count"], state["pulls"]
        stats = {
            "user_id": self.user_id,
            **{name: state[name] for name in ("pulls", "reward_count", "cumulative_reward")},
            "estimated_mean_reward": state["cumulative_reward"] / rewards if rewards else 0.0,
            "theta": (np.linalg.inv(A) @ b).tolist(),
        }
        if policy == EPSILON_GREEDY:
            stats |= {
                "policy": policy,
                "exploration_rate": state["explore_count"] / pulls if pulls else 0.0,
                "feature_labels": LABELS,
            }
        return stats

    def features(self) -> list[Json]:
        """Return the answer of /features without the times."""
        current = [decision.receipt for decision in self.decisions.values() if self._is_current(decision)]
        return [{name: one[name] for name in ("features", "score", "tip_id", "policy")} for one in current[-100:]]

    def receipt(self, decision_id: str) -> Json:
        """Return the receipt of a decision without the times."""
        decision = self.decisions[decision_id]
        kind = None if decision.kind == "reward" else decision.kind
        alone = {
            **dict.fromkeys(("policy_probability", "prior_version", "prior_score", "own_score", "weight")),
            "labels": LABELS[: len(decision.receipt["x"])],
        }
        return (
            alone
            | decision.receipt
            | {
                "definition": json.loads((DEFINITIONS / f"{decision.policy}.json").read_text()),
                "reward": decision.reward,
                "reward_kind": kind,
                "rewards": decision.changes,
            }
        )

    def read_verification(self) -> Json:
        """Return the answer of /users/{user_id}/verify."""
        return {
            "user_id": self.user_id,
            "verified": True,
            "states": len(self.epochs),
            "changes": self.versions.total(),
            "decisions": len(self.decisions),
            "difference": None,
        }

    # Helpers

    def _is_current(self, one: Decision | Lesson) -> bool:
        return one.epoch == self.epochs[one.policy]

    def _select_decisions(self, policy: str) -> list[Decision]:
        return [one for one in self.decisions.values() if one.policy == policy and self._is_current(one)]

    def _generate_lessons(self, policy: str) -> Iterator[tuple[Numbers, float, float]]:
        """Yield x, reward and weight of the rewards that count."""
        for decision in self._select_decisions(policy):
            if decision.reward is not None and decision.learned is not None:
                yield decision.learned, decision.reward, decision.receipt.get("weight", 1.0)
        for lesson in self.lessons:
            if lesson.policy == policy and self._is_current(lesson):
                yield lesson.x, lesson.reward, 1.0

    def _choose(self, policy: str, body: Json, decision_id: str, shown: Json) -> Iterator[Decision]:
        """Yield a decision for each candidate that may be the best one, in order."""
        epoch = self.epochs[policy]
        version = self.versions[policy, epoch]
        state = {"user_id": self.user_id, "epoch": epoch, "version": version}
        request = (policy, body) if "decision_id" in body else None
        if policy == POOLED:
            kept = {name: value for name, value in shown.items() if name not in _REWARDS}
            yield Decision(policy, epoch, np.array(shown["x"]), request, kept | state)
            return
        for choice in explain_choices(policy, body, decision_id, *self.model(policy), is_new=version == 0):
            yield Decision(policy, epoch, np.array(choice["x"]), request, state | choice)

    def _react(self, policy: str, body: Json, key: str | None) -> Answer:
        reward, tip_id = body["reward"], body["tip_id"]
        if "decision_id" in body:
            decision = self.decisions.get(body["decision_id"])
            if decision is None:
                return _UNKNOWN
            if decision.receipt["tip_id"] != tip_id:
                return 409, "other_tip"
            if not decision.waits:
                return _build_answer(decision.reward, body["decision_id"], applied=False)
            self._set(decision, reward, key=key)
            return _build_answer(reward, body["decision_id"])
        self.epochs.setdefault(policy, 0)
        x = encode(policy, body["features"]["hour_of_day"], body["day_of_week"], body["features"])
        for decision in reversed(self._select_decisions(policy)):
            if decision.receipt["tip_id"] == tip_id and decision.waits:
                self._set(decision, reward, key=key, x=x)
                return _build_answer(reward, decision.receipt["decision_id"])
        self.versions[policy, self.epochs[policy]] += 1
        self.lessons.append(Lesson(policy, self.epochs[policy], x, reward))
        return _build_answer(reward, None)

    def _set(
        self,
        decision: Decision,
        reward: float,
        *,
        kind: str = "reward",
        key: str | None = None,
        x: Numbers | None = None,
    ) -> None:
        if decision.reward is None:
            decision.learned = decision.x if x is None else x
        else:
            kind = "amend"
        self._change(decision, kind, reward, key)

    def _change(self, decision: Decision, kind: str, reward: float | None, key: str | None = None) -> None:
        previous = decision.reward
        self.versions[decision.policy, decision.epoch] += 1
        decision.changes.append(
            {
                "version": self.versions[decision.policy, decision.epoch],
                "kind": kind,
                "reward": reward,
                "previous_reward": previous,
                "idempotency_key": key,
            }
        )


def _build_answer(reward: float | None, decision_id: str | None, *, applied: bool = True) -> Answer:
    return 200, {"ok": True, "applied": applied, "reward": reward, "decision_id": decision_id}
