"""Walks over users in parts, for verify and evaluate: each part is a range of user ids in a transaction of its own.

No transaction is open for long, and all rows of a user are read in the same transaction.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic

from sqlalchemy import Engine

from oo_ml.execution import retry
from oo_ml.execution.retry import Command, Outcome, Service
from oo_ml.services.each import each
from oo_ml.settings import Settings
from oo_ml.storage import user_ranges
from oo_ml.storage.user_ranges import ALL_USERS, UserRange

PART_SIZE: Final = 500
_SINGLE_USERS: Final = 50


@dataclass(frozen=True, slots=True)
class Walk(Generic[Outcome]):
    """The results of the parts, each computed when it is asked for; `states` is the number of states to expect."""

    states: int
    parts: Iterator[Outcome]


def walk_all(
    engine: Engine,
    settings: Settings,
    service: Service[UserRange, Outcome],
    *,
    part_size: int = PART_SIZE,
    least_parts: int = 1,
) -> Walk[Outcome]:
    """Run `service` on all users, in ranges of about `part_size` states, including users who have rows but no state.

    The ranges are smaller if there would be fewer than about `least_parts` of them, to show progress.
    """
    [states] = _run(engine, settings, each(user_ranges.count_states), [ALL_USERS])
    ranges = _split(engine, settings, min(part_size, states // least_parts + 1))
    return Walk(states, (outcome for users in ranges for outcome in _run(engine, settings, service, [users])))


def walk_users(
    engine: Engine, settings: Settings, service: Service[UserRange, Outcome], user_ids: Iterable[str]
) -> Walk[Outcome]:
    """Run `service` on single users, some of them in each transaction; an unknown user has no states."""
    ranges = [UserRange.of(user_id) for user_id in user_ids]
    states = _run(engine, settings, each(user_ranges.count_states), ranges)
    parts = (ranges[start : start + _SINGLE_USERS] for start in range(0, len(ranges), _SINGLE_USERS))
    return Walk(sum(states), (outcome for part in parts for outcome in _run(engine, settings, service, part)))


def walk_sample(engine: Engine, settings: Settings, service: Service[UserRange, Outcome], size: int) -> Walk[Outcome]:
    """Run `service` on up to `size` random users who have a state."""
    [user_ids] = _run(engine, settings, each(user_ranges.sample_users), [size])
    return walk_users(engine, settings, service, user_ids)


def _split(engine: Engine, settings: Settings, part_size: int) -> Iterator[UserRange]:
    first = ALL_USERS.first
    while True:
        [users] = _run(engine, settings, partial(each(user_ranges.find_range), size=part_size), [first])
        yield users
        if users.last == ALL_USERS.last:
            return
        first = user_ranges.next_id(users.last)


def _run(
    engine: Engine, settings: Settings, service: Service[Command, Outcome], commands: Sequence[Command]
) -> list[Outcome]:
    return retry.run(engine, service, commands, time.monotonic() + settings.long_timeout)
