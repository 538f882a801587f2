"""Reactions to tips, and the time until the rewards for them reach the service."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum

from oo_ml.services.decisions.learn import DecisionRewardCommand


class Reaction(Enum):
    """A reaction to a tip, with the product's reward for it."""

    DONE = 1.0
    HELPFUL = 0.5
    SNOOZE = 0.0
    NOT_HELPFUL = -0.5
    DISMISS = -1.0


REACTIONS = tuple(Reaction)


class PendingRewards:
    """Rewards that users will give at a known time, and that the service has not received yet."""

    def __init__(self) -> None:
        self._rewards: list[DecisionRewardCommand] = []

    def add(self, reward: DecisionRewardCommand) -> None:
        """Add a reward; its `received_at` is the time at which the user gives it."""
        self._rewards.append(reward)

    def take(self, until: Mapping[str, datetime]) -> list[DecisionRewardCommand]:
        """Remove and return, in the order of their time, the rewards that each user in `until` gives by then."""
        due = [reward for reward in self._rewards if _is_due(reward, until)]
        self._rewards = [reward for reward in self._rewards if not _is_due(reward, until)]
        return sorted(due, key=lambda reward: (reward.received_at, reward.user_id))


def _is_due(reward: DecisionRewardCommand, until: Mapping[str, datetime]) -> bool:
    return reward.user_id in until and reward.received_at <= until[reward.user_id]
