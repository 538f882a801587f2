"""Rules for identifiers and for text that PostgreSQL can store, and the time in a UUIDv7.

A valid identifier can be stored, indexed, sent as JSON and read back unchanged.
"""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

MAX_IDENTIFIER_BYTES = 200
# Names of policies stand in paths, in SQL and on command lines, and need no escape in any of them.
POLICY_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
# Unicode's categories Cc and Cs: control characters and surrogates.
_UNNAMEABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
# The earliest time that a UUIDv7 can hold.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_identifier(text: str) -> bool:
    """Tell whether `text` may be an id: 1 to 200 bytes of UTF-8, without control characters and lone surrogates."""
    if not 0 < len(text) <= MAX_IDENTIFIER_BYTES:
        return False
    if text.isascii():
        # The fast path: nearly all ids are ASCII, and a request may bring a thousand candidates.
        return text.isprintable()
    return _UNNAMEABLE.search(text) is None and len(text.encode()) <= MAX_IDENTIFIER_BYTES


def is_user_id(text: str) -> bool:
    """Tell whether `text` may be a user's id: an identifier other than "." and "..".

    Clients resolve these two as path segments even if they are escaped, so no URL can carry them.
    """
    return is_identifier(text) and text not in {".", ".."}


def is_policy_name(text: str) -> bool:
    """Tell whether `text` may be the name of a policy: 1 to 100 letters, digits, and ., _ or - behind the first one."""
    return re.fullmatch(POLICY_NAME_PATTERN.removesuffix("$"), text) is not None


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can hold `text`: no NUL, no lone surrogate."""
    return _UNSTORABLE.search(text) is None


def make_storable(text: str) -> str:
    """Remove NULs and replace each lone surrogate with a question mark."""
    return text.replace("\0", "").encode(errors="replace").decode()


def time_of(name: UUID) -> datetime:
    """Return the time in the first 48 bits of a UUIDv7; datetime.max if the time is later than that."""
    try:
        return EPOCH + timedelta(milliseconds=name.int >> 80)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def first_id(moment: datetime) -> UUID:
    """Return the smallest UUID with a time, in milliseconds, at or after `moment`; before 1970, the UUID 0."""
    return UUID(int=max(0, -((EPOCH - moment) // timedelta(milliseconds=1))) << 80)
