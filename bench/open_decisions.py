"""Decisions that wait for a reward. Their ids follow from their number, so load.lua and reward.sql compute the same."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

# Prime, and no table's size is a multiple of it: taken in such steps, every decision comes up once, all over the table.
SCATTER: Final = 611_953


@dataclass(slots=True)
class OpenDecisions:
    """Open decisions of `users` users whose ids are the numbers from `first_user` on.

    Attributes:
        count: of decisions; the one in place p belongs to user p modulo `users`.
        first_time: of the first, in milliseconds since 1970; each is a millisecond later than the one before.
        rewarded: how many have been taken so far, the next ones being taken from here.
    """

    first_user: int
    users: int
    count: int
    first_time: int
    rewarded: int = 0

    def take(self) -> tuple[str, UUID]:
        """Return user and decision of the next reward."""
        place = self.rewarded * SCATTER % self.count
        self.rewarded += 1
        return str(self.first_user + place % self.users), UUID(name(self.first_time + place, place))


def name(milliseconds: int, place: int) -> str:
    """Return the UUIDv7 of a time whose random bits are the digits of a number, as 36 characters."""
    time = f"{milliseconds:012x}"
    return f"{time[:8]}-{time[8:]}-7000-8000-{place:012d}"
